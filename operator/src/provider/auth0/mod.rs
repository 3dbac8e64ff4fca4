//! Auth0, by its Management API (v2) of the tenant that it administers.
//!
//! ```text
//!  observe ─▶ memory ─▶ admin ─▶ operator_token        render ─▶ diff ─▶ plan, grants, resources   prove
//!  apis, keys (pure)      │             │                     profiles (pure)                        │
//!                         └─────────────┴────────────▶ http, realm ◀────────────────────────────────┘
//! ```
//!
//! An McpServer is an API (a resource server) whose identifier is the resource, with a client that is linked to it. An
//! McpClient is a client with a client grant for each API that it may call. Three things shape this provider:
//!
//! - Auth0 chooses client ids. A client is found by its mark, which is in its metadata, and tells its id.
//! - APIs have no place for a mark. The client that is linked to one carries it; until that is there, the API's name does.
//! - The scopes of an API are one list, in which others may have entries. The linked client remembers which ones are ours.

mod access;
mod admin;
mod apis;
mod diff;
mod documents;
mod grants;
mod keys;
mod mark;
mod memory;
mod note;
mod observe;
mod plan;
mod probe;
mod profiles;
mod prove;
mod registration;
mod render;
mod resources;
pub mod settings;
mod setup;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use mcp_auth_gate_core::document::{ExchangeBy, TokenType};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

pub use self::setup::Settings;
pub use super::keycloak::SetupError;
use super::{
    Access, ClientSpec, Credential, Credentials, DocumentSpec, Doors, Mark, ObservedClient, ObservedDocument,
    ObservedOverlap, ObservedRegistration, ObservedResource, ObservedScopes, ObservedSettings, ObservedTrust,
    Plan, Proof, Provider, ProviderError, Read, RegistrationSpec, ResourceSpec, ScopeSpec, SettingsSpec,
    Verb, http::HttpClient, identity::Identity, operator_token::Tokens,
};
use crate::egress::Audience;
use admin::Admin;
use mark::Ours;

/// Scopes as they were made from what was known of APIs and their clients.
type Made = Option<((u64, u64), ObservedScopes)>;

/// A tenant of Auth0. Remembers what it read, secrets of clients among it: never printed.
pub struct Auth0 {
    admin: Admin,
    realm: String,
    token_endpoint: Url,
    /// Where clients register themselves.
    registration_endpoint: Url,
    issuer: String,
    ours: Ours,
    manages_settings: bool,
    exchanges_by_action: bool,
    memory: Mutex<memory::Memory>,
    /// What was read of the tenant's settings, and when it was asked for.
    settings: Mutex<Option<(Instant, Value)>>,
    /// What was shown of clients that register themselves while the settings are what they are, and when it was asked for.
    shown: Mutex<Option<probe::Outcome>>,
    /// Token exchange profiles and actions, and when they were asked for.
    profiles: Mutex<Option<(Instant, Value)>>,
    documents: Mutex<documents::Documents>,
    scopes: tokio::sync::Mutex<Made>,
    listing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Auth0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth0")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// The one spelling of a tenant, by which AuthorizationServers that mean the same one are recognised.
pub fn canonical_tenant(domain: &str) -> String {
    format!("https://{}/", domain.to_ascii_lowercase())
}

impl Auth0 {
    /// A connection to a tenant. Nothing is asked yet.
    ///
    /// # Errors
    /// When an address or the CA bundle cannot be used.
    pub fn new(settings: Settings<'_>) -> Result<Self, SetupError> {
        let Settings {
            endpoints,
            discovered,
            ..
        } = settings;
        let realm = canonical_tenant(settings.domain);
        let parse = |which, text: &str| Url::parse(text).map_err(|_| SetupError::Address { which });
        let tenant = realm.trim_end_matches('/');
        let admin = endpoints.admin.as_deref().unwrap_or(tenant).trim_end_matches('/');
        let base = parse("endpoints.admin", &format!("{admin}/api/v2"))?;
        let (which, token) = match &endpoints.token {
            Some(token) => ("endpoints.token", token),
            None => ("token_endpoint", &discovered.metadata.token_endpoint),
        };
        let token_endpoint = parse(which, token)?;
        let named = discovered.registration_endpoint.as_deref();
        let registration = match endpoints.registration.as_deref().or(named) {
            Some(named) => parse("endpoints.registration", named)?,
            None => parse("issuer", &format!("{}oidc/register", discovered.metadata.issuer))?,
        };
        // A token that was got at a custom domain is good there only: the operator signs in where it administers.
        let sign_in_at = match &endpoints.token {
            Some(_) => token_endpoint.clone(),
            None => parse("auth0.domain", &format!("{admin}/oauth/token"))?,
        };
        let http = HttpClient {
            egress: settings
                .egress
                .client(Audience::AuthorizationServer, settings.ca_bundle)?,
            limits: settings.realms.limits(&realm),
            metrics: settings.metrics,
            leadership: settings.leadership,
        };
        http.limits.note_operator(&settings.client_id);
        // Whoever publishes a document can let Auth0 wait for it, and so whoever asks about it: only they are to.
        let of_documents = HttpClient {
            egress: settings
                .egress
                .client(Audience::AuthorizationServer, settings.ca_bundle)?,
            limits: settings.realms.limits(&format!("{realm} documents")),
            metrics: http.metrics.clone(),
            leadership: http.leadership.clone(),
        };
        let identity = Identity {
            client_id: settings.client_id,
            sign_in: settings.sign_in,
            issuer: realm.clone(),
            token_files: Vec::new(),
            clock: settings.clock,
        };
        let tokens = Tokens::new(sign_in_at, identity, Some(format!("{tenant}/api/v2/")));
        Ok(Self {
            admin: Admin::new(http, of_documents, tokens, base),
            token_endpoint,
            registration_endpoint: registration,
            issuer: discovered.metadata.issuer.clone(),
            ours: Ours {
                installation: settings.installation.to_owned(),
                adoption: settings.adoption,
            },
            manages_settings: settings.manages_settings,
            exchanges_by_action: settings.exchanges_by_action,
            memory: Mutex::default(),
            settings: Mutex::default(),
            shown: Mutex::default(),
            profiles: Mutex::default(),
            documents: Mutex::default(),
            scopes: tokio::sync::Mutex::default(),
            listing: tokio::sync::Mutex::default(),
            realm,
        })
    }

    fn memory(&self) -> MutexGuard<'_, memory::Memory> {
        // Nothing in the critical sections can leave the memory half-changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for Auth0 {
    async fn check_access(&self) -> Result<Access, ProviderError> {
        self.access().await
    }

    /// A token of the Management API cannot be ended before its time.
    async fn take_over(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    fn token_types(&self) -> Vec<TokenType> {
        // RFC 9068 section 2.1, which the dialect of our APIs follows.
        vec![TokenType {
            header: "at+jwt".to_owned(),
            payload: None,
        }]
    }

    /// A token for which `openid` was asked for is good there too.
    fn other_audiences(&self) -> BTreeSet<String> {
        [format!("{}userinfo", self.issuer)].into()
    }

    fn exchange_by(&self) -> ExchangeBy {
        ExchangeBy::Audience
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
        _: Timestamp,
    ) -> Plan {
        plan::client(want, observed, scopes, credentials)
    }

    fn plan_credentials(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        credentials: &Credentials,
    ) -> Plan {
        plan::credentials(want, observed, credentials)
    }

    /// Auth0 knows no two valid secrets.
    async fn observe_overlap(&self, _: Read) -> Result<ObservedOverlap, ProviderError> {
        Ok(ObservedOverlap::Unsupported)
    }

    fn plan_overlap(&self, _: bool, _: &ObservedOverlap) -> Plan {
        Plan::default()
    }

    async fn observe_settings(
        &self,
        want: SettingsSpec,
        read: Read,
    ) -> Result<ObservedSettings, ProviderError> {
        self.settings(want, read).await
    }

    fn plan_settings(&self, want: SettingsSpec, observed: &ObservedSettings) -> Plan {
        settings::plan(want, observed)
    }

    /// Auth0 takes no tokens of ServiceAccounts.
    fn trust_name(&self) -> String {
        String::new()
    }

    async fn observe_trust(&self, _: Read) -> Result<ObservedTrust, ProviderError> {
        Ok(Arc::new(Value::Null))
    }

    fn plan_trust(&self, _: Option<&str>, _: &ObservedTrust) -> Plan {
        Plan::default()
    }

    async fn observe_registration(
        &self,
        _: Option<&RegistrationSpec>,
        read: Read,
    ) -> Result<ObservedRegistration, ProviderError> {
        self.registration(read).await
    }

    fn plan_registration(
        &self,
        want: Option<&RegistrationSpec>,
        doors: Doors,
        observed: &ObservedRegistration,
        scopes: &ObservedScopes,
    ) -> Plan {
        registration::plan(&self.ours.installation, want, doors, observed, scopes)
    }

    async fn prove_closed(
        &self,
        _: &ObservedRegistration,
        read: Read,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        self.closed_is_refused(read, now).await
    }

    fn plan_client_removal(&self, mark: &Mark, observed: &ObservedClient) -> Plan {
        plan::client_removal(mark, observed)
    }

    async fn observe_document(&self, url: &str, read: Read) -> Result<ObservedDocument, ProviderError> {
        self.client_by_document(url, read).await
    }

    fn plan_document(
        &self,
        want: &DocumentSpec,
        observed: &ObservedDocument,
        scopes: &ObservedScopes,
    ) -> Plan {
        documents::plan(want, observed, scopes)
    }

    fn plan_document_removal(&self, mark: &Mark, observed: &ObservedDocument, begun: bool) -> Plan {
        documents::removal(mark, observed, begun)
    }

    async fn observe_scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError> {
        self.scopes(read).await
    }

    async fn observe_resource(&self, resource: &str, read: Read) -> Result<ObservedResource, ProviderError> {
        self.resource(resource, read).await
    }

    fn exchange_actions(&self, mark: &Mark, observed: &ObservedResource) -> BTreeMap<String, String> {
        let raw = observed.raw.as_ref();
        raw.map(|raw| profiles::in_force(mark, raw)).unwrap_or_default()
    }

    fn plan_resource(
        &self,
        want: &ResourceSpec,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
        secret: Option<&Credential>,
    ) -> Plan {
        resources::resource(want, observed, scopes, secret)
    }

    fn plan_resource_removal(&self, mark: &Mark, observed: &ObservedResource, _: &ObservedScopes) -> Plan {
        resources::removal(mark, observed)
    }

    fn plan_scopes(
        &self,
        mark: &Mark,
        want: &[ScopeSpec],
        scopes: &ObservedScopes,
        consent: &dyn Fn(&str) -> bool,
    ) -> Plan {
        resources::apis(mark, want, scopes, consent)
    }

    async fn execute(&self, plan: &Plan) -> Result<(), ProviderError> {
        for call in &plan.calls {
            let result = match call.verb {
                Verb::Merge => self.put_keys(call).await.map(|()| Value::Null),
                Verb::Delete if call.body.is_some() => self.remove_api(call).await.map(|()| Value::Null),
                Verb::Post | Verb::Put | Verb::Patch | Verb::Delete => self.admin.write(call).await,
            };
            self.note(call, &result);
            result?;
        }
        Ok(())
    }

    async fn prove(&self, proof: &Proof, now: Timestamp) -> Result<(), ProviderError> {
        self.prover(now).prove(proof).await
    }
}
