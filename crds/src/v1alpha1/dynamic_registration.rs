//! An authorization server at which clients can only register themselves (RFC 7591), and what is known of such a
//! registration.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// An authorization server that offers registration (RFC 7591), and nothing by which it could be administered. Where it
/// lets registrations be read, changed and removed (RFC 7592), the operator does that too.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DynamicRegistration {
    /// The token without which nobody may register. When absent, registration is open to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_access_token_ref: Option<InitialAccessTokenReference>,

    /// External: somebody else has given the authorization server the resources and scopes of McpServers, which are taken
    /// as registered. Absent: nobody has, and McpServers and access to them are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_management: Option<ResourceManagement>,
}

/// A Secret that holds an initial access token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InitialAccessTokenReference {
    /// Name of a Secret in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub name: String,

    /// Key of the Secret that holds the token; `initial-access-token` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub key: Option<String>,
}

impl InitialAccessTokenReference {
    /// The key that holds the token.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("initial-access-token")
    }
}

/// External: somebody else has given the authorization server the resources and scopes of McpServers, which are taken as
/// registered. Absent: nobody has, and McpServers and access to them are refused.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceManagement {
    /// Somebody else did it.
    External,
}

/// What is known of the registration of a client at an authorization server that was not told its id and secret, but has
/// chosen them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationStatus {
    /// How many times the operator set out to register the client, the present registration included: its
    /// `software_version`. Its `software_id` is always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,

    /// Whether the authorization server lets the registration be read, changed and removed (RFC 7592).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<bool>,

    /// Metadata that the authorization server has otherwise than it was asked for, by name (RFC 7591 section 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub altered: Vec<String>,

    /// When the authorization server lets the secret expire (RFC 3339); absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_expires: Option<String>,

    /// Client ids that it had before, as long as tokens of them may be valid: while the client is suspended, gates refuse
    /// those as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["clientId".into()]))]
    pub previous: Vec<PreviousClientId>,

    /// How many registrations of this client may be left at the authorization server that nobody can reach any more. The
    /// Events of the client name each of them, and when it is deleted one of its AuthorizationServer names them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<i64>,

    /// The `software_version` of each of those, of the newest 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub unreachable_numbers: Vec<i64>,
}

/// A client id of before.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PreviousClientId {
    /// The client id.
    #[schemars(length(max = 255))]
    pub client_id: String,

    /// Until when tokens of it may be valid (RFC 3339).
    pub until: String,
}
