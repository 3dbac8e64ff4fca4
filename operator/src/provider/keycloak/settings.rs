//! What a connection to a realm is made of, and how a realm is spelled.

use std::path::PathBuf;

use mcp_auth_crds::v1alpha1::Endpoints;
use thiserror::Error;
use url::Url;

use crate::{
    clock::SharedClock,
    egress::{Egress, EgressError},
    lease::Leadership,
    metrics::Metrics,
    provider::{RealmRegistry, SignIn, discovery::Discovered, realm::canonical},
};

/// What a connection to a realm is made of.
pub struct Settings<'a> {
    /// Name of the realm.
    pub realm: &'a str,
    /// Where to connect instead of where the metadata says.
    pub endpoints: &'a Endpoints,
    /// What the realm says of itself.
    pub discovered: &'a Discovered,
    /// Client id of the operator's credential.
    pub client_id: String,
    /// How the operator signs in.
    pub sign_in: SignIn,
    /// Where tokens of the operator's ServiceAccount may be.
    pub token_files: &'a [PathBuf],
    /// Tells the time.
    pub clock: SharedClock,
    /// Certificates (PEM) to trust for this server, beside those of the platform.
    pub ca_bundle: Option<&'a [u8]>,
    /// The installation.
    pub installation: &'a str,
    /// Whether the operator is to see to it that tokens of ServiceAccounts count.
    pub manages_trust: bool,
    /// Whether clients may register themselves there, or might have been let.
    pub self_registration: bool,
    /// What the client ids of this installation begin with, up to and with the dot.
    pub client_ids: String,
    /// Limits of all realms.
    pub realms: &'a RealmRegistry,
    /// The way out.
    pub egress: &'a Egress,
    /// Counts the calls.
    pub metrics: Metrics,
    /// Asked before every write.
    pub leadership: Leadership,
}

/// Why there is no connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SetupError {
    /// An address is none.
    #[error("{which} is not a URL")]
    Address {
        /// `issuer`, `endpoints.admin` or `endpoints.token`.
        which: &'static str,
    },
    /// The CA bundle cannot be used.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// The address of the server whose administration API is at `<address>/admin`: as `endpoints` says, else the issuer
/// without its realm.
///
/// # Errors
/// [`SetupError::Address`].
pub fn server_address(issuer: &str, realm: &str, endpoints: &Endpoints) -> Result<Url, SetupError> {
    let (which, text) = match &endpoints.admin {
        Some(admin) => ("endpoints.admin", admin.as_str()),
        None => (
            "issuer",
            issuer.strip_suffix(&format!("/realms/{realm}")).unwrap_or(issuer),
        ),
    };
    Url::parse(text.trim_end_matches('/')).map_err(|_| SetupError::Address { which })
}

/// The one spelling of a realm, by which AuthorizationServers that mean the same one are recognised.
///
/// # Errors
/// [`SetupError::Address`].
pub fn canonical_realm(issuer: &str, realm: &str, endpoints: &Endpoints) -> Result<String, SetupError> {
    Ok(canonical(&server_address(issuer, realm, endpoints)?, realm))
}
