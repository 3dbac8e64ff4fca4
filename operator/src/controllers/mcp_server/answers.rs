//! What was last answered to questions about servers. A server is asked about once per resync, not once per pass, and no
//! pass waits for an answer: what hangs must not hold up a server's own registration.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};

/// How many questions are asked at a time: after a start all are due at once.
pub(super) const AT_ONCE: usize = 8;
/// How many of these are about servers of one namespace.
pub(super) const AT_ONCE_IN_NAMESPACE: usize = 2;

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
    /// A question has come to its end.
    concluded: bool,
    /// How many questions in a row there was no telling.
    missed: u32,
}

/// The last answer about each server, by a key that begins with its UID.
#[derive(Debug)]
pub(super) struct Answers<A> {
    known: Mutex<HashMap<String, Known<A>>>,
    turns: Semaphore,
    /// Those of each namespace that is asked about.
    of_namespaces: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// The right to ask.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _of_namespace: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl<A> Default for Answers<A> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            of_namespaces: Mutex::default(),
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
            concluded: false,
            missed: 0,
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

    /// What is known now.
    pub(super) fn known(&self, key: &str) -> Option<A> {
        self.lock().get(key).map(|known| known.answer.clone())
    }

    /// Whether a question has come to its end since the start.
    pub(super) fn is_concluded(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|known| known.concluded)
    }

    /// Whether what is being asked about has changed since.
    pub(super) fn is_outdated(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|known| known.outdated)
    }

    /// How many questions in a row there was no telling.
    pub(super) fn missed(&self, key: &str) -> u32 {
        self.lock().get(key).map_or(0, |known| known.missed)
    }

    /// What is known counts no more, from before a start neither: it is to be asked again.
    pub(super) fn reopen(&self, key: &str, answer: A) {
        if let Some(known) = self.lock().get_mut(key) {
            known.answer = answer;
            known.outdated = known.asking;
            known.asked = None;
            known.concluded = true;
        }
    }

    /// Waits for a turn to ask about a server of this namespace: what hangs there must not hold up the others.
    pub(super) async fn turn(&self, namespace: &str) -> Option<Turn<'_>> {
        // They are never closed.
        let of_namespace = self.of_namespace(namespace).acquire_owned().await.ok()?;
        let of_all = self.turns.acquire().await.ok()?;
        Some(Turn {
            _of_namespace: of_namespace,
            _of_all: of_all,
        })
    }

    fn of_namespace(&self, namespace: &str) -> Arc<Semaphore> {
        let mut all = self.of_namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = all.get(namespace).and_then(Weak::upgrade) {
            return turns;
        }
        all.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(AT_ONCE_IN_NAMESPACE));
        all.insert(namespace.to_owned(), Arc::downgrade(&turns));
        turns
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
        let told = answer.is_some();
        let news = answer.is_some_and(|answer| self.note(key, answer));
        let mut all = self.lock();
        let Some(known) = all.get_mut(key) else {
            return false;
        };
        known.asking = false;
        known.concluded = true;
        known.missed = if told { 0 } else { known.missed + 1 };
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
