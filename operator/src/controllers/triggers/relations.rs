//! How objects relate to each other, as their specs and statuses say.

use std::collections::BTreeSet;

use kube::Resource;
use mcp_auth_crds::v1alpha1::{
    AuthorizationServer, McpClient, McpServer, ObjectReference, TokenExchangePolicy,
};

use crate::policy::homes::homes;

/// Whether `reference`, written in an object, names `target`.
pub(super) fn names<K: Resource, T: Resource>(reference: &ObjectReference, from: &K, target: &T) -> bool {
    let own = from.meta().namespace.as_deref().unwrap_or_default();
    Some(reference.name.as_str()) == target.meta().name.as_deref()
        && Some(reference.namespace_or(own)) == target.meta().namespace.as_deref()
}

/// Whether a client is to be registered at the AuthorizationServer, or still is.
pub(super) fn is_or_was_at(client: &McpClient, server: &AuthorizationServer) -> bool {
    let homes = homes(client, false).into_iter();
    let mut homes = homes.map(|(namespace, name)| (Some(namespace), Some(name)));
    homes.any(|home| home == (server.metadata.namespace.clone(), server.metadata.name.clone()))
}

/// Whether it is this server that exchanges by the policy.
pub(super) fn exchanges(policy: &TokenExchangePolicy, server: &McpServer) -> bool {
    policy.metadata.namespace == server.metadata.namespace
        && Some(&policy.spec.server_ref.name) == server.metadata.name.as_ref()
}

/// Whether two policies are of the same server.
pub(super) fn is_of_the_same_server(one: &TokenExchangePolicy, other: &TokenExchangePolicy) -> bool {
    one.metadata.namespace == other.metadata.namespace && one.spec.server_ref == other.spec.server_ref
}

/// Whether only one of the two can have what both want.
pub(super) fn contend(one: &McpServer, other: &McpServer) -> bool {
    let scopes: BTreeSet<&String> = other.spec.scopes.iter().map(|scope| &scope.name.0).collect();
    one.spec.resource == other.spec.resource || one.spec.scopes.iter().any(|s| scopes.contains(&s.name.0))
}

/// Whether the server can exchange for something that the policy gives or gave: it may be the one that the policy
/// named before, which has to lose it.
pub(super) fn holds(server: &McpServer, policy: &TokenExchangePolicy) -> bool {
    let held = server.status.iter().flat_map(|status| &status.exchange_scopes);
    let given = policy.status.iter().flat_map(|status| &status.assigned_scopes);
    let given: BTreeSet<&String> = given
        .chain(policy.spec.scopes.iter().map(|scope| &scope.name.0))
        .collect();
    policy.metadata.namespace == server.metadata.namespace && held.into_iter().any(|s| given.contains(s))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(resource: &str, scopes: &[&str]) -> McpServer {
        let scopes: Vec<_> = scopes.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "n", "name": "s"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource, "scopes": scopes,
                "enforcement": {"mode": "External"}},
        }))
        .unwrap()
    }

    #[test]
    fn servers_contend_for_a_resource_and_for_scopes() {
        let one = server("https://a/", &["x", "y"]);
        for (resource, scopes, expected) in [
            ("https://a/", &[][..], true),
            ("https://b/", &["z", "y"], true),
            ("https://b/", &["z"], false),
            ("https://b/", &[], false),
        ] {
            let other = server(resource, scopes);
            assert_eq!(contend(&one, &other), expected, "{resource} {scopes:?}");
            assert_eq!(contend(&other, &one), expected, "{resource} {scopes:?}");
        }
    }
}
