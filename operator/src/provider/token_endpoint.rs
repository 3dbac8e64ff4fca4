//! What all who ask a token endpoint do alike: workloads cannot be asked whether their credential works, so it is shown
//! there as they would.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::{
    ProviderError,
    http::{Answer, Body, Effect, HttpClient, ONE, Request, Shown},
};

/// A code and a token that no server has issued. The verifier has the shortest form that RFC 7636 allows.
pub(crate) const MADE_UP: &str = "mcp-auth-operator-asks-whether-the-secret-works";

/// Posts a form to a token endpoint. Sending it twice does no harm: at worst there is a second token.
pub(crate) async fn request(
    http: &HttpClient,
    operation: &'static str,
    endpoint: &Url,
    shown: Shown<'_>,
    form: &[(&str, &str)],
) -> Result<Answer, ProviderError> {
    let request = Request {
        operation,
        method: Method::POST,
        url: endpoint.clone(),
        effect: Effect::Read,
        shown,
        body: Body::Form(form),
        limit: ONE,
    };
    http.call(&request).await
}

/// What a JWT says. Its signature is not looked at: it came from the token endpoint itself, over TLS.
pub(crate) fn payload<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

pub(crate) fn unproved(why: impl Into<String>) -> ProviderError {
    ProviderError::Unproved { why: why.into() }
}

/// The secret was accepted, and that is all.
pub(crate) fn ungranted(why: impl Into<String>) -> ProviderError {
    ProviderError::Ungranted { why: why.into() }
}

/// Why an answer is not the one that proves the secret.
pub(crate) fn not_proved(answer: &Answer) -> ProviderError {
    let code = answer.code();
    let status = answer.status.as_u16();
    match code.as_str() {
        "invalid_client" | "unauthorized_client" => unproved(format!(
            "the authorization server refuses the client or its credential ({code})"
        )),
        "invalid_scope" => {
            ungranted("the client may not ask for the scopes that it was granted (invalid_scope)")
        }
        "" => unproved(format!("the token endpoint answered HTTP {status}")),
        _ => unproved(format!("the token endpoint answered HTTP {status} ({code})")),
    }
}

/// The code was looked at, so the secret was accepted.
pub(crate) fn code_refused(answer: &Answer) -> Result<(), ProviderError> {
    if answer.status == StatusCode::BAD_REQUEST && answer.code() == "invalid_grant" {
        Ok(())
    } else {
        Err(not_proved(answer))
    }
}

/// RFC 7519 section 4.1.3: one, or a list.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Many(BTreeSet<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(BTreeSet::new())
    }
}
