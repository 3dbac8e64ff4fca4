//! What becomes of the journal with each thing that happens. Pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Book, Entry, Intent, Old};
use crate::credential::Reason;

/// The longest pause between two attempts to register a client of which the last left something behind.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// How many registrations may wait for their end at a time: the oldest ends at once when there are more.
const MOST_OLD: usize = 4;

/// How many registrations out of reach are remembered by their numbers.
const MOST_LEFT: usize = 16;

impl Book {
    /// Takes the newest out.
    fn take_newest(&mut self) -> Option<Entry> {
        self.fresh.take().or_else(|| self.current.take())
    }

    /// An attempt is about to be made.
    #[must_use]
    pub fn begun(
        &self,
        reason: Reason,
        request: Option<&str>,
        revocation: Option<&str>,
        now: Timestamp,
    ) -> Self {
        let number = self.number.saturating_add(1);
        Self {
            intent: Some(Intent {
                number,
                reason: reason.as_str().to_owned(),
                since: now,
                request: request.map(str::to_owned),
                revocation: revocation.map(str::to_owned),
            }),
            number,
            ..self.clone()
        }
    }

    /// An attempt came to nothing.
    #[must_use]
    pub fn not_begun(&self) -> Self {
        Self {
            intent: None,
            ..self.clone()
        }
    }

    /// An attempt was answered.
    #[must_use]
    pub fn answered(&self, entry: Entry) -> Self {
        let since = entry.begun.since;
        let mut left = Self {
            intent: None,
            ..self.clone()
        };
        // One that never came into force is of no use any more.
        let before = left.fresh.replace(entry);
        left.retire(before, since);
        left
    }

    /// What an attempt may have left behind cannot be reached, and the next one waits for a while.
    #[must_use]
    pub fn left_behind(&self, number: u32, now: Timestamp, why: Option<&str>) -> Self {
        let mut left = Self {
            intent: None,
            ..self.clone()
        };
        left.leave(number);
        left.failed(now, why)
    }

    /// The registration of this number cannot be reached any more.
    fn leave(&mut self, number: u32) {
        self.unreachable = self.unreachable.saturating_add(1);
        self.left.push(number);
        let over = self.left.len().saturating_sub(MOST_LEFT);
        self.left.drain(..over);
    }

    /// An attempt failed in a way that costs something, so that the next one waits: the longer, the more failed.
    fn failed(mut self, now: Timestamp, why: Option<&str>) -> Self {
        self.failures = self.failures.saturating_add(1);
        let pause = SignedDuration::from_secs(1_i64 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.not_before = now.checked_add(pause).ok();
        self.refusal = why.map(str::to_owned);
        self
    }

    /// The newest registration must not be used: it ends now.
    #[must_use]
    pub fn discarded(&self, now: Timestamp, why: &str) -> Self {
        let mut left = self.clone().failed(now, Some(why));
        let newest = left.take_newest();
        left.retire(newest, now);
        left
    }

    /// The newest registration is not known at the authorization server any more, or cannot be reached there
    /// (`may_exist`).
    #[must_use]
    pub fn lost(&self, may_exist: bool) -> Self {
        let mut left = self.clone();
        if let Some(newest) = left.take_newest().filter(|_| may_exist) {
            left.leave(newest.begun.number);
        }
        left
    }

    /// All registrations end now.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> Self {
        let mut left = self.clone();
        for old in &mut left.old {
            old.until = old.until.min(now);
        }
        while let Some(newest) = left.take_newest() {
            left.retire(Some(newest), now);
        }
        left.proved = None;
        left
    }

    /// An old registration is gone, or cannot be reached (`may_exist`).
    #[must_use]
    pub fn without(&self, gone: &Entry, may_exist: bool) -> Self {
        let mut left = self.clone();
        left.old.retain(|old| old.entry.client_id != gone.client_id);
        if may_exist {
            left.leave(gone.begun.number);
        }
        left
    }

    /// The fresh registration was proved and handed over: it is in force, and the one before it ends after the overlap.
    #[must_use]
    pub fn in_force(&self, overlap: Option<SignedDuration>, proved: Option<String>, now: Timestamp) -> Self {
        let mut left = Self {
            proved,
            ..self.clone()
        };
        let Some(fresh) = left.fresh.take() else {
            return left;
        };
        (left.failures, left.not_before, left.refusal) = (0, None, None);
        let reason = fresh.reason();
        let overlap = overlap.filter(|_| reason.overlaps()).unwrap_or_default();
        let until = now.checked_add(overlap).unwrap_or(now);
        if reason == Reason::Revoked {
            for old in &mut left.old {
                old.until = old.until.min(now);
            }
        }
        let request = |new: &Option<String>, old: Option<String>| new.clone().or(old);
        left.handled_request = request(&fresh.begun.request, left.handled_request.take());
        left.handled_revocation = request(&fresh.begun.revocation, left.handled_revocation.take());
        let before = left.current.replace(fresh);
        left.retire(before, until);
        left
    }

    fn retire(&mut self, entry: Option<Entry>, until: Timestamp) {
        self.old.extend(entry.map(|entry| Old { entry, until }));
        let over = self.old.len().saturating_sub(MOST_OLD);
        for old in self.old.iter_mut().take(over) {
            old.until = old.until.min(old.entry.begun.since);
        }
    }
}
