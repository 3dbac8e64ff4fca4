//! How fast credentials are replaced that reached their age: a thousand clients that were made in one minute are not
//! replaced in one minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// When the last credential of each realm was replaced because it was due.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    /// Takes the next turn of a realm, if `spacing` has passed since the last. Otherwise says for how long to wait.
    ///
    /// # Errors
    /// The time until the next turn.
    pub fn take(&self, realm: &str, spacing: Duration, now: Instant) -> Result<(), Duration> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.get(realm).map_or(now, |last| *last + spacing);
        if next > now {
            return Err(next - now);
        }
        last.insert(realm.to_owned(), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_one_after_another_for_each_realm() {
        let (pace, spacing) = (Pace::default(), Duration::from_secs(2));
        let take = |realm: &str| pace.take(realm, spacing, Instant::now());
        assert_eq!(take("a"), Ok(()));
        assert_eq!(take("a"), Err(spacing));
        assert_eq!(take("b"), Ok(()), "realms do not wait for each other");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take("a"), Err(Duration::from_secs(1)), "a refusal takes no turn");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take("a"), Ok(()));
        assert_eq!(pace.take("a", Duration::ZERO, Instant::now()), Ok(()));
    }
}
