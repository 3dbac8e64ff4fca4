//! What a policy gave and gives no more, until the server has lost it: pure.

use std::{collections::BTreeSet, sync::Arc};

use mcp_auth_crds::v1alpha1::{ExchangeAction, McpServer, TokenExchangePolicy};

use crate::{cluster::is_deleting, policy::exchange::acts_by};

/// The scopes that were in force by this policy when it was looked at last, and that the server still holds.
pub(super) fn lasting(policy: &TokenExchangePolicy, server: &McpServer) -> Vec<String> {
    let held: BTreeSet<&String> = server
        .status
        .iter()
        .flat_map(|status| &status.exchange_scopes)
        .collect();
    policy
        .status
        .iter()
        .flat_map(|status| &status.assigned_scopes)
        .filter(|scope| held.contains(scope))
        .cloned()
        .collect()
}

/// The action that was in force by this policy when it was looked at last, if the server still has it.
pub(super) fn action(policy: &TokenExchangePolicy, server: &McpServer) -> Option<ExchangeAction> {
    let before = policy.status.as_ref()?.action.as_ref()?;
    acts_by(server, &before.name).cloned()
}

/// The action that the policy names, or by which it was in force, if the server still has it and no policy of the server
/// names it any more.
pub(super) fn action_left_over(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    policies: &[Arc<TokenExchangePolicy>],
) -> Option<String> {
    let named = |action: &&str| {
        let of_server = |other: &&Arc<TokenExchangePolicy>| is_of_server(policy, other);
        let mut others = policies.iter().filter(of_server);
        others.any(|other| other.spec.action.as_deref() == Some(*action))
    };
    let before = policy.status.iter().filter_map(|status| status.action.as_ref());
    let mut own = before
        .map(|action| action.name.as_str())
        .chain(policy.spec.action.as_deref());
    own.find(|action| acts_by(server, action).is_some() && !named(action))
        .map(str::to_owned)
}

/// Whether the other, or the policy itself, is one of its server and stays.
fn is_of_server(policy: &TokenExchangePolicy, other: &TokenExchangePolicy) -> bool {
    other.metadata.namespace == policy.metadata.namespace
        && other.spec.server_ref == policy.spec.server_ref
        && !is_deleting(other)
}

/// One of them that no policy of the server lists any more, among `policies`.
pub(super) fn left_over(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    policies: &[Arc<TokenExchangePolicy>],
) -> Option<String> {
    let of_server = |other: &&Arc<TokenExchangePolicy>| is_of_server(policy, other);
    let listed: BTreeSet<&String> = policies
        .iter()
        .filter(of_server)
        .flat_map(|other| other.spec.scopes.iter().map(|scope| &scope.name.0))
        .collect();
    lasting(policy, server)
        .into_iter()
        .find(|scope| !listed.contains(scope))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(name: &str, server: &str, listed: &[&str], assigned: &[&str]) -> Arc<TokenExchangePolicy> {
        let scopes: Vec<_> = listed.iter().map(|scope| json!({ "name": scope })).collect();
        let policy = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
            "metadata": { "namespace": "team", "name": name },
            "spec": { "serverRef": { "name": server }, "mcpServerRef": { "name": "archive" },
                      "scopes": scopes, "delivery": "Secret" },
            "status": { "assignedScopes": assigned },
        });
        Arc::new(serde_json::from_value(policy).unwrap())
    }

    fn server(held: &[&str]) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": { "namespace": "team", "name": "notes" },
            "spec": { "authorizationServerRef": { "name": "main" }, "resource": "https://h/",
                      "enforcement": { "mode": "External" } },
            "status": { "exchangeScopes": held },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_not_listed_any_more_is_left_over_until_the_server_has_lost_it() {
        let shorter = policy("a", "notes", &["read"], &["purge", "read"]);
        let elsewhere = policy("b", "drafts", &["purge"], &[]);
        let also = policy("c", "notes", &["purge"], &[]);
        let cases = [
            (&["read", "purge"][..], vec![], Some("purge")),
            (&["read", "purge"], vec![elsewhere], Some("purge")),
            (&["read", "purge"], vec![also], None),
            (&["read"], vec![], None),
        ];
        for (held, mut others, expected) in cases {
            others.push(Arc::clone(&shorter));
            let left = left_over(&shorter, &server(held), &others);
            assert_eq!(left.as_deref(), expected, "{held:?}");
        }
    }

    #[test]
    fn an_action_that_no_policy_names_any_more_is_left_over_until_the_server_has_lost_it() {
        let with = |name: &str, server: &str, named: Option<&str>, before: Option<&str>| {
            let mut policy = (*policy(name, server, &["read"], &["read"])).clone();
            policy.spec.action = named.map(str::to_owned);
            policy.status.as_mut().unwrap().action = before.map(|name| ExchangeAction {
                name: name.to_owned(),
                ..ExchangeAction::default()
            });
            Arc::new(policy)
        };
        let mut server = server(&["read"]);
        let held = |name: &str| ExchangeAction {
            name: name.to_owned(),
            ..ExchangeAction::default()
        };
        server.status.as_mut().unwrap().exchange_actions = vec![held("swap")];
        let changed = with("a", "notes", Some("other"), Some("swap"));
        let left = |others: &[&Arc<TokenExchangePolicy>]| {
            let mut all: Vec<_> = others.iter().map(|other| Arc::clone(other)).collect();
            all.push(Arc::clone(&changed));
            action_left_over(&changed, &server, &all)
        };
        assert_eq!(left(&[]).as_deref(), Some("swap"));
        assert_eq!(
            left(&[&with("b", "drafts", Some("swap"), None)]).as_deref(),
            Some("swap")
        );
        assert_eq!(left(&[&with("c", "notes", Some("swap"), None)]), None);
        assert_eq!(action(&changed, &server), Some(held("swap")));
        server.status.as_mut().unwrap().exchange_actions.clear();
        assert_eq!(action_left_over(&changed, &server, &[Arc::clone(&changed)]), None);
        assert_eq!(action(&changed, &server), None);
    }

    #[test]
    fn what_it_never_gave_is_not_left_over() {
        let new = policy("a", "notes", &["read"], &[]);
        assert_eq!(
            left_over(&new, &server(&["purge"]), &[Arc::clone(&new)]),
            None,
            "another policy is about to lose it"
        );
    }
}
