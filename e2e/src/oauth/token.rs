//! The token endpoint.

use std::fmt;

use anyhow::{Context, anyhow, bail};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Code, Issuer, OAuthClient};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What an authorization server issued.
#[derive(Clone, Debug, Deserialize)]
pub struct Tokens {
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token, if there is one.
    pub refresh_token: Option<SecretString>,
    /// The ID token, if there is one.
    pub id_token: Option<SecretString>,
    /// The granted scopes, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// Lifetime of the access token in seconds.
    pub expires_in: u64,
    /// What was issued in a token exchange (RFC 8693 section 2.2.1).
    pub issued_token_type: Option<String>,
}

/// Why an authorization server refused (RFC 6749 section 5.2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OAuthError {
    /// The code, such as `invalid_scope`.
    pub error: String,
    /// Words for the developer.
    #[serde(default)]
    pub error_description: String,
}

impl fmt::Display for OAuthError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.error, self.error_description)
    }
}

impl std::error::Error for OAuthError {}

/// The answer of the token endpoint. A story says with [`Answer::granted`] or [`Answer::refused`] what it expects.
#[must_use = "say with granted() or refused() what is expected"]
#[derive(Clone, Debug)]
pub struct Answer(Result<Tokens, OAuthError>);

impl Answer {
    /// Either, for a story that decides by it.
    pub fn outcome(self) -> Result<Tokens, OAuthError> {
        self.0
    }

    /// The tokens, or an error when it was refused.
    pub fn granted(self) -> anyhow::Result<Tokens> {
        self.0
            .map_err(|refusal| anyhow!("no token was issued: {refusal}"))
    }

    /// Why it was refused, or an error when a token was issued.
    pub fn refused(self) -> anyhow::Result<OAuthError> {
        match self.0 {
            Ok(tokens) => bail!("a token was issued, with scope {:?}", tokens.scope),
            Err(refusal) => Ok(refusal),
        }
    }
}

/// A token exchange (RFC 8693).
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// The access token to exchange.
    pub subject_token: &'a SecretString,
    /// The scopes to ask for, separated by spaces.
    pub scope: Option<&'a str>,
    /// The audience to ask for.
    pub audience: Option<&'a str>,
}

impl Issuer {
    /// A token for the client itself.
    pub async fn client_credentials(
        &self,
        client: &OAuthClient,
        scope: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let mut form = fields(&[("grant_type", "client_credentials")]);
        form.extend(scope.map(|scope| field("scope", scope)));
        self.token(client, form).await
    }

    /// Tokens for the code of a login, with the `resource` that the login named, as MCP clients send it.
    pub async fn redeem(&self, client: &OAuthClient, code: &Code) -> anyhow::Result<Answer> {
        let mut form = fields(&[
            ("grant_type", "authorization_code"),
            ("code", code.value.expose_secret()),
            ("redirect_uri", &code.redirect_uri),
            ("code_verifier", code.verifier.expose_secret()),
        ]);
        form.extend(
            code.resource
                .as_deref()
                .map(|resource| field("resource", resource)),
        );
        self.token(client, form).await
    }

    /// New tokens for a refresh token. MCP clients send `resource` here too.
    pub async fn refresh(
        &self,
        client: &OAuthClient,
        refresh_token: &SecretString,
        resource: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let mut form = fields(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
        ]);
        form.extend(resource.map(|resource| field("resource", resource)));
        self.token(client, form).await
    }

    /// Somebody's token for one of another audience.
    pub async fn exchange(&self, client: &OAuthClient, exchange: &Exchange<'_>) -> anyhow::Result<Answer> {
        let mut form = fields(&[
            ("grant_type", EXCHANGE_GRANT),
            ("subject_token", exchange.subject_token.expose_secret()),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ]);
        form.extend(exchange.scope.map(|scope| field("scope", scope)));
        form.extend(exchange.audience.map(|audience| field("audience", audience)));
        self.token(client, form).await
    }

    /// Any request to the token endpoint, with the client's credential added.
    pub async fn token(
        &self,
        client: &OAuthClient,
        mut form: Vec<(String, String)>,
    ) -> anyhow::Result<Answer> {
        let request = client.authenticate(self.http.post(&self.metadata.token_endpoint), &mut form);
        let response = request
            .form(&form)
            .send()
            .await
            .context("the token endpoint does not answer")?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .with_context(|| format!("the token endpoint answered {status} without JSON"))?;
        if status.is_success() {
            let tokens =
                serde_json::from_value(body).context("the token endpoint answered without a token")?;
            return Ok(Answer(Ok(tokens)));
        }
        let refusal = serde_json::from_value(body)
            .with_context(|| format!("the token endpoint answered {status} without an error code"))?;
        Ok(Answer(Err(refusal)))
    }
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| field(name, value)).collect()
}
