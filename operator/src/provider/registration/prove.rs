//! Showing at the token endpoint, as the workload would, that a registered client works.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::Method;
use crate::provider::{
    Credential, ProviderError,
    http::{Answer, HttpClient, Shown},
    token_endpoint::{self, Audience, MADE_UP, code_refused, not_proved, payload, ungranted, unproved},
};

/// What metrics call it.
const OPERATION: &str = "prove";

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A token for the client itself, for one resource with these scopes (RFC 8707).
    Token {
        /// The resource; `None`: any token will do.
        resource: Option<String>,
        /// The scopes.
        scopes: BTreeSet<String>,
    },
    /// Its authentication counts when it redeems a code, which is made up.
    Code {
        /// One of its redirect URIs.
        redirect_uri: String,
    },
}

/// Where to prove, and what tokens from there say of their issuer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prover<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) endpoint: &'a Url,
    pub(super) issuer: &'a str,
}

/// What the token endpoint answers (RFC 6749 section 5.1), as far as it matters here.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    scope: Option<String>,
}

/// What a token says, where it is one that says anything.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    scope: Option<String>,
}

impl Prover<'_> {
    /// Whether the client is who it says it is. What else is wrong with a request for a code that nobody issued does not
    /// matter.
    pub(super) async fn accepts(
        self,
        client_id: &str,
        secret: &Credential,
        method: Method,
    ) -> Result<bool, ProviderError> {
        let answer = self.redeem(client_id, secret, method, None).await?;
        let is_unknown = answer.status == StatusCode::UNAUTHORIZED || answer.code() == "invalid_client";
        Ok(!is_unknown)
    }

    pub(super) async fn prove(
        self,
        client_id: &str,
        secret: &Credential,
        method: Method,
        demand: &Demand,
    ) -> Result<(), ProviderError> {
        match demand {
            Demand::Code { redirect_uri } => {
                code_refused(&self.redeem(client_id, secret, method, Some(redirect_uri)).await?)
            }
            Demand::Token { resource, scopes } => {
                let scope = scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                let mut form = vec![("grant_type", "client_credentials")];
                form.extend(resource.as_deref().map(|resource| ("resource", resource)));
                form.extend((!scope.is_empty()).then_some(("scope", scope.as_str())));
                let answer = self.ask(client_id, secret, method, &form).await?;
                if answer.status != StatusCode::OK {
                    return Err(not_given(&answer));
                }
                judge(&answer.json(OPERATION)?, self.issuer, resource.as_deref(), scopes)
            }
        }
    }

    async fn redeem(
        self,
        client_id: &str,
        secret: &Credential,
        method: Method,
        redirect_uri: Option<&str>,
    ) -> Result<Answer, ProviderError> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", MADE_UP),
            ("code_verifier", MADE_UP),
        ];
        form.extend(redirect_uri.map(|uri| ("redirect_uri", uri)));
        self.ask(client_id, secret, method, &form).await
    }

    async fn ask(
        self,
        client_id: &str,
        secret: &Credential,
        method: Method,
        form: &[(&str, &str)],
    ) -> Result<Answer, ProviderError> {
        let (id, encoded) = (encoded(client_id), SecretString::from(encoded(secret.expose())));
        let (shown, also) = match method {
            Method::Basic => (Shown::Basic(&id, &encoded), vec![]),
            Method::Post => (
                Shown::Nothing,
                vec![("client_id", client_id), ("client_secret", secret.expose())],
            ),
            Method::None => (Shown::Nothing, vec![("client_id", client_id)]),
        };
        let form = [form, &also].concat();
        token_endpoint::request(self.http, OPERATION, self.endpoint, shown, &form).await
    }
}

/// RFC 6749 section 2.3.1 has both parts encoded as in a form.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Why there is no token. A resource that the server does not know is nothing that the credential could help.
fn not_given(answer: &Answer) -> ProviderError {
    match answer.code().as_str() {
        "invalid_target" => {
            ungranted("the authorization server does not know the resource for this client (invalid_target)")
        }
        _ => not_proved(answer),
    }
}

/// Whether the token is for the resource. One that is no JWT says nothing of that (RFC 6749 section 1.4), so there only the
/// scopes count that came with it.
fn judge(
    given: &TokenAnswer,
    issuer: &str,
    resource: Option<&str>,
    scopes: &BTreeSet<String>,
) -> Result<(), ProviderError> {
    let claims: Option<Claims> = payload(&given.access_token);
    if let Some(claims) = &claims {
        if claims.iss.as_deref().is_some_and(|named| named != issuer) {
            return Err(unproved("the token names another issuer than the metadata"));
        }
        let is_for = |resource: &str| match &claims.aud {
            Audience::One(one) => one == resource,
            Audience::Many(many) => many.contains(resource),
        };
        if let Some(resource) = resource.filter(|resource| !is_for(resource)) {
            return Err(ungranted(format!("the token is not for {resource}")));
        }
    }
    let is_jwt = claims.is_some();
    let said = claims
        .and_then(|claims| claims.scope)
        .or_else(|| given.scope.clone());
    // RFC 6749 section 5.1: what is not said is as it was asked for. But whoever reads a JWT finds no scope in it then.
    let Some(said) = said.or_else(|| is_jwt.then(String::new)) else {
        return Ok(());
    };
    let has: BTreeSet<&str> = said.split_ascii_whitespace().collect();
    match scopes.iter().find(|scope| !has.contains(scope.as_str())) {
        Some(scope) => Err(ungranted(format!("the token lacks the scope {scope}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    fn judged(token: &str, scope: Option<&str>) -> Result<(), ProviderError> {
        let given = TokenAnswer {
            access_token: token.into(),
            scope: scope.map(str::to_owned),
        };
        judge(&given, "i", Some("https://r/"), &["a".to_owned()].into())
    }

    fn jwt(payload: &Value) -> String {
        format!("e30.{}.s", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    #[test]
    fn a_token_is_for_the_resource_and_has_the_scopes() {
        for (token, scope, why) in [
            ("opaque".to_owned(), None, None),
            ("opaque".to_owned(), Some("b a"), None),
            ("opaque".to_owned(), Some("b"), Some("lacks the scope a")),
            (
                jwt(&json!({"iss": "i", "aud": "https://r/", "scope": "a"})),
                None,
                None,
            ),
            (
                jwt(&json!({"iss": "i", "aud": ["x", "https://r/"], "scope": "a b"})),
                None,
                None,
            ),
            (
                jwt(&json!({"iss": "i", "aud": "https://other/", "scope": "a"})),
                None,
                Some("is not for https://r/"),
            ),
            (
                jwt(&json!({"iss": "i", "scope": "a"})),
                None,
                Some("is not for https://r/"),
            ),
            (
                jwt(&json!({"iss": "evil", "aud": "https://r/", "scope": "a"})),
                None,
                Some("another issuer"),
            ),
            (
                jwt(&json!({"iss": "i", "aud": "https://r/"})),
                None,
                Some("lacks the scope a"),
            ),
            // What the token itself says counts.
            (
                jwt(&json!({"iss": "i", "aud": "https://r/", "scope": "b"})),
                Some("a"),
                Some("lacks the scope a"),
            ),
        ] {
            let judged = judged(&token, scope).map_err(|error| error.to_string());
            match why {
                None => assert_eq!(judged, Ok(()), "{token}"),
                Some(why) => assert!(judged.clone().unwrap_err().contains(why), "{token}: {judged:?}"),
            }
        }
    }

    #[test]
    fn secrets_are_encoded_as_in_a_form() {
        assert_eq!(encoded("a:b%+ c"), "a%3Ab%25%2B+c");
    }
}
