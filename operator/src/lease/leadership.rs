//! Who asks whether we lead, and who answers.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

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

    /// What comes of `write` if this process leads until it is done; else nothing, and `write` is dropped as soon as
    /// this process leads no more. So a write never lands when another replica leads, and a renewal gives it more time.
    pub async fn while_held<W: Future>(&self, write: W) -> Option<W::Output> {
        tokio::select! {
            biased;
            () = self.run_out() => None,
            done = write => Some(done),
        }
    }

    /// Completes when this process does not lead.
    async fn run_out(&self) {
        loop {
            let left = self.remaining();
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
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
        Self::of(None)
    }

    /// A leadership that nobody renews.
    #[cfg(test)]
    pub(crate) fn until(end: Instant) -> Self {
        Self::of(Some(end))
    }

    #[cfg(test)]
    fn of(end: Option<Instant>) -> Self {
        let (_, valid_until) = watch::channel(end);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewal_gives_a_write_more_time() {
        let clock = SystemClock::shared();
        let began = clock.instant();
        let (tenure, leadership) = Tenure::new(clock);
        assert_eq!(leadership.while_held(async {}).await, None, "not begun");
        tenure.extend(began + Duration::from_secs(2));
        let write = async {
            sleep(Duration::from_secs(1)).await;
            tenure.extend(began + Duration::from_secs(5));
            sleep(Duration::from_secs(2)).await;
        };
        assert_eq!(leadership.while_held(write).await, Some(()));
        let endless = std::future::pending::<()>();
        assert_eq!(leadership.while_held(endless).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
