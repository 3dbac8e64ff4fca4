//! An authorization server at which one can only register (RFC 7591), and perhaps manage what one has registered
//! (RFC 7592): the other kind of connection, beside [`Provider`](super::Provider).
//!
//! Nothing is like at a server that can be administered: the server chooses client id and secret and says them once,
//! there is no list in which a client could be found again, and each registration has a token of its own, which the server
//! may replace with every answer. So there is no plan from observed to wanted state here: calls are made one by one, what
//! they answered is journaled, and what comes next is decided by whoever keeps that journal.
//!
//! Whatever such a server answers is judged before it is used: it may be somebody else's.
//!
//! ```text
//!  metadata ─▶ client ─▶ http, realm        answer          prove
//!   (pure)        └──────────────────────▶ (pure)             └──▶ http, realm
//! ```

mod answer;
mod client;
mod metadata;
mod prove;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;

use super::{Credential, ProviderError};
pub use answer::{Information, Managed};
pub use client::{Registration, Settings};
pub use metadata::{Application, Asked, Told, method};
pub use prove::Demand;

/// How a client with a secret, or without one, authenticates at the token endpoint (RFC 7591 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `none`: a public client.
    None,
}

impl Method {
    /// The name that the protocol has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::None => "none",
        }
    }

    /// The method of this name, if it is one that we know.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Basic, Self::Post, Self::None]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// A registration that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unregistered {
    /// How.
    pub error: ProviderError,
    /// There may be a client all the same, which nobody can reach: the answer was lost, or cannot be used.
    pub may_exist: bool,
}

/// What the server says that it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// How clients may authenticate; empty where it does not say.
    pub methods: BTreeSet<String>,
    /// The scopes that it names.
    pub scopes: BTreeSet<String>,
}

/// An authorization server at which one can register.
#[async_trait]
pub trait Registrar: Send + Sync {
    /// The registration endpoint, by the one spelling that all who mean it share.
    fn realm(&self) -> &str;

    /// What the server says that it knows.
    fn offered(&self) -> &Offered;

    /// Registers a client. Never repeated by itself.
    async fn register(&self, asked: &Asked) -> Result<Information, Unregistered>;

    /// What the server says of a registration now. [`ProviderError::Gone`]: it does not know it, or not its token.
    async fn read(&self, managed: &Managed) -> Result<Information, ProviderError>;

    /// Changes a registration. What was registered and is not in `asked` is taken away (RFC 7592 section 2.2).
    async fn update(
        &self,
        managed: &Managed,
        secret: Option<&Credential>,
        asked: &Asked,
    ) -> Result<Information, ProviderError>;

    /// Removes a registration. [`ProviderError::Gone`] as with [`Registrar::read`].
    async fn remove(&self, managed: &Managed) -> Result<(), ProviderError>;

    /// Whether anything was learnt of the client within this time, by whichever call.
    fn knows(&self, client_id: &str, within: Duration) -> bool;

    /// Whether the token endpoint takes the client for who it says it is.
    async fn accepts(
        &self,
        client_id: &str,
        secret: &Credential,
        method: Method,
    ) -> Result<bool, ProviderError>;

    /// Shows at the token endpoint, as the workload would, that a client gets what it is to get.
    async fn prove(
        &self,
        client_id: &str,
        secret: &Credential,
        method: Method,
        demand: &Demand,
    ) -> Result<(), ProviderError>;
}
