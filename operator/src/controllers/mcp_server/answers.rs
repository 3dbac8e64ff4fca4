//! What was last answered to questions about servers. A server is asked about once per resync, not once per pass, and no
//! pass waits for an answer: what hangs must not hold up a server's own registration.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// How many questions are asked at a time: after a start all are due at once.
pub(super) const AT_ONCE: usize = 8;

/// What is known of a server.
#[derive(Clone, Debug)]
struct Known<A> {
    answer: A,
    /// When it was asked last, and about what.
    asked: Option<(Instant, String)>,
    /// It is being asked, or waits for its turn.
    asking: bool,
    /// What is asked about has changed since.
    outdated: bool,
}

/// The last answer about each server, by a key that begins with its UID.
#[derive(Debug)]
pub(super) struct Answers<A> {
    known: Mutex<HashMap<String, Known<A>>>,
    turns: Semaphore,
}

impl<A> Default for Answers<A> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

impl<A: Clone + PartialEq> Answers<A> {
    /// Takes `first` for the answer where nothing is known better.
    pub(super) fn recall(&self, key: &str, first: impl FnOnce() -> A) {
        let unasked = || Known {
            answer: first(),
            asked: None,
            asking: false,
            outdated: false,
        };
        self.lock().entry(key.to_owned()).or_insert_with(unasked);
    }

    /// The last answer, and whether it is time to ask again; if it is, the caller has to, and to [`Self::note`] what came
    /// of it. It is time when the last question was asked `age` ago, or about another version of things.
    pub(super) fn last(&self, key: &str, version: &str, now: Instant, age: Duration) -> Option<(A, bool)> {
        let mut all = self.lock();
        let known = all.get_mut(key)?;
        let same = known.asked.as_ref().is_some_and(|(_, asked)| asked == version);
        let fresh = known
            .asked
            .as_ref()
            .is_some_and(|(at, _)| now.duration_since(*at) < age);
        let due = !(known.asking || same && fresh);
        known.outdated = known.asking && !same;
        if due {
            known.asked = Some((now, version.to_owned()));
            known.asking = true;
        }
        Some((known.answer.clone(), due))
    }

    /// Waits for a turn to ask.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Notes an answer on the way; whether it is another than before.
    pub(super) fn note(&self, key: &str, answer: A) -> bool {
        let mut all = self.lock();
        let Some(known) = all.get_mut(key) else {
            return false;
        };
        let news = known.answer != answer;
        known.answer = answer;
        news
    }

    /// Notes what came of a question. `None`: no telling, and then the answer from before holds. Whether there is a reason
    /// for another pass.
    pub(super) fn conclude(&self, key: &str, answer: Option<A>) -> bool {
        let news = answer.is_some_and(|answer| self.note(key, answer));
        let mut all = self.lock();
        let Some(known) = all.get_mut(key) else {
            return false;
        };
        known.asking = false;
        news || std::mem::take(&mut known.outdated)
    }

    /// Forgets the servers for whose UID `exists` says no.
    pub(super) fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock()
            .retain(|key, _| exists(key.split('/').next().unwrap_or(key)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known<A>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn it_is_asked_again_when_it_is_old_or_about_something_else() {
        let (answers, now) = (Answers::default(), Instant::now());
        assert_eq!(answers.last("u", "1", now, HOUR), None, "nothing is known of it");
        answers.recall("u", || 0);
        answers.recall("u", || 9);
        assert_eq!(answers.last("u", "1", now, HOUR), Some((0, true)), "never asked");
        assert_eq!(
            answers.last("u", "1", now + HOUR, HOUR),
            Some((0, false)),
            "it is being asked"
        );
        assert!(answers.conclude("u", Some(1)), "news");
        assert_eq!(answers.last("u", "1", now, HOUR), Some((1, false)), "fresh");
        assert_eq!(answers.last("u", "1", now + HOUR, HOUR), Some((1, true)), "old");
        assert!(!answers.conclude("u", None), "no telling");
        assert_eq!(
            answers.last("u", "2", now + HOUR, HOUR),
            Some((1, true)),
            "another version"
        );
    }

    #[test]
    fn what_changed_while_it_was_asked_is_asked_again() {
        let (answers, now) = (Answers::default(), Instant::now());
        answers.recall("u", || 0);
        assert_eq!(answers.last("u", "1", now, HOUR), Some((0, true)));
        assert_eq!(answers.last("u", "2", now, HOUR), Some((0, false)));
        assert!(
            answers.conclude("u", Some(0)),
            "the same answer, but to an old question"
        );
        assert_eq!(answers.last("u", "2", now, HOUR), Some((0, true)));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let answers = Answers::default();
        for key in ["a/Gate", "b/Gate"] {
            answers.recall(key, || 1);
        }
        answers.retain(|uid| uid == "a");
        assert!(!answers.note("b/Gate", 2) && answers.note("a/Gate", 2));
    }
}
