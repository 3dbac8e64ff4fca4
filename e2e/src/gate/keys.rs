//! Keys of an issuer, and tokens that are signed with them in any way.

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};

/// A private key, with the id by which its issuer publishes it.
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    key: EncodingKey,
    public_pem: String,
}

impl SigningKey {
    /// A new one for RS256.
    pub fn rsa(id: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self {
            id: id.to_owned(),
            algorithm: Algorithm::RS256,
            key,
            public_pem: pair.public_key_pem(),
        })
    }

    /// A new one for ES256.
    pub fn ec(id: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self {
            id: id.to_owned(),
            algorithm: Algorithm::ES256,
            key,
            public_pem: pair.public_key_pem(),
        })
    }

    /// Its entry in the issuer's document.
    pub fn public_jwk(&self) -> anyhow::Result<Value> {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm)?)?;
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        Ok(jwk)
    }

    /// The public key in PEM, which anybody can have.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The header of an access token (RFC 9068) that this key signs.
    pub fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "at+jwt", "kid": self.id})
    }

    /// A token with this header and these claims, whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> anyhow::Result<String> {
        let message = unsigned(header, claims);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        Ok(format!(
            "{message}.{}",
            signature.context("a token cannot be signed")?
        ))
    }
}

/// The two parts of a token that are signed.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    encoded.join(".")
}

/// A token that is signed with a secret (HS256).
pub fn sign_with_secret(secret: &[u8], header: &Value, claims: &Value) -> anyhow::Result<String> {
    let message = unsigned(header, claims);
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)?;
    Ok(format!("{message}.{signature}"))
}
