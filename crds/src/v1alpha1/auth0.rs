//! An authorization server that is a tenant of Auth0.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{common::NamespaceSelection, rules};

/// A tenant of Auth0.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
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

    /// true: the operator sets what of the tenant as a whole MCP needs, and keeps it so: the Resource Parameter
    /// Compatibility Profile, and the issuer in authorization responses; with `clientRegistration.dynamic` also the mode of
    /// dynamic client registration (strict), and that it is on. It never sets them back, but for the last, which goes off
    /// with `clientRegistration` unless it was on before; what they were is in `status.tenantSettings`. false, or absent:
    /// it leaves the settings alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manage_tenant_settings: Option<bool>,

    /// Actions of the tenant by which McpServers may exchange tokens (custom token exchange), and where. Auth0 lets an
    /// application that may use one such action use all of the tenant: each has to look at `event.client` itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub exchange_actions: Vec<AllowedAction>,
}

/// An action, and who may exchange tokens by it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedAction {
    /// Its name in the tenant.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,

    /// The namespaces whose TokenExchangePolicies may name it. The namespace of the AuthorizationServer always may.
    pub namespaces: NamespaceSelection,
}

/// A setting of the tenant that the operator has changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantSetting {
    /// Its name in the Management API.
    #[schemars(length(max = 128))]
    pub name: String,

    /// What it was before, as JSON.
    #[schemars(length(max = 128))]
    pub previous: String,
}
