//! How a client signs that it is itself (RFC 7523), as its own library would do it.

use std::fmt;

use anyhow::Context as _;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, ThumbprintHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

/// The kind of assertion that a client authenticates with.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// For how many seconds an assertion is good.
const LIFETIME: u64 = 60;

/// A private key of a client, with the id that RFC 7638 gives it. Prints nothing of it.
#[derive(Clone)]
pub(super) struct SigningKey {
    key: EncodingKey,
    id: String,
    audience: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn new(pem: &SecretString, audience: &str) -> anyhow::Result<Self> {
        let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).context("this is no RSA key")?;
        let public = Jwk::from_encoding_key(&key, Algorithm::RS256)?;
        Ok(Self {
            key,
            id: public.thumbprint(ThumbprintHash::SHA256)?,
            audience: audience.to_owned(),
        })
    }

    /// A fresh assertion of this client; empty, which no server takes, if it cannot be signed.
    pub(super) fn assertion(&self, client_id: &str) -> String {
        let header = Header {
            kid: Some(self.id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        let now = jsonwebtoken::get_current_timestamp();
        let nonce: u128 = rand::random();
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": self.audience,
            "jti": nonce.to_string(), "iat": now, "exp": now + LIFETIME,
        });
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap_or_default()
    }
}
