//! The circuit breaker: a realm that fails is left alone for a while, and then asked by one call first.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::weight;
use crate::provider::ProviderError;

/// The first pause; each failed probe doubles it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// After so many suspect failures without a success in between, the realm counts as down.
const SUSPECTS: u32 = 3;

/// How much a failure says about the realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nothing: the server answered, or nothing was sent.
    None,
    /// Perhaps the realm is down, perhaps only this request failed.
    Suspect,
    /// The realm is down.
    Down,
}

#[derive(Debug)]
enum State {
    Closed {
        suspects: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
        last: ProviderError,
    },
    Probing {
        pause: Duration,
        last: ProviderError,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    max_pause: Duration,
}

impl Breaker {
    pub(super) fn new(max_pause: Duration) -> Self {
        Self {
            state: Mutex::new(State::Closed { suspects: 0 }),
            max_pause: max_pause.max(FIRST_PAUSE),
        }
    }

    pub(super) fn admit(&self) -> Result<Pass<'_>, ProviderError> {
        let mut state = self.lock();
        match &*state {
            State::Closed { .. } => Ok(Pass {
                breaker: self,
                probe: false,
                concluded: false,
            }),
            State::Open { until, pause, last } if *until <= Instant::now() => {
                *state = State::Probing {
                    pause: *pause,
                    last: last.clone(),
                };
                Ok(Pass {
                    breaker: self,
                    probe: true,
                    concluded: false,
                })
            }
            open => Err(refusal(open)),
        }
    }

    pub(super) fn try_again_now(&self) {
        if let State::Open { until, .. } = &mut *self.lock() {
            *until = Instant::now();
        }
    }

    fn succeeded(&self, probe: bool) {
        let mut state = self.lock();
        // A late answer to a call from before the pause does not end it; the probe does.
        if probe || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { suspects: 0 };
        }
    }

    fn failed(&self, probe: bool, error: &ProviderError) {
        let mut state = self.lock();
        let pause = match &*state {
            State::Probing { pause, .. } if probe => (*pause * 2).min(self.max_pause),
            State::Closed { suspects } if weight(error) == Weight::Suspect && suspects + 1 < SUSPECTS => {
                *state = State::Closed {
                    suspects: suspects + 1,
                };
                return;
            }
            State::Closed { .. } => FIRST_PAUSE,
            // The news is old: others brought it.
            State::Open { .. } | State::Probing { .. } => return,
        };
        let jittered = pause.mul_f64(rand::random_range(0.75..=1.25)).min(self.max_pause);
        let asked = error.retry_after().unwrap_or_default().min(self.max_pause);
        *state = State::Open {
            until: Instant::now() + jittered.max(asked),
            pause,
            last: error.clone(),
        };
    }

    /// The probe ended without a verdict: its caller went away.
    fn abandoned(&self) {
        let mut state = self.lock();
        if let State::Probing { pause, last } = &*state {
            *state = State::Open {
                until: Instant::now(),
                pause: *pause,
                last: last.clone(),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in the critical sections can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call hears that is not made: the last failure again, so that a condition does not change its words, and when
/// to come back.
fn refusal(state: &State) -> ProviderError {
    let (last, wait) = match state {
        State::Open { until, last, .. } => (last, until.saturating_duration_since(Instant::now())),
        State::Probing { last, .. } => (last, FIRST_PAUSE),
        State::Closed { .. } => {
            return ProviderError::Unavailable {
                status: 503,
                retry_after: None,
            };
        }
    };
    last.clone().with_retry_after(wait)
}

/// The permission to make one call, and the duty to say how it went.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    concluded: bool,
}

impl Pass<'_> {
    /// Whether this call decides if the realm is tried by others again: it is made once, without retries.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether the realm has not failed others since.
    pub(super) fn still_valid(&self) -> Result<(), ProviderError> {
        match &*self.breaker.lock() {
            State::Closed { .. } => Ok(()),
            State::Probing { .. } if self.probe => Ok(()),
            open => Err(refusal(open)),
        }
    }

    /// Says how the call went.
    pub(crate) fn conclude(mut self, failure: Option<&ProviderError>) {
        self.concluded = true;
        match failure {
            // Nothing was sent, so nothing is known; a probe stays owed.
            Some(ProviderError::NotLeading) => self.concluded = false,
            Some(error) if weight(error) != Weight::None => self.breaker.failed(self.probe, error),
            _ => self.breaker.succeeded(self.probe),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe && !self.concluded {
            self.breaker.abandoned();
        }
    }
}
