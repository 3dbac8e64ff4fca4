//! The only place of the gate that reads the wall clock, so that tests can say what time it is.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// A source of wall-clock time. Spans within the process are measured with tokio's monotonic clock instead.
pub trait Clock: Debug + Send + Sync {
    /// Seconds of Unix time.
    fn now(&self) -> i64;
}

/// A [`Clock`] that can be handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}
