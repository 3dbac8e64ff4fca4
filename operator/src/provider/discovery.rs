//! Finding out what an authorization server says of itself (OpenID Connect Discovery, RFC 8414), and whether that can be
//! believed: the issuer is ours byte for byte, and its endpoints are at the issuer's own place.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use mcp_auth_crds::v1alpha1::{DiscoveredMetadata, Endpoints};
use serde::Deserialize;
use thiserror::Error;
use url::{Origin, Url};

use crate::egress::{EgressClient, EgressError};

/// What a server says of itself, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// What status and workloads show.
    pub metadata: DiscoveredMetadata,
    /// The grant types that the server knows.
    pub grant_types: BTreeSet<String>,
    /// Where clients register (RFC 7591), if they can.
    pub registration_endpoint: Option<String>,
    /// How clients may authenticate at the token endpoint; empty where the server does not say.
    pub authentication_methods: BTreeSet<String>,
    /// The scopes that the server names.
    pub scopes: BTreeSet<String>,
    /// Whether it takes the address of a metadata document for a client id.
    pub documents: bool,
}

/// Why the metadata is not there or cannot be believed. Repeats nothing of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiscoveryError {
    /// An address that the AuthorizationServer names is none.
    #[error("{which} is not a URL")]
    NoAddress {
        /// The field.
        which: &'static str,
    },
    /// There is no answer, or none that may be used.
    #[error(transparent)]
    Egress(EgressError),
    /// There is nothing where the metadata should be.
    #[error("there is no metadata at {address}: check issuer and endpoints.discovery")]
    NotFound {
        /// Where we looked.
        address: String,
    },
    /// The server cannot now.
    #[error("the metadata endpoint answered HTTP {status}")]
    Status {
        /// HTTP status.
        status: u16,
    },
    /// It is not metadata.
    #[error("what the metadata endpoint answers is not authorization server metadata: {why}")]
    NotMetadata {
        /// Our own words.
        why: &'static str,
    },
    /// Another server's metadata.
    #[error("the metadata names another issuer: spec.issuer must be spelled as the server itself spells it")]
    IssuerMismatch,
    /// An endpoint at another place.
    #[error(
        "{which} in the metadata is not at the issuer's scheme, host and port: if it belongs there, say so in endpoints"
    )]
    ForeignEndpoint {
        /// The field of the metadata.
        which: &'static str,
    },
}

impl DiscoveryError {
    /// The class as a condition reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress { .. } => "InvalidAddress",
            Self::Egress(EgressError::Refused(_)) => "AddressRefused",
            Self::Egress(EgressError::Tls(_)) => "CertificateNotTrusted",
            Self::Egress(EgressError::CaBundle) => "InvalidCaBundle",
            Self::Egress(EgressError::TooLarge { .. } | EgressError::Redirect | EgressError::NotJson)
            | Self::NotMetadata { .. } => "MalformedMetadata",
            Self::Egress(_) => "AuthorizationServerUnreachable",
            Self::NotFound { .. } => "MetadataNotFound",
            Self::Status { .. } => "AuthorizationServerUnavailable",
            Self::IssuerMismatch => "IssuerMismatch",
            Self::ForeignEndpoint { .. } => "ForeignEndpoint",
        }
    }

    /// Whether a person must act before it can work; else it may work by itself later.
    pub const fn needs_a_person(&self) -> bool {
        !matches!(
            self,
            Self::Status { .. }
                | Self::Egress(
                    EgressError::Timeout
                        | EgressError::NotConnected
                        | EgressError::Unreachable
                        | EgressError::UnknownHost
                )
        )
    }
}

/// The members that matter. What is missing is named by [`judge`].
#[derive(Debug, Default, Deserialize)]
struct Document {
    issuer: Option<String>,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    jwks_uri: Option<String>,
    registration_endpoint: Option<String>,
    #[serde(default)]
    grant_types_supported: BTreeSet<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: BTreeSet<String>,
    #[serde(default)]
    scopes_supported: BTreeSet<String>,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
}

/// Fetches the metadata and checks it.
///
/// # Errors
/// When there is none, or it cannot be believed.
pub async fn discover(
    client: &EgressClient,
    issuer: &str,
    endpoints: &Endpoints,
) -> Result<Discovered, DiscoveryError> {
    let (which, address) = match &endpoints.discovery {
        Some(discovery) => ("endpoints.discovery", discovery.clone()),
        None => (
            "issuer",
            format!(
                "{}/.well-known/openid-configuration",
                issuer.trim_end_matches('/')
            ),
        ),
    };
    let url = Url::parse(&address).map_err(|_| DiscoveryError::NoAddress { which })?;
    match client.get_json::<Document>(&url).await {
        Ok(document) => judge(issuer, endpoints, document),
        Err(EgressError::Status(404)) => Err(DiscoveryError::NotFound { address }),
        Err(EgressError::Status(status)) => Err(DiscoveryError::Status { status }),
        Err(EgressError::NotJson) => Err(DiscoveryError::NotMetadata {
            why: "it is not JSON of the expected form",
        }),
        Err(error) => Err(DiscoveryError::Egress(error)),
    }
}

fn judge(issuer: &str, endpoints: &Endpoints, document: Document) -> Result<Discovered, DiscoveryError> {
    let Document {
        issuer: named,
        authorization_endpoint,
        token_endpoint,
        jwks_uri,
        registration_endpoint,
        grant_types_supported,
        token_endpoint_auth_methods_supported,
        scopes_supported,
        client_id_metadata_document_supported,
    } = document;
    match named {
        Some(named) if named == issuer => {}
        Some(_) => return Err(DiscoveryError::IssuerMismatch),
        None => {
            return Err(DiscoveryError::NotMetadata {
                why: "it names no issuer",
            });
        }
    }
    let token_endpoint = token_endpoint.ok_or(DiscoveryError::NotMetadata {
        why: "it has no token_endpoint",
    })?;
    let jwks_uri = jwks_uri.ok_or(DiscoveryError::NotMetadata {
        why: "it has no jwks_uri",
    })?;
    let places = places(issuer, endpoints)?;
    let at_a_place = |which, address: &str| {
        let there =
            Url::parse(address).is_ok_and(|url| url.origin().is_tuple() && places.contains(&url.origin()));
        if there {
            Ok(())
        } else {
            Err(DiscoveryError::ForeignEndpoint { which })
        }
    };
    if let Some(authorization) = &authorization_endpoint {
        at_a_place("authorization_endpoint", authorization)?;
    }
    // Where an endpoint is given, the metadata's own is not used.
    if endpoints.token.is_none() {
        at_a_place("token_endpoint", &token_endpoint)?;
    }
    if endpoints.jwks.is_none() {
        at_a_place("jwks_uri", &jwks_uri)?;
    }
    if let Some(registration) = registration_endpoint
        .as_deref()
        .filter(|_| endpoints.registration.is_none())
    {
        at_a_place("registration_endpoint", registration)?;
    }
    Ok(Discovered {
        metadata: DiscoveredMetadata {
            issuer: issuer.to_owned(),
            authorization_endpoint,
            token_endpoint,
            jwks_uri,
        },
        grant_types: grant_types_supported,
        registration_endpoint,
        authentication_methods: token_endpoint_auth_methods_supported,
        scopes: scopes_supported,
        documents: client_id_metadata_document_supported,
    })
}

/// Where endpoints may be: at the issuer's origin, and at those that the platform admin has named. A Keycloak that is
/// asked under an inner address names its back-channel endpoints under that address too.
fn places(issuer: &str, endpoints: &Endpoints) -> Result<Vec<Origin>, DiscoveryError> {
    let Endpoints {
        discovery,
        admin,
        jwks,
        token,
        registration,
    } = endpoints;
    let named = [
        ("issuer", Some(issuer)),
        ("endpoints.discovery", discovery.as_deref()),
        ("endpoints.admin", admin.as_deref()),
        ("endpoints.jwks", jwks.as_deref()),
        ("endpoints.token", token.as_deref()),
        ("endpoints.registration", registration.as_deref()),
    ];
    named
        .into_iter()
        .filter_map(|(which, address)| Some((which, address?)))
        .map(|(which, address)| {
            Url::parse(address)
                .map(|url| url.origin())
                .map_err(|_| DiscoveryError::NoAddress { which })
        })
        .collect()
}
