use serde_json::json;

use super::*;
use crate::policy::exchange::Target;

fn condition(type_: &str, status: &str) -> serde_json::Value {
    json!({"type": type_, "status": status, "reason": "Some", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn only(clients: &[&str]) -> Subjects {
    Subjects::Only(clients.iter().map(|id| (*id).to_owned()).collect())
}

/// A server with this status, which is registered and has proved credentials unless it says otherwise.
fn server(status: &serde_json::Value) -> McpServer {
    let mut status = status.clone();
    let all_well = json!([
        condition("Registered", "True"),
        condition("CredentialsReady", "True")
    ]);
    if status["conditions"].is_null() {
        status["conditions"] = all_well;
    }
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": "notes"},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp", "enforcement": {"mode": "External"}},
        "status": status,
    }))
    .unwrap()
}

#[test]
fn a_policy_is_programmed_when_its_clients_can_and_nobody_can_whom_no_policy_means() {
    let any = json!({"exchangeScopes": ["s"], "secretName": "x"});
    let limited = |clients: &[&str]| json!({"exchangeScopes": ["s"], "secretName": "x", "exchangeLimits": [{"scope": "s", "clients": clients}]});
    let with = |registered: &str, credentials: &str| {
        let conditions = [
            condition("Registered", registered),
            condition("CredentialsReady", credentials),
        ];
        json!({"exchangeScopes": ["s"], "secretName": "x", "conditions": conditions})
    };
    let cases = [
        (
            "not yet",
            json!({}),
            only(&["a"]),
            only(&["a"]),
            Some("cannot exchange for s yet"),
        ),
        ("exactly", limited(&["a"]), only(&["a"]), only(&["a"]), None),
        (
            "no limit yet",
            any.clone(),
            only(&["a"]),
            only(&["a"]),
            Some("the tokens of other clients"),
        ),
        (
            "the old limit",
            limited(&["a", "b"]),
            only(&["a"]),
            only(&["a"]),
            Some("the tokens of other clients"),
        ),
        (
            "a client to come",
            limited(&["a"]),
            only(&["a", "b"]),
            only(&["a", "b"]),
            Some("of all these clients yet"),
        ),
        (
            "a limit to go",
            limited(&["a"]),
            Subjects::Any,
            Subjects::Any,
            Some("of all these clients yet"),
        ),
        (
            "beside another policy",
            limited(&["a", "b"]),
            only(&["a"]),
            only(&["a", "b"]),
            None,
        ),
        (
            "beside one for everybody",
            any.clone(),
            only(&["a"]),
            Subjects::Any,
            None,
        ),
        ("for everybody", any, Subjects::Any, Subjects::Any, None),
        (
            "no credentials",
            json!({"exchangeScopes": ["s"], "conditions": [condition("Registered", "True")]}),
            Subjects::Any,
            Subjects::Any,
            Some("no proved credentials"),
        ),
        (
            "credentials that work no more",
            with("True", "False"),
            Subjects::Any,
            Subjects::Any,
            Some("no proved credentials: its condition CredentialsReady says why"),
        ),
        (
            "credentials that are not known to work",
            with("True", "Unknown"),
            Subjects::Any,
            Subjects::Any,
            Some("no proved credentials: its condition CredentialsReady says why"),
        ),
        (
            "limits that stay",
            with("False", "True"),
            Subjects::Any,
            Subjects::Any,
            Some("not registered as declared: its condition Registered says why"),
        ),
    ];
    let target = server(&json!({}));
    let accepted = Accepted {
        target: Target::Server(&target),
        scopes: ["s".to_owned()].into(),
        unassigned: [].into(),
    };
    for (name, status, own, given, wanting) in cases {
        let given = [("s".to_owned(), given)].into();
        let policy = policy("Secret");
        let halt = programmed(&policy, &server(&status), &accepted, &own, &given).err();
        let message = halt.as_ref().map(|halt| match halt {
            Halt::Waiting(refusal) => refusal.message.as_str(),
            other => panic!("{name}: {other:?}"),
        });
        assert_eq!(message.is_some(), wanting.is_some(), "{name}: {message:?}");
        assert!(
            message.is_none_or(|message| message.contains(wanting.unwrap_or_default())),
            "{name}: {message:?}"
        );
    }
}

fn policy(delivery: &str) -> TokenExchangePolicy {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy", "metadata": {"namespace": "n", "name": "p"},
        "spec": {"serverRef": {"name": "s"}, "apiRef": {"name": "a"}, "scopes": [{"name": "s"}], "delivery": delivery},
    }))
    .unwrap()
}

#[test]
fn what_a_gate_does_waits_until_it_does_it() {
    let target = server(&json!({}));
    let accepted = Accepted {
        target: Target::Server(&target),
        scopes: ["s".to_owned()].into(),
        unassigned: [].into(),
    };
    let given = [("s".to_owned(), Subjects::Any)].into();
    for (delivery, gate, reason) in [
        ("Header", "True", None),
        ("Header", "Unknown", Some("GateNotReady")),
        ("Endpoint", "Unknown", Some("GateNotReady")),
        ("Secret", "Unknown", None),
    ] {
        let conditions = ["Registered", "CredentialsReady"].map(|type_| condition(type_, "True"));
        let conditions: Vec<_> = conditions
            .into_iter()
            .chain([condition("GateReady", gate)])
            .collect();
        let server = server(&json!({"exchangeScopes": ["s"], "conditions": conditions}));
        let halt = programmed(&policy(delivery), &server, &accepted, &Subjects::Any, &given).err();
        let found = halt.map(|halt| match halt {
            Halt::Waiting(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        });
        assert_eq!(found, reason, "{delivery} {gate}");
    }
}

#[test]
fn a_policy_by_an_action_waits_for_its_profile() {
    let target = server(&json!({}));
    let accepted = Accepted {
        target: Target::Server(&target),
        scopes: ["s".to_owned()].into(),
        unassigned: [].into(),
    };
    let given = [("s".to_owned(), Subjects::Any)].into();
    let policy: TokenExchangePolicy = serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": {"namespace": "team", "name": "p"},
        "spec": {"serverRef": {"name": "notes"}, "mcpServerRef": {"name": "target"}, "action": "swap",
                 "scopes": [{"name": "s"}], "delivery": "Header"},
    }))
    .unwrap();
    for (held, expected) in [
        (None, "ActionNotReady"),
        (Some("other"), "ActionNotReady"),
        (Some("swap"), "GateNotReady"),
    ] {
        let actions: Vec<_> = held
            .into_iter()
            .map(|name| json!({"name": name, "profile": "tep_1", "subjectTokenType": "urn:x"}))
            .collect();
        let server = server(&json!({"exchangeScopes": ["s"], "exchangeActions": actions}));
        let halt = programmed(&policy, &server, &accepted, &Subjects::Any, &given).unwrap_err();
        assert!(
            matches!(&halt, Halt::Waiting(refusal) if refusal.reason == expected),
            "{held:?}: {halt:?}"
        );
    }
}
