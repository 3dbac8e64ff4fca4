//! What one realm is asked to bear, whoever asks: calls per second, calls at a time, and none while it is down.
//!
//! The limits belong to the realm, not to the object that names it: two AuthorizationServers with the same
//! administration address and realm share them, and a slow or dead realm takes nothing from any other.

mod breaker;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};
use url::Url;

use super::ProviderError;
pub(crate) use breaker::Pass;
use breaker::{Breaker, Weight};

/// The longest rest that an attempt sits out; a longer one is the caller's to wait for.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How many calls one realm gets at a time.
pub const CONCURRENT_CALLS: usize = 8;

/// How hard a realm may be worked.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// Calls per second; a tenth of it, but at least one, may come at once.
    pub rate: NonZeroU32,
    /// Calls at a time.
    pub concurrent: usize,
    /// The longest time for which a failing realm is left alone.
    pub max_pause: Duration,
}

impl LimitSettings {
    /// `rate` calls per second, [`CONCURRENT_CALLS`] at a time.
    pub fn new(rate: NonZeroU32, max_pause: Duration) -> Self {
        Self {
            rate,
            concurrent: CONCURRENT_CALLS,
            max_pause,
        }
    }
}

/// The limits of all realms. A clone shares them.
///
/// Limits are never dropped: there are as many as platform admins ever declared realms, and one that is declared
/// again must meet the pause it left.
#[derive(Clone, Debug)]
pub struct RealmRegistry {
    settings: LimitSettings,
    realms: Arc<Mutex<HashMap<String, Arc<RealmLimits>>>>,
}

impl RealmRegistry {
    /// A registry that gives every realm these limits.
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            settings,
            realms: Arc::default(),
        }
    }

    /// The limits of the realm with this [`canonical`] address.
    pub(crate) fn limits(&self, canonical: &str) -> Arc<RealmLimits> {
        // A panic in the critical section can only come from the allocator: the map is whole.
        let mut realms = self.realms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            realms
                .entry(canonical.to_owned())
                .or_insert_with(|| Arc::new(RealmLimits::new(self.settings))),
        )
    }
}

/// The one spelling of a realm's administration address: what is unique, limited and written by one is so per this.
pub fn canonical(server: &Url, realm: &str) -> String {
    let mut url = server.clone();
    url.set_query(None);
    url.set_fragment(None);
    format!("{}/realms/{realm}", url.as_str().trim_end_matches('/'))
}

/// tokio's clock for governor, so that tests can pause both alike.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How far a replica got with ending what was sent before it led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeOver {
    /// The server failed at it so often in a row.
    Failed(u32),
    /// It has ended, or cannot be ended.
    Over,
}

/// The limits of one realm.
#[derive(Debug)]
pub(crate) struct RealmLimits {
    rate: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
    slots: Semaphore,
    /// Until when the server allows no more calls, as its answers said.
    rests_until: Mutex<Option<Instant>>,
    breaker: Breaker,
    /// Taken by whoever reads, changes and writes a document of the realm that has no version.
    pub(crate) documents: tokio::sync::Mutex<()>,
    /// By client of the operator, how far this replica got with ending what was sent before it led.
    pub(crate) taken_over: tokio::sync::Mutex<BTreeMap<String, TakeOver>>,
    /// The client ids by which the operator signs in there, for whichever AuthorizationServer.
    operators: Mutex<BTreeSet<String>>,
    /// Whether clients may register themselves there, so that scopes are closed before they give anything.
    closes: AtomicBool,
}

impl RealmLimits {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        let burst = NonZeroU32::new(settings.rate.get() / 10).unwrap_or(NonZeroU32::MIN);
        let clock = TokioClock(Instant::now());
        Self {
            rate: RateLimiter::direct_with_clock(
                Quota::per_second(settings.rate).allow_burst(burst),
                clock.clone(),
            ),
            clock,
            slots: Semaphore::new(settings.concurrent),
            rests_until: Mutex::default(),
            breaker: Breaker::new(settings.max_pause),
            documents: tokio::sync::Mutex::default(),
            taken_over: tokio::sync::Mutex::default(),
            operators: Mutex::default(),
            closes: AtomicBool::new(false),
        }
    }

    /// Notes that the operator signs in there by this client. It stays noted: a client that was the operator's once is
    /// nobody else's to take over by accident.
    pub(crate) fn note_operator(&self, client_id: &str) {
        self.operators().insert(client_id.to_owned());
    }

    /// Notes that clients may register themselves there. It stays noted: it costs a little, and not to know it would cost
    /// more.
    pub(crate) fn note_self_registration(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// Whether scopes are to be closed before they give anything.
    pub(crate) fn closes(&self) -> bool {
        self.closes.load(Ordering::Relaxed)
    }

    /// Whether the operator signs in there by this client.
    pub(crate) fn is_operator(&self, client_id: &str) -> bool {
        self.operators().contains(client_id)
    }

    fn operators(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a call may be made at all.
    ///
    /// # Errors
    /// What the realm failed with last, with the time until it is tried again.
    pub(crate) fn admit(&self) -> Result<Pass<'_>, ProviderError> {
        self.breaker.admit()
    }

    /// The next call may be made at once, although the realm failed a moment ago: somebody changed something.
    pub(crate) fn try_again_now(&self) {
        self.breaker.try_again_now();
    }

    /// Notes that the server allows no more calls for this time.
    pub(crate) fn rest(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait);
        let mut rests = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *rests = (*rests).max(until);
    }

    /// Waits until the server allows calls again.
    async fn sit_out(&self) -> Result<(), ProviderError> {
        loop {
            let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(wait) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
                return Ok(());
            };
            if wait.is_zero() {
                return Ok(());
            }
            if wait > LONGEST_REST {
                return Err(ProviderError::Unavailable {
                    status: 429,
                    retry_after: Some(wait),
                });
            }
            sleep(wait).await;
        }
    }

    /// Waits for the turn of one attempt. The slot is taken until it is dropped.
    ///
    /// # Errors
    /// As [`Self::admit`], if the realm failed others while this attempt waited.
    pub(crate) async fn turn(&self, pass: &Pass<'_>) -> Result<Slot<'_>, ProviderError> {
        let slot = Slot(self.slots.acquire().await.ok());
        self.sit_out().await?;
        while let Err(not_until) = self.rate.check() {
            sleep(not_until.wait_time_from(self.clock.now())).await;
        }
        pass.still_valid()?;
        Ok(slot)
    }
}

/// The place of one attempt among those under way. Empty only if the semaphore were closed, which it never is.
#[derive(Debug)]
pub(crate) struct Slot<'a>(#[allow(dead_code, reason = "held for its drop")] Option<SemaphorePermit<'a>>);

/// How much a failure says about the realm as a whole.
fn weight(error: &ProviderError) -> Weight {
    match error {
        ProviderError::Unreachable { .. }
        | ProviderError::Unavailable {
            status: 429 | 502..=504,
            ..
        } => Weight::Down,
        // One request may be poison to the server while all others are well.
        ProviderError::Unavailable { .. } => Weight::Suspect,
        _ => Weight::None,
    }
}
