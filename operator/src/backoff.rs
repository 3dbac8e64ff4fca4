//! The pause before a failed object is tried again: doubled with each failure, jittered, capped.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<(&'static str, String), u32>>,
}

impl Backoff {
    /// Counts a failure of the object and says how many there were in a row.
    pub fn failed(&self, kind: &'static str, object: &str) -> u32 {
        let mut failures = self.lock();
        let count = failures.entry((kind, object.to_owned())).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets the failures of the object.
    pub fn succeeded(&self, kind: &'static str, object: &str) {
        self.lock().remove(&(kind, object.to_owned()));
    }

    /// How often the object failed in a row.
    pub fn failures(&self, kind: &'static str, object: &str) -> u32 {
        self.lock()
            .get(&(kind, object.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// Forgets the objects for which `exists` says no.
    pub fn retain(&self, exists: impl Fn(&'static str, &str) -> bool) {
        self.lock().retain(|(kind, object), _| exists(kind, object));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(&'static str, String), u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after so many failures in a row, at most `cap`. `jitter` is between 0 and 1; the pause is between half
/// and all of what it would be without, so that objects which failed together do not come back together.
pub fn pause(failures: u32, cap: Duration, jitter: f64) -> Duration {
    doubled(FIRST, failures, cap, jitter)
}

/// The same where the pause after the first failure is another.
pub fn doubled(first: Duration, failures: u32, cap: Duration, jitter: f64) -> Duration {
    let doubled = first
        .saturating_mul(1 << failures.saturating_sub(1).min(20))
        .min(cap);
    doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A period with jitter of a tenth either way. `jitter` is between 0 and 1.
pub fn jittered(period: Duration, jitter: f64) -> Duration {
    period.mul_f64(0.9 + jitter.clamp(0.0, 1.0) / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let cap = Duration::from_secs(60);
        for (failures, longest) in [
            (1, 500),
            (2, 1000),
            (3, 2000),
            (7, 32_000),
            (8, 60_000),
            (4_000_000, 60_000),
        ] {
            assert_eq!(
                pause(failures, cap, 1.0),
                Duration::from_millis(longest),
                "{failures}"
            );
            assert_eq!(
                pause(failures, cap, 0.0),
                Duration::from_millis(longest / 2),
                "{failures}"
            );
        }
    }

    #[test]
    fn failures_are_counted_by_object() {
        let backoff = Backoff::default();
        assert_eq!(
            (
                backoff.failed("McpClient", "a/b"),
                backoff.failed("McpClient", "a/b")
            ),
            (1, 2)
        );
        assert_eq!(backoff.failed("McpServer", "a/b"), 1);
        backoff.succeeded("McpClient", "a/b");
        assert_eq!(backoff.failures("McpClient", "a/b"), 0);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let period = Duration::from_secs(100);
        assert_eq!(
            (jittered(period, 0.0), jittered(period, 1.0)),
            (Duration::from_secs(90), Duration::from_secs(110))
        );
    }
}
