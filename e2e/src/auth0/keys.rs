//! The tenant's signing key, and the form of its access tokens.

use std::{collections::HashSet, time::Duration};

use anyhow::Context;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk::Jwk};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

/// An RSA key that the tenant publishes.
pub(super) struct Keys {
    id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwk: Value,
}

impl Keys {
    pub(super) fn new() -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        let signing = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        let verifying = DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes())?;
        let id = format!("{:x}", rand::random::<u64>());
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&signing, Algorithm::RS256)?)?;
        jwk["kid"] = json!(id);
        jwk["use"] = json!("sig");
        Ok(Self {
            id,
            signing,
            verifying,
            jwk,
        })
    }

    /// The document at `/.well-known/jwks.json`.
    pub(super) fn document(&self) -> Value {
        json!({"keys": [self.jwk]})
    }

    /// A token of this type (`typ`), signed as its API wants it.
    pub(super) fn sign(&self, typ: &str, algorithm: &str, claims: &Value) -> anyhow::Result<String> {
        let algorithm = match algorithm {
            "RS512" => Algorithm::RS512,
            "PS256" => Algorithm::PS256,
            _ => Algorithm::RS256,
        };
        let mut header = Header::new(algorithm);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).context("a token cannot be signed")
    }

    /// The claims of a token that this tenant signed and that is valid at this moment of the tenant.
    pub(super) fn read(&self, token: &str, now: Duration) -> Option<Value> {
        let algorithms = [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256];
        let claims = verified(token, &self.verifying, &algorithms)?;
        (claims["exp"].as_u64()? > now.as_secs()).then_some(claims)
    }
}

/// The claims of a token with a good signature; its times are left to the caller, who knows the tenant's.
pub(super) fn verified(token: &str, key: &DecodingKey, algorithms: &[Algorithm]) -> Option<Value> {
    let mut validation = Validation::new(*algorithms.first()?);
    validation.algorithms = algorithms.to_vec();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims = HashSet::new();
    let token = jsonwebtoken::decode::<Value>(token, key, &validation).ok()?;
    Some(token.claims)
}
