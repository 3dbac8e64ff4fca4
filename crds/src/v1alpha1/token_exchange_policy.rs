//! TokenExchangePolicy: an MCP server may turn its callers' tokens into tokens for one other server or API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{ObjectReference, ScopeName},
    mcp_server::ExchangeAction,
    rules,
};

/// Who exchanges, for what, and how the server gets the exchanged token (RFC 8693).
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "mcpauth.dev",
    version = "v1alpha1",
    kind = "TokenExchangePolicy",
    plural = "tokenexchangepolicies",
    namespaced,
    status = "TokenExchangePolicyStatus",
    category = "mcp-auth",
    doc = "Lets an MCP server exchange its callers' tokens for tokens of one other server or API.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "SERVER", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(name = "AUDIENCE", type_ = "string", json_path = ".status.audience"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = rules::object_name()
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.mcpServerRef), has(self.apiRef)].exists_one(x, x)")
        .message("name exactly one target: mcpServerRef or apiRef"),
    validation = Rule::new("!has(self.mcpServerRef) || has(self.mcpServerRef.__namespace__) || self.mcpServerRef.name != self.serverRef.name")
        .message("serverRef and mcpServerRef name the same server: exchange is for tokens of another one"),
    validation = Rule::new("!has(self.subjectClients) || self.subjectClients.all(a, self.subjectClients.exists_one(b, b == a))")
        .message("subjectClients names each client once")
        .field_path(".subjectClients"),
    validation = Rule::new("self.delivery != 'Secret' || self.scopes.all(s, !has(s.requires))")
        .message("requires goes with the deliveries Header and Endpoint: a server that exchanges by itself is not asked")
        .field_path(".scopes"),
    validation = Rule::new("self.delivery != 'Secret' || !has(self.action)")
        .message("action goes with the deliveries Header and Endpoint: the gate asks for tokens by it")
        .field_path(".action")
)]
pub struct TokenExchangePolicySpec {
    /// The McpServer that exchanges, in the same namespace.
    pub server_ref: McpServerReference,
    /// The target is another MCP server, whose `allowedClients` has to say `exchange: true` for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server_ref: Option<ObjectReference>,
    /// The target is an internal API of the AuthorizationServer, which has to grant it to this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_ref: Option<ApiReference>,
    /// The scopes of the target that exchanged tokens may have.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub scopes: Vec<ExchangeScope>,
    /// The managed McpClients whose tokens may be exchanged for these scopes. Absent: every client whose token names the server
    /// as its audience. Where several policies of the server give the same scope, the clients of all of them may; one
    /// without `subjectClients` opens it to every client. The operator needs more rights for this at the authorization
    /// server (on Keycloak the role manage-realm); without them the policy is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub subject_clients: Option<Vec<ObjectReference>>,
    /// At Auth0: the name of a deployed action with the trigger custom-token-exchange, which judges the callers' tokens and
    /// says for which user a token is issued. The AuthorizationServer has to name it in `auth0.exchangeActions` for this
    /// namespace. The operator makes the token exchange profile for it, and removes that again. Absent: tokens are
    /// exchanged on behalf of the caller, by the authorization server's own rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub action: Option<String>,
    /// Header: the gate of the server puts the exchanged token into the Authorization header of the request; one policy of a
    /// server at most. Endpoint: the server buys it from the gate with the handle that came with the request, and never
    /// sees its caller's token. Secret: the server exchanges by itself, with the credentials in the Secret
    /// `<server>-mcp-auth`.
    pub delivery: Delivery,
}

/// An McpServer in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct McpServerReference {
    /// Name of the McpServer.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
}

/// An internal API of the server's AuthorizationServer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApiReference {
    /// A name from the `apis` of the AuthorizationServer.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
}

/// A scope of the target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeScope {
    /// Name of the scope.
    pub name: ScopeName,
    /// Scopes of the server that exchanges. A gate asks for this scope only where the caller holds all of them; absent: for
    /// every caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub requires: Option<Vec<ScopeName>>,
}

/// How a server gets exchanged tokens.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the `Authorization` header of the request, put there by its gate.
    Header,
    /// By asking its gate.
    Endpoint,
    /// By exchanging itself, with credentials from a Secret.
    Secret,
}

/// What is in force for a TokenExchangePolicy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchangePolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Programmed and, as their summary, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The audience of the exchanged tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Scopes that exchanged tokens can have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigned_scopes: Vec<String>,
    /// Scopes that the policy asks for and the target does not give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unassigned_scopes: Vec<String>,
    /// The action by which tokens are exchanged, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ExchangeAction>,
}
