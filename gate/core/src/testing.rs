//! Policies, keys and tokens for tests.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::{policy::Policy, token::Keys};

/// The time of every test, in seconds of Unix time.
pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISSUER: &str = "https://as.example/realms/r";
pub(crate) const RESOURCE: &str = "https://mcp.example/a/mcp";

/// A policy file with rules, as a value to change.
pub(crate) fn document() -> Value {
    json!({
        "version": 1,
        "server": {"namespace": "team-a", "name": "notes"},
        "resource": RESOURCE,
        "authorizationServer": {
            "issuer": ISSUER,
            "jwksUri": "https://as.example/realms/r/certs",
            "tokenEndpoint": "https://as.example/realms/r/token",
            "tokenTypes": [{"header": "at+jwt"}, {"header": "JWT", "payload": "Bearer"}],
            "otherAudiences": ["https://as.example/realms/r/userinfo"],
        },
        "scopes": [
            {"name": "notes:write", "implies": ["notes:read"]},
            {"name": "mcp:use", "challenge": true},
            {"name": "notes:read"},
            {"name": "notes:admin", "implies": ["notes:write", "mcp:use"]},
        ],
        "rules": [
            {"kind": "Tool", "match": "read_*", "scopes": ["notes:read"]},
            {"kind": "Tool", "match": "write_*", "scopes": ["notes:write"]},
            {"kind": "Tool", "match": "*_note", "scopes": ["mcp:use"]},
            {"kind": "Prompt", "match": "summary", "scopes": ["notes:read"]},
            {"kind": "Resource", "match": "note:///*", "scopes": ["notes:read"]},
        ],
    })
}

/// The same file with other fields at its top; null takes one away.
pub(crate) fn document_with(changes: &Value) -> Value {
    let mut document = document();
    for (field, value) in changes.as_object().unwrap() {
        if value.is_null() {
            document.as_object_mut().unwrap().remove(field);
        } else {
            document[field] = value.clone();
        }
    }
    document
}

pub(crate) fn policy_with(changes: &Value) -> Policy {
    Policy::parse(document_with(changes).to_string().as_bytes()).unwrap()
}

pub(crate) fn policy() -> Policy {
    policy_with(&json!({}))
}

/// A key of an issuer, as both sides know it.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) pair: KeyPair,
    key: EncodingKey,
}

impl Signer {
    fn new(id: &'static str, kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .or_else(|_| EncodingKey::from_ec_pem(pem.as_bytes()))
            .or_else(|_| EncodingKey::from_ed_pem(pem.as_bytes()))
            .unwrap();
        Self { id, pair, key }
    }

    /// An entry of a JWKS document, for this algorithm alone.
    pub(crate) fn jwk(&self, algorithm: Algorithm) -> Value {
        let mut jwk = if algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x})
        } else {
            serde_json::to_value(Jwk::from_encoding_key(&self.key, algorithm).unwrap()).unwrap()
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token of these two parts, as they are.
    pub(crate) fn sign(&self, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
        sign(&self.key, algorithm, header, payload)
    }

    /// A token with a header that fits.
    pub(crate) fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        let header = json!({"alg": format!("{algorithm:?}"), "typ": "at+jwt", "kid": self.id});
        self.sign(
            algorithm,
            header.to_string().as_bytes(),
            claims.to_string().as_bytes(),
        )
    }
}

pub(crate) fn sign(key: &EncodingKey, algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The issuer's keys, one of each kind, made once.
pub(crate) struct Signers {
    pub(crate) rsa: Signer,
    pub(crate) p256: Signer,
    pub(crate) p384: Signer,
    pub(crate) ed25519: Signer,
    /// Not in the issuer's document.
    pub(crate) stranger: Signer,
}

pub(crate) fn signers() -> &'static Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    SIGNERS.get_or_init(|| Signers {
        rsa: Signer::new("rsa", &PKCS_RSA_SHA256),
        p256: Signer::new("p256", &PKCS_ECDSA_P256_SHA256),
        p384: Signer::new("p384", &PKCS_ECDSA_P384_SHA384),
        ed25519: Signer::new("ed25519", &PKCS_ED25519),
        stranger: Signer::new("p256", &PKCS_ECDSA_P256_SHA256),
    })
}

/// Keys from the entries of a JWKS document.
pub(crate) fn keys(entries: &[Value]) -> Keys {
    Keys::parse(json!({ "keys": entries }).to_string().as_bytes()).unwrap()
}

/// What the issuer publishes. Its RSA key says nothing of an algorithm.
pub(crate) fn issuer_keys() -> Keys {
    let all = signers();
    let mut rsa = all.rsa.jwk(Algorithm::RS256);
    rsa.as_object_mut().unwrap().remove("alg");
    keys(&[
        rsa,
        all.p256.jwk(Algorithm::ES256),
        all.p384.jwk(Algorithm::ES384),
        all.ed25519.jwk(Algorithm::EdDSA),
    ])
}

/// Claims of a good access token with these scopes, as a value to change.
pub(crate) fn claims(scope: &str) -> Value {
    json!({
        "iss": ISSUER,
        "sub": "alice",
        "aud": RESOURCE,
        "exp": NOW + 300,
        "iat": NOW,
        "client_id": "agent",
        "scope": scope,
    })
}

/// A good access token with these scopes.
pub(crate) fn token(scope: &str) -> String {
    signers().p256.token(Algorithm::ES256, &claims(scope))
}
