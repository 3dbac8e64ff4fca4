//! Calls to the administration API of one realm, signed in.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::provider::{
    Call, ProviderError, Verb,
    http::{Answer, Body, Effect, HttpClient, Request, Shown},
    operator_token::Tokens,
};

/// The role that the operator's service account needs, of the client `realm-management`. It includes reading.
pub(super) const ROLE: &str = "manage-clients";

/// The role that the documents of the realm as a whole need besides: client profiles and client policies.
pub(super) const REALM_ROLE: &str = "manage-realm";

/// The role that identity providers need besides.
pub(super) const IDENTITY_PROVIDERS_ROLE: &str = "manage-identity-providers";

/// What the paths of identity providers begin with.
pub(super) const IDENTITY_PROVIDERS: &str = "/identity-provider/instances";

/// What the paths begin with of that which belongs to the realm as a whole.
const OF_THE_REALM: [&str; 4] = [
    "/client-policies/",
    "/components",
    "/default-default-client-scopes",
    "/default-optional-client-scopes",
];

/// The administration API of one realm.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) http: HttpClient,
    pub(super) tokens: Tokens,
    /// `…/admin/realms/{realm}`, without a slash at its end.
    base: Url,
}

/// A read: what it is called, what it wants, and how much of an answer it takes.
pub(super) struct Get<'a> {
    pub(super) operation: &'static str,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) limit: usize,
}

impl Admin {
    pub(super) fn new(http: HttpClient, tokens: Tokens, base: Url) -> Self {
        Self { http, tokens, base }
    }

    /// Reads something; `None` when it does not exist.
    pub(super) async fn get(&self, get: &Get<'_>) -> Result<Option<Value>, ProviderError> {
        let mut url = self.url(get.operation, get.path)?;
        if !get.query.is_empty() {
            url.query_pairs_mut().extend_pairs(get.query);
        }
        let request = Request {
            operation: get.operation,
            method: Method::GET,
            url,
            effect: Effect::Read,
            shown: Shown::Nothing,
            body: Body::Empty,
            limit: get.limit,
        };
        let answer = self.signed_in(request, permission(get.path)).await?;
        match answer.status {
            StatusCode::OK => answer.json(get.operation).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.rejected(get.operation)),
        }
    }

    /// Carries out one call of a plan.
    pub(super) async fn write(&self, call: &Call) -> Result<(), ProviderError> {
        let (method, effect) = match call.verb {
            Verb::Post => (Method::POST, Effect::Create),
            Verb::Put | Verb::Merge => (Method::PUT, Effect::Replace),
            Verb::Patch => (Method::PATCH, Effect::Replace),
            Verb::Delete => (Method::DELETE, Effect::Replace),
        };
        let request = Request {
            operation: call.operation,
            method,
            url: self.url(call.operation, &call.path)?,
            effect,
            shown: Shown::Nothing,
            body: call.body.as_ref().map_or(Body::Empty, Body::Json),
            limit: crate::provider::http::ONE,
        };
        let answer = self.signed_in(request, permission(&call.path)).await?;
        written(call.verb, call.operation, &answer)
    }

    async fn signed_in(
        &self,
        request: Request<'_>,
        permission: &'static str,
    ) -> Result<Answer, ProviderError> {
        self.tokens
            .call(&self.http, request, permission, is_refusal)
            .await
    }

    fn url(&self, operation: &'static str, path: &str) -> Result<Url, ProviderError> {
        Url::parse(&format!("{}{path}", self.base)).map_err(|_| ProviderError::Malformed {
            operation,
            why: "its address is no URL",
        })
    }
}

/// The role that a path needs.
fn permission(path: &str) -> &'static str {
    if path.starts_with(IDENTITY_PROVIDERS) {
        IDENTITY_PROVIDERS_ROLE
    } else if OF_THE_REALM.iter().any(|beginning| path.starts_with(beginning)) {
        REALM_ROLE
    } else {
        ROLE
    }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// What the answer to a write means.
fn written(verb: Verb, operation: &'static str, answer: &Answer) -> Result<(), ProviderError> {
    match (verb, answer.status) {
        (_, status) if status.is_success() => Ok(()),
        // What was to go is gone.
        (Verb::Delete, StatusCode::NOT_FOUND) => Ok(()),
        (_, StatusCode::NOT_FOUND) => Err(ProviderError::Gone { operation }),
        (_, StatusCode::CONFLICT) => Err(ProviderError::Conflict { operation }),
        _ => Err(answer.rejected(operation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_writes() {
        const OP: &str = "create_client";
        let rejected = |status, code: &str| ProviderError::Rejected {
            operation: OP,
            status,
            code: code.into(),
        };
        for (verb, status, body, expected) in [
            (Verb::Post, 201, "", Ok(())),
            (Verb::Put, 204, "", Ok(())),
            (Verb::Delete, 204, "", Ok(())),
            (Verb::Delete, 404, r#"{"error":"Could not find client"}"#, Ok(())),
            (Verb::Put, 404, "", Err(ProviderError::Gone { operation: OP })),
            (Verb::Post, 404, "", Err(ProviderError::Gone { operation: OP })),
            (
                Verb::Post,
                409,
                "",
                Err(ProviderError::Conflict { operation: OP }),
            ),
            (Verb::Put, 409, "", Err(ProviderError::Conflict { operation: OP })),
            (
                Verb::Put,
                400,
                r#"{"error":"invalid_input","errorMessage":"hunter2"}"#,
                Err(rejected(400, "invalid_input")),
            ),
            (
                Verb::Put,
                400,
                r#"{"error":"hunter2 is bad"}"#,
                Err(rejected(400, "")),
            ),
            (Verb::Post, 413, "<html>", Err(rejected(413, ""))),
        ] {
            assert_eq!(
                written(verb, OP, &Answer::of(status, body)),
                expected,
                "{verb:?} {status}"
            );
        }
    }
}
