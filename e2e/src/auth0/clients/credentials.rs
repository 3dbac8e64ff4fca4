//! `/api/v2/clients/{id}/credentials`: public keys with which a client can authenticate (`private_key_jwt`).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Client;
use crate::auth0::{
    clock::rfc3339,
    errors::Refusal,
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant, random_id},
    wire::{Answer, Object, object, text},
};

const FIELDS: &[Field] = &[
    Field("credential_type", Kind::Choice(&["public_key"])),
    Field("name", Kind::Text(0, 128)),
    Field("pem", Kind::Text(1, 4096)),
    Field("alg", Kind::Choice(&["RS256", "RS384", "PS256"])),
    Field("kid", Kind::Text(10, 64)),
    Field("parse_expiry_from_cert", Kind::Bool),
    Field("expires_at", Kind::Text(20, 30)),
];
const CHANGES: &[Field] = &[Field("expires_at", Kind::Nullable(&Kind::Text(20, 30)))];

/// "The current application storage limit is two credentials at one time" (Rotate Credentials).
const MOST: usize = 2;

/// A public key of a client.
pub(in crate::auth0) struct Credential {
    /// What answers show: everything but the key.
    pub(in crate::auth0) shown: Object,
    pub(in crate::auth0) key: DecodingKey,
    pub(in crate::auth0) algorithm: Algorithm,
}

impl Credential {
    /// A new one as it was asked for. Only public keys in PEM are taken; certificates, which the live API takes as well,
    /// are refused, for nobody here sends one.
    pub(in crate::auth0) fn new(body: &Object, now: Duration) -> Result<Self, Refusal> {
        check(body, &[FIELDS])?;
        need(body, &["credential_type", "pem"])?;
        let pem = text(body, "pem");
        let key = DecodingKey::from_rsa_pem(pem.as_bytes())
            .ok()
            .filter(|_| pem.starts_with("-----BEGIN PUBLIC KEY-----"))
            .ok_or_else(|| Refusal::body("pem is no public RSA key"))?;
        let kid = match text(body, "kid") {
            "" => URL_SAFE_NO_PAD.encode(Sha256::digest(pem)),
            kid => kid.to_owned(),
        };
        if !kid
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
        {
            return Err(Refusal::body("kid must match ^[0-9a-zA-Z-_]+$"));
        }
        check_expiry(body)?;
        let (name, alg) = match (text(body, "alg"), algorithm_of(text(body, "alg"))) {
            ("", _) => ("RS256", Algorithm::RS256),
            (name, algorithm) => (name, algorithm),
        };
        let moment = rfc3339(now);
        let mut shown = object(json!({
            "id": random_id("cred_", 22), "credential_type": "public_key", "kid": kid, "alg": name,
            "created_at": moment, "updated_at": moment,
        }));
        for field in ["name", "expires_at"] {
            if let Some(value) = body.get(field) {
                shown.insert(field.to_owned(), value.clone());
            }
        }
        Ok(Self {
            shown,
            key,
            algorithm: alg,
        })
    }

    /// A key that a client's own document publishes.
    pub(in crate::auth0) fn published(kid: &str, key: DecodingKey) -> Self {
        let shown = json!({"id": random_id("cred_", 22), "credential_type": "public_key", "kid": kid, "alg": "RS256"});
        Self {
            shown: object(shown),
            key,
            algorithm: Algorithm::RS256,
        }
    }

    pub(in crate::auth0) fn id(&self) -> &str {
        text(&self.shown, "id")
    }

    pub(in crate::auth0) fn kid(&self) -> &str {
        text(&self.shown, "kid")
    }

    /// Whether its time is over. Moments in this form sort like their texts.
    pub(in crate::auth0) fn is_over(&self, now: Duration) -> bool {
        let until = text(&self.shown, "expires_at");
        !until.is_empty() && *until <= *rfc3339(now)
    }
}

pub(in crate::auth0) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let client = client(tenant, call)?;
    let shown = client
        .credentials
        .iter()
        .map(|credential| Value::Object(credential.shown.clone()));
    Ok(Answer::ok(shown.collect::<Vec<_>>()))
}

pub(in crate::auth0) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let client = client(tenant, call)?;
    if client.is_document() {
        return Err(Refusal::unsupported(
            "The keys of this client are those of its document",
        ));
    }
    let credential = Credential::new(&call.request.object()?, call.now)?;
    if client.credentials.len() >= MOST {
        return Err(Refusal::unsupported("A client has two credentials at most"));
    }
    if client
        .credentials
        .iter()
        .any(|other| other.kid() == credential.kid())
    {
        return Err(Refusal::conflict("A credential with the same kid already exists"));
    }
    let shown = credential.shown.clone();
    client.credentials.push(credential);
    Ok(Answer::created(shown))
}

pub(in crate::auth0) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let credential = client(tenant, call)?.credential(second(call));
    let credential = credential.ok_or_else(missing)?;
    Ok(Answer::ok(credential.shown.clone()))
}

/// Only when a key ends can be changed.
pub(in crate::auth0) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[CHANGES])?;
    check_expiry(&body)?;
    let id = second(call);
    let credentials = &mut client(tenant, call)?.credentials;
    let credential = credentials.iter_mut().find(|credential| credential.id() == id);
    let credential = credential.ok_or_else(missing)?;
    for (name, value) in body {
        match value {
            Value::Null => credential.shown.remove(&name),
            value => credential.shown.insert(name, value),
        };
    }
    let updated = json!(rfc3339(call.now));
    credential.shown.insert("updated_at".to_owned(), updated);
    Ok(Answer::ok(credential.shown.clone()))
}

/// A key that is in use stays: that the live API refuses here is a choice, taken because the documentation has it taken
/// out of use first.
pub(in crate::auth0) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let id = second(call);
    let client = client(tenant, call)?;
    client.credential(id).ok_or_else(missing)?;
    if client.keys_in_use().contains(&id) {
        return Err(Refusal::unsupported("The credential is in use"));
    }
    client.credentials.retain(|credential| credential.id() != id);
    Ok(Answer::nothing())
}

fn client<'a>(tenant: &'a mut Tenant, call: &Call<'_>) -> Result<&'a mut Client, Refusal> {
    let found = tenant.clients.find_mut(|client| client.id() == call.id());
    found.ok_or_else(Refusal::no_client)
}

fn second<'a>(call: &Call<'a>) -> &'a str {
    call.ids.get(1).copied().unwrap_or_default()
}

fn missing() -> Refusal {
    Refusal::not_found("The credential does not exist")
}

fn algorithm_of(name: &str) -> Algorithm {
    match name {
        "RS384" => Algorithm::RS384,
        "PS256" => Algorithm::PS256,
        _ => Algorithm::RS256,
    }
}

/// Moments are taken in UTC only.
fn check_expiry(body: &Object) -> Result<(), Refusal> {
    match body.get("expires_at").and_then(Value::as_str) {
        Some(moment) if !(moment.ends_with('Z') && moment.get(10..11) == Some("T")) => {
            Err(Refusal::body("expires_at must be a date-time in UTC"))
        }
        _ => Ok(()),
    }
}
