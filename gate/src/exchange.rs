//! Tokens for the server's own calls, in exchange for its callers' tokens (RFC 8693).
//!
//! One exchange has one target. What comes back is checked before anybody gets it, and kept until shortly before it or
//! the caller's token expires; whoever asks for the same at the same time shares one call. Nothing is shared between
//! callers' tokens, and all is dropped with the policy or the credentials that it came from.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use http::HeaderValue;
use mcp_auth_gate_core::{
    answer::Answer,
    decide::Allowed,
    document::{Exchange, ExchangeBy},
    policy::Policy,
    token::Claims,
};
use prometheus_client::registry::Registry;
use quick_cache::{Weighter, sync::Cache};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use crate::{clock::SharedClock, credentials::ClientCredentials, outbound::Outbound};

mod error;
mod metrics;
mod plan;
mod reply;
#[cfg(test)]
mod tests;

pub use error::ExchangeError;
use metrics::ExchangeMetrics;
pub use plan::{Plan, plan};
pub use reply::Issued;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// No answer of a token endpoint is larger: 1 MiB.
const MOST_BYTES: usize = 1024 * 1024;
/// How much is kept, in KiB of tokens.
const CAPACITY: usize = 4096;
/// How long a refusal is kept, in seconds: a server that tries again and again does not ask each time.
const REFUSAL_KEPT: i64 = 5;
/// How long before its end a token is no longer handed out from memory, in seconds: it has to be used yet.
const MARGIN: i64 = 30;

/// Whose token is exchanged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The token itself.
    pub token: &'a SecretString,
    /// What it says; checked by the present policy.
    pub claims: &'a Claims,
    /// The scopes that the caller holds, implied ones included.
    pub held: &'a std::collections::BTreeSet<String>,
}

/// How often what has ended is forgotten, in seconds. It is not used in any case; here it is about memory.
const SWEEP: i64 = 60;

type Key = [u8; 32];
type Outcome = Result<Arc<Issued>, ExchangeError>;
type Flight = BoxFuture<'static, Outcome>;

/// Exchanges tokens, and remembers what came of it.
#[derive(Debug)]
pub struct Exchanges {
    era: ArcSwap<Era>,
    outbound: Outbound,
    clock: SharedClock,
    metrics: ExchangeMetrics,
}

/// What is remembered under one policy and one set of credentials. It goes as a whole.
struct Era {
    policy: String,
    client: Option<ClientCredentials>,
    kept: Cache<Key, Kept, Weight>,
    flights: Mutex<HashMap<Key, WeakShared<Flight>>>,
    /// When what had ended was last forgotten.
    swept: AtomicI64,
}

#[derive(Clone)]
struct Kept {
    outcome: Outcome,
    until: i64,
}

impl std::fmt::Debug for Era {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Era")
            .field("policy", &self.policy)
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl Era {
    fn new(policy: &str, client: Option<ClientCredentials>) -> Arc<Self> {
        Arc::new(Self {
            policy: policy.to_owned(),
            client,
            kept: Cache::with_weighter(CAPACITY, CAPACITY as u64, Weight),
            flights: Mutex::default(),
            swept: AtomicI64::new(0),
        })
    }
}

impl Era {
    fn keep(&self, key: Key, kept: Kept, now: i64) {
        if now.saturating_sub(self.swept.load(Ordering::Relaxed)) >= SWEEP {
            self.swept.store(now, Ordering::Relaxed);
            self.kept.retain(|_, kept| now < kept.until);
        }
        self.kept.insert(key, kept);
    }
}

impl Exchanges {
    /// Exchanges nothing before it has [credentials](Self::set_client).
    pub fn new(outbound: Outbound, clock: SharedClock) -> Self {
        Self {
            era: ArcSwap::new(Era::new("", None)),
            outbound,
            clock,
            metrics: ExchangeMetrics::default(),
        }
    }

    /// Puts the metrics of exchanges into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Forgets what was exchanged under another policy.
    pub fn follow(&self, policy: &Policy) {
        self.era.rcu(|era| {
            if era.policy == policy.hash {
                Arc::clone(era)
            } else {
                Era::new(&policy.hash, era.client.clone())
            }
        });
    }

    /// Authenticates with these credentials from now on, and forgets what was exchanged with others.
    pub fn set_client(&self, client: Option<&ClientCredentials>) {
        self.era.rcu(|era| {
            if era.client.as_ref() == client {
                Arc::clone(era)
            } else {
                Era::new(&era.policy, client.cloned())
            }
        });
    }

    /// The token for the `Authorization` header of this request; `None` when it goes without: no exchange is delivered
    /// that way, this client's tokens are not exchanged, or the caller holds nothing that a scope requires.
    ///
    /// # Errors
    /// The answer for the caller, when there should be a token and is none.
    pub async fn header_token(
        &self,
        policy: &Policy,
        allowed: &Allowed,
    ) -> Result<Option<SecretString>, Box<Answer>> {
        let Some(exchange) = policy.header_exchange() else {
            return Ok(None);
        };
        let caller = &allowed.caller;
        let subject = Subject {
            token: caller.token(),
            claims: &caller.claims,
            held: &caller.held,
        };
        match self.buy(policy, exchange, subject).await {
            Ok(issued) => Ok(Some(issued.token.clone())),
            Err(ExchangeError::NothingToAsk | ExchangeError::ClientNotAllowed) => Ok(None),
            Err(error) => {
                let id = allowed.message.as_ref().and_then(|message| message.id.as_ref());
                let answer = error.to_answer(policy, id);
                Err(Box::new(answer.for_origin(caller.origin.as_deref())))
            }
        }
    }

    /// The token that `exchange` gives for the subject's, from memory or from the authorization server.
    pub async fn buy(&self, policy: &Policy, exchange: &Exchange, subject: Subject<'_>) -> Outcome {
        let scopes = match plan(exchange, subject.claims, subject.held) {
            Plan::Ask(scopes) => scopes.join(" "),
            Plan::NothingToAsk => return Err(ExchangeError::NothingToAsk),
            Plan::ClientNotAllowed => return Err(ExchangeError::ClientNotAllowed),
        };
        let era = self.era.load_full();
        let key = key(policy, exchange, &scopes, subject.token);
        if let Some(kept) = era.kept.get(&key) {
            if self.clock.now() < kept.until {
                self.metrics.remembered();
                return kept.outcome;
            }
            era.kept.remove(&key);
        }
        let flight = self.join(&era, key, policy, exchange, scopes, subject);
        flight.await
    }

    /// The call that is on its way for this key, or a new one.
    fn join(
        &self,
        era: &Arc<Era>,
        key: Key,
        policy: &Policy,
        exchange: &Exchange,
        scopes: String,
        subject: Subject<'_>,
    ) -> Shared<Flight> {
        let mut flights = era.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        // Flights whose passengers all left do not take themselves off the list.
        if flights.len() >= CAPACITY {
            flights.retain(|_, flight| flight.upgrade().is_some());
        }
        let call = Call {
            era: Arc::clone(era),
            key,
            outbound: self.outbound.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            address: policy.authorization_server.token_endpoint.clone(),
            ca_bundle: policy.authorization_server.ca_bundle.clone(),
            by: policy.authorization_server.exchange_by,
            audience: exchange.audience.clone(),
            scopes,
            token: subject.token.clone(),
            presented_as: exchange.subject_token_type.clone(),
            expires: subject.claims.expires,
        };
        let flight = call.run().boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        flight
    }
}

/// One call to the token endpoint, with all that it needs.
struct Call {
    era: Arc<Era>,
    key: Key,
    outbound: Outbound,
    clock: SharedClock,
    metrics: ExchangeMetrics,
    address: String,
    ca_bundle: Option<String>,
    by: ExchangeBy,
    audience: String,
    scopes: String,
    token: SecretString,
    presented_as: Option<String>,
    expires: i64,
}

impl Call {
    async fn run(self) -> Outcome {
        let outcome = self.ask().await.map(Arc::new);
        let now = self.clock.now();
        self.metrics.called(outcome.as_ref().err().copied());
        if let Err(error) = &outcome {
            tracing::warn!(%error, audience = self.audience, "a token was not exchanged");
        }
        let until = match &outcome {
            Ok(issued) => issued
                .expires
                .map(|expires| kept_until(now, expires.min(self.expires))),
            Err(error) => error.is_lasting().then_some(now + REFUSAL_KEPT),
        };
        if let Some(until) = until.filter(|until| now < *until) {
            let kept = Kept {
                outcome: outcome.clone(),
                until,
            };
            self.era.keep(self.key, kept, now);
        }
        // Only now: whoever comes later finds it kept.
        let mut flights = self.era.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&self.key);
        drop(flights);
        outcome
    }

    async fn ask(&self) -> Result<Issued, ExchangeError> {
        let client = self.era.client.as_ref().ok_or(ExchangeError::NoCredentials)?;
        let mut form = vec![
            ("grant_type", GRANT),
            ("subject_token", self.token.expose_secret()),
            (
                "subject_token_type",
                self.presented_as.as_deref().unwrap_or(ACCESS_TOKEN),
            ),
            ("scope", self.scopes.as_str()),
        ];
        if self.presented_as.is_none() {
            // Who looks at a token of another type issues access tokens and nothing else.
            form.push(("requested_token_type", ACCESS_TOKEN));
        }
        let authorization = match self.by {
            // At Keycloak `audience` would have to be the id of a client.
            ExchangeBy::Scope => Some(basic(client)?),
            ExchangeBy::Audience => {
                form.extend([
                    ("audience", self.audience.as_str()),
                    ("client_id", client.id.as_str()),
                    ("client_secret", client.secret.expose_secret()),
                ]);
                None
            }
        };
        let ca_bundle = self.ca_bundle.as_deref();
        let reply = self
            .outbound
            .post(&self.address, ca_bundle, authorization, &form, MOST_BYTES)
            .await?;
        reply::read(&reply, &self.audience, &self.token, self.clock.now())
    }
}

/// RFC 6749, 2.3.1: id and secret are form-encoded first; the id is a URL, and has colons.
fn basic(client: &ClientCredentials) -> Result<HeaderValue, ExchangeError> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = Zeroizing::new(encoded(client.secret.expose_secret()));
    let pair = Zeroizing::new(format!("{}:{}", encoded(&client.id), secret.as_str()));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| ExchangeError::NoCredentials)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A token is kept until half a minute before its end, or half of its life if that is short.
fn kept_until(now: i64, end: i64) -> i64 {
    let left = end.saturating_sub(now);
    end.saturating_sub(MARGIN.min(left / 2 + 1))
}

/// What must be the same for two to share a token. Every part is hashed with its length, so that none runs into the next.
fn key(policy: &Policy, exchange: &Exchange, scopes: &str, token: &SecretString) -> Key {
    let mut hash = Sha256::new();
    let parts = [
        policy.hash.as_str(),
        &exchange.name,
        &exchange.audience,
        scopes,
        token.expose_secret(),
    ];
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// One for each KiB of a token.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Key, Kept> for Weight {
    fn weight(&self, _: &Key, kept: &Kept) -> u64 {
        let bytes = kept
            .outcome
            .as_ref()
            .map_or(0, |issued| issued.token.expose_secret().len());
        1 + (bytes / 1024) as u64
    }
}
