//! OAuth as clients and browsers do it: real token requests, real login and consent pages, real signatures.

mod browser;
mod login;
mod token;
mod verify;

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::pki::{Authority, Trust};

pub use browser::{Arrival, Browser};
pub use login::{Authorization, Code, LoginRequest, Pkce};
pub use token::{Answer, Exchange, OAuthError, Tokens};
pub use verify::VerifiedToken;

/// An authorization server as its metadata describes it.
#[derive(Clone)]
pub struct Issuer {
    http: reqwest::Client,
    trust: Trust,
    metadata: Metadata,
}

#[derive(Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

/// A client with its credential.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    id: String,
    secret: Option<SecretString>,
    in_header: bool,
}

impl OAuthClient {
    /// A client with a secret, sent in the form (`client_secret_post`).
    pub fn confidential(id: impl Into<String>, secret: SecretString) -> Self {
        Self {
            id: id.into(),
            secret: Some(secret),
            in_header: false,
        }
    }

    /// A client without a secret.
    pub fn public(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: None,
            in_header: false,
        }
    }

    /// Sends the secret in the `Authorization` header (`client_secret_basic`).
    #[must_use]
    pub fn with_basic(mut self) -> Self {
        self.in_header = true;
        self
    }

    /// Its client id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Adds the credential to a request for a token, and the client id where the header does not carry it.
    fn authenticate(
        &self,
        request: reqwest::RequestBuilder,
        form: &mut Vec<(String, String)>,
    ) -> reqwest::RequestBuilder {
        match &self.secret {
            // RFC 6749 section 2.3.1: both halves are encoded as in a form first.
            Some(secret) if self.in_header => {
                let encode =
                    |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                request.basic_auth(encode(&self.id), Some(encode(secret.expose_secret())))
            }
            secret => {
                form.push(("client_id".to_owned(), self.id.clone()));
                if let Some(secret) = secret {
                    form.push(("client_secret".to_owned(), secret.expose_secret().to_owned()));
                }
                request
            }
        }
    }
}

impl Issuer {
    /// Reads the metadata of an issuer and checks that it is about that issuer (RFC 8414 section 3.3).
    pub async fn discover(issuer: &str, authority: &Authority) -> anyhow::Result<Self> {
        let http = authority.http_client()?.build()?;
        let url = format!("{issuer}/.well-known/openid-configuration");
        let response = http
            .get(&url)
            .send()
            .await
            .with_context(|| format!("cannot read {url}"))?;
        let metadata: Metadata = response.error_for_status()?.json().await?;
        ensure!(
            metadata.issuer == issuer,
            "{url} is about {}, not {issuer}",
            metadata.issuer
        );
        Ok(Self {
            http,
            trust: authority.trust().clone(),
            metadata,
        })
    }

    /// What `iss` of its tokens is.
    pub fn url(&self) -> &str {
        &self.metadata.issuer
    }
}
