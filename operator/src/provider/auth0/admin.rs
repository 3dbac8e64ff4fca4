//! Calls to the Management API of one tenant, signed in.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::provider::{
    Call, ProviderError, Verb,
    http::{Answer, Body, Effect, HttpClient, LIST, ONE, Request, Shown},
    operator_token::Tokens,
};

/// How many things are asked for at a time, which is the most that Auth0 gives.
const PAGE: usize = 100;

/// More pages than any tenant has; who answers with more never ends.
const MOST_PAGES: usize = 2000;

/// The Management API of one tenant.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) http: HttpClient,
    /// The same for what waits for the publishers of documents.
    of_documents: HttpClient,
    pub(super) tokens: Tokens,
    /// `…/api/v2`, without a slash at its end.
    base: Url,
}

/// How a list is read.
#[derive(Clone, Copy)]
pub(super) enum Pages {
    /// From one to the next (`from`, `take`): nothing is missed, whatever is deleted meanwhile.
    Checkpoint,
    /// By number (`page`, `per_page`).
    Offset,
    /// The same, where the answer tells how many there are without being asked for it, and takes no such question.
    Numbered,
}

/// A list of the Management API.
pub(super) struct List<'a> {
    pub(super) operation: &'static str,
    pub(super) path: &'a str,
    /// The name of the list in an answer.
    pub(super) name: &'static str,
    pub(super) pages: Pages,
    pub(super) query: &'a [(&'a str, &'a str)],
}

impl Admin {
    pub(super) fn new(http: HttpClient, of_documents: HttpClient, tokens: Tokens, base: Url) -> Self {
        Self {
            http,
            of_documents,
            tokens,
            base,
        }
    }

    /// Asks what would come of something.
    pub(super) async fn ask(
        &self,
        operation: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<Value, ProviderError> {
        let request = Request {
            operation,
            method: Method::POST,
            url: self.url(operation, path)?,
            effect: Effect::Read,
            shown: Shown::Nothing,
            body: Body::Json(body),
            limit: ONE,
        };
        // The token comes another way: that nobody can sign in is no matter of documents.
        self.tokens.current(&self.http).await?;
        let permission = permission(&Method::GET, path);
        let answer = self
            .tokens
            .call(&self.of_documents, request, permission, is_refusal)
            .await?;
        match answer.status {
            StatusCode::OK => answer.json(operation),
            _ => Err(rejected(operation, &answer)),
        }
    }

    /// Reads something; `None` when it does not exist.
    pub(super) async fn get(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<Value>, ProviderError> {
        let mut url = self.url(operation, path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = Request {
            operation,
            method: Method::GET,
            url,
            effect: Effect::Read,
            shown: Shown::Nothing,
            body: Body::Empty,
            limit: LIST,
        };
        let answer = self.signed_in(request, permission(&Method::GET, path)).await?;
        match answer.status {
            StatusCode::OK => answer.json(operation).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(rejected(operation, &answer)),
        }
    }

    /// Reads a whole list.
    pub(super) async fn list(&self, list: &List<'_>) -> Result<Vec<Value>, ProviderError> {
        let malformed = |why| ProviderError::Malformed {
            operation: list.operation,
            why,
        };
        let (mut found, mut from) = (Vec::new(), None::<String>);
        for page in 0..MOST_PAGES {
            let (page, size) = (page.to_string(), PAGE.to_string());
            let mut query = list.query.to_vec();
            match (list.pages, from.as_deref()) {
                (Pages::Checkpoint, None) => query.push(("take", &size)),
                (Pages::Checkpoint, Some(from)) => query.extend([("take", size.as_str()), ("from", from)]),
                (Pages::Numbered, _) => {
                    query.extend([("page", page.as_str()), ("per_page", size.as_str())]);
                }
                (Pages::Offset, _) => query.extend([
                    ("page", page.as_str()),
                    ("per_page", size.as_str()),
                    ("include_totals", "true"),
                ]),
            }
            let answer = self.get(list.operation, list.path, &query).await?;
            let mut answer = answer.ok_or_else(|| malformed("it is not there"))?;
            let Value::Array(rows) = answer[list.name].take() else {
                return Err(malformed("it is no list"));
            };
            let (is_empty, is_full) = (rows.is_empty(), rows.len() >= PAGE);
            found.extend(rows);
            let next = answer["next"].as_str().map(str::to_owned);
            let goes_on = match list.pages {
                Pages::Checkpoint if next.is_some() && next == from => {
                    return Err(malformed("it leads to itself"));
                }
                Pages::Checkpoint => next.is_some(),
                // Pages may hold less than was asked for.
                Pages::Offset | Pages::Numbered => match answer["total"].as_u64() {
                    Some(total) => !is_empty && (found.len() as u64) < total,
                    None => is_full,
                },
            };
            if !goes_on {
                return Ok(found);
            }
            from = next;
        }
        Err(malformed("it does not end"))
    }

    /// Carries out one call of a plan; what was answered.
    pub(super) async fn write(&self, call: &Call) -> Result<Value, ProviderError> {
        let (method, effect) = match call.verb {
            Verb::Post => (Method::POST, Effect::Create),
            Verb::Put | Verb::Merge => (Method::PUT, Effect::Replace),
            Verb::Patch => (Method::PATCH, Effect::Replace),
            Verb::Delete => (Method::DELETE, Effect::Replace),
        };
        let permission = permission(&method, &call.path);
        let request = Request {
            operation: call.operation,
            method,
            url: self.url(call.operation, &call.path)?,
            effect,
            shown: Shown::Nothing,
            body: call.body.as_ref().map_or(Body::Empty, Body::Json),
            limit: ONE,
        };
        let http = if call.path == super::documents::REGISTER {
            &self.of_documents
        } else {
            &self.http
        };
        let answer = self.tokens.call(http, request, permission, is_refusal).await?;
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

/// The scope that a call needs: what it does, and to what.
fn permission(method: &Method, path: &str) -> &'static str {
    let of = |scopes: [&'static str; 4]| match *method {
        Method::GET => scopes[0],
        Method::POST => scopes[1],
        Method::DELETE => scopes[3],
        _ => scopes[2],
    };
    if path == super::documents::REGISTER {
        "create:clients and update:clients"
    } else if path.starts_with("/clients/") && path.contains(super::plan::KEYS) {
        of([
            "read:client_credentials",
            "create:client_credentials",
            "update:client_credentials",
            "delete:client_credentials",
        ])
    } else if path.starts_with("/clients") {
        of([
            "read:clients",
            "create:clients",
            "update:clients or update:client_keys",
            "delete:clients",
        ])
    } else if path.starts_with(super::settings::SETTINGS) {
        of([
            "read:tenant_settings",
            "update:tenant_settings",
            "update:tenant_settings",
            "update:tenant_settings",
        ])
    } else if path.starts_with(super::profiles::PROFILES) {
        of([
            "read:token_exchange_profiles",
            "create:token_exchange_profiles",
            "update:token_exchange_profiles",
            "delete:token_exchange_profiles",
        ])
    } else if path.starts_with(super::profiles::ACTIONS) {
        // Nothing else is done to them.
        "read:actions"
    } else if path.starts_with("/client-grants") {
        of([
            "read:client_grants",
            "create:client_grants",
            "update:client_grants",
            "delete:client_grants",
        ])
    } else {
        of([
            "read:resource_servers",
            "create:resource_servers",
            "update:resource_servers",
            "delete:resource_servers",
        ])
    }
}

/// Whether it is about who asks, and not about what is asked for: a tenant that is full answers by 403 as well.
fn is_refusal(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => !answer.says(FULL),
        _ => false,
    }
}

/// What a tenant says whose plan allows no more.
const FULL: &str = "limit of entities";

/// The failure that an unexpected status of any endpoint stands for.
pub(super) fn rejected(operation: &'static str, answer: &Answer) -> ProviderError {
    let code = if answer.says(FULL) {
        "entity_limit_reached".to_owned()
    } else {
        answer.error_code()
    };
    ProviderError::Rejected {
        operation,
        status: answer.status.as_u16(),
        code,
    }
}

/// What the answer to a write means.
fn written(verb: Verb, operation: &'static str, answer: &Answer) -> Result<Value, ProviderError> {
    match (verb, answer.status) {
        // What is created is told, and with it the id that Auth0 chose.
        (Verb::Post, status) if status.is_success() => answer.json(operation),
        (_, status) if status.is_success() => Ok(Value::Null),
        // What was to go is gone.
        (Verb::Delete, StatusCode::NOT_FOUND) => Ok(Value::Null),
        (_, StatusCode::NOT_FOUND) => Err(ProviderError::Gone { operation }),
        (_, StatusCode::CONFLICT) => Err(ProviderError::Conflict { operation }),
        _ => Err(rejected(operation, answer)),
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
        let full = r#"{"statusCode":403,"error":"Forbidden","message":"You reached the limit of entities of this type for this tenant."}"#;
        for (verb, status, body, expected) in [
            (Verb::Delete, 204, "", Ok(Value::Null)),
            (
                Verb::Delete,
                404,
                r#"{"errorCode":"inexistent_client"}"#,
                Ok(Value::Null),
            ),
            (Verb::Patch, 404, "", Err(ProviderError::Gone { operation: OP })),
            (
                Verb::Post,
                409,
                "",
                Err(ProviderError::Conflict { operation: OP }),
            ),
            (Verb::Post, 403, full, Err(rejected(403, "entity_limit_reached"))),
            (
                Verb::Patch,
                400,
                r#"{"error":"Bad Request","message":"hunter2","errorCode":"invalid_body"}"#,
                Err(rejected(400, "invalid_body")),
            ),
        ] {
            assert_eq!(
                written(verb, OP, &Answer::of(status, body)),
                expected,
                "{status} {body}"
            );
        }
        assert!(!is_refusal(&Answer::of(403, full)));
        assert!(is_refusal(&Answer::of(
            403,
            r#"{"errorCode":"insufficient_scope"}"#
        )));
    }
}
