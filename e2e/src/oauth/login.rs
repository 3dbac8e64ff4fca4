//! A login for a client that the story itself is.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Browser, Issuer, OAuthClient, OAuthError};
use crate::secrets;

/// What a client sends a user to do.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// Where the browser returns to. Nobody needs to listen there.
    pub redirect_uri: String,
    /// The scopes to ask for, separated by spaces; empty to leave the parameter out.
    pub scope: String,
    /// The `resource` parameter (RFC 8707), which MCP clients always send.
    pub resource: Option<String>,
    /// Who signs in.
    pub username: String,
    /// With what.
    pub password: SecretString,
}

/// How a client binds a login to itself (RFC 7636).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    /// By a hash of the verifier, as OAuth 2.1 wants it.
    S256,
    /// By the verifier itself.
    Plain,
    /// Not at all.
    Missing,
}

/// A code that a login ended with, and what is needed to redeem it.
#[derive(Clone, Debug)]
pub struct Code {
    pub(super) value: SecretString,
    pub(super) verifier: SecretString,
    pub(super) redirect_uri: String,
    pub(super) resource: Option<String>,
    /// What the user was asked to consent to, in the words of the page; None when there was no such page.
    pub consent: Option<Vec<String>>,
}

#[cfg(test)]
impl Code {
    /// The code itself, for those who redeem it as no client should.
    pub(crate) fn value_for_tests(&self) -> SecretString {
        self.value.clone()
    }

    pub(crate) fn redirect_for_tests(&mut self, uri: &str) {
        uri.clone_into(&mut self.redirect_uri);
    }

    pub(crate) fn resource_for_tests(&mut self, resource: &str) {
        self.resource = Some(resource.to_owned());
    }
}

/// How a login ended. A story says with [`Authorization::granted`] or [`Authorization::refused`] what it expects.
#[must_use = "say with granted() or refused() what is expected"]
#[derive(Clone, Debug)]
pub struct Authorization(Result<Code, OAuthError>);

impl Authorization {
    /// Either, for a story that decides by it.
    pub fn outcome(self) -> Result<Code, OAuthError> {
        self.0
    }

    /// The code, or an error when the client got an error instead.
    pub fn granted(self) -> anyhow::Result<Code> {
        self.0
            .map_err(|refusal| anyhow!("the login ended with an error: {refusal}"))
    }

    /// The error that the client got, or an error when there was a code.
    pub fn refused(self) -> anyhow::Result<OAuthError> {
        match self.0 {
            Ok(_) => bail!("the login succeeded"),
            Err(refusal) => Ok(refusal),
        }
    }
}

impl Issuer {
    /// Signs a user in for a client, with PKCE (S256) and a fresh `state`, giving consent when asked. Checks `state`
    /// and `iss` of the answer (RFC 9207).
    pub async fn sign_in(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
    ) -> anyhow::Result<Authorization> {
        self.sign_in_with(client, request, Pkce::S256).await
    }

    /// The same for a client that may not do PKCE as it should.
    pub async fn sign_in_with(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
        pkce: Pkce,
    ) -> anyhow::Result<Authorization> {
        let verifier = secrets::random();
        let state = secrets::random_text();
        let start = self.authorization_url(client, request, challenge(pkce, &verifier), &state)?;
        let browser = Browser::new(&self.trust, &request.username, &request.password)?;
        let arrival = browser.walk(start, &request.redirect_uri).await?;
        let code = Code {
            value: SecretString::default(),
            verifier,
            redirect_uri: request.redirect_uri.clone(),
            resource: request.resource.clone(),
            consent: arrival.consent,
        };
        self.read_answer(&arrival.url, &state, code)
    }

    fn authorization_url(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
        challenge: Option<(&str, String)>,
        state: &str,
    ) -> anyhow::Result<Url> {
        let mut url = Url::parse(&self.metadata.authorization_endpoint)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", client.id())
            .append_pair("redirect_uri", &request.redirect_uri)
            .append_pair("state", state);
        if let Some((method, challenge)) = challenge {
            url.query_pairs_mut()
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", method);
        }
        if !request.scope.is_empty() {
            url.query_pairs_mut().append_pair("scope", &request.scope);
        }
        if let Some(resource) = &request.resource {
            url.query_pairs_mut().append_pair("resource", resource);
        }
        Ok(url)
    }

    fn read_answer(&self, target: &Url, state: &str, code: Code) -> anyhow::Result<Authorization> {
        let answer: BTreeMap<String, String> = target.query_pairs().into_owned().collect();
        ensure!(
            answer.get("state").is_some_and(|sent| sent == state),
            "the login came back with another state"
        );
        ensure!(
            answer.get("iss").is_some_and(|sent| sent == self.url()),
            "the login came back from another issuer"
        );
        if let Some(error) = answer.get("error") {
            let error_description = answer.get("error_description").cloned().unwrap_or_default();
            return Ok(Authorization(Err(OAuthError {
                error: error.clone(),
                error_description,
            })));
        }
        let value = answer
            .get("code")
            .context("the login came back with neither code nor error")?;
        Ok(Authorization(Ok(Code {
            value: SecretString::from(value.as_str()),
            ..code
        })))
    }
}

/// The method and the challenge to send.
fn challenge(pkce: Pkce, verifier: &SecretString) -> Option<(&'static str, String)> {
    let verifier = verifier.expose_secret();
    match pkce {
        Pkce::S256 => Some(("S256", URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)))),
        Pkce::Plain => Some(("plain", verifier.to_owned())),
        Pkce::Missing => None,
    }
}
