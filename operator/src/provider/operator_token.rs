//! The operator's own access token: one per realm, fetched by one at a time, renewed before it expires.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use super::identity::Identity;
use crate::provider::{
    ProviderError,
    http::{Answer, HttpClient, Request, Shown},
    token_endpoint::{self, payload},
};

/// What metrics call it.
const OPERATION: &str = "operator_token";

/// A token is used for this part of its life.
const USED: f64 = 0.75;

/// No token is used for longer than this, whatever the server says of it.
const LONGEST: Duration = Duration::from_hours(24);

/// An access token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) access: SecretString,
    /// The scopes that came with it, where the answer says which.
    pub(super) scope: Option<String>,
    renew_at: Instant,
}

/// What the token endpoint answers (RFC 6749 section 5.1), as far as it matters here.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    pub(super) access_token: String,
    #[serde(default)]
    expires_in: u64,
    scope: Option<String>,
}

/// Signs the operator in.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: Url,
    pub(super) identity: Identity,
    /// What the token is to be for, where the server wants that said.
    audience: Option<String>,
    current: Mutex<Option<Arc<Token>>>,
}

impl Tokens {
    pub(super) fn new(endpoint: Url, identity: Identity, audience: Option<String>) -> Self {
        Self {
            endpoint,
            identity,
            audience,
            current: Mutex::default(),
        }
    }

    /// A token with some life left. Whoever comes while one is fetched waits for that one.
    pub(super) async fn current(&self, http: &HttpClient) -> Result<Arc<Token>, ProviderError> {
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(Arc::clone(token));
        }
        // An old token is not worth keeping while a new one cannot be had: the same server would judge it.
        *current = None;
        let token = Arc::new(self.fetch(http).await?);
        *current = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Makes a call with the token, and once more with a new one if that `is_refusal`: what a token is good for was decided
    /// when it was issued, and more may have been granted since. `permission` is what a call lacks that is forbidden.
    pub(super) async fn call(
        &self,
        http: &HttpClient,
        mut request: Request<'_>,
        permission: &'static str,
        is_refusal: fn(&Answer) -> bool,
    ) -> Result<Answer, ProviderError> {
        let operation = request.operation;
        let token = self.current(http).await?;
        request.shown = Shown::Bearer(&token.access);
        let answer = http.call(&request).await?;
        if !is_refusal(&answer) {
            return Ok(answer);
        }
        self.forget(&token).await;
        let token = self.current(http).await?;
        request.shown = Shown::Bearer(&token.access);
        let answer = http.call(&request).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(ProviderError::Unauthenticated {
                code: "HTTP 401".to_owned(),
            }),
            StatusCode::FORBIDDEN if is_refusal(&answer) => Err(ProviderError::Forbidden {
                operation,
                permission,
            }),
            _ => Ok(answer),
        }
    }

    /// Drops this token: the server did not accept it, or it may know less than it should of our roles, which are
    /// those of its issue time. One that others have fetched since stays.
    pub(super) async fn forget(&self, token: &Arc<Token>) {
        let mut current = self.current.lock().await;
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, token))
        {
            *current = None;
        }
    }

    /// Drops whatever token there is.
    pub(super) async fn forget_any(&self) {
        *self.current.lock().await = None;
    }

    async fn fetch(&self, http: &HttpClient) -> Result<Token, ProviderError> {
        let shown = self.identity.show().await?;
        let sent = Instant::now();
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.identity.client_id.as_str()),
        ];
        form.extend(
            self.audience
                .iter()
                .map(|audience| ("audience", audience.as_str())),
        );
        form.extend(shown.iter().map(|(name, value)| (*name, value.expose_secret())));
        let answer = token_endpoint::request(http, OPERATION, &self.endpoint, Shown::Nothing, &form).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&answer));
        }
        let TokenAnswer {
            access_token,
            expires_in,
            scope,
        } = answer.json(OPERATION)?;
        Ok(Token {
            access: access_token.into(),
            scope,
            renew_at: sent + used_for(expires_in),
        })
    }
}

/// For how long a token is used that is said to live for so many seconds. The number is the server's: no clock reaches as
/// far as it may say.
fn used_for(expires_in: u64) -> Duration {
    Duration::from_secs(expires_in).min(LONGEST).mul_f64(USED)
}

/// When a token was issued, in seconds since 1970 by the server's clock.
pub(super) fn issued_at(token: &Token) -> Option<i64> {
    #[derive(Deserialize)]
    struct Issued {
        iat: i64,
    }
    payload::<Issued>(token.access.expose_secret()).map(|issued| issued.iat)
}

/// Why there is no token for the operator.
fn refused(answer: &Answer) -> ProviderError {
    let code = answer.code();
    match (answer.status.as_u16(), code.as_str()) {
        (401, "") => ProviderError::Unauthenticated {
            code: "HTTP 401".to_owned(),
        },
        // Keycloak says unauthorized_client both for a wrong secret and for a client without service account.
        // A client that is who it says, and may not administer anything.
        (403, _) => ProviderError::Forbidden {
            operation: OPERATION,
            permission: "a client grant for the administration API",
        },
        (401, _) | (400, "invalid_client" | "unauthorized_client") => ProviderError::Unauthenticated { code },
        _ => answer.rejected(OPERATION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_that_no_clock_reaches_are_no_danger() {
        for (expires_in, used) in [
            (0, Duration::ZERO),
            (100, Duration::from_secs(75)),
            (u64::MAX, LONGEST.mul_f64(USED)),
        ] {
            assert_eq!(used_for(expires_in), used);
            let _in_reach = Instant::now() + used_for(expires_in);
        }
    }

    #[test]
    fn refusals_of_the_credential_are_told_from_others() {
        let unauthenticated = |code: &str| ProviderError::Unauthenticated { code: code.into() };
        let rejected = |status, code: &str| ProviderError::Rejected {
            operation: OPERATION,
            status,
            code: code.into(),
        };
        for (status, body, expected) in [
            (
                401,
                r#"{"error":"invalid_client"}"#,
                unauthenticated("invalid_client"),
            ),
            (
                401,
                r#"{"error":"unauthorized_client"}"#,
                unauthenticated("unauthorized_client"),
            ),
            (
                400,
                r#"{"error":"unauthorized_client"}"#,
                unauthenticated("unauthorized_client"),
            ),
            (401, "<html>hunter2</html>", unauthenticated("HTTP 401")),
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                rejected(400, "invalid_scope"),
            ),
            (404, r#"{"error":"Realm does not exist"}"#, rejected(404, "")),
        ] {
            assert_eq!(refused(&Answer::of(status, body)), expected, "{status} {body}");
        }
    }
}
