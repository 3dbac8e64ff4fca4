//! Sessions of the old wire: what a client gets to see of one is sealed, so that only its owner can use it, at this
//! server, and so that it says by itself which address of the server knows it.
//!
//! Sealed ids are `base64url(1 ‖ nonce ‖ AES-256-GCM(address ‖ id))`, with resource, issuer, subject and clients as
//! additional data. Nothing is kept in memory, so that any replica with the same keys can open them.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    error::Unspecified,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use mcp_auth_gate_core::{policy::Policy, token::Claims};

#[cfg(test)]
mod tests;

/// Bytes of a key.
pub const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 12;
const VERSION: u8 = 1;
/// The longest id of a server that is taken, in bytes.
const LONGEST_ID: usize = 1024;
/// No sealed id is longer.
const LONGEST_SEALED: usize = 2048;

/// Seals and opens ids of sessions.
pub struct Sessions(ArcSwap<Vec<RandomizedNonceKey>>);

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(…)")
    }
}

/// A session as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The address that knows it.
    pub(crate) address: SocketAddr,
    /// The server's id for it.
    pub(crate) id: HeaderValue,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    resource: &'a str,
    issuer: &'a str,
    subject: &'a str,
    clients: &'a BTreeSet<String>,
}

impl<'a> Owner<'a> {
    /// The caller of a server.
    pub(crate) fn new(policy: &'a Policy, claims: &'a Claims) -> Self {
        Self {
            resource: &policy.resource,
            issuer: &claims.issuer,
            subject: &claims.subject,
            clients: &claims.clients,
        }
    }

    /// All of it, so that no two owners give the same bytes.
    fn to_bytes(self) -> Vec<u8> {
        let parts = [self.resource, self.issuer, self.subject].into_iter();
        let parts = parts.chain(self.clients.iter().map(String::as_str));
        parts.fold(b"mcp-auth-gate session".to_vec(), |mut bytes, part| {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
            bytes
        })
    }
}

impl Sessions {
    /// With a key of this process alone: sessions end with it, and no other replica can open them.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn with_own_key() -> Result<Self, Unspecified> {
        let mut key = [0; KEY_LENGTH];
        SystemRandom::new().fill(&mut key)?;
        Ok(Self(ArcSwap::from_pointee(vec![RandomizedNonceKey::new(
            &AES_256_GCM,
            &key,
        )?])))
    }

    /// Seals with the first of these keys from now on, and opens with any.
    ///
    /// # Errors
    /// When there is none, or one is not of [`KEY_LENGTH`] bytes; the keys stay as they were.
    pub fn set_keys<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Unspecified> {
        let keys: Result<Vec<RandomizedNonceKey>, Unspecified> = keys
            .into_iter()
            .map(|key| RandomizedNonceKey::new(&AES_256_GCM, key))
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(Unspecified);
        }
        self.0.store(keys.into());
        Ok(())
    }

    /// What the owner gets to see; `None` for an id that is not visible ASCII or too long.
    pub(crate) fn seal(&self, owner: Owner<'_>, session: &Session) -> Option<HeaderValue> {
        let id = session.id.as_bytes();
        if id.is_empty() || id.len() > LONGEST_ID || !id.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let address = session.address.to_string();
        let mut text = vec![u8::try_from(address.len()).ok()?];
        text.extend_from_slice(address.as_bytes());
        text.extend_from_slice(id);
        let keys = self.0.load();
        let nonce = keys
            .first()?
            .seal_in_place_append_tag(Aad::from(owner.to_bytes()), &mut text)
            .ok()?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut text);
        HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(sealed)).ok()
    }

    /// The session, if it is one, and this is its owner. Why it is not cannot be told.
    pub(crate) fn open(&self, owner: Owner<'_>, sealed: &HeaderValue) -> Option<Session> {
        if sealed.len() > LONGEST_SEALED {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed.as_bytes()).ok()?;
        let (version, rest) = sealed.split_first()?;
        if *version != VERSION || rest.len() < NONCE_LENGTH {
            return None;
        }
        let (nonce, sealed) = rest.split_at(NONCE_LENGTH);
        let owner = owner.to_bytes();
        let keys = self.0.load();
        keys.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut text = sealed.to_vec();
            let text = key.open_in_place(nonce, Aad::from(&owner), &mut text).ok()?;
            let (length, rest) = text.split_first()?;
            let (address, id) = rest.split_at_checked(usize::from(*length))?;
            Some(Session {
                address: std::str::from_utf8(address).ok()?.parse().ok()?,
                id: HeaderValue::from_bytes(id).ok()?,
            })
        })
    }
}
