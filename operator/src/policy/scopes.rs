//! The scopes of an McpServer as they follow from its spec.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::names;

/// Name and description of each scope; the one that a server without scopes gets, if it has none.
pub fn effective(server: &McpServer) -> BTreeMap<String, String> {
    if server.spec.scopes.is_empty() {
        let name = names::default_scope(&server.namespace().unwrap_or_default(), &server.name_any());
        return BTreeMap::from([(name, format!("Use {}", server.name_any()))]);
    }
    let pair = |scope: &mcp_auth_crds::v1alpha1::ServerScope| {
        (
            scope.name.0.clone(),
            scope.description.clone().unwrap_or_default(),
        )
    };
    server.spec.scopes.iter().map(pair).collect()
}

/// The scopes of normal use, which challenge and metadata name: those that say so, or all when none does.
pub fn challenged(server: &McpServer) -> BTreeSet<String> {
    let marked: BTreeSet<_> = server
        .spec
        .scopes
        .iter()
        .filter(|s| s.challenge == Some(true))
        .map(|s| s.name.0.clone())
        .collect();
    if marked.is_empty() {
        effective(server).into_keys().collect()
    } else {
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(scopes: serde_json::Value) -> McpServer {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team-a", "name": "orders"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/", "scopes": scopes,
                     "enforcement": {"mode": "External"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_server_without_scopes_gets_one_that_is_challenged() {
        let server = server(serde_json::json!([]));
        let name = "mcp.team-a.orders".to_owned();
        assert_eq!(effective(&server).into_keys().collect::<Vec<_>>(), [name.clone()]);
        assert_eq!(challenged(&server), BTreeSet::from([name]));
    }

    #[test]
    fn when_no_scope_is_challenged_all_are() {
        let all = server(serde_json::json!([{"name": "a"}, {"name": "b"}]));
        assert_eq!(challenged(&all).len(), 2);
        let one = server(serde_json::json!([{"name": "a", "challenge": true}, {"name": "b"}]));
        assert_eq!(challenged(&one), BTreeSet::from(["a".to_owned()]));
    }
}
