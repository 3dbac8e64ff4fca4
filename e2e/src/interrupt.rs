//! The end on Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::{process, progress, run_folder};

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

static UNDER_WAY: AtomicBool = AtomicBool::new(false);

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
    UNDER_WAY.store(true, Ordering::SeqCst);
    progress::say("interrupted: stopping everything");
    process::kill_everything();
    run_folder::remove_all();
    std::process::exit(INTERRUPTED)
}

/// Whether [`end_now`] was called by another thread. What fails from then on is no news, and what is left to do is
/// that thread's work.
pub fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst)
}

/// Does not return once [`end_now`] was called by another thread.
pub fn let_it_finish() {
    while is_under_way() {
        std::thread::park();
    }
}
