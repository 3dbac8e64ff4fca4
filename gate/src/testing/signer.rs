//! A real key that signs tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A P-256 key with an id.
pub(crate) struct Signer {
    id: String,
    key: rcgen::KeyPair,
}

impl Signer {
    /// Makes a key.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    /// The public key (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// A JWKS document of these keys.
    pub(crate) fn jwks(signers: &[&Self]) -> Vec<u8> {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    /// An access token that says this.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}
