//! Nothing that the harness starts outlives it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    process::Guarded,
    wait::{Seen, wait_for},
    world::World,
};

/// Set in the environment of this program when it plays a harness that is killed.
const SHORT_LIVED: &str = "MCP_AUTH_SHORT_LIVED_PARENT";

/// A guarded process ends when the harness is killed with SIGKILL, which leaves no time for anything.
pub(super) async fn what_was_started_ends_with_its_parent(_world: Arc<World>) -> anyhow::Result<()> {
    let mut parent = Command::new(env::current_exe()?)
        .env(SHORT_LIVED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a second harness")?;
    let mut lines = BufReader::new(parent.stdout.take().context("no output")?).lines();
    let mut children = Vec::new();
    for line in lines.by_ref().take(2) {
        children.push(line?.trim().parse::<i32>()?);
    }
    ensure!(
        children.len() == 2 && children.iter().all(|child| is_alive(*child)),
        "the children do not run"
    );
    parent.kill()?;
    parent.wait()?;
    for child in children {
        wait_for("the end of an orphan", Duration::from_secs(5), async || {
            Ok(if is_alive(child) {
                Seen::NotYet(format!("process {child} runs"))
            } else {
                Seen::Done(())
            })
        })
        .await?;
    }
    Ok(())
}

/// Stopping, killing, dropping and the end by itself all lead to the end of the whole process group.
pub(super) async fn guards_stop_what_they_guard(world: Arc<World>) -> anyhow::Result<()> {
    let log = world.folder().path().join("guards.log");
    let sleep = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Guarded::spawn("sleep", &command, &log)
    };
    let polite = sleep("exec sleep 600")?;
    ensure!(polite.is_running());
    let status = polite.stop(Duration::from_secs(5)).await?;
    ensure!(!status.success() && !polite.is_running() && polite.pid().is_none());

    let stubborn = sleep("trap '' TERM; echo deaf; while true; do sleep 1; done")?;
    wait_for("the trap", Duration::from_secs(5), async || {
        let text = fs::read_to_string(stubborn.log())?;
        Ok(if text.contains("deaf") {
            Seen::Done(())
        } else {
            Seen::NotYet(text)
        })
    })
    .await?;
    stubborn.stop(Duration::from_millis(200)).await?;
    ensure!(!stubborn.is_running());

    let family = sleep("sleep 600 & echo child $!; exit 3")?;
    ensure!(family.wait().await?.code() == Some(3));
    let text = fs::read_to_string(family.log())?;
    let child: i32 = text
        .lines()
        .find_map(|line| line.strip_prefix("child "))
        .context("no child")?
        .parse()?;
    wait_for(
        "the end of what a process left behind",
        Duration::from_secs(5),
        async || {
            Ok(if is_alive(child) {
                Seen::NotYet(format!("process {child} runs"))
            } else {
                Seen::Done(())
            })
        },
    )
    .await?;

    let dropped = sleep("exec sleep 600")?;
    let pid = dropped.pid().context("it does not run")?;
    drop(dropped);
    ensure!(!is_alive(pid), "it outlives its guard");
    Ok(())
}

/// Whether this process is to be the harness that [`what_was_started_ends_with_its_parent`] kills.
pub(crate) fn is_short_lived_parent() -> bool {
    env::var_os(SHORT_LIVED).is_some()
}

/// Starts two guarded processes, prints their numbers and waits to be killed.
pub(crate) fn short_lived_parent() -> ExitCode {
    let mut command = Command::new("sleep");
    command.arg("600");
    let log = env::temp_dir().join(format!("short-lived-{}.log", std::process::id()));
    let children: anyhow::Result<Vec<Guarded>> =
        (0..2).map(|_| Guarded::spawn("sleep", &command, &log)).collect();
    let Ok(children) = children else {
        return ExitCode::FAILURE;
    };
    let _ = fs::remove_file(&log);
    for child in &children {
        let _ = writeln!(std::io::stdout(), "{}", child.pid().unwrap_or_default());
    }
    loop {
        std::thread::park();
    }
}

/// Whether a process runs. One that ended and waits for its parent to notice does not.
fn is_alive(pid: i32) -> bool {
    let output = Command::new("ps")
        .args(["-o", "state=", "-p", &pid.to_string()])
        .output();
    let state = output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}
