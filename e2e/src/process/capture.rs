//! Programs that run for a moment and whose output is wanted.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;

use super::watchdog::Watchdog;

/// As for a guarded process, but what follows the word to go is the program's own input.
const STARTER: &str = r#"read -r go || exit 125; exec "$@""#;

/// Runs a program to its end with `input` on its standard input and gives what it printed. Like a guarded process it
/// does not outlive the harness; it is killed when this is dropped or takes longer than `timeout`.
pub async fn capture(command: &Command, input: &str, timeout: Duration) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = tokio::process::Command::from(super::starter(command, STARTER))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut member = Member::new(child.id())?;
    let mut stdin = child.stdin.take().context("a process without standard input")?;
    let input = format!("go\n{input}");
    let feed = async move {
        // The program may end before it has read everything; its own words are the better error.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let finished =
        tokio::time::timeout(timeout, async { tokio::join!(feed, child.wait_with_output()).1 }).await;
    let output = finished.with_context(|| format!("{name} is not done after {} s", timeout.as_secs()))?;
    member.running = false;
    output.with_context(|| format!("cannot run {name}"))
}

/// The process group as long as the program runs.
struct Member {
    group: Pid,
    watchdog: &'static Watchdog,
    running: bool,
}

impl Member {
    fn new(process: Option<u32>) -> anyhow::Result<Self> {
        let watchdog = Watchdog::get()?;
        let group = process
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let group = group.context("a process without a number")?;
        watchdog.add(group)?;
        Ok(Self {
            group,
            watchdog,
            running: true,
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.running {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        self.watchdog.remove(self.group);
    }
}
