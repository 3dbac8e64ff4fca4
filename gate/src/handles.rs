//! Handles: what the MCP server gets instead of its caller's token.
//!
//! A handle is 32 random bytes and the address of the replica that minted it, which alone knows what it stands for. It
//! is good while the request is open that it was minted for, and no longer than the caller's token; who has it can buy
//! what the policy lets this caller's token be exchanged for, and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use mcp_auth_gate_core::{
    decide::Allowed,
    document::Delivery,
    policy::Policy,
    token::{CLOCK_SKEW, Claims, TokenError},
};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use secrecy::{SecretString, zeroize::Zeroizing};
use sha2::{Digest as _, Sha256};

use crate::clock::SharedClock;

#[cfg(test)]
mod tests;

/// The header by which a server gets a handle, and by which it shows it.
pub static HANDLE: HeaderName = HeaderName::from_static("mcp-auth-handle");
const SECRET_BYTES: usize = 32;
/// 43 characters of secret, a dot, and an address of at most 6 + 39 characters in base64.
const LONGEST: usize = 128;

type Id = [u8; 32];

/// The handles that this replica minted and whose requests are open. A clone shares them.
#[derive(Clone, Debug)]
pub struct Handles {
    own: SocketAddr,
    most: usize,
    clock: SharedClock,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    records: Mutex<HashMap<Id, Arc<Record>>>,
    open: Gauge,
    refused: Counter,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles")
            .field("open", &self.open.get())
            .finish_non_exhaustive()
    }
}

/// What a handle stands for. Prints redacted.
#[derive(Debug)]
pub struct Record {
    /// The caller's token.
    pub token: SecretString,
    /// What it says.
    pub claims: Arc<Claims>,
}

impl Record {
    /// The scopes that the caller holds under this policy, if it still accepts the caller.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn held(&self, policy: &Policy, now: i64) -> Result<BTreeSet<String>, TokenError> {
        self.claims.check(policy, now)?;
        Ok(policy.held(self.claims.scopes.iter().map(String::as_str)))
    }
}

/// A handle as it came: not yet known to be one.
#[derive(Clone, Copy)]
pub struct Presented {
    id: Id,
    /// The replica that says to have minted it; anybody can write that.
    pub minted_by: SocketAddr,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("minted_by", &self.minted_by)
            .finish_non_exhaustive()
    }
}

impl Presented {
    /// Reads the value of the header; `None` for what cannot be a handle.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok().filter(|text| text.len() <= LONGEST)?;
        let (secret, address) = text.split_once('.')?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        let secret = <&[u8; SECRET_BYTES]>::try_from(secret.as_slice()).ok()?;
        let address = URL_SAFE_NO_PAD.decode(address).ok()?;
        Some(Self {
            id: id(secret),
            minted_by: std::str::from_utf8(&address).ok()?.parse().ok()?,
        })
    }
}

/// Handles are looked up by hash, so that the time it takes tells nothing about the secret.
fn id(secret: &[u8; SECRET_BYTES]) -> Id {
    Sha256::digest(secret).into()
}

/// An open handle. It ends when this is dropped: keep it until the answer to the request has ended.
#[must_use = "the handle ends when this is dropped"]
pub struct HandleGuard {
    id: Id,
    value: HeaderValue,
    shared: Arc<Shared>,
}

impl fmt::Debug for HandleGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleGuard")
    }
}

impl HandleGuard {
    /// The value of [`HANDLE`] on the request to the server. Prints redacted.
    pub fn header_value(&self) -> &HeaderValue {
        &self.value
    }
}

impl Drop for HandleGuard {
    fn drop(&mut self) {
        self.shared.with(|records| records.remove(&self.id));
    }
}

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Id, Arc<Record>>) -> T) -> T {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut records);
        self.open.set(i64::try_from(records.len()).unwrap_or(i64::MAX));
        changed
    }
}

impl Handles {
    /// `own` is where other replicas reach the tokens face of this one; `most` bounds how many handles are open.
    pub fn new(own: SocketAddr, most: usize, clock: SharedClock) -> Self {
        Self {
            own,
            most,
            clock,
            shared: Arc::default(),
        }
    }

    /// Puts the metrics of handles into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let open = self.shared.open.clone();
        registry.register("handles", "Handles whose requests are open", open);
        let refused = self.shared.refused.clone();
        registry.register(
            "handles_not_minted",
            "Requests without a handle, because too many are open",
            refused,
        );
    }

    /// Where this replica is.
    pub fn own(&self) -> SocketAddr {
        self.own
    }

    /// A handle for this request; `None` when the policy sells nothing for handles, or too many are open.
    pub fn mint(&self, policy: &Policy, allowed: &Allowed) -> Option<HandleGuard> {
        let mut exchanges = policy.exchanges.iter();
        exchanges.find(|exchange| exchange.delivery == Delivery::Endpoint)?;
        let secret: Zeroizing<[u8; SECRET_BYTES]> = Zeroizing::new(rand::random());
        let (id, value) = (id(&secret), self.value(&secret)?);
        let record = Arc::new(Record {
            token: allowed.caller.token().clone(),
            claims: Arc::clone(&allowed.caller.claims),
        });
        let now = self.clock.now();
        let minted = self.shared.with(|records| {
            if records.len() >= self.most {
                records.retain(|_, record| is_open(record, now));
            }
            let fits = records.len() < self.most;
            if fits {
                records.insert(id, record);
            }
            fits
        });
        if !minted {
            self.shared.refused.inc();
            return None;
        }
        Some(HandleGuard {
            id,
            value,
            shared: Arc::clone(&self.shared),
        })
    }

    fn value(&self, secret: &[u8; SECRET_BYTES]) -> Option<HeaderValue> {
        let address = URL_SAFE_NO_PAD.encode(self.own.to_string());
        let text = Zeroizing::new(format!("{}.{address}", URL_SAFE_NO_PAD.encode(secret)));
        // Letters, digits, `-`, `_` and a dot can always stand in a header.
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What a handle stands for, while its request is open and its token good.
    pub fn find(&self, presented: &Presented) -> Option<Arc<Record>> {
        let now = self.clock.now();
        self.shared.with(|records| {
            let record = records.get(&presented.id)?;
            if is_open(record, now) {
                return Some(Arc::clone(record));
            }
            records.remove(&presented.id);
            None
        })
    }
}

fn is_open(record: &Record, now: i64) -> bool {
    now < record.claims.expires.saturating_add(CLOCK_SKEW)
}
