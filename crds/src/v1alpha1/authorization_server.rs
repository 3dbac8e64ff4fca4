//! AuthorizationServer: a checked connection to the OAuth authorization server that a company runs, and what
//! namespaces may do with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    adoption::Adoption,
    auth0::{Auth0Tenant, TenantSetting},
    client_registration::{ClientRegistration, ClientRegistrationStatus},
    common::{NamespaceSelection, ScopeName},
    dynamic_registration::DynamicRegistration,
    rules,
    service_accounts::{ServiceAccountIssuer, ServiceAccountTrust},
    sign_in::OperatorCredentials,
};

/// Where the authorization server is, how the operator signs in to it, and who may use it for what.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "mcpauth.dev",
    version = "v1alpha1",
    kind = "AuthorizationServer",
    namespaced,
    status = "AuthorizationServerStatus",
    category = "mcp-auth",
    doc = "An OAuth authorization server at which MCP servers and clients are registered.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "ISSUER", type_ = "string", json_path = ".spec.issuer"),
    printcolumn(name = "SERVERS", type_ = "integer", json_path = ".status.servers"),
    printcolumn(name = "CLIENTS", type_ = "integer", json_path = ".status.clients"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::object_name()
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.keycloak), has(self.auth0), has(self.dynamicRegistration)].exists_one(given, given)")
        .message("say which authorization server it is: exactly one of keycloak, auth0 and dynamicRegistration"),
    validation = Rule::new("has(self.keycloak) == has(oldSelf.keycloak) && has(self.auth0) == has(oldSelf.auth0)")
        .message("which authorization server it is does not change: create another AuthorizationServer"),
    validation = Rule::new("has(self.credentials) == (has(self.keycloak) || has(self.auth0))")
        .message("credentials is how the operator signs in to administer: keycloak and auth0 need it, and dynamicRegistration has none")
        .field_path(".credentials"),
    validation = Rule::new("!has(self.dynamicRegistration) || ((!has(self.apis) || self.apis.all(a, !has(a.manage) || !a.manage)) && !has(self.adoption))")
        .message("at a server that offers registration only, nothing can be made for APIs and nothing taken over: leave out adoption, and manage in apis"),
    validation = Rule::new("!has(self.keycloak) || self.issuer.endsWith('/realms/' + self.keycloak.realm)")
        .message("the issuer of a Keycloak realm ends with /realms/ and the name of the realm")
        .field_path(".issuer"),
    validation = Rule::new("!has(self.auth0) || self.issuer == 'https://' + (has(self.auth0.customDomain) ? self.auth0.customDomain : self.auth0.domain) + '/'")
        .message("the issuer of a tenant of Auth0 is https://, its customDomain or else its domain, and a slash")
        .field_path(".issuer"),
    validation = Rule::new("!has(self.auth0) || !has(self.credentials) || !has(self.credentials.serviceAccountToken)")
        .message("Auth0 takes no tokens of ServiceAccounts: use secretRef or privateKeyJwtRef")
        .field_path(".credentials"),
    validation = Rule::new("!has(self.grants) || self.grants.all(g, !has(g.tokenExchange) || (has(self.apis) && sets.contains(self.apis.map(a, a.name), g.tokenExchange.apis)))")
        .message("grants names an API that is not declared in apis")
        .field_path(".grants")
)]
pub struct AuthorizationServerSpec {
    /// The issuer, byte for byte as the authorization server spells it in its metadata and in the `iss` of its
    /// tokens. Immutable: another issuer is another AuthorizationServer.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = rules::server_url(),
        validation = rules::immutable("issuer is immutable: create another AuthorizationServer")
    )]
    pub issuer: String,

    /// The authorization server is a realm of Keycloak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keycloak: Option<KeycloakRealm>,

    /// The authorization server is a tenant of Auth0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth0: Option<Auth0Tenant>,

    /// At the authorization server clients can only register (RFC 7591).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_registration: Option<DynamicRegistration>,

    /// How the operator signs in to the authorization server, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<OperatorCredentials>,

    /// Certificate authorities to trust for this server, beside those of the operator's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CaBundleReference>,

    /// Where the operator and the gates connect when the server is reachable under another address from inside
    /// the cluster. Never changes what `iss` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// Who may use this AuthorizationServer for what. Its own namespace may do everything; any other namespace
    /// only what a grant gives it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub grants: Vec<Grant>,

    /// Internal APIs for which MCP servers may exchange their callers' tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub apis: Vec<Api>,

    /// Objects that exist at the authorization server without the operator's mark and may be taken over, with
    /// everything that follows: their settings are overwritten, and they are deleted with the object that took
    /// them over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "id".into()]))]
    pub adoption: Vec<Adoption>,

    /// Clients may register themselves. When absent none may, as far as the operator has a say in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_registration: Option<ClientRegistration>,
}

impl AuthorizationServerSpec {
    /// The Secret that the operator needs to sign in, or to register, if it needs one.
    pub fn secret(&self) -> Option<&str> {
        let credentials = self.credentials.as_ref().and_then(OperatorCredentials::secret);
        let registration = self.dynamic_registration.as_ref();
        let token = registration.and_then(|registration| registration.initial_access_token_ref.as_ref());
        credentials
            .map(|secret| secret.name.as_str())
            .or_else(|| token.map(|token| token.name.as_str()))
    }
}

/// A Keycloak realm.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeycloakRealm {
    /// Name of the realm. Immutable.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_~-][A-Za-z0-9._~-]*$')")
            .message("a realm name holds letters, digits and . _ ~ -, and does not begin with a dot"),
        validation = rules::immutable("realm is immutable: create another AuthorizationServer")
    )]
    pub realm: String,

    /// Clients may authenticate with tokens of their ServiceAccounts, from this issuer. When absent none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_issuer: Option<ServiceAccountIssuer>,
}

/// A ConfigMap that holds certificates.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleReference {
    /// Name of a ConfigMap in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub name: String,
    /// Key of the ConfigMap that holds the certificates in PEM; `ca.crt` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub key: Option<String>,
}

/// Addresses at which to connect, where they differ from those in the server's metadata.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// The metadata document (OpenID Connect Discovery or RFC 8414).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::server_url())]
    pub discovery: Option<String>,
    /// The base URL of the administration API: for Keycloak the address of the server, without `/admin`; for Auth0 that of
    /// the tenant, without `/api/v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::server_url())]
    pub admin: Option<String>,
    /// The key set that signs tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::server_url())]
    pub jwks: Option<String>,
    /// The token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::server_url())]
    pub token: Option<String>,
    /// The registration endpoint. Where registrations are read, changed and removed is then asked at its scheme, host and
    /// port too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::server_url())]
    pub registration: Option<String>,
}

/// What some namespaces may do with an AuthorizationServer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.servers) || has(self.clients) || has(self.tokenExchange)")
        .message("a grant gives at least one of servers, clients, tokenExchange"),
    validation = Rule::new("self.namespaces.from != 'Same'")
        .message("the namespace of an AuthorizationServer needs no grant: choose namespaces by All or Selector")
)]
pub struct Grant {
    /// The namespaces that get the grant: All or Selector.
    pub namespaces: NamespaceSelection,
    /// They may register MCP servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<ServerGrant>,
    /// They may register clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientGrant>,
    /// Their MCP servers may exchange tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchangeGrant>,
}

/// Which resources and scopes MCP servers may claim.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerGrant {
    /// Hosts that `resource` may have: `mcp.example.com`, `*.example.com` for every name below example.com, or
    /// `*` for every host. A port is not part of it.
    #[schemars(length(min = 1, max = 32))]
    pub hosts: Vec<HostPattern>,
    /// Beginnings of the scope names that they may claim, such as `orders:`; the empty string stands for every
    /// name. The scope that a server without scopes gets needs no grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 128)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^[\\\\x21\\\\x23-\\\\x5B\\\\x5D-\\\\x7E]*$'))")
        .message("a scope prefix holds visible ASCII characters without space, double quote and backslash, as scope names do"))]
    pub scope_prefixes: Vec<String>,
}

/// Which redirect URIs clients may have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientGrant {
    /// Hosts that redirect URIs may have (`app.example.com`, `*.example.com`, `localhost`, `*`), and custom
    /// schemes written with their colon (`com.example.app:`). None: only clients without redirect URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub redirect_hosts: Vec<RedirectPattern>,
}

/// Which internal APIs may be the target of token exchange.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchangeGrant {
    /// Names from `apis`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub apis: Vec<String>,
}

/// A host: `mcp.example.com`, `*.example.com`, `*`, `[::1]`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 253, "x-kubernetes-validations" = [{
        "rule": "self.matches('^([*]|([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|\\\\[[0-9a-f:.]+\\\\])$')",
        "message": "a host is written in lower case without scheme, port and path: mcp.example.com, *.example.com or *"
    }])
)]
pub struct HostPattern(pub String);

/// A host as in [`HostPattern`], or a custom scheme with its colon.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 253, "x-kubernetes-validations" = [{
        "rule": "self.matches('^([*]|([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*|\\\\[[0-9a-f:.]+\\\\]|[a-z][a-z0-9+.-]*:)$')",
        "message": "a redirect host is a host in lower case without scheme, port and path (app.example.com, *.example.com, *), or a custom scheme with its colon (com.example.app:)"
    }])
)]
pub struct RedirectPattern(pub String);

/// An internal API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::managed_scopes_are_not_built_in())]
pub struct Api {
    /// The name by which policies and grants refer to the API.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
    /// The audience of tokens for this API.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[\\\\x21-\\\\x7E]+$')")
        .message("an audience holds visible ASCII characters without spaces"))]
    pub audience: String,
    /// Scopes of this API.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub scopes: Vec<ApiScope>,
    /// true: the operator creates the API's scopes at the authorization server and keeps them as declared.
    /// false, or absent: they exist there and are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manage: Option<bool>,
}

/// A scope of an internal API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiScope {
    /// Name of the scope.
    pub name: ScopeName,
    /// What the scope allows, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::visible_text())]
    pub description: Option<String>,
}

/// What the operator found out about the authorization server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationServerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// MetadataDiscovered, CredentialsValid, Accepted (with `clientRegistration`), Registered and, as their summary,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the server can do, as far as the operator makes use of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What the server says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<DiscoveredMetadata>,
    /// What lets clients authenticate with tokens of their ServiceAccounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_issuer: Option<ServiceAccountTrust>,
    /// What clients that register themselves find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_registration: Option<ClientRegistrationStatus>,
    /// What settings of the tenant were before the operator changed them (`auth0.manageTenantSettings`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tenant_settings: Vec<TenantSetting>,
    /// How many McpServers refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<i64>,
    /// How many McpClients refer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<i64>,
}

/// The part of the server's metadata (RFC 8414) that others need.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredMetadata {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// Where users sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Where clients get tokens.
    pub token_endpoint: String,
    /// The keys that sign tokens.
    pub jwks_uri: String,
}
