//! The keys of the authorization server: fetched, kept fresh, and never given up for something worse.
//!
//! One task ([`KeyStore::run`]) fetches; requests only ask it to, and wait for what it finds. So a storm of tokens with
//! made-up key ids costs one fetch per [`KeyOptions::demand_interval`], whoever goes away while waiting.

use std::{convert::Infallible, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::StatusCode;
use mcp_auth_gate_core::{
    policy::Policy,
    token::{Claims, Keys, TokenError, Verifier},
};
use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{changes::Changes, clock::SharedClock, outbound::Outbound};

mod metrics;
mod set;
#[cfg(test)]
mod tests;

use metrics::KeyMetrics;
use set::{KeySet, Source};

/// No authorization server has more keys than fit into this: 256 KiB.
const MOST_BYTES: usize = 256 * 1024;
/// How often tokens that have expired leave the cache.
const SWEEP: Duration = Duration::from_mins(1);
/// How long a request waits for a fetch: longer than a fetch may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// How many requests wait for a fetch at a time. Each has a place among those that are served, and no good token.
const MOST_WAITING: usize = 64;
/// The longest pause between tries while the authorization server does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How keys are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeyOptions {
    /// How often they are fetched without being asked for.
    pub refresh: Duration,
    /// How often they are fetched at most because a token named a key that is not known.
    pub demand_interval: Duration,
    /// How many verified tokens are remembered: entries, of about a KiB each.
    pub cached_tokens: usize,
}

impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            refresh: Duration::from_mins(5),
            demand_interval: Duration::from_secs(10),
            cached_tokens: 10_000,
        }
    }
}

/// What came of asking for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refetched {
    /// They were fetched, now or a moment ago.
    Yes,
    /// The authorization server gave none.
    No,
}

/// The keys, and the tokens that they verified.
#[derive(Debug)]
pub struct KeyStore {
    set: ArcSwap<KeySet>,
    changes: Changes,
    state: watch::Sender<State>,
    demand: Notify,
    waiting: Semaphore,
    outbound: Outbound,
    options: KeyOptions,
    clock: SharedClock,
    metrics: KeyMetrics,
}

#[derive(Clone, Debug)]
struct State {
    source: Option<Arc<Source>>,
    /// How many fetches have ended.
    ended: u64,
    /// How many must have ended for what was asked for on demand.
    wanted: u64,
    running: bool,
    /// When the next fetch on demand may begin.
    demand_from: Instant,
    last: Refetched,
}

impl KeyStore {
    /// A store without keys. It fetches nothing before it [follows](Self::follow) a policy and [runs](Self::run).
    pub fn new(outbound: Outbound, options: KeyOptions, clock: SharedClock) -> Self {
        let (state, _) = watch::channel(State {
            source: None,
            ended: 0,
            wanted: 0,
            running: false,
            demand_from: Instant::now(),
            last: Refetched::No,
        });
        Self {
            set: ArcSwap::from_pointee(KeySet::default()),
            changes: Changes::default(),
            state,
            demand: Notify::new(),
            waiting: Semaphore::new(MOST_WAITING),
            outbound,
            options,
            clock,
            metrics: KeyMetrics::default(),
        }
    }

    /// Tells when tokens have to be verified anew, because the keys are others.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether there are keys from where the policy says. Without any, no token is good.
    pub fn are_there(&self) -> bool {
        self.set.load().is_fetched()
    }

    /// Puts the metrics of the keys into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Takes the keys from where this policy says. Keys of another issuer or address are given up at once.
    pub fn follow(&self, policy: &Policy) {
        let source = Arc::new(Source::of(policy));
        self.state.send_if_modified(|state| {
            if state.source.as_ref() == Some(&source) {
                return false;
            }
            if !state
                .source
                .as_ref()
                .is_some_and(|old| old.has_same_keys(&source))
            {
                self.set.store(Arc::new(KeySet::empty(&source.issuer)));
                self.metrics.forgotten();
            }
            state.source = Some(Arc::clone(&source));
            state.demand_from = Instant::now();
            true
        });
    }

    /// Asks for newer keys, because a token names one that is not known, and waits for them, unless too many others do.
    pub async fn refetch(&self) -> Refetched {
        let mut states = self.state.subscribe();
        let seen = states.borrow_and_update().clone();
        if !seen.running && Instant::now() < seen.demand_from {
            return seen.last;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Refetched::No;
        };
        if !seen.running {
            self.state.send_if_modified(|state| {
                state.wanted = state.wanted.max(seen.ended + 1);
                false
            });
            self.demand.notify_one();
        }
        let ended = states.wait_for(|state| state.ended > seen.ended);
        match timeout(PATIENCE, ended).await {
            Ok(Ok(state)) => state.last,
            _ => Refetched::No,
        }
    }

    /// Fetches keys for as long as it is polled.
    pub async fn run(&self) -> Infallible {
        tokio::select! {
            never = self.fetches() => never,
            never = self.sweeps() => never,
        }
    }

    async fn fetches(&self) -> Infallible {
        let mut states = self.state.subscribe();
        let mut failures = 0;
        loop {
            let Some(source) = self.begin() else {
                await_state(&mut states, |state| state.source.is_some()).await;
                continue;
            };
            let is_over = |state: &State| !state.source.as_ref().is_some_and(|now| Arc::ptr_eq(now, &source));
            let fetched = tokio::select! {
                fetched = self.fetch(&source) => fetched,
                () = await_state(&mut states, is_over) => continue,
            };
            let Some(outcome) = self.settle(&source, &fetched) else {
                continue;
            };
            failures = if outcome == Refetched::Yes {
                0
            } else {
                failures + 1
            };
            tokio::select! {
                () = sleep(self.pause(failures)) => {}
                () = self.demanded() => {}
                () = await_state(&mut states, is_over) => {}
            }
        }
    }

    async fn sweeps(&self) -> Infallible {
        loop {
            sleep(SWEEP).await;
            self.set.load().sweep(self.clock.now());
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        match failures {
            0 => self.options.refresh,
            failures => Duration::from_secs(1 << (failures - 1).min(5)).min(LONGEST_PAUSE),
        }
    }

    /// Waits until somebody wants newer keys, and may.
    async fn demanded(&self) {
        loop {
            self.demand.notified().await;
            let mut granted = false;
            self.state.send_if_modified(|state| {
                let now = Instant::now();
                // What was wanted may have come since, by itself.
                granted = state.wanted > state.ended && now >= state.demand_from;
                if granted {
                    state.demand_from = now + self.options.demand_interval;
                }
                false
            });
            if granted {
                return;
            }
        }
    }

    /// Marks the beginning of a fetch from the present source, if there is one.
    fn begin(&self) -> Option<Arc<Source>> {
        let mut source = None;
        self.state.send_modify(|state| {
            state.running = state.source.is_some();
            source.clone_from(&state.source);
        });
        source
    }

    async fn fetch(&self, source: &Source) -> Result<(Keys, Vec<u8>), FetchError> {
        let ca_bundle = source.ca_bundle.as_deref();
        let reply = self.outbound.get(&source.jwks_uri, ca_bundle, MOST_BYTES).await?;
        if reply.status != StatusCode::OK {
            return Err(FetchError::Status(reply.status.as_u16()));
        }
        Ok((Keys::parse(&reply.body)?, reply.body))
    }

    /// Puts the keys in place; `None` when they are not the ones of the present policy.
    fn settle(&self, source: &Source, fetched: &Result<(Keys, Vec<u8>), FetchError>) -> Option<Refetched> {
        let outcome = match fetched {
            Ok(_) => Refetched::Yes,
            Err(_) => Refetched::No,
        };
        let (mut current, mut replaced) = (true, false);
        self.state.send_modify(|state| {
            current = state.source.as_deref() == Some(source);
            if !current {
                return;
            }
            if let Ok((keys, document)) = fetched
                && !self.set.load().is_of(document)
            {
                let tokens = self.options.cached_tokens;
                self.set.store(Arc::new(KeySet::new(
                    &source.issuer,
                    keys.clone(),
                    document,
                    tokens,
                )));
                replaced = true;
            }
            state.running = false;
            state.ended += 1;
            state.last = outcome;
        });
        if !current {
            return None;
        }
        if replaced {
            self.changes.tell();
        }
        self.metrics.fetched(outcome, self.clock.now());
        match fetched {
            Ok(_) => tracing::debug!("fetched the keys of the authorization server"),
            Err(error) => tracing::warn!(%error, "the keys of the authorization server were not fetched"),
        }
        Some(outcome)
    }
}

async fn await_state(states: &mut watch::Receiver<State>, is_it: impl FnMut(&State) -> bool) {
    // The sender is the store's own: it does not go away while this runs.
    let _ = states.wait_for(is_it).await;
}

impl Verifier for KeyStore {
    fn verify(&self, token: &str, issuer: &str) -> Result<Arc<Claims>, TokenError> {
        self.set.load().verify(token, issuer)
    }
}

/// Why a document was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Outbound(#[from] crate::outbound::OutboundError),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is no JWKS document with a key of use")]
    Document,
}

impl From<TokenError> for FetchError {
    fn from(_: TokenError) -> Self {
        Self::Document
    }
}
