//! Waiting for something to become true, with an answer to "what was it instead" when it does not.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Short beside everything that stories wait for, long beside one look.
const PAUSE: Duration = Duration::from_millis(50);

/// What one look saw.
pub enum Seen<T> {
    /// It is there.
    Done(T),
    /// Not yet; this is what was there instead.
    NotYet(String),
}

/// Looks again and again until `look` is done. An error of `look` counts as "not yet": what is looked at may be
/// starting. After `timeout` it fails, naming `what` and the last thing seen.
pub async fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Seen<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut last = "nothing".to_owned();
    while began.elapsed() < timeout {
        // A look that hangs must not hang the story.
        match tokio::time::timeout(timeout.saturating_sub(began.elapsed()), look()).await {
            Ok(Ok(Seen::Done(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(state))) => last = state,
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = format!("no answer; before that: {last}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!(
        "waited {:.0} s for {what}; last seen: {last}",
        began.elapsed().as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timeout_names_what_was_seen_last() {
        let mut looks = 0;
        let outcome: anyhow::Result<()> = wait_for("the moon", Duration::from_millis(120), async || {
            looks += 1;
            if looks == 1 {
                Ok(Seen::NotYet("clouds".to_owned()))
            } else {
                anyhow::bail!("rain")
            }
        })
        .await;
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("for the moon; last seen: rain"), "{message}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_with_the_timeout() {
        let outcome: anyhow::Result<()> = wait_for("an answer", Duration::from_millis(50), async || {
            std::future::pending().await
        })
        .await;
        assert!(outcome.unwrap_err().to_string().contains("no answer"));
    }
}
