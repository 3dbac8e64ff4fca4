//! Keycloak, by its Admin REST API of the realm that it administers.
//!
//! ```text
//!  observe ─▶ memory ─▶ admin ─▶ operator_token  render ─▶ diff ─▶ plan, scopes, limits   prove
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
mod registration;
mod render;
mod scopes;
mod settings;
mod takeover;
#[cfg(test)]
mod tests;
mod trust;

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use mcp_auth_gate_core::document::TokenType;
use tokio::time::Instant;
use url::Url;

use super::{
    Access, ClientSpec, Credential, Credentials, Doors, Mark, ObservedClient, ObservedOverlap,
    ObservedRegistration, ObservedResource, ObservedScopes, ObservedTrust, Plan, Proof, Provider,
    ProviderError, Read, RegistrationSpec, ResourceSpec, ScopeSpec, Verb, http::HttpClient,
    identity::Identity, operator_token::Tokens, realm::canonical,
};
use crate::egress::Audience;
pub use settings::{Settings, SetupError, canonical_realm, server_address};

use admin::Admin;
use ids::Ids;
use observe::seen;
use prove::Prover;

/// The grant type of RFC 8693, which Keycloak names in its metadata when its feature is on.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

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
    /// The same for clients that register themselves.
    may_register: AtomicBool,
    /// What decides which clients can register themselves, and when it was asked for.
    registration: Mutex<Option<registration::Known>>,
    /// What refused closed scopes when that was shown last, and when.
    refused: Mutex<Option<registration::Refused>>,
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
        if settings.self_registration {
            http.limits.note_self_registration();
        }
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
            may_register: AtomicBool::new(false),
            registration: Mutex::default(),
            refused: Mutex::default(),
            manages_trust: settings.manages_trust,
            trust: Mutex::default(),
            saw_clients: Mutex::default(),
        })
    }

    fn clients(&self) -> MutexGuard<'_, memory::Clients> {
        // Nothing in the critical sections can leave the memory half-changed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prover(&self, now: Timestamp) -> Prover<'_> {
        Prover {
            http: &self.admin.http,
            endpoint: &self.token_endpoint,
            issuer: &self.issuer,
            now,
        }
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

    async fn observe_registration(
        &self,
        want: Option<&RegistrationSpec>,
        read: Read,
    ) -> Result<ObservedRegistration, ProviderError> {
        if self.may_register.load(Ordering::Relaxed) {
            self.registration(want, read).await
        } else {
            Ok(ObservedRegistration::Unsupported)
        }
    }

    fn plan_registration(
        &self,
        want: Option<&RegistrationSpec>,
        doors: Doors,
        observed: &ObservedRegistration,
        scopes: &ObservedScopes,
    ) -> Plan {
        registration::plan(&self.ids, &self.installation, want, doors, observed, scopes)
    }

    async fn prove_closed(
        &self,
        observed: &ObservedRegistration,
        read: Read,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        self.closed_is_refused(observed, read, now).await
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
            let result = match (self.make_closed(call).await, call.verb) {
                (Some(result), _) => result,
                (None, Verb::Merge) => self.merge(call).await,
                (None, Verb::Post | Verb::Put | Verb::Patch | Verb::Delete) => self.admin.write(call).await,
            };
            self.forget(call, &result);
            result?;
        }
        Ok(())
    }

    async fn prove(&self, proof: &Proof, now: Timestamp) -> Result<(), ProviderError> {
        self.prover(now).prove(proof).await
    }
}
