use serde_json::json;

use super::*;
use crate::policy::exchange::Target;

fn only(clients: &[&str]) -> Subjects {
    Subjects::Only(clients.iter().map(|id| (*id).to_owned()).collect())
}

fn server(status: &serde_json::Value) -> McpServer {
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
            json!({"exchangeScopes": ["s"]}),
            Subjects::Any,
            Subjects::Any,
            Some("no proved credentials yet"),
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
        let halt = programmed(&server(&status), &accepted, &own, &given).err();
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
