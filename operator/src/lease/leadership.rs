//! Who asks whether we lead, and who answers.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::clock::{SharedClock, SystemClock};

/// The answer to "may this process write?". Cheap to clone and to ask, so ask before every single write.
///
/// It says yes until a point in time that each renewal of the lease moves on. If renewals stop, it turns to no by
/// itself, with nobody's help, before any other replica may say yes.
#[derive(Clone, Debug)]
pub struct Leadership {
    valid_until: watch::Receiver<Option<Instant>>,
    clock: SharedClock,
}

impl Leadership {
    /// Whether this process leads at this moment.
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// For how long this process leads even if the lease is never renewed again; zero if it does not lead.
    ///
    /// A write that may take longer than this may land when another replica leads.
    pub fn remaining(&self) -> Duration {
        let until = *self.valid_until.borrow();
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(self.clock.instant())
        })
    }

    /// Completes when this process leads; never, if the election ends before.
    pub async fn acquired(&self) {
        let mut valid_until = self.valid_until.clone();
        if valid_until.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A leadership that is always held, for a process that no other can compete with: tests, and tools that people
    /// run by hand.
    pub fn uncontested() -> Self {
        let clock = SystemClock::shared();
        // As far away as the clock can tell; a century would do.
        let (_, valid_until) = watch::channel(Some(clock.instant() + Duration::from_hours(876_000)));
        Self { valid_until, clock }
    }

    /// A leadership that is not held.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        let (_, valid_until) = watch::channel(None);
        Self {
            valid_until,
            clock: SystemClock::shared(),
        }
    }
}

/// The elector's end of [`Leadership`]: the time in office.
#[derive(Debug)]
pub(super) struct Tenure(watch::Sender<Option<Instant>>);

impl Tenure {
    /// Not begun.
    pub(super) fn new(clock: SharedClock) -> (Self, Leadership) {
        let (sender, valid_until) = watch::channel(None);
        (Self(sender), Leadership { valid_until, clock })
    }

    /// Begins, or goes on, until `until`.
    pub(super) fn extend(&self, until: Instant) {
        self.0.send_replace(Some(until));
    }

    /// Ends at once.
    pub(super) fn end(&self) {
        self.0.send_replace(None);
    }

    /// Whether it has begun and not been ended. Running out of time does not end it: the elector does.
    pub(super) fn is_running(&self) -> bool {
        self.0.borrow().is_some()
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.end();
    }
}
