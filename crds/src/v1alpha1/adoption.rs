//! Taking over what exists at an authorization server.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Consent to take over one object at the authorization server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::adopted_is_not_built_in())]
pub struct Adoption {
    /// Client or Scope: what the object is at the authorization server.
    pub kind: AdoptedKind,
    /// The client id, or the name of the scope. At Auth0 the client id is the one that Auth0 has chosen; what an McpServer
    /// takes over there is an API, by its identifier, and scopes come with it.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
    /// Namespace of the McpServer or McpClient that may take it over.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub namespace: String,
    /// Name of the McpServer or McpClient that may take it over.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
}

/// Client ids that Keycloak defines itself in every realm, and that nobody may take over.
pub const BUILT_IN_CLIENTS: [&str; 6] = [
    "account",
    "account-console",
    "admin-cli",
    "broker",
    "realm-management",
    "security-admin-console",
];

/// Kinds of object at an authorization server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptedKind {
    /// A client.
    Client,
    /// A client scope.
    Scope,
}
