//! What all objects of a gate have in common: pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::{
    annotations::{MANAGED_BY, MANAGER, SERVER},
    v1alpha1::{Gate, McpServer},
};

/// Label of every workload that says what it is, and its value on gates.
pub(super) const NAME: (&str, &str) = ("app.kubernetes.io/name", "mcp-auth-gate");
/// Label that tells the objects of a gate from each other.
pub(in crate::controllers) const COMPONENT: &str = "app.kubernetes.io/component";
/// What leads to the pods of the server itself.
pub(in crate::controllers) const ORIGIN: &str = "origin";
/// What is about the pods of the gate.
pub(in crate::controllers) const GATE: &str = "gate";

/// Where the gate takes requests for the server.
pub(super) const PROXY_PORT: i32 = 8080;
/// Where it is asked how it is.
pub(in crate::controllers::mcp_server) const ADMIN_PORT: i32 = 8081;
/// Where the server buys tokens.
pub(in crate::controllers::mcp_server) const TOKENS_PORT: i32 = 8082;

/// Labels by which the pods of a server's gate are found.
pub(super) fn selector(server: &McpServer) -> BTreeMap<String, String> {
    [NAME, (SERVER, &server.name_any())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The pods of a server's gate.
pub(super) fn pods(server: &McpServer) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(server)),
        ..LabelSelector::default()
    }
}

/// Labels of an object of a server's gate.
pub(super) fn labels(server: &McpServer, component: &str) -> BTreeMap<String, String> {
    let mut labels = selector(server);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(COMPONENT.to_owned(), component.to_owned());
    labels
}

/// Metadata of an object of a server's gate.
pub(super) fn metadata(server: &McpServer, name: String, component: &str) -> ObjectMeta {
    let owner: Option<OwnerReference> = server.controller_owner_ref(&());
    ObjectMeta {
        name: Some(name),
        namespace: server.namespace(),
        labels: Some(labels(server, component)),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// What the spec says of the gate.
pub(super) fn options(server: &McpServer) -> Gate {
    let enforcement = server.spec.enforcement.as_ref();
    enforcement
        .and_then(|enforcement| enforcement.gate.clone())
        .unwrap_or_default()
}
