//! Clients that register themselves: what an AuthorizationServer lets them do, and what came of it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{authorization_server::HostPattern, presets::WellKnownClient};

/// How clients may register themselves. Whichever way they come, they can have only the scopes of McpServers that say
/// `selfRegistered: true` in `allowedClients`, and the user is always asked for consent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.dynamic) || has(self.metadataDocuments)")
        .message("clientRegistration says at least one of dynamic, metadataDocuments"),
    validation = Rule::new("!has(oldSelf.refuseDeviceFlow) || !oldSelf.refuseDeviceFlow || (has(self.refuseDeviceFlow) && self.refuseDeviceFlow)")
        .message("refuseDeviceFlow stays true: clients may have registered that name the device flow. Leave out clientRegistration as a whole first")
)]
pub struct ClientRegistration {
    /// Dynamic client registration (RFC 7591) without a token. Off when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicClients>,
    /// Client ID metadata documents: the id of a client is the https URL of a document that describes it. Off when absent.
    /// Not at Auth0, which reads no document that nobody has registered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_documents: Option<MetadataDocuments>,
    /// true: no client of the realm can use the device flow (RFC 8628), whosever it is. false, or absent: it is left alone,
    /// and who registers itself cannot name it, because nothing at the authorization server looks into what is asked for
    /// there. The document of VS Code names it. Not at Auth0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_device_flow: Option<bool>,
}

/// Who may register by RFC 7591.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("((has(self.trustedRedirectHosts) && self.trustedRedirectHosts.size() > 0) || (has(self.presets) && self.presets.size() > 0)) != (has(self.anyRedirectHost) && self.anyRedirectHost)")
    .message("dynamic says either in trustedRedirectHosts or presets who may register, or anyRedirectHost: true"))]
pub struct DynamicClients {
    /// true: anybody may register, whatever the hosts of the redirect URIs. At Auth0 nothing else can be had, because it
    /// takes every redirect URI, so it has to be said there; at Keycloak it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_redirect_host: Option<bool>,
    /// Well-known clients, whose hosts are trusted besides: see docs/clients.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub presets: Vec<WellKnownClient>,
    /// Hosts that the redirect URIs and other addresses of a client may have: `localhost`, `app.example.com`, or
    /// `*.example.com` for example.com and every name below it. A port is not part of it. Not at Auth0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("!self.exists(h, h == '*')")
        .message("trustedRedirectHosts names hosts: any host would be trusted with *"))]
    pub trusted_redirect_hosts: Vec<HostPattern>,
    /// How many clients the realm may have before no more can register. What the authorization server says when absent. Not
    /// at Auth0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_clients: Option<i32>,
}

/// Whose metadata documents are accepted.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.allowedDomains) && self.allowedDomains.size() > 0) || (has(self.presets) && self.presets.size() > 0)")
    .message("metadataDocuments says in allowedDomains or presets whose documents are accepted"))]
pub struct MetadataDocuments {
    /// Well-known clients, whose documents are accepted besides: see docs/clients.md.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub presets: Vec<WellKnownClient>,
    /// Hosts from which documents are accepted, such as `claude.ai`: whoever can publish there can be a client. No
    /// wildcards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub allowed_domains: Vec<HostName>,
    /// Hosts that redirect URIs and other addresses in a document may have besides those; `localhost` and `127.0.0.1`, where
    /// programs of the user listen, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("!self.exists(h, h == '*')")
        .message("redirectHosts names hosts: any host would be trusted with *"))]
    pub redirect_hosts: Option<Vec<HostPattern>>,
}

/// One host, without a wildcard: `mcp.example.com`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 253, "x-kubernetes-validations" = [{
        "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "message": "a domain is one host in lower case without scheme, port, path and wildcard: mcp.example.com"
    }])
)]
pub struct HostName(pub String);

/// What is set up at the authorization server for clients that register themselves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientRegistrationStatus {
    /// Whether clients can register: only while it is proved that the authorization server refuses them every other scope.
    pub open: bool,
    /// The scopes that they can have; at Auth0, where each API has scopes of its own, the resource and a space before each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}
