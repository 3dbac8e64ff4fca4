//! An authorization server that is a tenant of Auth0.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A tenant of Auth0.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Auth0Tenant {
    /// The canonical domain of the tenant, such as `example.eu.auth0.com`: there the operator signs in, and there is the
    /// Management API. Immutable.
    #[schemars(length(min = 1, max = 245))]
    #[x_kube(
        validation = rules::authority(),
        validation = rules::immutable("domain is immutable: create another AuthorizationServer")
    )]
    pub domain: String,

    /// The custom domain of the tenant, if that is where users and clients get their tokens: it is in the issuer then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 245))]
    #[x_kube(validation = rules::authority())]
    pub custom_domain: Option<String>,
}
