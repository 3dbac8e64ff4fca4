//! Showing at the token endpoint, as the workload would, that a credential works. No token of the operator is used.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::Auth0;
use crate::provider::{
    Credential, CredentialKind, Proof, ProviderError,
    http::{Answer, HttpClient, Shown},
    key::{self, PrivateKey},
    operator_token::TokenAnswer,
    token_endpoint::{self, Audience, MADE_UP, payload, ungranted, unproved},
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

impl Auth0 {
    /// Proves at the token endpoint of the tenant.
    pub(super) fn prover(&self, now: Timestamp) -> Prover<'_> {
        Prover {
            http: &self.admin.http,
            endpoint: &self.token_endpoint,
            issuer: &self.issuer,
            now,
        }
    }
}

impl Prover<'_> {
    pub(super) async fn prove(self, proof: &Proof) -> Result<(), ProviderError> {
        match proof {
            Proof::ClientCredentials {
                client_id,
                secret,
                audiences,
                ..
            } if audiences.is_empty() => {
                // No token is for nothing. Whether its code is bad or the client may not have any, the secret was right.
                let answer = self.redeem(client_id, secret, None).await?;
                known(&answer)
            }
            Proof::ClientCredentials {
                client_id,
                secret,
                scopes,
                audiences,
            } => {
                let mut has = BTreeSet::new();
                for audience in audiences {
                    has.extend(self.token(client_id, secret, audience).await?);
                }
                match scopes.difference(&has).next() {
                    Some(scope) => Err(ungranted(format!("the tokens lack the scope {scope}"))),
                    None => Ok(()),
                }
            }
            Proof::AuthorizationCode {
                client_id,
                secret,
                redirect_uri,
            } => {
                let answer = self.redeem(client_id, secret, Some(redirect_uri)).await?;
                looked_at(&answer)
            }
            Proof::TokenExchange {
                client_id,
                secret,
                by_actions,
            } => {
                let form = [
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", MADE_UP),
                    (
                        "subject_token_type",
                        "urn:ietf:params:oauth:token-type:access_token",
                    ),
                ];
                let answer = self.ask(client_id, secret, &form).await?;
                if *by_actions {
                    known(&answer)
                } else {
                    looked_at(&answer)
                }
            }
        }
    }

    /// Shows that a client which is who it says gets no token for an API.
    pub(super) async fn refuses(
        self,
        client_id: &str,
        secret: &Credential,
        audience: &str,
    ) -> Result<(), ProviderError> {
        let form = [("grant_type", "client_credentials"), ("audience", audience)];
        let answer = self.ask(client_id, secret, &form).await?;
        refused(&answer, audience)
    }

    /// Gets a token for one API with all that the client is granted there: its scopes.
    async fn token(
        self,
        client_id: &str,
        secret: &Credential,
        audience: &str,
    ) -> Result<BTreeSet<String>, ProviderError> {
        // Auth0 names the API by `audience`, and has a token for one at a time.
        let form = [("grant_type", "client_credentials"), ("audience", audience)];
        let answer = self.ask(client_id, secret, &form).await?;
        if !answer.status.is_success() {
            return Err(not_given(&answer));
        }
        let token: TokenAnswer = answer.json(OPERATION)?;
        let claims: Claims = payload(&token.access_token).ok_or(ProviderError::Malformed {
            operation: OPERATION,
            why: "its access token is no JWT",
        })?;
        judge(&claims, self.issuer, audience)
    }

    async fn redeem(
        self,
        client_id: &str,
        secret: &Credential,
        redirect_uri: Option<&str>,
    ) -> Result<Answer, ProviderError> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", MADE_UP),
            ("code_verifier", MADE_UP),
        ];
        form.extend(redirect_uri.map(|uri| ("redirect_uri", uri)));
        self.ask(client_id, secret, &form).await
    }

    async fn ask(
        self,
        client_id: &str,
        secret: &Credential,
        form: &[(&str, &str)],
    ) -> Result<Answer, ProviderError> {
        let assertion;
        let mut form = form.to_vec();
        form.push(("client_id", client_id));
        match secret.kind() {
            CredentialKind::Secret => form.push(("client_secret", secret.expose())),
            CredentialKind::PrivateKey => {
                assertion = PrivateKey::of(secret)
                    .and_then(|key| key.assertion(client_id, self.issuer, self.now))
                    .ok_or_else(|| unproved("the private key in the journal is none"))?;
                form.extend([
                    ("client_assertion_type", key::ASSERTION_TYPE),
                    ("client_assertion", assertion.as_str()),
                ]);
            }
        }
        token_endpoint::request(self.http, OPERATION, self.endpoint, Shown::Nothing, &form).await
    }
}

fn described(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    match answer.code().as_str() {
        "" => format!("HTTP {status}"),
        code => format!("HTTP {status}, {code}"),
    }
}

/// Whether the client is who it says. Auth0 answers a wrong secret by 401 `access_denied`, where RFC 6749 has
/// `invalid_client`, and what a client may not do by 403.
fn known(answer: &Answer) -> Result<(), ProviderError> {
    match (answer.status.as_u16(), answer.code().as_str()) {
        (403, "invalid_grant" | "unauthorized_client") => Ok(()),
        (401, _) | (_, "invalid_client") => Err(unproved(format!(
            "the authorization server refuses the client or its credential ({})",
            described(answer)
        ))),
        _ => Err(unproved(format!(
            "the token endpoint answered {}",
            described(answer)
        ))),
    }
}

/// The made-up code or token was looked at, so the secret was accepted and the client may use such.
fn looked_at(answer: &Answer) -> Result<(), ProviderError> {
    match (answer.status.as_u16(), answer.code().as_str()) {
        (400 | 403, "invalid_grant") => Ok(()),
        (403, code) => Err(ungranted(format!(
            "the client may not do what it is to do ({code})"
        ))),
        _ => known(answer),
    }
}

/// Whether the client was told that it may not. Auth0 says so by 403; a wrong secret shows nothing.
fn refused(answer: &Answer, audience: &str) -> Result<(), ProviderError> {
    match (answer.status.as_u16(), answer.code().as_str()) {
        (400 | 403, "unauthorized_client" | "access_denied" | "unsupported_grant_type") => Ok(()),
        (200..300, _) => Err(ungranted(format!(
            "a client that registered itself got a token for {audience}"
        ))),
        _ => Err(unproved(format!(
            "the token endpoint answered {} where it should have refused a client that registered itself",
            described(answer)
        ))),
    }
}

/// Why there is no token.
fn not_given(answer: &Answer) -> ProviderError {
    match (answer.status.as_u16(), answer.code().as_str()) {
        (403, code) => ungranted(format!(
            "the client gets no token for what it was granted ({code})"
        )),
        _ => known(answer)
            .err()
            .unwrap_or_else(|| unproved("there is no token")),
    }
}

/// What a token says, as far as a proof asks.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    #[serde(default)]
    scope: String,
}

fn judge(claims: &Claims, issuer: &str, audience: &str) -> Result<BTreeSet<String>, ProviderError> {
    if claims.iss != issuer {
        return Err(unproved("the token names another issuer than the metadata"));
    }
    let is_for_it_alone = match &claims.aud {
        Audience::One(one) => one == audience,
        Audience::Many(many) => many.len() == 1 && many.contains(audience),
    };
    if !is_for_it_alone {
        return Err(ungranted(format!("the token is not for {audience} alone")));
    }
    Ok(claims.scope.split_ascii_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_secret_is_told_from_a_missing_permission() {
        let body = |code: &str| json!({ "error": code }).to_string();
        for (status, code, is_known, is_looked_at) in [
            (403, "invalid_grant", true, true),
            (403, "unauthorized_client", true, false),
            (401, "access_denied", false, false),
            (401, "invalid_client", false, false),
            (400, "invalid_request", false, false),
            (404, "", false, false),
        ] {
            let answer = Answer::of(status, &body(code));
            assert_eq!(known(&answer).is_ok(), is_known, "{status} {code}");
            assert_eq!(looked_at(&answer).is_ok(), is_looked_at, "{status} {code}");
        }
        let denied = Answer::of(403, &body("access_denied"));
        assert!(matches!(not_given(&denied), ProviderError::Ungranted { .. }));
        let wrong = Answer::of(401, &body("access_denied"));
        assert!(matches!(not_given(&wrong), ProviderError::Unproved { .. }));
    }

    #[test]
    fn only_a_refusal_shows_that_a_client_is_refused() {
        let body = |code: &str| json!({ "error": code }).to_string();
        for (status, code, is_refused) in [
            (403, "unauthorized_client", true),
            (403, "access_denied", true),
            (401, "access_denied", false),
            (401, "invalid_client", false),
            (400, "invalid_request", false),
            (404, "", false),
            (200, "", false),
        ] {
            let answer = Answer::of(status, &body(code));
            assert_eq!(refused(&answer, "a").is_ok(), is_refused, "{status} {code}");
        }
        let given = Answer::of(200, r#"{"access_token": "t"}"#);
        assert!(matches!(
            refused(&given, "a"),
            Err(ProviderError::Ungranted { .. })
        ));
    }

    #[test]
    fn a_token_is_for_one_audience_and_no_other() {
        let claims = |aud: serde_json::Value| -> Claims {
            serde_json::from_value(json!({"iss": "i", "aud": aud, "scope": "a b"})).unwrap()
        };
        assert_eq!(judge(&claims(json!("r")), "i", "r").unwrap().len(), 2);
        assert!(judge(&claims(json!(["r"])), "i", "r").is_ok());
        for aud in [json!("x"), json!(["r", "userinfo"]), json!([])] {
            assert!(judge(&claims(aud), "i", "r").is_err());
        }
        assert!(judge(&claims(json!("r")), "other", "r").is_err());
    }
}
