//! What clients authenticate with.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::provider::key::PEM;

/// A secret that we chose, or a private key that we made, as PEM. Prints as redacted.
#[derive(Clone)]
pub struct Credential(SecretString);

impl Credential {
    /// Wraps a secret or a private key.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(SecretString::from(secret.into()))
    }

    /// The secret itself, for the call or the Secret that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What it is. A secret of ours holds nothing that PEM begins with.
    pub fn kind(&self) -> CredentialKind {
        if self.expose().starts_with(PEM) {
            CredentialKind::PrivateKey
        } else {
            CredentialKind::Secret
        }
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// The secrets of a client that the authorization server is to accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The one that the workload has, or is about to get.
    pub current: Credential,
    /// The one before it, where the server can accept two.
    pub previous: Option<Previous>,
}

impl Credentials {
    /// One secret alone.
    pub fn only(current: Credential) -> Self {
        Self {
            current,
            previous: None,
        }
    }
}

/// A secret that was replaced and is still valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// The secret.
    pub credential: Credential,
    /// Until when.
    pub until: Timestamp,
}

/// How a client authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// By a shared secret.
    ClientSecret,
    /// By assertions that it signs with a private key (RFC 7523).
    PrivateKeyJwt,
    /// By the tokens of a ServiceAccount.
    ServiceAccount(ServiceAccount),
    /// Not at all.
    None,
}

impl Authentication {
    /// The kind of credential that it takes, if it takes one.
    pub const fn credential(&self) -> Option<CredentialKind> {
        match self {
            Self::ClientSecret => Some(CredentialKind::Secret),
            Self::PrivateKeyJwt => Some(CredentialKind::PrivateKey),
            Self::ServiceAccount(_) | Self::None => None,
        }
    }
}

/// A ServiceAccount, as its tokens name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Under which name the authorization server knows the issuer of its tokens; empty: it stands for no client.
    pub issuer: String,
    /// What `sub` of its tokens is; empty: it stands for no client.
    pub subject: String,
}

impl ServiceAccount {
    /// One of a cluster whose tokens' issuer the authorization server knows as `issuer`.
    pub fn new(issuer: &str, namespace: &str, name: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            subject: format!("system:serviceaccount:{namespace}:{name}"),
        }
    }
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A secret that both sides know.
    Secret,
    /// A private key, of which the other side knows the public half.
    PrivateKey,
}
