use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::provider::{Mark, ScopeOwner};

fn server(namespace: &str, name: &str, authorization_server: &str, allowed: serde_json::Value) -> McpServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}/{name}")},
        "spec": {"authorizationServerRef": {"namespace": "platform", "name": authorization_server},
                 "resource": format!("https://{name}.example/"), "enforcement": {"mode": "External"},
                 "scopes": [{"name": "t:read", "challenge": true}, {"name": "t:write"}], "allowedClients": allowed},
    }))
    .unwrap()
}

fn authorization_server(granted: &[&str]) -> AuthorizationServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": "main"},
        "spec": {
            "issuer": "https://as.example/realms/r", "keycloak": {"realm": "r"},
            "credentials": {"secretRef": {"name": "c"}},
            "grants": [{"namespaces": {"from": "All"}, "tokenExchange": {"apis": granted}}],
            "apis": [
                {"name": "orders", "audience": "urn:orders", "scopes": [{"name": "orders.read"}], "manage": true},
                {"name": "legacy", "audience": "urn:legacy", "scopes": [{"name": "legacy.read"}]},
            ],
        },
    }))
    .unwrap()
}

fn policy(target: serde_json::Value, scopes: &[&str]) -> TokenExchangePolicy {
    let scopes: Vec<_> = scopes.iter().map(|name| json!({"name": name})).collect();
    let mut spec = json!({"serverRef": {"name": "caller"}, "scopes": scopes, "delivery": "Secret"});
    spec.as_object_mut()
        .unwrap()
        .extend(target.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": {"namespace": "team", "name": "p"}, "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_policy_is_judged_by_what_the_target_says() {
    let to_server = json!({"mcpServerRef": {"name": "target", "namespace": "other"}});
    let to_api = |name: &str| json!({"apiRef": {"name": name}});
    let open = json!([{"namespaces": {"from": "All"}, "exchange": true, "scopes": ["t:read"]}]);
    let silent = json!([{"namespaces": {"from": "All"}}]);
    let cases = [
        (
            "server that allows it",
            to_server.clone(),
            vec!["t:read"],
            Some(("main", open.clone())),
            "",
            vec!["t:read"],
        ),
        (
            "scope beyond",
            to_server.clone(),
            vec!["t:read", "t:write"],
            Some(("main", open.clone())),
            "",
            vec!["t:read"],
        ),
        (
            "only scopes beyond",
            to_server.clone(),
            vec!["t:write"],
            Some(("main", open.clone())),
            "ScopesNotOffered",
            vec![],
        ),
        (
            "server that did not say exchange",
            to_server.clone(),
            vec!["t:read"],
            Some(("main", silent)),
            "ExchangeNotAllowed",
            vec![],
        ),
        (
            "server that said nothing",
            to_server.clone(),
            vec!["t:read"],
            Some(("main", json!(null))),
            "ExchangeNotAllowed",
            vec![],
        ),
        (
            "another authorization server",
            to_server.clone(),
            vec!["t:read"],
            Some(("second", open)),
            "DifferentAuthorizationServer",
            vec![],
        ),
        (
            "another authorization server, and closed",
            to_server.clone(),
            vec!["t:read"],
            Some(("second", json!(null))),
            "ExchangeNotAllowed",
            vec![],
        ),
        (
            "no such server elsewhere",
            to_server,
            vec!["t:read"],
            None,
            "ExchangeNotAllowed",
            vec![],
        ),
        (
            "no such server here",
            json!({"mcpServerRef": {"name": "target"}}),
            vec!["t:read"],
            None,
            "waits",
            vec![],
        ),
        (
            "granted api",
            to_api("orders"),
            vec!["orders.read"],
            None,
            "",
            vec!["orders.read"],
        ),
        (
            "api not granted",
            to_api("legacy"),
            vec!["legacy.read"],
            None,
            "ApiNotGranted",
            vec![],
        ),
        (
            "scope of another api",
            to_api("orders"),
            vec!["legacy.read"],
            None,
            "ScopesNotOffered",
            vec![],
        ),
    ];
    let labels = BTreeMap::new();
    let caller = server("team", "caller", "main", json!(null));
    let authorization_server = authorization_server(&["orders"]);
    for (name, target, scopes, target_server, reason, assigned) in cases {
        let target_server = target_server.map(|(used, allowed)| server("other", "target", used, allowed));
        let parties = Parties {
            server: &caller,
            authorization_server: &authorization_server,
            tenant: Tenant {
                namespace: "team",
                labels: &labels,
            },
            target: target_server.as_ref(),
        };
        match judge(&policy(target, &scopes), parties) {
            Ok(accepted) => {
                assert_eq!(reason, "", "{name}");
                assert_eq!(
                    accepted.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
                    assigned,
                    "{name}"
                );
            }
            Err(refusal) => assert_eq!(refusal.map_or("waits", |r| r.reason), reason, "{name}"),
        }
    }
}

#[test]
fn scopes_are_attached_only_where_the_mark_there_is_the_targets() {
    let marked = |kind: &str, name: &str| {
        Holder::Marked(Mark {
            installation: "i".into(),
            kind: kind.into(),
            namespace: "platform".into(),
            name: name.into(),
            uid: "u".into(),
        })
    };
    let unmarked = Holder::Unmarked { adopter: None };
    let cases = [
        (
            "managed and ours",
            "orders",
            "orders.read",
            Some(marked("AuthorizationServer", "main")),
            true,
        ),
        (
            "managed and another's",
            "orders",
            "orders.read",
            Some(marked("McpServer", "main")),
            false,
        ),
        (
            "managed and unmarked",
            "orders",
            "orders.read",
            Some(unmarked.clone()),
            false,
        ),
        (
            "referred to and unmarked",
            "legacy",
            "legacy.read",
            Some(unmarked),
            true,
        ),
        (
            "referred to and a server's",
            "legacy",
            "legacy.read",
            Some(marked("McpServer", "victim")),
            false,
        ),
        ("built in", "legacy", "legacy.read", Some(Holder::BuiltIn), false),
        ("absent", "legacy", "legacy.read", None, false),
    ];
    let labels = BTreeMap::new();
    let caller = server("team", "caller", "main", json!(null));
    let authorization_server = authorization_server(&["orders", "legacy"]);
    let parties = Parties {
        server: &caller,
        authorization_server: &authorization_server,
        tenant: Tenant {
            namespace: "team",
            labels: &labels,
        },
        target: None,
    };
    for (name, api, scope, holder, attached) in cases {
        let policy = policy(json!({"apiRef": {"name": api}}), &[scope]);
        let accepted = judge(&policy, parties).unwrap();
        let scopes: ObservedScopes = Arc::new(
            holder
                .into_iter()
                .map(|holder| {
                    let raw = json!({});
                    (scope.to_owned(), Arc::new(ScopeOwner { holder, raw }))
                })
                .collect(),
        );
        assert_eq!(
            !accepted
                .attachable("i", &authorization_server, &scopes)
                .is_empty(),
            attached,
            "{name}"
        );
    }
}

#[test]
fn subjects_are_client_ids_of_the_installation() {
    let mut policy = policy(json!({"apiRef": {"name": "orders"}}), &["orders.read"]);
    assert_eq!(subjects(&policy, "i"), Subjects::Any);
    policy.spec.subject_clients =
        serde_json::from_value(json!([{"name": "desktop"}, {"name": "desktop", "namespace": "other"}]))
            .unwrap();
    assert_eq!(
        subjects(&policy, "i"),
        only(&["i.team.desktop", "i.other.desktop"])
    );
}

fn only(clients: &[&str]) -> Subjects {
    Subjects::Only(clients.iter().map(|id| (*id).to_owned()).collect())
}

#[test]
fn a_scope_is_for_the_clients_of_all_policies_that_give_it() {
    let cases = [
        ("nobody gives it", vec![], None),
        ("one", vec![only(&["a"])], Some(only(&["a"]))),
        (
            "two",
            vec![only(&["a"]), only(&["b", "a"])],
            Some(only(&["a", "b"])),
        ),
        (
            "one is for everybody",
            vec![only(&["a"]), Subjects::Any],
            Some(Subjects::Any),
        ),
        (
            "one was for everybody",
            vec![Subjects::Any, only(&["a"])],
            Some(Subjects::Any),
        ),
    ];
    for (name, policies, expected) in cases {
        let mut given = BTreeMap::from([("other".to_owned(), only(&["z"]))]);
        for subjects in &policies {
            give(&mut given, ["s".to_owned()], subjects);
        }
        assert_eq!(given.get("s"), expected.as_ref(), "{name}");
        assert_eq!(given["other"], only(&["z"]), "{name}");
    }
}

#[test]
fn what_is_in_force_is_what_the_status_says() {
    let mut server = server("team", "caller", "main", json!(null));
    assert!(in_force(&server).is_empty());
    server.status = serde_json::from_value(json!({
        "exchangeScopes": ["a", "b"], "exchangeLimits": [{"scope": "b", "clients": ["x", "y"]}],
    }))
    .unwrap();
    let expected = [
        ("a".to_owned(), Subjects::Any),
        ("b".to_owned(), only(&["x", "y"])),
    ];
    assert_eq!(in_force(&server), expected.into());
}

#[test]
fn only_a_policy_with_subjects_needs_what_limits_them() {
    let can = Access {
        capabilities: [Capability::SubjectClients].into(),
        ..Access::default()
    };
    let withheld = Access {
        withheld: [(Capability::SubjectClients, "manage-realm")].into(),
        ..Access::default()
    };
    for (access, reason, named) in [
        (can, None, ""),
        (withheld, Some("PermissionMissing"), "manage-realm"),
        (
            Access::default(),
            Some("SubjectClientsNotSupported"),
            "subjectClients",
        ),
    ] {
        let mut policy = policy(json!({"apiRef": {"name": "orders"}}), &["orders.read"]);
        assert_eq!(enforceable(&policy, &access), Ok(()), "{access:?}");
        policy.spec.subject_clients = serde_json::from_value(json!([{"name": "desktop"}])).unwrap();
        let refusal = enforceable(&policy, &access).err();
        assert_eq!(refusal.as_ref().map(|refusal| refusal.reason), reason);
        assert!(refusal.is_none_or(|refusal| refusal.message.contains(named)));
        assert_eq!(locked(&access).reason, "PermissionMissing");
    }
}

#[test]
fn an_action_takes_a_word_of_the_authorization_server() {
    let at = authorization_server(&["orders"]);
    let caller = server("team", "caller", "main", json!([]));
    let labels = BTreeMap::new();
    let parties = Parties {
        server: &caller,
        authorization_server: &at,
        tenant: Tenant {
            namespace: "team",
            labels: &labels,
        },
        target: None,
    };
    let mut wanting = policy(json!({"apiRef": {"name": "orders"}}), &["orders.read"]);
    assert!(judge(&wanting, parties).is_ok());
    wanting.spec.action = Some("swap".into());
    let refusal = judge(&wanting, parties).unwrap_err().unwrap();
    assert_eq!(refusal.reason, "ActionsNotSupported");
}
