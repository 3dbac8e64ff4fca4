//! How each watch of a feed fares, without I/O.

use std::time::Duration;

use tokio::time::Instant;

/// How long the interruptions of one watch are told as one.
const REMIND: Duration = Duration::from_mins(5);

/// How long a watch may fail before its part of the cache counts as stale, and how far apart two failures of one
/// trouble are at most: a watch asks again within a minute, and says nothing when that succeeds and nothing changed.
const PATIENCE: Duration = Duration::from_mins(2);

/// The watches of one feed.
#[derive(Debug)]
pub(super) struct States(Vec<State>);

#[derive(Clone, Debug)]
struct State {
    /// The namespace; `None` is the whole cluster.
    name: Option<String>,
    /// Whether everything was listed once.
    listed: bool,
    trouble: Option<Trouble>,
    told: Option<Instant>,
}

/// Failures without anything good in between.
#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    last: Instant,
    problem: String,
}

impl States {
    /// Watches of these namespaces, none of which has listed yet.
    pub(super) fn new(names: impl Iterator<Item = Option<String>>) -> Self {
        let state = |name| State {
            name,
            listed: false,
            trouble: None,
            told: None,
        };
        Self(names.map(state).collect())
    }

    /// The namespace of watch number `scope`, if it has one.
    pub(super) fn name(&self, scope: usize) -> Option<&str> {
        self.0.get(scope)?.name.as_deref()
    }

    /// The watch failed. Returns whether that is worth a line in the log: not at each attempt, or an API server that
    /// is away for long would fill it.
    pub(super) fn failed(&mut self, scope: usize, problem: String, now: Instant) -> bool {
        let Some(state) = self.0.get_mut(scope) else {
            return false;
        };
        let before = state.trouble.take().filter(|before| now - before.last < PATIENCE);
        state.trouble = Some(Trouble {
            since: before.map_or(now, |before| before.since),
            last: now,
            problem,
        });
        let tell = state.told.is_none_or(|told| now - told > REMIND);
        if tell {
            state.told = Some(now);
        }
        tell
    }

    /// The watch said something, or has nothing to say because its namespace does not exist.
    pub(super) fn fine(&mut self, scope: usize) {
        if let Some(state) = self.0.get_mut(scope) {
            state.trouble = None;
        }
    }

    /// The watch has listed everything.
    pub(super) fn listed(&mut self, scope: usize) {
        if let Some(state) = self.0.get_mut(scope) {
            state.listed = true;
        }
    }

    /// The watches of `kind` that have yet to list or, once all have, those that have failed for long.
    pub(super) fn missing(&self, kind: &str, now: Instant) -> Option<String> {
        let filling = self.0.iter().any(|state| !state.listed);
        let missing = self.0.iter().filter(|state| {
            if filling {
                !state.listed
            } else {
                state.is_stale(now)
            }
        });
        let missing: Vec<_> = missing.map(|state| state.describe(kind)).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

impl State {
    fn is_stale(&self, now: Instant) -> bool {
        self.trouble
            .as_ref()
            .is_some_and(|trouble| trouble.last - trouble.since >= PATIENCE && now - trouble.last < PATIENCE)
    }

    fn describe(&self, kind: &str) -> String {
        let place = self.name.as_ref();
        let place = place.map_or(String::new(), |name| format!(" in namespace {name}"));
        let problem = self.trouble.as_ref();
        let problem = problem.map_or(String::new(), |trouble| format!(" ({})", trouble.problem));
        format!("{kind}{place}{problem}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_fails_for_long_is_stale_until_it_says_something_or_fails_no_more() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut states = States::new([Some("a".to_owned()), Some("b".to_owned())].into_iter());
        let fails = |states: &mut States, range: std::ops::RangeInclusive<u64>| {
            for second in range.step_by(30) {
                states.failed(0, "forbidden".to_owned(), after(second));
            }
        };
        states.listed(1);
        assert_eq!(states.missing("x", after(0)).unwrap(), "x in namespace a");
        fails(&mut states, 0..=0);
        assert_eq!(
            states.missing("x", after(0)).unwrap(),
            "x in namespace a (forbidden)"
        );
        states.listed(0);
        states.fine(0);
        assert_eq!(states.missing("x", after(0)), None);

        fails(&mut states, 0..=90);
        assert_eq!(states.missing("x", after(90)), None, "not for long");
        fails(&mut states, 120..=120);
        let stale = Some("x in namespace a (forbidden)".to_owned());
        assert_eq!(states.missing("x", after(121)), stale);
        states.fine(0);
        assert_eq!(states.missing("x", after(122)), None, "it said something");

        fails(&mut states, 300..=600);
        assert_eq!(states.missing("x", after(719)), stale);
        assert_eq!(states.missing("x", after(720)), None, "it fails no more");
        fails(&mut states, 900..=900);
        assert_eq!(states.missing("x", after(900)), None, "that is another trouble");
    }

    #[test]
    fn interruptions_are_told_now_and_then() {
        let start = Instant::now();
        let mut states = States::new([None].into_iter());
        let mut told = |seconds| states.failed(0, String::new(), start + Duration::from_secs(seconds));
        assert!(told(0) && !told(30) && !told(300) && told(301) && !told(302));
    }
}
