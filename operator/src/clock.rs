//! The only place of the operator that reads a clock.
//!
//! Decisions take the time as an argument, so that a test can say what time it is. Two clocks exist because they
//! answer different questions: the wall clock is what other machines and people understand (it goes into objects), and
//! may jump; the monotonic one measures how long something took here, and never jumps (leases and back-off use it).

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// A source of time.
pub trait Clock: Debug + Send + Sync {
    /// The wall-clock time, for what is written into objects and tokens.
    fn now(&self) -> Timestamp;

    /// The monotonic time, for measuring spans within this process.
    fn instant(&self) -> Instant;
}

/// A [`Clock`] that can be handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The clocks of the machine, ready to be handed around.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that a test sets by hand; the monotonic side follows tokio's (pausable) time plus every [`Self::advance`].
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct ManualClock {
    state: std::sync::Mutex<(Timestamp, Instant)>,
}

#[cfg(test)]
impl ManualClock {
    /// A clock that stands at `now`, which is given as in RFC 3339.
    pub(crate) fn at(now: &str) -> Arc<Self> {
        Arc::new(Self {
            state: std::sync::Mutex::new((now.parse().unwrap(), Instant::now())),
        })
    }

    /// Moves both clocks forward.
    pub(crate) fn advance(&self, by: std::time::Duration) {
        let mut state = self.state.lock().unwrap();
        state.0 += k8s_openapi::jiff::SignedDuration::try_from(by).unwrap();
        state.1 += by;
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap().0
    }

    fn instant(&self) -> Instant {
        self.state.lock().unwrap().1
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at("2026-01-01T00:00:00Z");
        let (wall, monotonic) = (clock.now(), clock.instant());
        assert_eq!(clock.now(), wall);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
        assert_eq!(clock.instant() - monotonic, Duration::from_secs(90));
    }
}
