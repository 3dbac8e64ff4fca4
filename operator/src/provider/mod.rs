//! What an authorization server can hold for us, whichever product it is.
//!
//! A provider is asked in three steps, which are the steps of every reconciler: `observe_*` reads, `plan_*`
//! decides (pure: it compares what is wanted with what was observed and answers with calls as data), `execute`
//! writes. What a server cannot do is a missing [`Capability`], never a method that fails.

pub mod auth0;
pub mod discovery;
pub mod error;
mod http;
mod identity;
pub mod key;
pub mod keycloak;
pub mod model;
mod operator_token;
pub mod plan;
pub mod realm;
pub mod registration;
mod token_endpoint;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use mcp_auth_gate_core::document::{ExchangeBy, TokenType};

pub use error::ProviderError;
pub use model::{
    Authentication, ClientSpec, Credential, CredentialKind, Credentials, DocumentSpec, DocumentsSpec, Doors,
    DynamicSpec, ExchangeActions, Grant, Holder, Mark, ObservedClient, ObservedDocument, ObservedLimits,
    ObservedOverlap, ObservedRegistration, ObservedResource, ObservedScopes, ObservedSettings, ObservedTrust,
    Presence, Previous, Proof, Reading, Registering, RegistrationSpec, ResourceSpec, ScopeOwner, ScopeSpec,
    Scopes, ServiceAccount, SettingsSpec, SignIn, Subjects, scope_key,
};
pub use plan::{Call, Change, Conflict, Plan, Verb};
pub use realm::{LimitSettings, RealmRegistry};

/// How old an answer from memory may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Ask the server now.
    Fresh,
    /// An answer of at most this age will do. Realm-wide lists are read once for all who ask.
    Within(Duration),
    /// The same for something new, which no list is likely to have: without an answer from memory, it alone is asked for.
    Alone(Duration),
}

/// Something that not every authorization server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Resources with scopes and an audience can be created.
    Resources,
    /// Clients can be created, read back, changed and deleted.
    ManagedClients,
    /// RFC 8693 for registered resources.
    TokenExchange,
    /// Token exchange can be limited to the tokens of some clients.
    SubjectClients,
    /// The secret of a client can be read back.
    ReadableSecrets,
    /// When the secret of a client is replaced, the old one can stay valid for a while.
    SecretOverlap,
    /// The operator can see to it that clients may authenticate with tokens of their ServiceAccounts.
    ServiceAccountTokens,
    /// Clients can register themselves, and be refused every scope but some.
    SelfRegistration,
    /// Clients can be known by the address of a metadata document.
    MetadataDocuments,
    /// The operator can register a client by the address of its metadata document.
    DocumentClients,
}

impl Capability {
    /// The name that status shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "Resources",
            Self::ManagedClients => "ManagedClients",
            Self::TokenExchange => "TokenExchange",
            Self::SubjectClients => "SubjectClients",
            Self::ReadableSecrets => "ReadableSecrets",
            Self::SecretOverlap => "SecretOverlap",
            Self::ServiceAccountTokens => "ServiceAccountTokens",
            Self::SelfRegistration => "SelfRegistration",
            Self::MetadataDocuments => "MetadataDocuments",
            Self::DocumentClients => "DocumentClients",
        }
    }
}

/// What signing in to the administration API showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What this server can do.
    pub capabilities: BTreeSet<Capability>,
    /// Permissions that the operator's credential lacks, by the name that the server's administrator knows.
    pub missing: Vec<String>,
    /// What the server could do besides, and the permission that the credential lacks for it. Only who wants it has to
    /// do without.
    pub withheld: BTreeMap<Capability, &'static str>,
}

/// An authorization server of one realm or tenant, with the operator's credential for it.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Signs in and finds out what the credential may do. Always asks the server.
    async fn check_access(&self) -> Result<Access, ProviderError>;

    /// Makes sure that no call is carried out any more that another replica sent before this one led. Once in the life of
    /// the process, before anything else is written there; a server that does not allow it is no failure.
    async fn take_over(&self) -> Result<(), ProviderError>;

    /// What access tokens of this server call themselves, and nothing else that it issues does.
    fn token_types(&self) -> Vec<TokenType>;

    /// What `aud` of such a token may name besides the resource: the issuer's userinfo endpoint.
    fn other_audiences(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// How the token endpoint is asked for exchanged tokens.
    fn exchange_by(&self) -> ExchangeBy {
        ExchangeBy::Scope
    }

    /// The realm or tenant, by the one spelling that all who mean it share.
    fn realm(&self) -> &str;

    /// The client id of the operator's own credential: never adopted or deleted, and changed by
    /// [`Provider::take_over`] only.
    fn own_client_id(&self) -> &str;

    /// A client by its client id.
    async fn observe_client(&self, client_id: &str, read: Read) -> Result<ObservedClient, ProviderError>;

    /// The calls that turn `observed` into `want`; `credentials` are those to have, `None` leaves them alone. They come into
    /// force in one call: at no time is none of them valid that was to be.
    fn plan_client(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        scopes: &ObservedScopes,
        credentials: Option<&Credentials>,
        now: Timestamp,
    ) -> Plan;

    /// The calls that put `credentials` in force and change nothing else, for a client that exists.
    fn plan_credentials(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        credentials: &Credentials,
    ) -> Plan;

    /// What of the realm as a whole has to be so that two secrets of one client can be valid
    /// ([`Capability::SecretOverlap`]).
    async fn observe_overlap(&self, read: Read) -> Result<ObservedOverlap, ProviderError>;

    /// The calls that make it so, or with `wanted: false` undo what was made for it.
    fn plan_overlap(&self, wanted: bool, observed: &ObservedOverlap) -> Plan;

    /// Which of the wanted settings of the realm or tenant are other than they are to be, where the operator knows some.
    async fn observe_settings(&self, _: SettingsSpec, _: Read) -> Result<ObservedSettings, ProviderError> {
        Ok(ObservedSettings::default())
    }

    /// The calls that set them, and none other. What keeps clients in check comes before what lets them register, and can
    /// take a second plan from what was read back.
    fn plan_settings(&self, _: SettingsSpec, _: &ObservedSettings) -> Plan {
        Plan::default()
    }

    /// Under which name the server knows the issuer of our cluster's ServiceAccount tokens, if we tell it.
    fn trust_name(&self) -> String;

    /// What of the realm as a whole has to be so that those tokens count ([`Capability::ServiceAccountTokens`]).
    async fn observe_trust(&self, read: Read) -> Result<ObservedTrust, ProviderError>;

    /// The calls that make tokens of this issuer count, or with `None` undo what was made for it.
    fn plan_trust(&self, issuer: Option<&str>, observed: &ObservedTrust) -> Plan;

    /// What of the realm as a whole decides which clients can register themselves, and for which scopes
    /// ([`Capability::SelfRegistration`]). `want` as in [`Provider::plan_registration`].
    async fn observe_registration(
        &self,
        want: Option<&RegistrationSpec>,
        read: Read,
    ) -> Result<ObservedRegistration, ProviderError>;

    /// The calls that make it so, or with `None` undo what was made for it: first what is in nobody's way any more is
    /// shut, then what refuses closed scopes is put in force, and only then, if `doors` says so, anything is opened. It can
    /// take more plans, each from what was read back. What are settings here is none of it.
    fn plan_registration(
        &self,
        want: Option<&RegistrationSpec>,
        doors: Doors,
        observed: &ObservedRegistration,
        scopes: &ObservedScopes,
    ) -> Plan;

    /// Shows at the token endpoint that a client like those that register themselves is refused what is closed. What it
    /// needs for that comes with the settings and the first plan of [`Provider::plan_registration`]. While nothing that refuses has changed, a
    /// proof from before will do as `read` says.
    async fn prove_closed(
        &self,
        observed: &ObservedRegistration,
        read: Read,
        now: Timestamp,
    ) -> Result<(), ProviderError>;

    /// The calls that delete the client if it is ours.
    fn plan_client_removal(&self, mark: &Mark, observed: &ObservedClient) -> Plan;

    /// A client by the address of its metadata document ([`Capability::DocumentClients`]), and what that says now.
    async fn observe_document(&self, _url: &str, _: Read) -> Result<ObservedDocument, ProviderError> {
        Ok(ObservedDocument::unknown())
    }

    /// The calls that turn what was observed into `want`. It can take more plans, each from what was read back: what a
    /// registration brought about has to be looked at before anything is given.
    fn plan_document(&self, _: &DocumentSpec, _: &ObservedDocument, _: &ObservedScopes) -> Plan {
        Plan::default()
    }

    /// The calls that delete it if it is ours; `begun`: also without a mark, because we began to register it.
    fn plan_document_removal(&self, _: &Mark, _: &ObservedDocument, _begun: bool) -> Plan {
        Plan::default()
    }

    /// All scopes of the realm, by name, with their owners.
    async fn observe_scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError>;

    /// An MCP server's audience; its scopes come from [`Provider::observe_scopes`]. Its limits of exchange are read along
    /// if it may have some.
    async fn observe_resource(&self, resource: &str, read: Read) -> Result<ObservedResource, ProviderError>;

    /// By which actions a resource can exchange tokens, with the id of what makes it so.
    fn exchange_actions(&self, _: &Mark, _: &ObservedResource) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The calls that turn what was observed into `want`; `secret` as in [`Provider::plan_client`]. A scope whose exchange
    /// is limited is given only once its limit is in force, which can take a second plan from what was read back.
    fn plan_resource(
        &self,
        want: &ResourceSpec,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
        secret: Option<&Credential>,
    ) -> Plan;

    /// The calls that delete the resource and those of its scopes that are ours.
    fn plan_resource_removal(
        &self,
        mark: &Mark,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
    ) -> Plan;

    /// The calls that make exactly `want` exist among the scopes that carry `mark` (internal APIs).
    fn plan_scopes(
        &self,
        mark: &Mark,
        want: &[ScopeSpec],
        scopes: &ObservedScopes,
        consent: &dyn Fn(&str) -> bool,
    ) -> Plan;

    /// Carries out the calls in their order and stops at the first that fails. What was read before is forgotten
    /// as far as the calls touch it.
    async fn execute(&self, plan: &Plan) -> Result<(), ProviderError>;

    /// Shows at the token endpoint, as the workload would, that a credential works.
    async fn prove(&self, proof: &Proof, now: Timestamp) -> Result<(), ProviderError>;
}
