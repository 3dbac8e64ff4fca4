use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::provider::{Mark, ScopeOwner};

fn server(allowed: serde_json::Value) -> McpServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "own", "name": "s"},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/", "enforcement": {"mode": "External"},
                 "scopes": [{"name": "read", "challenge": true}, {"name": "write"}], "allowedClients": allowed},
    }))
    .unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn allowed_scopes_follow_the_entries() {
    let cases = [
        (
            "unset, own namespace",
            json!(null),
            "own",
            "c",
            false,
            vec!["read", "write"],
        ),
        (
            "unset, another namespace",
            json!(null),
            "other",
            "c",
            false,
            vec![],
        ),
        ("unset, exchange", json!(null), "own", "c", true, vec![]),
        ("nobody", json!([]), "own", "c", false, vec![]),
        (
            "all: the challenge scopes",
            json!([{"namespaces": {"from": "All"}}]),
            "other",
            "c",
            false,
            vec!["read"],
        ),
        (
            "named scopes",
            json!([{"namespaces": {"from": "All"}, "scopes": ["write"]}]),
            "other",
            "c",
            false,
            vec!["write"],
        ),
        (
            "another name",
            json!([{"namespaces": {"from": "All"}, "names": ["d"]}]),
            "other",
            "c",
            false,
            vec![],
        ),
        (
            "this name",
            json!([{"namespaces": {"from": "All"}, "names": ["c"]}]),
            "other",
            "c",
            false,
            vec!["read"],
        ),
        (
            "same namespace only",
            json!([{"namespaces": {"from": "Same"}}]),
            "other",
            "c",
            false,
            vec![],
        ),
        (
            "no exchange said",
            json!([{"namespaces": {"from": "All"}}]),
            "other",
            "c",
            true,
            vec![],
        ),
        (
            "exchange said",
            json!([{"namespaces": {"from": "All"}, "exchange": true}]),
            "other",
            "c",
            true,
            vec!["read"],
        ),
        (
            "entries add up",
            json!([{"namespaces": {"from": "All"}}, {"namespaces": {"from": "All"}, "names": ["c"], "scopes": ["write"]}]),
            "other",
            "c",
            false,
            vec!["read", "write"],
        ),
        (
            "self-registered is for others",
            json!([{"selfRegistered": true}]),
            "own",
            "c",
            false,
            vec![],
        ),
    ];
    let labels = BTreeMap::new();
    for (name, entries, namespace, caller, exchanges, expected) in cases {
        let caller = Caller {
            tenant: Tenant {
                namespace,
                labels: &labels,
            },
            name: caller,
            exchanges,
        };
        assert_eq!(allowed(&server(entries), caller), set(&expected), "{name}");
    }
}

#[test]
fn a_server_of_another_namespace_is_closed_unless_it_allows_something() {
    let (nobody, all) = (json!([]), json!([{"namespaces": {"from": "All"}}]));
    let cases = [
        ("own, missing", "own", None, false),
        ("own, to nobody", "own", Some(&nobody), false),
        ("own, to all", "own", Some(&all), false),
        ("another's, missing", "other", None, true),
        ("another's, to nobody", "other", Some(&nobody), true),
        ("another's, to its own", "other", Some(&json!(null)), true),
        ("another's, to all", "other", Some(&all), false),
    ];
    let labels = BTreeMap::new();
    let entry: Access =
        serde_json::from_value(json!({"server": {"namespace": "own", "name": "s"}, "scopes": ["write"]}))
            .unwrap();
    for (name, namespace, allowed, closed) in cases {
        let caller = Caller {
            tenant: Tenant {
                namespace,
                labels: &labels,
            },
            name: "c",
            exchanges: false,
        };
        let server = allowed.map(|allowed| server(allowed.clone()));
        assert_eq!(is_closed(&entry, server.as_ref(), caller), closed, "{name}");
    }
}

#[test]
fn a_scope_counts_only_when_the_mark_there_is_this_servers() {
    let owner = |kind: &str, namespace: &str, installation: &str| ScopeOwner {
        holder: Holder::Marked(Mark {
            installation: installation.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: "s".into(),
            uid: "u".into(),
        }),
        raw: json!({}),
    };
    let cases = [
        ("ours", Some(owner("McpServer", "own", "i")), true),
        (
            "another namespace's",
            Some(owner("McpServer", "victim", "i")),
            false,
        ),
        (
            "another kind's",
            Some(owner("AuthorizationServer", "own", "i")),
            false,
        ),
        (
            "another installation's",
            Some(owner("McpServer", "own", "j")),
            false,
        ),
        (
            "unmarked",
            Some(ScopeOwner {
                holder: Holder::Unmarked { adopter: None },
                raw: json!({}),
            }),
            false,
        ),
        ("absent", None, false),
    ];
    let labels = BTreeMap::new();
    let caller = Caller {
        tenant: Tenant {
            namespace: "own",
            labels: &labels,
        },
        name: "c",
        exchanges: false,
    };
    let entry: Access =
        serde_json::from_value(json!({"server": {"name": "s"}, "scopes": ["write", "delete"]})).unwrap();
    for (name, owner, granted) in cases {
        let scopes: ObservedScopes = Arc::new(
            owner
                .into_iter()
                .map(|o| ("write".to_owned(), Arc::new(o)))
                .collect(),
        );
        let decision = decide(&entry, &server(json!(null)), caller, "i", &scopes);
        assert_eq!(
            decision.granted,
            set(if granted { &["write"] } else { &[] }),
            "{name}"
        );
        assert_eq!(
            decision.awaited,
            set(if granted { &[] } else { &["write"] }),
            "{name}"
        );
        assert_eq!(decision.refused, set(&["delete"]), "{name}");
    }
}
