//! By what an object is found when something else changes: names of what it refers to or wants. Each change would
//! otherwise mean a look at all objects of a kind.

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{McpClient, McpServer, ObjectReference, TokenExchangePolicy};

use super::super::mcp_client;
use crate::policy::{
    enforcement, hosts,
    names::{self, server_auth, server_metadata},
};

/// Namespace and name of an object.
pub(super) type Name = (String, String);

/// The name of an object.
pub(super) fn name<K: Resource>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What a reference, written in an object, names.
fn named<K: Resource>(reference: &ObjectReference, from: &K) -> Name {
    let own = from.meta().namespace.as_deref().unwrap_or_default();
    (reference.namespace_or(own).to_owned(), reference.name.clone())
}

/// A name beside an object.
fn beside<K: Resource>(object: &K, name: String) -> Name {
    (object.namespace().unwrap_or_default(), name)
}

/// The servers that a client wants to use, and those that it uses where it was before.
pub(super) fn wanted_servers(client: &McpClient) -> Vec<Name> {
    let access = client.spec.access.iter();
    let wanted: BTreeSet<_> = access.map(|entry| named(&entry.server, client)).collect();
    let status = client.status.as_ref();
    let granted = status.iter().flat_map(|status| &status.granted);
    let previous = status.iter().flat_map(|status| &status.previous);
    let held = granted.chain(previous.flat_map(|home| &home.granted));
    let held = held.filter_map(|granted| granted.server.split_once('/'));
    let held = held.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    wanted
        .into_iter()
        .chain(held)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The Secret that a client wants.
pub(super) fn wanted_secret(client: &McpClient) -> [Name; 1] {
    [beside(client, mcp_client::secret_name(client))]
}

/// The ConfigMap that a client wants, if it wants one.
pub(super) fn wanted_map(client: &McpClient) -> Option<Name> {
    mcp_client::has_account(client).then(|| beside(client, mcp_client::map_name(client)))
}

/// The ServiceAccount that a client wants, and no name for one that was refused its own: whichever another leaves may be
/// that.
pub(super) fn accounts(client: &McpClient) -> Vec<Name> {
    let account = mcp_client::account(client).map(str::to_owned);
    let refused = mcp_client::lacks_account(client).then(String::new);
    let names = account.into_iter().chain(refused);
    names.map(|name| beside(client, name)).collect()
}

/// What a server wants of Secrets and ConfigMaps, for its gate too, or reads there.
pub(super) fn parts(server: &McpServer) -> Vec<Name> {
    let own = server.name_any();
    let mut parts = vec![server_auth(&own), server_metadata(&own)];
    if enforcement::has_gate(server) {
        let gate = server
            .spec
            .enforcement
            .as_ref()
            .and_then(|enforcement| enforcement.gate.as_ref());
        let tls = gate.and_then(|gate| gate.tls.as_ref());
        parts.extend(tls.map(|tls| tls.secret_name.clone()));
        parts.extend([
            names::gate(&own),
            names::gate_peers(&own),
            names::gate_origin(&own),
        ]);
    }
    parts.into_iter().map(|part| beside(server, part)).collect()
}

/// The host at which a server with a gate is.
pub(super) fn gate_host(server: &McpServer) -> Option<String> {
    hosts::origin(server).filter(|_| enforcement::has_gate(server))
}

/// The namespace of a server with a gate.
pub(super) fn gate_namespace(server: &McpServer) -> Option<String> {
    server.namespace().filter(|_| enforcement::has_gate(server))
}

/// The server that exchanges by a policy.
fn exchanging(policy: &TokenExchangePolicy) -> Name {
    beside(policy, policy.spec.server_ref.name.clone())
}

/// The server for which a policy lets another exchange.
pub(super) fn target(policy: &TokenExchangePolicy) -> Option<Name> {
    policy
        .spec
        .mcp_server_ref
        .as_ref()
        .map(|target| named(target, policy))
}

/// The servers that a policy is about.
pub(super) fn parties(policy: &TokenExchangePolicy) -> Vec<Name> {
    target(policy).into_iter().chain([exchanging(policy)]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: &Value, status: &Value) -> K {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": kind, "metadata": {"namespace": "n", "name": "me"},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn client(change: &Value) -> McpClient {
        let mut spec = json!({"authorizationServerRef": {"name": "main"}});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        object("McpClient", &spec, &Value::Null)
    }

    fn names(names: impl IntoIterator<Item = Name>) -> Vec<String> {
        let names = names.into_iter();
        names
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect()
    }

    #[test]
    fn a_client_is_found_by_its_servers_and_what_it_wants_in_the_cluster() {
        let plain = client(&json!({}));
        assert_eq!(names(wanted_servers(&plain)), [""; 0]);
        assert_eq!(names(wanted_secret(&plain)), ["n/me-mcp-client"]);
        assert_eq!(names(wanted_map(&plain)), [""; 0]);
        assert_eq!(names(accounts(&plain)), [""; 0]);

        let by_token = json!({"grantTypes": ["client_credentials"],
            "authentication": {"method": "ServiceAccountToken", "serviceAccount": {"name": "robot"}}});
        let access = json!([{"server": {"name": "a"}}, {"server": {"namespace": "m", "name": "b"}}]);
        let full = json!({"managed": by_token, "access": access, "secret": {"name": "mine"}});
        let mut full = client(&full);
        assert_eq!(names(wanted_servers(&full)), ["m/b", "n/a"]);
        assert_eq!(names(wanted_secret(&full)), ["n/mine"]);
        assert_eq!(
            names(wanted_map(&full)),
            [format!("n/{}", mcp_client::map_name(&full))]
        );
        assert_eq!(names(accounts(&full)), ["n/robot"]);
        full.status = serde_json::from_value(json!({"conditions": [{"type": "Accepted", "status": "False",
            "reason": "ServiceAccountTaken", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .unwrap();
        assert_eq!(
            names(accounts(&full)),
            ["n/robot", "n/"],
            "any that is left may be it"
        );
    }

    #[test]
    fn a_server_is_found_by_its_parts_and_with_a_gate_by_its_place() {
        let server = |mode: &str, gate: Value| {
            let spec = json!({"authorizationServerRef": {"name": "main"}, "resource": "https://a.example.com/mcp",
                "enforcement": {"mode": mode, "gate": gate}});
            object::<McpServer>("McpServer", &spec, &Value::Null)
        };
        let external = server("External", Value::Null);
        let own = ["n/me-mcp-auth", "n/me-mcp-metadata"];
        assert_eq!(names(parts(&external)), own);
        assert_eq!((gate_host(&external), gate_namespace(&external)), (None, None));

        let gated = server("Gate", json!({"tls": {"secretName": "certificate"}}));
        let found = names(parts(&gated));
        assert_eq!(found[..2], own);
        assert!(found.contains(&"n/certificate".to_owned()) && found.len() == 6);
        assert_eq!(gate_host(&gated).as_deref(), Some("https://a.example.com"));
        assert_eq!(gate_namespace(&gated).as_deref(), Some("n"));
    }

    #[test]
    fn a_policy_is_found_by_both_servers() {
        let policy = |target: Value| {
            let mut spec =
                json!({"serverRef": {"name": "a"}, "scopes": [{"name": "s"}], "delivery": "Secret"});
            for (field, value) in target.as_object().unwrap() {
                spec[field] = value.clone();
            }
            object::<TokenExchangePolicy>("TokenExchangePolicy", &spec, &Value::Null)
        };
        let to_server = policy(json!({"mcpServerRef": {"namespace": "m", "name": "b"}}));
        assert_eq!(names(target(&to_server)), ["m/b"]);
        assert_eq!(names(parties(&to_server)), ["m/b", "n/a"]);
        let to_api = policy(json!({"apiRef": {"name": "orders"}}));
        assert_eq!(names(target(&to_api)), [""; 0]);
        assert_eq!(names(parties(&to_api)), ["n/a"]);
    }
}
