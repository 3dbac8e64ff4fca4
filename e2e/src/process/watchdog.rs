//! Ends process groups when this process can no longer do it itself.
//!
//! A SIGKILL leaves no time to clean up, and without unsafe code a child cannot ask the kernel to die with its
//! parent. So one small shell runs beside the harness and reads the process groups to look after from a pipe.
//! However the harness ends, the kernel closes its end of the pipe, and the shell then kills every group it was
//! told of. It sits in a group of its own, so that Ctrl-C in a terminal reaches the harness only.

use std::{
    collections::BTreeSet,
    io::Write,
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

const SCRIPT: &str = r#"
groups=" "
while read -r operation group; do
    case "$operation" in
        add) groups="$groups$group " ;;
        remove) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
"#;

/// The process groups that must not outlive this process.
pub(super) struct Watchdog {
    state: Mutex<State>,
}

struct State {
    pipe: ChildStdin,
    groups: BTreeSet<i32>,
}

impl Watchdog {
    /// The watchdog of this process, started on first use.
    pub(super) fn get() -> anyhow::Result<&'static Self> {
        static INSTANCE: OnceLock<Watchdog> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _only_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watchdog) = INSTANCE.get() {
            return Ok(watchdog);
        }
        let started = Self::start()?;
        Ok(INSTANCE.get_or_init(|| started))
    }

    fn start() -> anyhow::Result<Self> {
        // What a killed process leaves behind comes to us: some containers have an init that is slow to reap.
        #[cfg(target_os = "linux")]
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start sh, which ends what the harness started")?;
        let pipe = shell.stdin.take().context("sh has no standard input")?;
        Ok(Self {
            state: Mutex::new(State {
                pipe,
                groups: BTreeSet::new(),
            }),
        })
    }

    /// From here on the group ends with this process.
    pub(super) fn add(&self, group: Pid) -> anyhow::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.insert(group.as_raw_nonzero().get());
        writeln!(state.pipe, "add {group}").context("the process that ends what the harness started is gone")
    }

    /// The group has ended; its number may be given to somebody else.
    pub(super) fn remove(&self, group: Pid) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.remove(&group.as_raw_nonzero().get());
        // If the shell is gone there is nobody left to mislead.
        let _ = writeln!(state.pipe, "remove {group}");
    }

    /// Kills every group at once. Each guard still reaps its own process.
    pub(super) fn kill_all(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for group in state.groups.iter().filter_map(|raw| Pid::from_raw(*raw)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// How many groups are still running.
    pub(super) fn running(&self) -> usize {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .groups
            .len()
    }
}
