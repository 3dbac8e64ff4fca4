//! One version of the keys, with the tokens that it verified: both go together.

use std::{fmt, sync::Arc};

use mcp_auth_gate_core::{
    policy::Policy,
    token::{CLOCK_SKEW, Claims, Keys, TokenError},
};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use sha2::{Digest as _, Sha256};

type Digest = [u8; 32];

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) issuer: String,
    pub(super) jwks_uri: String,
    pub(super) ca_bundle: Option<String>,
}

impl Source {
    pub(super) fn of(policy: &Policy) -> Self {
        let server = &policy.authorization_server;
        Self {
            issuer: server.issuer.clone(),
            jwks_uri: server.jwks_uri.clone(),
            ca_bundle: server.ca_bundle.clone(),
        }
    }

    /// Another CA bundle is another way to the same keys.
    pub(super) fn has_same_keys(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.jwks_uri == other.jwks_uri
    }
}

/// Keys of one issuer, and the tokens that they verified, by hash. No token is kept as text.
pub(super) struct KeySet {
    issuer: String,
    keys: Keys,
    document: Option<Digest>,
    verified: Cache<Digest, Arc<Claims>, Weight>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("issuer", &self.issuer)
            .field("keys", &self.keys)
            .field("verified", &self.verified.len())
            .finish_non_exhaustive()
    }
}

impl Default for KeySet {
    fn default() -> Self {
        Self::empty("")
    }
}

impl KeySet {
    pub(super) fn empty(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            keys: Keys::default(),
            document: None,
            verified: cache(0),
        }
    }

    pub(super) fn new(issuer: &str, keys: Keys, document: &[u8], cached_tokens: usize) -> Self {
        Self {
            issuer: issuer.to_owned(),
            keys,
            document: Some(digest(document)),
            verified: cache(cached_tokens),
        }
    }

    /// Whether keys were fetched at all.
    pub(super) fn is_fetched(&self) -> bool {
        self.document.is_some()
    }

    /// Whether these keys were read from this very document.
    pub(super) fn is_of(&self, document: &[u8]) -> bool {
        self.document == Some(digest(document))
    }

    pub(super) fn verify(&self, token: &str, issuer: &str) -> Result<Arc<Claims>, TokenError> {
        // A policy of another issuer than the keys: for a moment, while both change.
        if issuer != self.issuer {
            return Err(TokenError::NoKeys);
        }
        let id = digest(token.as_bytes());
        if let Some(claims) = self.verified.get(&id) {
            return Ok(claims);
        }
        let claims = Arc::new(self.keys.verify(token, issuer)?);
        self.verified.insert(id, Arc::clone(&claims));
        Ok(claims)
    }

    /// Forgets tokens that have expired. They are refused in any case; here it is about memory.
    pub(super) fn sweep(&self, now: i64) {
        self.verified
            .retain(|_, claims| now < claims.expires.saturating_add(CLOCK_SKEW));
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.verified.len()
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

fn cache(tokens: usize) -> Cache<Digest, Arc<Claims>, Weight> {
    // Few shards: the cache starts small, and each lock is held for a lookup only.
    let options = OptionsBuilder::new()
        .shards(4)
        .estimated_items_capacity(tokens)
        .weight_capacity(tokens as u64)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            Weight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        // Only missing sizes are an error, and they are there.
        Err(_) => Cache::with_weighter(tokens, tokens as u64, Weight),
    }
}

/// One for each KiB that the claims take, so that many scopes or audiences do not cost more memory than was planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight;

impl Weighter<Digest, Arc<Claims>> for Weight {
    fn weight(&self, _: &Digest, claims: &Arc<Claims>) -> u64 {
        let entry = size_of::<String>() + 16;
        let texts = claims
            .scopes
            .iter()
            .chain(&claims.audiences)
            .chain(&claims.clients);
        let lists: usize = texts.map(|text| text.len() + entry).sum();
        let single = claims.issuer.len() + claims.subject.len() + claims.client.len();
        let bytes = size_of::<Claims>() + lists + single;
        1 + (bytes / 1024) as u64
    }
}
