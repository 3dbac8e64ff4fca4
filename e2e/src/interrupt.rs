//! The end on Ctrl-C.

use tokio::signal::unix::{SignalKind, signal};

use crate::{process, progress, run_folder};

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Waits for Ctrl-C, or another polite request to end.
pub async fn requested() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Ends this process at once, with everything that it started and its folder.
pub fn end_now() -> ! {
    progress::say("interrupted: stopping everything");
    process::kill_everything();
    run_folder::remove_all();
    std::process::exit(INTERRUPTED)
}
