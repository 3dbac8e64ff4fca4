//! Questions about credentials that were answered with no, and when they are put again.
//!
//! Each is a sign-in that fails, and the authorization server may count those. So a question is put once, and again after
//! pauses that double; a pass in between, whatever woke it, gets the answer of before. Another question, as about another
//! Secret, is put at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{backoff, provider::ProviderError};

/// The pause after the first refusal.
const FIRST: Duration = Duration::from_mins(1);

/// The last refusal of each client that somebody else registers.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Refusal>>);

#[derive(Debug)]
struct Refusal {
    question: String,
    why: ProviderError,
    times: u32,
    until: Instant,
}

impl Refusals {
    /// Why this question about a client was refused, while that counts.
    pub(super) fn known(&self, client: &str, question: &str, now: Instant) -> Option<ProviderError> {
        let refusals = self.lock();
        let refusal = refusals.get(client)?;
        (refusal.question == question && now < refusal.until).then(|| refusal.why.clone())
    }

    /// Notes a refusal, which counts for a minute, and ever longer when the same question is refused again, but not longer
    /// than `cap`. `jitter` is between 0 and 1.
    pub(super) fn note(
        &self,
        client: &str,
        question: String,
        why: ProviderError,
        now: Instant,
        (cap, jitter): (Duration, f64),
    ) {
        let mut refusals = self.lock();
        let before = refusals.get(client).filter(|last| last.question == question);
        let times = before.map_or(0, |last| last.times).saturating_add(1);
        let refusal = Refusal {
            question,
            why,
            times,
            until: now + backoff::doubled(FIRST, times, cap, jitter),
        };
        refusals.insert(client.to_owned(), refusal);
    }

    /// For how long the last refusal counts.
    pub(super) fn pause(&self, client: &str, now: Instant) -> Duration {
        let until = self.lock().get(client).map_or(now, |refusal| refusal.until);
        until.saturating_duration_since(now)
    }

    /// Nothing is refused any more.
    pub(super) fn forget(&self, client: &str) {
        self.lock().remove(client);
    }

    /// Forgets the clients for which `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock().retain(|client, _| exists(client));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_mins(10);

    #[test]
    fn the_same_question_is_put_after_pauses_that_double_and_another_at_once() {
        let (refusals, mut now) = (Refusals::default(), Instant::now());
        let why = || ProviderError::Unproved {
            why: "it does not work".to_owned(),
        };
        for minutes in [1, 2, 4, 8, 10, 10] {
            let pause = Duration::from_mins(minutes);
            assert_eq!(refusals.known("a/b", "q", now), None);
            refusals.note("a/b", "q".to_owned(), why(), now, (CAP, 1.0));
            assert_eq!(refusals.pause("a/b", now), pause);
            assert_eq!(refusals.known("a/b", "q", now), Some(why()));
            assert_eq!(refusals.known("a/b", "another", now), None);
            assert_eq!(refusals.known("a/c", "q", now), None);
            now += pause;
        }
        refusals.note("a/b", "another".to_owned(), why(), now, (CAP, 0.0));
        assert_eq!(refusals.pause("a/b", now), FIRST / 2, "it is a first one");
        refusals.retain(|client| client == "a/b");
        assert_eq!(refusals.known("a/b", "another", now), Some(why()));
        refusals.retain(|client| client == "a/c");
        assert_eq!(refusals.known("a/b", "another", now), None);
        refusals.note("a/b", "another".to_owned(), why(), now, (CAP, 0.0));
        refusals.forget("a/b");
        assert_eq!(refusals.known("a/b", "another", now), None);
        assert_eq!(refusals.pause("a/b", now), Duration::ZERO);
    }
}
