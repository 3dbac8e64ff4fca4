//! McpClient: a client that gets tokens for MCP servers, and the Secret that holds its credential.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    authentication::ClientAuthentication,
    client_secret::ClientSecretSpec,
    common::{DurationText, ObjectReference, ScopeName},
    dynamic_registration::RegistrationStatus,
    existing_client::ExistingClient,
    metadata_document::MetadataDocument,
    migration::{Home, PreviousHome},
    presets::WellKnownClient,
    rotation::{Rotation, RotationStatus},
    rules,
};

/// A client of MCP servers: how it signs users in, which servers it may call, where its credential goes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "mcpauth.dev",
    version = "v1alpha1",
    kind = "McpClient",
    namespaced,
    status = "McpClientStatus",
    category = "mcp-auth",
    doc = "A client of MCP servers, registered at the authorization server.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "CLIENT-ID", type_ = "string", json_path = ".status.clientId"),
    printcolumn(name = "SECRET", type_ = "string", json_path = ".status.secretName"),
    printcolumn(name = "NEXT-ROTATION", type_ = "string", json_path = ".status.rotation.next", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::object_name()
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.managed) || has(self.existing) || has(self.metadataDocument)")
        .message("say how the client comes to be: managed, metadataDocument or existing is required")
        .field_path(".managed")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.managed) || !has(self.existing)")
        .message("a client is either managed or existing: leave one of them out")
        .field_path(".existing"),
    validation = Rule::new("!has(self.metadataDocument) || (!has(self.managed) && !has(self.existing))")
        .message("what a client with a metadataDocument is, its document says: leave out managed and existing")
        .field_path(".metadataDocument"),
    validation = Rule::new("has(self.existing) == has(oldSelf.existing)")
        .message("a managed client does not become an existing one, nor the other way: create another McpClient"),
    validation = Rule::new("has(self.metadataDocument) == has(oldSelf.metadataDocument)")
        .message("whether a client has a metadataDocument is said when it is created: create another McpClient"),
    validation = Rule::new("!has(self.metadataDocument) || self.authorizationServerRef == oldSelf.authorizationServerRef")
        .message("a client with a metadataDocument stays at its authorization server: create another McpClient")
        .field_path(".authorizationServerRef"),
    validation = Rule::new("!has(self.existing) || self.authorizationServerRef == oldSelf.authorizationServerRef")
        .message("the credential of an existing client belongs to its authorization server, and is shown to no other: create another McpClient")
        .field_path(".authorizationServerRef"),
    validation = Rule::new("!has(self.existing) || (!has(self.secret) && !has(self.rotation) && !has(self.accessTokenLifetime) && !has(self.deletionPolicy))")
        .message("whoever registers an existing client decides these: leave out secret, rotation, accessTokenLifetime and deletionPolicy")
        .field_path(".existing"),
    validation = Rule::new("!has(self.metadataDocument) || (!has(self.secret) && !has(self.rotation) && !has(self.accessTokenLifetime))")
        .message("the operator has no credential of a client with a metadataDocument, nor does it say how long tokens live: leave out secret, rotation and accessTokenLifetime")
        .field_path(".metadataDocument"),
    validation = Rule::new("!has(self.rotation) || !has(self.managed) || !has(self.managed.authentication) || !(self.managed.authentication.method in ['None', 'ServiceAccountToken'])")
        .message("a client with authentication method None or ServiceAccountToken has no credential to rotate: leave out rotation")
        .field_path(".rotation"),
    validation = Rule::new("!has(self.secret) || !has(self.managed) || !has(self.managed.authentication) || self.managed.authentication.method != 'ServiceAccountToken'")
        .message("a client with authentication method ServiceAccountToken has no Secret, but a ConfigMap: leave out secret")
        .field_path(".secret"),
    validation = Rule::new("!has(self.access) || self.access.all(a, self.access.exists_one(b, b.server == a.server))")
        .message("access names each server once")
        .field_path(".access")
)]
pub struct McpClientSpec {
    /// The AuthorizationServer at which this client is registered. Of a managed client it can be changed: the client is
    /// registered at the new one, and what it has at the old one goes on working until that works and for the overlap of
    /// rotation after it. Of any other client it is immutable.
    pub authorization_server_ref: ObjectReference,

    /// The operator registers the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedClient>,

    /// The client is what a metadata document says that its maker publishes, and its id is the address of that. The
    /// operator registers it, and holds it to what its namespace may have. At Auth0 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_document: Option<MetadataDocument>,

    /// Somebody else registers the client and fills a Secret with its credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingClient>,

    /// The servers that the client wants to call. It can get tokens for exactly what it asks for here and the
    /// servers allow; whoever registers an existing client sees to that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub access: Vec<Access>,

    /// The Secret that the workload reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ClientSecretSpec>,

    /// When and how the credential is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,

    /// Lifetime of the client's access tokens, between 1m and 24h; 5m when absent. What is revoked is usable for
    /// at most this long. No effect at Auth0, where it is the API that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::between("1m", "24h"))]
    pub access_token_lifetime: Option<DurationText>,

    /// true: the client is disabled at the authorization server, its sessions are ended, and gates refuse its tokens. Of
    /// an existing client, only the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,

    /// Delete, or absent: the client goes from the authorization server with this object. Retain: it stays there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

impl McpClientSpec {
    /// Whether it is to get no tokens, and those that it has are to be refused.
    pub fn is_suspended(&self) -> bool {
        self.suspended == Some(true)
    }
}

/// A client that the operator registers. Its client id is generated and shown in status.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!('authorization_code' in self.grantTypes) || (has(self.redirectUris) && self.redirectUris.size() > 0) || (has(self.presets) && self.presets.size() > 0)")
        .message("authorization_code needs at least one redirect URI")
        .field_path(".redirectUris")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("((!has(self.redirectUris) || self.redirectUris.size() == 0) && (!has(self.presets) || self.presets.size() == 0)) || 'authorization_code' in self.grantTypes")
        .message("redirect URIs are used with authorization_code only: add it to grantTypes or leave them out")
        .field_path(".redirectUris"),
    validation = Rule::new("!('refresh_token' in self.grantTypes) || 'authorization_code' in self.grantTypes")
        .message("refresh_token needs authorization_code")
        .field_path(".grantTypes"),
    validation = Rule::new("!('client_credentials' in self.grantTypes) || !has(self.authentication) || self.authentication.method != 'None'")
        .message("client_credentials needs a credential: authentication method None does not go with it")
        .field_path(".grantTypes"),
    validation = rules::private_schemes_are_native()
)]
pub struct ManagedClient {
    /// The name that people see when they are asked for consent; the name of this object when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rules::visible_text())]
    pub display_name: Option<String>,

    /// Where users are sent back to after signing in. On loopback hosts any port matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::absolute_uris(),
        validation = Rule::new("self.all(u, !u.contains('#'))")
            .message("a redirect URI has no fragment (RFC 6749 section 3.1.2)"),
        validation = Rule::new("self.all(u, !u.contains('*'))")
            .message("a redirect URI has no wildcard: list each one"),
        validation = Rule::new("self.all(u, !u.matches('^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@'))")
            .message("a redirect URI has no user information"),
        validation = Rule::new("self.all(u, !u.matches('[?&](code|state|iss|error)='))")
            .message("a redirect URI has no parameter that the answer brings: code, state, iss or error"),
        validation = rules::http_is_loopback_only(),
        validation = rules::no_dangerous_schemes()
    )]
    pub redirect_uris: Vec<String>,

    /// Well-known clients, whose redirect URIs count besides: see docs/clients.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub presets: Vec<WellKnownClient>,

    /// How the client gets tokens: authorization_code (users sign in), refresh_token, client_credentials (the
    /// client acts for itself).
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub grant_types: Vec<GrantType>,

    /// web, or absent: an application on a server. native: an application on the user's device, which may have
    /// redirect URIs with a scheme of its own.
    // The schema of an optional enum shows the doc comment of the enum: these two say the same, here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_type: Option<ApplicationType>,

    /// Required, or absent: users are asked before the client gets tokens for them. Skip: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,

    /// How the client proves who it is; ClientSecret when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<ClientAuthentication>,
}

/// OAuth grant types, in the protocol's spelling.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// RFC 6749 section 4.1, always with PKCE S256.
    AuthorizationCode,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
}

/// web, or absent: an application on a server. native: an application on the user's device, which may have
/// redirect URIs with a scheme of its own.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ApplicationType {
    /// On a server.
    Web,
    /// On the user's device.
    Native,
}

/// Required, or absent: users are asked before the client gets tokens for them. Skip: they are not.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They are.
    Required,
    /// They are not.
    Skip,
}

/// A server that a client wants to call.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The McpServer.
    pub server: ObjectReference,
    /// Scopes of that server; its challenge scopes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub scopes: Option<Vec<ScopeName>>,
}

/// Delete, or absent: the client goes from the authorization server with this object. Retain: it stays there.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It is deleted there too.
    Delete,
    /// It stays.
    Retain,
}

/// What is in force for an McpClient.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct McpClientStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Registered, AccessGranted, CredentialsReady and, as their summary, Ready; Migrated while the client is
    /// registered elsewhere too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where a managed client is registered, and so whose its credential is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Home>,
    /// Where it was registered before, while it still is or tokens from there may be valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["issuer".into(), "clientId".into()]))]
    pub previous: Vec<PreviousHome>,
    /// The client id at the authorization server; of an existing client, once its credential was proved; with a
    /// metadataDocument its address, once that is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// How the client is registered, where the authorization server has chosen its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationStatus>,
    /// What the client can get tokens for; of an existing client, what the servers allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<GrantedAccess>,
    /// The Secret that the workload reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Changes when the content of the Secret does; of an existing client, with every write to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_hash: Option<String>,
    /// The ConfigMap that the workload reads, where there is nothing secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
    /// The credential's age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// The value of the annotation `mcpauth.dev/rotate-requested-at` that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotate_request: Option<String>,
    /// The value of the annotation `mcpauth.dev/revoke-requested-at` that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_revoke_request: Option<String>,
}

/// What a client can get tokens for at one server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrantedAccess {
    /// Namespace and name of the McpServer.
    pub server: String,
    /// Its resource.
    pub resource: String,
    /// The granted scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}
