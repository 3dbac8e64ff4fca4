//! What the harness is doing, for the person who waits for it: plain lines with the seconds since the start.

use std::{
    future::Future,
    io::Write,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// How often a long step says that it is still running.
const REMINDER: Duration = Duration::from_secs(15);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Prints one line with the seconds since the first line of this process.
pub fn say(text: &str) {
    let elapsed = STARTED.elapsed().as_secs_f64();
    // Standard error may be closed; a harness that cannot talk still works.
    let _ = writeln!(std::io::stderr().lock(), "[{elapsed:6.1} s] {text}");
}

/// Runs a step, saying when it starts, that it still runs, and how long it took.
pub async fn during<T>(step: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    say(&format!("{step} …"));
    let began = Instant::now();
    tokio::pin!(work);
    let outcome = loop {
        match tokio::time::timeout(REMINDER, &mut work).await {
            Ok(outcome) => break outcome,
            Err(_) => say(&format!(
                "{step}: still at it after {} s",
                began.elapsed().as_secs()
            )),
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => say(&format!("{step}: done in {seconds:.1} s")),
        Err(_) => say(&format!("{step}: failed after {seconds:.1} s")),
    }
    outcome
}
