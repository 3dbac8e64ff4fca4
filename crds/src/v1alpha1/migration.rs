//! Where a client is registered, and where it was before it moved.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{common::ObjectReference, mcp_client::GrantedAccess};

/// Where a client is registered.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    /// The AuthorizationServer, with its namespace.
    pub authorization_server_ref: ObjectReference,
    /// Its issuer: the credential belongs to it, and is shown to no other.
    pub issuer: String,
    /// The ServiceAccount whose tokens stand for the client there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account: Option<String>,
}

/// Where a client was registered before it moved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PreviousHome {
    /// The AuthorizationServer, with its namespace.
    pub authorization_server_ref: ObjectReference,
    /// Its issuer.
    pub issuer: String,
    /// The client id that it has or had there.
    #[schemars(length(max = 255))]
    pub client_id: String,
    /// What it can or could get tokens for there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub granted: Vec<GrantedAccess>,
    /// The ServiceAccount whose tokens stand for the client there: for no other client, as long as it is registered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account: Option<String>,
    /// Until when it stays registered there (RFC 3339); absent until its new registration was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// Present once it is registered there no more: until when tokens from there may be valid (RFC 3339). While the client
    /// is suspended, gates refuse those as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_until: Option<String>,
}
