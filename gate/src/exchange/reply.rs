//! What a token endpoint answered (RFC 8693, 2.2).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{ACCESS_TOKEN, error::ExchangeError};
use crate::outbound::Reply;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// How Keycloak says that the subject token is not good; RFC 8693, 2.2.2 has no code of its own for it.
const KEYCLOAK_SUBJECT_REFUSED: &str = "Invalid token";

/// An exchanged token. Prints redacted.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: SecretString,
    /// Until when it is good, in seconds of Unix time, as far as it is known.
    pub expires: Option<i64>,
    /// Its scopes, as the authorization server says.
    pub scope: Option<String>,
}

#[derive(Deserialize)]
struct Success {
    access_token: SecretString,
    token_type: String,
    issued_token_type: Option<String>,
    expires_in: Option<i64>,
    scope: Option<String>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// The token of an answer, if it is one for `audience` and no other.
pub(super) fn read(
    reply: &Reply,
    audience: &str,
    subject: &SecretString,
    now: i64,
) -> Result<Issued, ExchangeError> {
    if reply.status != StatusCode::OK {
        return Err(failure(reply));
    }
    let success: Success = serde_json::from_slice(&reply.body).map_err(|_| ExchangeError::Malformed)?;
    let issued_as = success.issued_token_type.as_deref();
    let is_bearer = success.token_type.eq_ignore_ascii_case("bearer");
    if !is_bearer || !matches!(issued_as, None | Some(ACCESS_TOKEN | JWT)) {
        return Err(ExchangeError::TokenType);
    }
    let text = success.access_token.expose_secret();
    if text == subject.expose_secret() {
        return Err(ExchangeError::Unchanged);
    }
    let is_token_character = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if text.is_empty() || !text.bytes().all(is_token_character) {
        return Err(ExchangeError::Malformed);
    }
    let said = success.expires_in.map(|seconds| now.saturating_add(seconds));
    let written = check_claims(text, audience)?;
    let expires = said.into_iter().chain(written).min();
    if expires.is_some_and(|expires| expires <= now) {
        return Err(ExchangeError::Expired);
    }
    Ok(Issued {
        token: success.access_token,
        expires,
        scope: success.scope,
    })
}

/// The end that a JWT names, if it is one and for this audience alone. What is no JWT says nothing about itself: then
/// the authorization server's word has to do.
fn check_claims(token: &str, audience: &str) -> Result<Option<i64>, ExchangeError> {
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, payload, _] = parts.as_slice() else {
        return Ok(None);
    };
    if json(header).is_none_or(|header| header.get("alg").is_none()) {
        return Ok(None);
    }
    let payload = json(payload).ok_or(ExchangeError::Malformed)?;
    let is_ours = match &payload["aud"] {
        Value::String(only) => only == audience,
        Value::Array(all) => all.as_slice() == [audience],
        _ => false,
    };
    if !is_ours {
        return Err(ExchangeError::Audience);
    }
    match &payload["exp"] {
        Value::Null => Ok(None),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a time beyond all bounds becomes the largest"
        )]
        Value::Number(time) => Ok(time.as_f64().map(|seconds| seconds.floor() as i64)),
        _ => Err(ExchangeError::Malformed),
    }
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The codes that have a meaning here (RFC 6749, 5.2; RFC 8693, 2.2.2). Others are not repeated.
const KNOWN: [&str; 9] = [
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "unauthorized_client",
    "unsupported_grant_type",
];

fn failure(reply: &Reply) -> ExchangeError {
    let status = reply.status;
    let failure: Failure = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = KNOWN.into_iter().find(|known| *known == failure.error);
    let Some(code) = code.filter(|_| status.is_client_error()) else {
        return ExchangeError::Status(status.as_u16());
    };
    match code {
        // Keycloak says the second of a wrong secret; elsewhere it is of a client that may not exchange at all.
        "invalid_client" | "unauthorized_client" => ExchangeError::Client(code),
        // So says Auth0 of a wrong secret.
        "access_denied" if status == StatusCode::UNAUTHORIZED => ExchangeError::Client(code),
        "invalid_grant" | "invalid_token" => ExchangeError::Subject(code),
        "invalid_request" if failure.error_description == KEYCLOAK_SUBJECT_REFUSED => {
            ExchangeError::Subject(code)
        }
        _ => ExchangeError::NotPermitted(code),
    }
}
