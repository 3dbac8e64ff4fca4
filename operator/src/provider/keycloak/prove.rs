//! Showing at the token endpoint, as the workload would, that a credential works. No token of the operator is used.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::provider::{
    Credential, CredentialKind, Proof, ProviderError,
    http::{Answer, HttpClient, Shown},
    key::{self, PrivateKey},
    operator_token::TokenAnswer,
    token_endpoint::{self, Audience, MADE_UP, code_refused, not_proved, payload, ungranted, unproved},
};

/// What metrics call it.
const OPERATION: &str = "prove";

/// Where to prove, and what tokens from there say of their issuer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prover<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) endpoint: &'a Url,
    pub(super) issuer: &'a str,
    pub(super) now: Timestamp,
}

impl Prover<'_> {
    pub(super) async fn prove(self, proof: &Proof) -> Result<(), ProviderError> {
        match proof {
            Proof::ClientCredentials {
                client_id,
                secret,
                scopes,
                audiences,
            } => {
                let scope = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                let form = [("grant_type", "client_credentials"), ("scope", scope.as_str())];
                // An empty scope would be a scope without a name.
                let form = if scopes.is_empty() { &form[..1] } else { &form[..] };
                let answer = self.ask(client_id, secret, form).await?;
                let token: TokenAnswer = granted(&answer)?;
                judge(&claims(&token.access_token)?, self.issuer, scopes, audiences)
            }
            Proof::AuthorizationCode {
                client_id,
                secret,
                redirect_uri,
            } => {
                let form = [
                    ("grant_type", "authorization_code"),
                    ("code", MADE_UP),
                    ("code_verifier", MADE_UP),
                    ("redirect_uri", redirect_uri.as_str()),
                ];
                code_refused(&self.ask(client_id, secret, &form).await?)
            }
            Proof::TokenExchange {
                client_id, secret, ..
            } => {
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", MADE_UP),
                    (
                        "subject_token_type",
                        "urn:ietf:params:oauth:token-type:access_token",
                    ),
                ];
                subject_refused(&self.ask(client_id, secret, &form).await?)
            }
        }
    }

    /// Shows that the client gets a token, and is refused one as soon as it asks for this scope, although that was given
    /// to it.
    pub(super) async fn refuses(
        self,
        client_id: &str,
        secret: &Credential,
        scope: &str,
    ) -> Result<(), ProviderError> {
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        // Without the scope it gets one: so it is for the scope that it does not.
        granted(&self.ask(client_id, secret, &form[..1]).await?)?;
        request_refused(&self.ask(client_id, secret, &form).await?)
    }

    async fn ask(
        self,
        client_id: &str,
        secret: &Credential,
        form: &[(&str, &str)],
    ) -> Result<Answer, ProviderError> {
        let assertion;
        let credential = match secret.kind() {
            CredentialKind::Secret => vec![("client_id", client_id), ("client_secret", secret.expose())],
            CredentialKind::PrivateKey => {
                assertion = PrivateKey::of(secret)
                    .and_then(|key| key.assertion(client_id, self.issuer, self.now))
                    .ok_or_else(|| unproved("the private key in the journal is none"))?;
                vec![
                    ("client_id", client_id),
                    ("client_assertion_type", key::ASSERTION_TYPE),
                    ("client_assertion", &assertion),
                ]
            }
        };
        let form = [form, &credential].concat();
        token_endpoint::request(self.http, OPERATION, self.endpoint, Shown::Nothing, &form).await
    }
}

fn granted(answer: &Answer) -> Result<TokenAnswer, ProviderError> {
    if answer.status == StatusCode::OK {
        answer.json(OPERATION)
    } else {
        Err(not_proved(answer))
    }
}

/// The subject token was looked at, so the secret was accepted and the client may exchange tokens. Keycloak has one
/// code for a bad token and for a client that may not.
fn subject_refused(answer: &Answer) -> Result<(), ProviderError> {
    match (answer.status, answer.code().as_str()) {
        (StatusCode::BAD_REQUEST, "invalid_request") if answer.describes("not enabled") => {
            Err(unproved("token exchange is not switched on for the client"))
        }
        (StatusCode::BAD_REQUEST, "invalid_request" | "invalid_token" | "invalid_grant") => Ok(()),
        _ => Err(not_proved(answer)),
    }
}

/// A client policy refused the request. Whatever else Keycloak says to it, a policy did not see it.
fn request_refused(answer: &Answer) -> Result<(), ProviderError> {
    if answer.status == StatusCode::BAD_REQUEST && answer.code() == "invalid_request" {
        return Ok(());
    }
    Err(ungranted(
        "a client that registers itself would be given a closed scope by the authorization server",
    ))
}

/// What a token says, as far as a proof asks.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Claims {
    iss: String,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    scope: String,
}

fn claims(token: &str) -> Result<Claims, ProviderError> {
    payload(token).ok_or(ProviderError::Malformed {
        operation: OPERATION,
        why: "its access token is no JWT",
    })
}

fn judge(
    claims: &Claims,
    issuer: &str,
    scopes: &BTreeSet<String>,
    audiences: &BTreeSet<String>,
) -> Result<(), ProviderError> {
    if claims.iss != issuer {
        return Err(unproved("the token names another issuer than the metadata"));
    }
    let exact = match &claims.aud {
        Audience::One(one) => audiences.len() == 1 && audiences.contains(one),
        Audience::Many(many) => many == audiences,
    };
    if !exact {
        let wanted = audiences.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        return Err(ungranted(format!(
            "the audience of the token is not exactly [{wanted}]"
        )));
    }
    let has: BTreeSet<&str> = claims.scope.split_ascii_whitespace().collect();
    match scopes.iter().find(|scope| !has.contains(scope.as_str())) {
        Some(scope) => Err(ungranted(format!("the token lacks the scope {scope}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Judges a token with these claims, of which `s` is asked for and `a` is due.
    fn judged(payload: &serde_json::Value, scopes: &[&str], audiences: &[&str]) -> Result<(), ProviderError> {
        let token = format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(payload.to_string()));
        judge(&claims(&token).unwrap(), "i", &set(scopes), &set(audiences))
    }

    #[test]
    fn a_token_that_is_what_was_declared() {
        for (payload, scopes, audiences) in [
            (
                json!({"iss": "i", "aud": "a", "scope": "s"}),
                &["s"][..],
                &["a"][..],
            ),
            (json!({"iss": "i", "aud": ["a"], "scope": "s t"}), &["s"], &["a"]),
            (
                json!({"iss": "i", "aud": ["b", "a"], "scope": "t s"}),
                &["s", "t"],
                &["a", "b"],
            ),
            (json!({"iss": "i", "scope": ""}), &[], &[]),
            (json!({"iss": "i"}), &[], &[]),
        ] {
            assert_eq!(judged(&payload, scopes, audiences), Ok(()), "{payload}");
        }
    }

    #[test]
    fn a_token_that_is_anything_else() {
        let not_exactly = "the audience of the token is not exactly";
        for (payload, scopes, audiences, why) in [
            (
                json!({"iss": "i/", "aud": "a"}),
                &[][..],
                &["a"][..],
                "the token names another issuer than the metadata",
            ),
            (
                json!({"iss": "i", "aud": ["a", "account"]}),
                &[],
                &["a"],
                &format!("{not_exactly} [a]"),
            ),
            (
                json!({"iss": "i", "aud": "a"}),
                &[],
                &["a", "b"],
                &format!("{not_exactly} [a b]"),
            ),
            (
                json!({"iss": "i", "aud": "a"}),
                &[],
                &[],
                &format!("{not_exactly} []"),
            ),
            (json!({"iss": "i"}), &[], &["a"], &format!("{not_exactly} [a]")),
            (
                json!({"iss": "i", "scope": "sx"}),
                &["s"],
                &[],
                "the token lacks the scope s",
            ),
        ] {
            assert_eq!(
                judged(&payload, scopes, audiences),
                Err(if why.contains("issuer") {
                    unproved(why)
                } else {
                    ungranted(why)
                }),
                "{payload}"
            );
        }
    }

    #[test]
    fn what_is_no_jwt_is_not_repeated() {
        for token in ["", "hunter2", "a.hunter2.c", "a.e30.c", "a.aHVudGVyMg.c"] {
            let error = claims(token).unwrap_err();
            assert!(matches!(error, ProviderError::Malformed { .. }), "{token}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    /// Answers as Keycloak 26.7.3 gives them.
    #[test]
    fn refusals_that_prove_and_refusals_that_do_not() {
        let refused = "the authorization server refuses the client or its credential (unauthorized_client)";
        let invalid_grant = r#"{"error":"invalid_grant","error_description":"Code not valid"}"#;
        let wrong_secret = r#"{"error":"unauthorized_client","error_description":"hunter2"}"#;
        for (status, body, expected) in [
            (400, invalid_grant, Ok(())),
            (401, wrong_secret, Err(unproved(refused))),
            (200, "{}", Err(unproved("the token endpoint answered HTTP 200"))),
            (
                404,
                r#"{"error":"Realm does not exist"}"#,
                Err(unproved("the token endpoint answered HTTP 404")),
            ),
        ] {
            assert_eq!(code_refused(&Answer::of(status, body)), expected, "{body}");
        }
        let by_policy = r#"{"error":"invalid_request","error_description":"Request not allowed"}"#;
        assert_eq!(request_refused(&Answer::of(400, by_policy)), Ok(()));
        for (status, body) in [
            (200, r#"{"access_token":"hunter2"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (401, r#"{"error":"unauthorized_client"}"#),
        ] {
            let error = request_refused(&Answer::of(status, body)).unwrap_err();
            assert!(matches!(error, ProviderError::Ungranted { .. }), "{body}");
        }
        let off = r#"{"error":"invalid_request","error_description":"Standard token exchange is not enabled for the requested client"}"#;
        for (status, body, expected) in [
            (
                400,
                r#"{"error":"invalid_request","error_description":"Invalid token"}"#,
                Ok(()),
            ),
            (
                400,
                off,
                Err(unproved("token exchange is not switched on for the client")),
            ),
            (401, wrong_secret, Err(unproved(refused))),
            (
                400,
                r#"{"error":"unsupported_grant_type"}"#,
                Err(unproved(
                    "the token endpoint answered HTTP 400 (unsupported_grant_type)",
                )),
            ),
        ] {
            assert_eq!(subject_refused(&Answer::of(status, body)), expected, "{body}");
        }
    }
}
