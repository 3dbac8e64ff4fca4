//! Child processes that never outlive the harness.

mod capture;
mod watchdog;

use std::{
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
    test_kill_process_group, waitid, waitpgid,
};
use tokio::sync::watch;

use watchdog::Watchdog;

pub use capture::capture;

/// Waits for the word to go before it becomes the real program, so that the watchdog knows the group before the
/// program runs. If the harness dies in between, `read` fails and the program never starts.
const STARTER: &str = r#"read -r go || exit 125; exec "$@" </dev/null"#;

/// How long is waited for killed processes to be gone. They go at once unless the kernel keeps them in a call.
const KILL_WAIT: Duration = Duration::from_secs(3);

/// Between two looks at a process group that was killed.
const PAUSE: Duration = Duration::from_millis(5);

/// A running program in its own process group, with its output in a log file. It is killed when this is dropped
/// (so also on a panic), and by a watchdog however this process ends.
pub struct Guarded {
    name: String,
    log: PathBuf,
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

struct Shared {
    /// Some while the process is not reaped: only then does its number belong to us and may be signalled.
    group: Mutex<Option<Pid>>,
    reaped: Condvar,
}

impl Guarded {
    /// Starts `command` with its output appended to the file `log`. Standard streams set on `command` are ignored.
    pub fn spawn(
        name: impl Into<String>,
        command: &Command,
        log: impl Into<PathBuf>,
    ) -> anyhow::Result<Self> {
        let (name, log) = (name.into(), log.into());
        let watchdog = Watchdog::get()?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let mut child = starter(command, STARTER)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let group = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process without a number")?;
        let mut go = child.stdin.take().context("a process without standard input")?;
        watchdog.add(group)?;
        writeln!(go, "go").with_context(|| format!("{name} ended before it began"))?;
        drop(go);

        let shared = Arc::new(Shared {
            group: Mutex::new(Some(group)),
            reaped: Condvar::new(),
        });
        let (tell, exit) = watch::channel(None);
        let reaped = Arc::clone(&shared);
        thread::Builder::new()
            .name(format!("reap {name}"))
            .spawn(move || reaped.reap(child, group, watchdog, &tell))
            .context("cannot start a thread")?;
        Ok(Self {
            name,
            log,
            shared,
            exit,
        })
    }

    /// The file that holds what the program printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines that the program printed, for an error message.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// The number of the process, which is also that of its group, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.shared.group().map(|pid| pid.as_raw_nonzero().get())
    }

    /// Whether the program still runs.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Waits until the program ends by itself.
    pub async fn wait(&self) -> anyhow::Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = *exit.wait_for(Option::is_some).await?;
        status.ok_or_else(|| anyhow!("{} ended without a status", self.name))
    }

    /// Waits until the program ends, and fails with the end of its output unless it succeeded.
    pub async fn succeed(&self) -> anyhow::Result<()> {
        let status = self.wait().await?;
        if !status.success() {
            bail!(
                "{} failed ({status}); its last lines, from {}:\n{}",
                self.name,
                self.log.display(),
                self.log_tail()
            );
        }
        Ok(())
    }

    /// Asks the program to end (SIGTERM), and kills it when it has not ended within `grace`.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.terminate();
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.kill_hard().await
    }

    /// Asks the program to end (SIGTERM), and does not wait for it.
    pub fn terminate(&self) {
        self.signal(|pid| kill_process(pid, Signal::TERM));
    }

    /// Stops the program where it is (SIGSTOP), as a machine that is suspended would, until [`Guarded::thaw`].
    pub fn freeze(&self) {
        self.signal(|pid| kill_process_group(pid, Signal::STOP));
    }

    /// Lets a frozen program go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(|pid| kill_process_group(pid, Signal::CONT));
    }

    /// Kills the program and everything it started (SIGKILL), and waits until it is gone.
    pub async fn kill_hard(&self) -> anyhow::Result<ExitStatus> {
        self.signal(|pid| kill_process_group(pid, Signal::KILL));
        self.wait().await
    }

    fn signal(&self, send: impl FnOnce(Pid) -> rustix::io::Result<()>) {
        let group = self.shared.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *group {
            // It may have ended a moment ago; it is then still ours to reap, so nobody else is hit.
            let _ = send(pid);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.signal(|pid| kill_process_group(pid, Signal::KILL));
        let group = self.shared.group.lock().unwrap_or_else(PoisonError::into_inner);
        let _gone = self
            .shared
            .reaped
            .wait_timeout_while(group, KILL_WAIT, |pid| pid.is_some());
    }
}

impl Shared {
    fn group(&self) -> Option<Pid> {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the program, then ends what it left running in its group. Nobody else can have the number
    /// of the group in the meantime: it is ours until the program is reaped, and taken while a member lives.
    fn reap(
        &self,
        mut child: Child,
        pid: Pid,
        watchdog: &Watchdog,
        tell: &watch::Sender<Option<ExitStatus>>,
    ) {
        let _ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait();
        wait_for_group(pid);
        *group = None;
        watchdog.remove(pid);
        drop(group);
        self.reaped.notify_all();
        let _ = tell.send(status.ok());
    }
}

/// Waits until no process of a group that was killed is left.
fn wait_for_group(group: Pid) {
    let mut pauses = KILL_WAIT.as_millis() / PAUSE.as_millis();
    while test_kill_process_group(group).is_ok() && pauses > 0 {
        // Orphans are ours to reap where the watchdog could arrange it; elsewhere init does it.
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        thread::sleep(PAUSE);
        pauses -= 1;
    }
}

/// Kills everything that runs under a guard and waits until it is gone. For the end on Ctrl-C.
pub fn kill_everything() {
    let Ok(watchdog) = Watchdog::get() else { return };
    watchdog.kill_all();
    let mut pauses = KILL_WAIT.as_millis() / PAUSE.as_millis();
    while watchdog.running() > 0 && pauses > 0 {
        thread::sleep(PAUSE);
        pauses -= 1;
    }
}

/// The command behind a starting script, in a process group of its own.
fn starter(command: &Command, script: &str) -> Command {
    let mut starter = Command::new("sh");
    starter
        .args(["-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => starter.env(name, value),
            None => starter.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        starter.current_dir(folder);
    }
    starter.process_group(0);
    starter
}

/// The last lines of a file, or nothing when it cannot be read.
fn tail(file: &Path) -> String {
    const LINES: usize = 30;
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
