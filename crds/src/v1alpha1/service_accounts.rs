//! Clients that authenticate with the tokens of their ServiceAccounts: whose tokens an authorization server trusts.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Who issues the tokens of ServiceAccounts with which clients may authenticate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountIssuer {
    /// What `iss` of the tokens is. Keycloak reads their keys from there, so it must reach this address and trust its
    /// certificate, and no other cluster of the realm may have the same. What the API server says of itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::server_url())]
    pub url: Option<String>,

    /// Alias of an identity provider of the type Kubernetes that the realm has for this issuer: the operator neither reads
    /// nor changes it. When absent, the operator makes one and keeps it, for which its credential needs the role
    /// `manage-identity-providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$')")
        .message("an alias holds letters, digits and . _ -"))]
    pub identity_provider: Option<String>,
}

/// What came of it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountTrust {
    /// Alias of the identity provider at Keycloak.
    pub identity_provider: String,
    /// What `iss` of the tokens is; absent where somebody else keeps the identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it is in force.
    pub trusted: bool,
}
