//! Access tokens: signature, and what they say (RFC 7519, RFC 9068).

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::policy::Policy;

mod payload;

use payload::Payload;

/// How far the clocks of issuer and gate may be apart, in seconds.
pub const CLOCK_SKEW: i64 = 10;
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;
/// More keys than any authorization server has.
const MOST_KEYS: usize = 64;

/// What a token says, once its signature was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// Whom it speaks of.
    pub subject: String,
    /// The client that it was issued to.
    pub client: String,
    /// All names that it gives to that client.
    pub clients: BTreeSet<String>,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// Until when it is good, in seconds of Unix time.
    pub expires: i64,
    /// From when on it is good.
    pub not_before: Option<i64>,
    /// The scopes that it was given.
    pub scopes: BTreeSet<String>,
    /// `typ` of its header.
    pub header_type: Option<String>,
    /// `typ` of its payload.
    pub payload_type: Option<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a signed token of three parts that can be read.
    #[error("the token cannot be read")]
    Malformed,
    /// Signed with an algorithm, or with demands, that are not accepted.
    #[error("the token is signed in a way that is not accepted")]
    Algorithm,
    /// Of another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// Its key is not among those that are known; there may be newer ones.
    #[error("the token is signed with a key that is not known")]
    UnknownKey,
    /// No key is known at all, because the authorization server could not be asked yet.
    #[error("the keys of the authorization server are not known yet")]
    NoKeys,
    /// The signature does not fit.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Not an access token, but an ID or refresh token, or of no known type.
    #[error("the token is no access token")]
    Type,
    /// For another server, or for others besides.
    #[error("the token is for another audience")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its client was suspended.
    #[error("the client of the token was suspended")]
    ClientDenied,
    /// The authorization server, asked to exchange it, no longer knows it as good.
    #[error("the authorization server no longer accepts the token")]
    Revoked,
    /// It names neither a subject nor a client, or no client where some are suspended.
    #[error("the token does not say whose it is")]
    Anonymous,
}

/// Looks a token's signature up or verifies it. A cache may stand in front of [`Keys`].
pub trait Verifier {
    /// What the token says, if one of the issuer's keys signed it.
    ///
    /// # Errors
    /// [`TokenError`], of the kinds that do not depend on the time.
    fn verify(&self, token: &str, issuer: &str) -> Result<std::sync::Arc<Claims>, TokenError>;
}

/// The public keys of an authorization server.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| (&key.id, &key.algorithms)))
            .finish()
    }
}

impl Keys {
    /// Reads a JWKS document (RFC 7517), leaving out what cannot verify signatures with an accepted algorithm.
    ///
    /// # Errors
    /// When it is no JWKS document or has no key of use.
    pub fn parse(document: &[u8]) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(document).map_err(|_| TokenError::Malformed)?;
        // One key of a kind that this build does not know must not hide the others.
        let known = set.keys.into_iter().take(MOST_KEYS);
        let known = known.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let set = JwkSet {
            keys: known.collect(),
        };
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::new).collect();
        if keys.is_empty() {
            return Err(TokenError::NoKeys);
        }
        Ok(Self(keys))
    }

    /// The key that a header names. One that names none can mean only one.
    fn find(&self, header: &Header, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (header.kid.is_none() || key.id == header.kid)
        });
        let key = fitting.next()?;
        fitting.next().is_none().then_some(key)
    }

    /// What a token says, if one of these keys signed it and it is of this issuer.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, issuer: &str) -> Result<Claims, TokenError> {
        let (header, algorithm) = header(token)?;
        // Whoever makes up an issuer must not make us ask ours for new keys.
        let payload = payload(token)?;
        if payload.iss != issuer {
            return Err(TokenError::Issuer);
        }
        if self.0.is_empty() {
            return Err(TokenError::NoKeys);
        }
        let key = self.find(&header, algorithm).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        // What the claims say is checked by us, against the policy and the time of each request.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let signed = jsonwebtoken::decode::<Payload>(token, &key.decoding, &validation)
            .map_err(|_| TokenError::Signature)?;
        Ok(signed.claims.into_claims(header.typ))
    }
}

impl Verifier for Keys {
    fn verify(&self, token: &str, issuer: &str) -> Result<std::sync::Arc<Claims>, TokenError> {
        Self::verify(self, token, issuer).map(std::sync::Arc::new)
    }
}

impl Key {
    fn new(jwk: &Jwk) -> Option<Self> {
        let operations = jwk.common.key_operations.as_ref();
        let verifies = operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !verifies || !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            // A symmetric key in a public document is no secret.
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            algorithms.retain(|algorithm| only.to_string() == format!("{algorithm:?}"));
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            decoding,
        })
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Demands that every reader has to understand (RFC 7515, 4.1.11); there is none that we do.
    crit: Option<Value>,
}

fn header(token: &str) -> Result<(Header, Algorithm), TokenError> {
    let mut parts = token.split('.');
    let (Some(first), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    if token.len() > LONGEST {
        return Err(TokenError::Malformed);
    }
    let header: Header = decode(first)?;
    // Only signatures that the issuer alone can make: never `none`, never one made with a shared secret.
    let algorithm = match header.alg.as_str() {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return Err(TokenError::Algorithm),
    };
    if header.crit.is_some() {
        return Err(TokenError::Algorithm);
    }
    Ok((header, algorithm))
}

fn payload(token: &str) -> Result<Payload, TokenError> {
    decode(token.split('.').nth(1).unwrap_or_default())
}

fn decode<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

impl Claims {
    /// Whether the policy accepts a token that says this, at this time.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(&self, policy: &Policy, now: i64) -> Result<(), TokenError> {
        let server = &policy.authorization_server;
        if self.issuer != server.issuer {
            return Err(TokenError::Issuer);
        }
        let same = |one: &str, other: &Option<String>| {
            other
                .as_ref()
                .is_some_and(|other| one.eq_ignore_ascii_case(strip_media_type(other)))
        };
        let is_access_token = server.token_types.iter().any(|accepted| {
            let payload = accepted.payload.as_ref();
            same(&accepted.header, &self.header_type)
                && payload.is_none_or(|wanted| same(wanted, &self.payload_type))
        });
        if !is_access_token {
            return Err(TokenError::Type);
        }
        // A token that is good for two servers could be replayed by one at the other.
        let ours = |audience: &String| *audience == policy.resource;
        let allowed = |audience: &String| ours(audience) || server.other_audiences.contains(audience);
        if !self.audiences.iter().any(ours) || !self.audiences.iter().all(allowed) {
            return Err(TokenError::Audience);
        }
        if now >= self.expires.saturating_add(CLOCK_SKEW) {
            return Err(TokenError::Expired);
        }
        if self
            .not_before
            .is_some_and(|time| now < time.saturating_sub(CLOCK_SKEW))
        {
            return Err(TokenError::NotYetValid);
        }
        let mut clients = self.clients.iter();
        if clients.any(|client| policy.denied_clients.contains(client)) {
            return Err(TokenError::ClientDenied);
        }
        // Without a name nobody can say that it is not a suspended one; and without any, all such callers would be one.
        let has_client = !self.client.is_empty();
        if !has_client && (self.subject.is_empty() || !policy.denied_clients.is_empty()) {
            return Err(TokenError::Anonymous);
        }
        Ok(())
    }
}

/// RFC 7515, 4.1.9: `application/` may be left out.
fn strip_media_type(typ: &str) -> &str {
    match typ.get(..12) {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => &typ[12..],
        _ => typ,
    }
}

#[cfg(test)]
mod tests;
