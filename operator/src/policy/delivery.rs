//! How a server gets exchanged tokens, and what stands in the way of it.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{Delivery, McpServer, ScopeName, TokenExchangePolicy};

use super::{Refusal, enforcement, scopes};

/// Whether exchanged tokens can be handed over as the policy says; `others` are the policies of the same server that count.
pub fn deliverable<'a>(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    others: impl IntoIterator<Item = &'a TokenExchangePolicy>,
) -> Result<(), Refusal> {
    if policy.spec.delivery == Delivery::Secret {
        return Ok(());
    }
    let name = server.name_any();
    if !enforcement::has_gate(server) {
        return Err(Refusal::new(
            "GateRequired",
            format!(
                "McpServer {name} has no gate that could exchange tokens for it: set its enforcement.mode to Gate, or the policy's delivery to Secret"
            ),
        ));
    }
    let own = scopes::effective(server);
    let required = policy
        .spec
        .scopes
        .iter()
        .flat_map(|scope| scope.requires.iter().flatten());
    let unknown: BTreeSet<&str> = required
        .map(ScopeName::as_str)
        .filter(|scope| !own.contains_key(*scope))
        .collect();
    if !unknown.is_empty() {
        return Err(Refusal::new(
            "RequiredScopeUnknown",
            format!(
                "McpServer {name} has no scope of this name, which requires names: {}",
                unknown.into_iter().collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    if policy.spec.delivery == Delivery::Header
        && let Some(first) = others
            .into_iter()
            .filter(|other| is_before(other, policy))
            .min_by_key(|other| age(other))
    {
        return Err(Refusal::new(
            "HeaderTaken",
            format!(
                "The tokens of TokenExchangePolicy {}, which is older, are put into the header of requests to McpServer {name}: set delivery to Endpoint",
                first.name_any()
            ),
        ));
    }
    Ok(())
}

/// Whether another policy has the one header of the server.
fn is_before(other: &TokenExchangePolicy, policy: &TokenExchangePolicy) -> bool {
    other.spec.delivery == Delivery::Header
        && other.name_any() != policy.name_any()
        && age(other) < age(policy)
}

/// The oldest comes first; of two made in the same second, that with the first name.
fn age(policy: &TokenExchangePolicy) -> (Option<k8s_openapi::jiff::Timestamp>, String) {
    (
        policy.metadata.creation_timestamp.as_ref().map(|time| time.0),
        policy.name_any(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(mode: &str) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "n", "name": "notes"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/", "scopes": [{"name": "read"}],
                     "enforcement": {"mode": mode}},
        }))
        .unwrap()
    }

    fn policy(name: &str, delivery: &str, second: u32, requires: &Value) -> TokenExchangePolicy {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
            "metadata": {"namespace": "n", "name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"serverRef": {"name": "notes"}, "apiRef": {"name": "a"}, "delivery": delivery,
                     "scopes": [{"name": "x", "requires": requires}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_gate_is_needed_for_what_only_a_gate_can_do() {
        let none = Value::Null;
        for (mode, delivery, requires, expected) in [
            ("Gate", "Header", json!(["read"]), None),
            ("Gate", "Endpoint", none.clone(), None),
            ("Gate", "Secret", none.clone(), None),
            ("External", "Secret", none.clone(), None),
            ("External", "Header", none.clone(), Some("GateRequired")),
            ("External", "Endpoint", none, Some("GateRequired")),
            (
                "Gate",
                "Endpoint",
                json!(["read", "write"]),
                Some("RequiredScopeUnknown"),
            ),
        ] {
            let judged = deliverable(&policy("p", delivery, 1, &requires), &server(mode), []);
            assert_eq!(
                judged.err().map(|refusal| refusal.reason),
                expected,
                "{mode} {delivery} {requires}"
            );
        }
    }

    #[test]
    fn the_oldest_policy_has_the_header() {
        let header = |name: &str, second| policy(name, "Header", second, &Value::Null);
        let (old, new, twin) = (header("old", 1), header("new", 2), header("older-by-name", 1));
        let endpoint = policy("endpoint", "Endpoint", 0, &Value::Null);
        let all = [&new, &endpoint, &old, &twin];
        let refused = |policy: &TokenExchangePolicy| {
            let judged = deliverable(policy, &server("Gate"), all);
            judged
                .err()
                .map(|refusal| refusal.message.contains("TokenExchangePolicy old,"))
        };
        assert_eq!(refused(&old), None);
        assert_eq!(refused(&new), Some(true));
        assert_eq!(refused(&twin), Some(true));
        assert_eq!(refused(&endpoint), None);
    }
}
