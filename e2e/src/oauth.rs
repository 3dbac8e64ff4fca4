//! OAuth as clients and browsers do it: real token requests, real login and consent pages, real signatures.

mod assertion;
mod browser;
mod login;
mod token;
mod verify;

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::assertion::{JWT_BEARER, SigningKey};
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
    credential: Credential,
}

/// How a client says that it is itself.
#[derive(Clone, Debug)]
enum Credential {
    /// Not at all.
    None,
    /// With a secret in the form.
    Form(SecretString),
    /// With a secret in the `Authorization` header.
    Header(SecretString),
    /// With assertions that it signs.
    Key(SigningKey),
    /// With an assertion that somebody else signed.
    Assertion(SecretString),
}

impl OAuthClient {
    /// A client with a secret, sent in the form (`client_secret_post`).
    pub fn confidential(id: impl Into<String>, secret: SecretString) -> Self {
        Self::with(id, Credential::Form(secret))
    }

    /// A client without a secret.
    pub fn public(id: impl Into<String>) -> Self {
        Self::with(id, Credential::None)
    }

    /// A client that signs with a private key, in PEM (`private_key_jwt`), for the issuer with this URL.
    pub fn signing(id: impl Into<String>, pem: &SecretString, issuer: &str) -> anyhow::Result<Self> {
        Ok(Self::with(id, Credential::Key(SigningKey::new(pem, issuer)?)))
    }

    /// A client that sends this assertion.
    pub fn asserting(id: impl Into<String>, assertion: SecretString) -> Self {
        Self::with(id, Credential::Assertion(assertion))
    }

    fn with(id: impl Into<String>, credential: Credential) -> Self {
        Self {
            id: id.into(),
            credential,
        }
    }

    /// Sends the secret in the `Authorization` header (`client_secret_basic`).
    #[must_use]
    pub fn with_basic(mut self) -> Self {
        if let Credential::Form(secret) = self.credential {
            self.credential = Credential::Header(secret);
        }
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
        let mut add = |name: &str, value: &str| form.push((name.to_owned(), value.to_owned()));
        if let Credential::Header(secret) = &self.credential {
            // RFC 6749 section 2.3.1: both halves are encoded as in a form first.
            let encode =
                |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            return request.basic_auth(encode(&self.id), Some(encode(secret.expose_secret())));
        }
        add("client_id", &self.id);
        let assertion = match &self.credential {
            Credential::None | Credential::Header(_) => None,
            Credential::Form(secret) => {
                add("client_secret", secret.expose_secret());
                None
            }
            Credential::Key(key) => Some(key.assertion(&self.id)),
            Credential::Assertion(assertion) => Some(assertion.expose_secret().to_owned()),
        };
        if let Some(assertion) = assertion {
            add("client_assertion_type", JWT_BEARER);
            add("client_assertion", &assertion);
        }
        request
    }
}

impl Issuer {
    /// Reads the metadata of an issuer and checks that it is about that issuer (RFC 8414 section 3.3).
    pub async fn discover(issuer: &str, authority: &Authority) -> anyhow::Result<Self> {
        let http = authority.http_client()?.build()?;
        // An issuer may end in a slash (OpenID Connect Discovery section 4.1).
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
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
