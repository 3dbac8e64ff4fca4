//! McpServer: one protected resource, from which audience, scopes, metadata and challenge all come.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{DurationText, NamespaceSelection, ObjectReference, ScopeName},
    enforcement::{Enforcement, EnforcementMode},
    rules,
};

/// A protected MCP server: what it is called, what it offers, and who may call it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "mcpauth.dev",
    version = "v1alpha1",
    kind = "McpServer",
    namespaced,
    status = "McpServerStatus",
    category = "mcp-auth",
    doc = "An MCP server as an OAuth 2.1 protected resource.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "MODE", type_ = "string", json_path = ".status.enforcement"),
    printcolumn(name = "RESOURCE", type_ = "string", json_path = ".spec.resource"),
    printcolumn(name = "SCOPES", type_ = "string", json_path = ".status.scopes", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::object_name()
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.rules) || self.rules.all(r, has(self.scopes) && sets.contains(self.scopes.map(s, s.name), r.scopes))")
        .message(Message::Expression("'the rule for ' + self.rules.map(r, !(has(self.scopes) && sets.contains(self.scopes.map(s, s.name), r.scopes)), r.match)[0] + ' names a scope that is not declared in scopes'".into()))
        .field_path(".rules"),
    validation = Rule::new("!has(self.defaultScopes) || (has(self.scopes) && sets.contains(self.scopes.map(s, s.name), self.defaultScopes))")
        .message("defaultScopes names a scope that is not declared in scopes")
        .field_path(".defaultScopes"),
    validation = Rule::new("!has(self.scopes) || self.scopes.all(d, !has(d.implies) || sets.contains(self.scopes.map(s, s.name), d.implies))")
        .message(Message::Expression("'scope ' + self.scopes.map(d, has(d.implies) && !sets.contains(self.scopes.map(s, s.name), d.implies), d.name)[0] + ' implies a scope that is not declared in scopes'".into()))
        .field_path(".scopes"),
    validation = Rule::new("!has(self.allowedClients) || self.allowedClients.all(c, !has(c.scopes) || (has(self.scopes) && sets.contains(self.scopes.map(s, s.name), c.scopes)))")
        .message("allowedClients names a scope that is not declared in scopes")
        .field_path(".allowedClients"),
    validation = Rule::new("has(self.target) || (has(self.enforcement) && has(self.enforcement.mode) && self.enforcement.mode == 'External')")
        .message("say in target where the server listens, for the gate that the operator puts in front of it; or set enforcement.mode to External")
)]
pub struct McpServerSpec {
    /// The AuthorizationServer at which this server is registered. Immutable.
    #[x_kube(validation = rules::immutable("authorizationServerRef is immutable: create another McpServer"))]
    pub authorization_server_ref: ObjectReference,

    /// The canonical URI of the server (RFC 8707): the audience of its tokens and the `resource` of its metadata
    /// (RFC 9728), byte for byte as MCP clients spell it. https, or http on a loopback host; host in lower case;
    /// no default port, dot segment, query, fragment or user information; no slash at the end, but the root with
    /// its slash: https://mcp.example.com/. Immutable.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = rules::resource_scheme(),
        validation = rules::resource_spelling(),
        validation = Rule::new("!self.matches('(?i)/([.]|%2e){1,2}(/|$)')").message("resource has no dot segments"),
        validation = Rule::new("!self.matches('^https://[^/]*[^:]:443(/|$)') && !self.matches('^http://[^/]*:80(/|$)')")
            .message("resource leaves out the default port"),
        validation = rules::resource_port(),
        validation = rules::resource_ipv4(),
        validation = rules::immutable("resource is immutable: create another McpServer")
    )]
    pub resource: String,

    /// The scopes of this server. Without any it gets one, `mcp.<namespace>.<name>`, which status shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub scopes: Vec<ServerScope>,

    /// Lifetime of the tokens that this server gets by token exchange, between 1m and 24h; 5m when absent. No effect at
    /// Auth0, where it is the target's API that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::between("1m", "24h"))]
    pub exchange_token_lifetime: Option<DurationText>,

    /// Which scopes a call of a tool, prompt or resource needs. Every rule that matches applies. With rules, a
    /// call that none matches is refused unless `defaultScopes` says otherwise; without, it needs the challenge
    /// scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rules: Vec<CallRule>,

    /// The scopes that a call needs which no rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub default_scopes: Option<Vec<ScopeName>>,

    /// Where the MCP server itself listens. A gate needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// Who validates tokens in front of the server; a gate of the operator's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,

    /// Who may call this server, with which scopes. Absent: the clients of its own namespace, with all scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub allowed_clients: Option<Vec<AllowedClients>>,
}

/// A scope of an MCP server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.implies) || !(self.name in self.implies)").message("a scope does not imply itself"))]
pub struct ServerScope {
    /// Name of the scope, unique at the authorization server. Names of its own, such as openid, and names that begin
    /// with `mcp.` are refused.
    #[x_kube(
        validation = rules::not_built_in(),
        validation = Rule::new("!self.startsWith('mcp.')")
            .message("scope names that begin with mcp. are kept for servers without scopes: choose another one")
    )]
    pub name: ScopeName,
    /// What the scope allows, in words for the person who is asked for consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::visible_text())]
    pub description: Option<String>,
    /// Part of normal use: named in the challenge and in the metadata. When no scope says so, all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<bool>,
    /// Scopes that whoever holds this one need not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub implies: Vec<ScopeName>,
}

/// What a call needs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CallRule {
    /// Tool, Prompt or Resource: what is called.
    pub kind: RuleKind,
    /// Name of the tool or prompt, or URI of the resource, case-sensitive; `*` stands for any run of characters.
    #[schemars(length(min = 1, max = 256))]
    #[serde(rename = "match")]
    pub pattern: String,
    /// The call needs all of these.
    #[schemars(length(min = 1, max = 16))]
    pub scopes: Vec<ScopeName>,
}

/// What a rule is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// `tools/call`.
    Tool,
    /// `prompts/get`.
    Prompt,
    /// `resources/read` and its kin.
    Resource,
}

/// Where an MCP server listens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of a Service in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub service: String,
    /// Name or number of the port of that Service; its only port when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 65535 : self.size() <= 63 && self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("port is a number between 1 and 65535, or the name of a port"))]
    pub port: Option<IntOrString>,
    /// Path of the MCP endpoint; the path of `resource` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^/[^?#\\\\x00-\\\\x20\\\\x7F]*$')").message("path begins with a slash and has no query or fragment"))]
    pub path: Option<String>,
    /// Http1, which is meant when absent: HTTP/1.1. H2c: HTTP/2 without TLS, by prior knowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TargetProtocol>,
}

/// How an MCP server is spoken to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// Clients that may call the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.namespaces) != (has(self.selfRegistered) && self.selfRegistered)")
        .message("each entry says either namespaces or selfRegistered: true"),
    validation = Rule::new("!has(self.names) || has(self.namespaces)")
        .message("names choose McpClients, or McpServers that exchange tokens, of namespaces"),
    validation = Rule::new("!has(self.exchange) || !self.exchange || has(self.namespaces)")
        .message("exchange: true is for the McpServers of namespaces")
)]
pub struct AllowedClients {
    /// The McpClients of these namespaces; with `exchange: true` their McpServers too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelection>,
    /// Clients that registered themselves at the authorization server, where it lets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_registered: Option<bool>,
    /// Only these McpClients (for exchange: McpServers) of the namespaces; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    /// The scopes they may have; the challenge scopes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub scopes: Option<Vec<ScopeName>>,
    /// McpServers of the namespaces may exchange their callers' tokens for tokens of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<bool>,
}

/// What is in force for an McpServer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct McpServerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Registered, MetadataPublished, CredentialsReady (while a policy lets the server exchange tokens),
    /// GateReady and BypassClosed (in mode Gate), Enforced and, as their summary, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The scopes of the server at the authorization server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Those of them that the challenge and the metadata name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenge_scopes: Vec<String>,
    /// Who validates tokens: Gate or External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<EnforcementMode>,
    /// The gate, in mode Gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateStatus>,
    /// Where the metadata document (RFC 9728) has to be served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_url: Option<String>,
    /// The scopes of other servers and APIs that this server may get by token exchange.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchange_scopes: Vec<String>,
    /// Those of them for which only the tokens of some clients can be exchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["scope".into()]))]
    pub exchange_limits: Vec<ExchangeLimit>,
    /// The actions of the authorization server by which it can exchange tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub exchange_actions: Vec<ExchangeAction>,
    /// The Secret with the server's own credentials, while a policy needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Changes when the content of that Secret does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_hash: Option<String>,
}

/// The gate of a server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// The Service to which requests for `resource` are to be routed.
    pub service: String,
    /// Its port.
    pub port: i32,
    /// Changes when the policy of the gate does.
    pub policy_hash: String,
}

/// An action by which tokens can be exchanged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeAction {
    /// Its name.
    pub name: String,
    /// Id of the token exchange profile that the operator made for it.
    pub profile: String,
    /// The `subject_token_type` by which it is asked.
    pub subject_token_type: String,
}

/// Whose tokens can be exchanged for a scope.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeLimit {
    /// The scope.
    pub scope: String,
    /// Client ids at the authorization server.
    pub clients: Vec<String>,
}
