//! Keycloak, by its Admin REST API of the realm that it administers.
//!
//! ```text
//!  observe ─▶ memory ─▶ admin ─▶ token        render ─▶ diff ─▶ plan, scopes, limits   prove
//!  documents  (pure)      │        │                       (pure)                        │
//!                         └────────┴──────────────▶ http, realm ◀───────────────────────┘
//! ```
//!
//! An McpServer is a confidential client whose client id is the resource, and one client scope per scope with a mapper
//! that adds the resource to the audience. A client has access to a server when that server's scopes are among its
//! optional client scopes. So a token gets an audience only by a scope that was asked for and granted. Whose tokens an
//! McpServer may exchange is limited by client policies, which are documents of the realm that others write to as well.

mod access;
mod admin;
mod diff;
mod documents;
mod forget;
mod ids;
mod limits;
mod mark;
mod memory;
mod observe;
mod overlap;
mod plan;
mod prove;
mod render;
mod scopes;
mod takeover;
#[cfg(test)]
mod tests;
mod trust;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::v1alpha1::Endpoints;
use mcp_auth_gate_core::document::TokenType;
use thiserror::Error;
use tokio::time::Instant;
use url::Url;

use super::{
    Access, ClientSpec, Credential, Credentials, Mark, ObservedClient, ObservedOverlap, ObservedResource,
    ObservedScopes, ObservedTrust, Plan, Proof, Provider, ProviderError, Read, RealmRegistry, ResourceSpec,
    ScopeSpec, SignIn, Verb, discovery::Discovered, http::HttpClient, identity::Identity,
    operator_token::Tokens, realm::canonical,
};
use crate::{
    clock::SharedClock,
    egress::{Audience, Egress, EgressError},
    lease::Leadership,
    metrics::Metrics,
};
use admin::Admin;
use ids::Ids;
use prove::Prover;

/// The grant type of RFC 8693, which Keycloak names in its metadata when its feature is on.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

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

/// A realm of Keycloak. Remembers what it read, secrets of clients among it: never printed.
pub struct Keycloak {
    admin: Admin,
    realm: String,
    token_endpoint: Url,
    issuer: String,
    exchanges_tokens: bool,
    ids: Ids,
    installation: String,
    client_ids: String,
    clients: Mutex<memory::Clients>,
    scopes: Mutex<memory::Scopes>,
    listing_clients: tokio::sync::Mutex<()>,
    listing_scopes: tokio::sync::Mutex<()>,
    /// Client profiles and client policies of the realm, and when they were asked for.
    documents: Mutex<Option<documents::Known>>,
    /// Whether the credential may change them so that exchange is limited, as was found out last.
    may_limit: AtomicBool,
    /// The same for two secrets of one client.
    may_overlap: AtomicBool,
    /// Whether it is to be found out what the credential may do with identity providers.
    manages_trust: bool,
    /// The identity providers of the realm.
    trust: Mutex<Option<trust::Known>>,
    /// When the server last showed us any client.
    saw_clients: Mutex<Option<Instant>>,
}

impl fmt::Debug for Keycloak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keycloak")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Keycloak {
    /// A connection to a realm. Nothing is asked yet.
    ///
    /// # Errors
    /// When an address or the CA bundle cannot be used.
    pub fn new(settings: Settings<'_>) -> Result<Self, SetupError> {
        let Settings {
            realm,
            endpoints,
            discovered,
            ..
        } = settings;
        let issuer = discovered.metadata.issuer.clone();
        let server = server_address(&issuer, realm, endpoints)?;
        let (which, token) = match &endpoints.token {
            Some(token) => ("endpoints.token", token),
            None => ("token_endpoint", &discovered.metadata.token_endpoint),
        };
        let token_endpoint = Url::parse(token).map_err(|_| SetupError::Address { which })?;
        let base = format!("{}/admin/realms/{realm}", server.as_str().trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|_| SetupError::Address { which: "issuer" })?;
        let canonical = canonical(&server, realm);
        let http = HttpClient {
            egress: settings
                .egress
                .client(Audience::AuthorizationServer, settings.ca_bundle)?,
            limits: settings.realms.limits(&canonical),
            metrics: settings.metrics,
            leadership: settings.leadership,
        };
        http.limits.note_operator(&settings.client_id);
        let identity = Identity {
            client_id: settings.client_id,
            sign_in: settings.sign_in,
            issuer: issuer.clone(),
            token_files: settings.token_files.to_vec(),
            clock: settings.clock,
        };
        let tokens = Tokens::new(token_endpoint.clone(), identity, None);
        Ok(Self {
            admin: Admin::new(http, tokens, base),
            realm: canonical,
            token_endpoint,
            issuer,
            exchanges_tokens: discovered.grant_types.contains(TOKEN_EXCHANGE),
            ids: Ids::of(realm),
            installation: settings.installation.to_owned(),
            client_ids: settings.client_ids,
            clients: Mutex::default(),
            scopes: Mutex::default(),
            listing_clients: tokio::sync::Mutex::default(),
            listing_scopes: tokio::sync::Mutex::default(),
            documents: Mutex::default(),
            may_limit: AtomicBool::new(false),
            may_overlap: AtomicBool::new(false),
            manages_trust: settings.manages_trust,
            trust: Mutex::default(),
            saw_clients: Mutex::default(),
        })
    }

    fn clients(&self) -> MutexGuard<'_, memory::Clients> {
        // Nothing in the critical sections can leave the memory half-changed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_scopes(&self) -> MutexGuard<'_, memory::Scopes> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for Keycloak {
    async fn check_access(&self) -> Result<Access, ProviderError> {
        self.access().await
    }

    async fn take_over(&self) -> Result<(), ProviderError> {
        self.end_older_tokens().await
    }

    fn token_types(&self) -> Vec<TokenType> {
        // ID and refresh tokens carry JWT in their header as well, and another type in the payload.
        [("at+jwt", None), ("JWT", Some("Bearer"))]
            .map(|(header, payload)| TokenType {
                header: header.to_owned(),
                payload: payload.map(str::to_owned),
            })
            .into()
    }

    fn realm(&self) -> &str {
        &self.realm
    }

    fn own_client_id(&self) -> &str {
        &self.admin.tokens.identity.client_id
    }

    async fn observe_client(&self, client_id: &str, read: Read) -> Result<ObservedClient, ProviderError> {
        self.client(client_id, read).await
    }

    fn plan_client(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        scopes: &ObservedScopes,
        credentials: Option<&Credentials>,
        now: Timestamp,
    ) -> Plan {
        plan::client(&self.ids, want, observed, scopes, credentials, now)
    }

    fn plan_credentials(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        credentials: &Credentials,
    ) -> Plan {
        plan::credentials(&self.ids, want, observed, credentials)
    }

    async fn observe_overlap(&self, read: Read) -> Result<ObservedOverlap, ProviderError> {
        if self.may_overlap.load(Ordering::Relaxed) {
            Ok(ObservedOverlap::Seen(self.both_documents(read).await?))
        } else {
            Ok(ObservedOverlap::Unsupported)
        }
    }

    fn plan_overlap(&self, wanted: bool, observed: &ObservedOverlap) -> Plan {
        Plan {
            calls: overlap::plan(&self.installation, wanted, observed),
            conflicts: Vec::new(),
        }
    }

    fn trust_name(&self) -> String {
        trust::alias(&self.installation)
    }

    async fn observe_trust(&self, read: Read) -> Result<ObservedTrust, ProviderError> {
        self.trust(read).await
    }

    fn plan_trust(&self, issuer: Option<&str>, observed: &ObservedTrust) -> Plan {
        trust::plan(&self.installation, issuer, observed)
    }

    fn plan_client_removal(&self, mark: &Mark, observed: &ObservedClient) -> Plan {
        plan::client_removal(&self.ids, mark, observed)
    }

    async fn observe_scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError> {
        self.scopes(read).await
    }

    async fn observe_resource(&self, resource: &str, read: Read) -> Result<ObservedResource, ProviderError> {
        let mut resource = self.client(resource, read).await?;
        resource.limits = self.limits_of(resource.raw.as_ref(), read).await?;
        Ok(resource)
    }

    fn plan_resource(
        &self,
        want: &ResourceSpec,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
        secret: Option<&Credential>,
    ) -> Plan {
        plan::resource(&self.ids, want, observed, scopes, secret)
    }

    fn plan_resource_removal(
        &self,
        mark: &Mark,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
    ) -> Plan {
        plan::resource_removal(&self.ids, mark, observed, scopes)
    }

    fn plan_scopes(
        &self,
        mark: &Mark,
        want: &[ScopeSpec],
        scopes: &ObservedScopes,
        consent: &dyn Fn(&str) -> bool,
    ) -> Plan {
        plan::api_scopes(&self.ids, mark, want, scopes, consent)
    }

    async fn execute(&self, plan: &Plan) -> Result<(), ProviderError> {
        for call in &plan.calls {
            let result = match call.verb {
                Verb::Merge => self.merge(call).await,
                Verb::Post | Verb::Put | Verb::Patch | Verb::Delete => self.admin.write(call).await,
            };
            self.forget(call, &result);
            result?;
        }
        Ok(())
    }

    async fn prove(&self, proof: &Proof, now: Timestamp) -> Result<(), ProviderError> {
        let prover = Prover {
            http: &self.admin.http,
            endpoint: &self.token_endpoint,
            issuer: &self.issuer,
            now,
        };
        prover.prove(proof).await
    }
}
