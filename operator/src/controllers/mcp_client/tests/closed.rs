//! What a client is told of servers in other namespaces.

use serde_json::{Value, json};

use super::{CLIENT, SECRET, at_work_beside, mark};
use crate::provider::Holder;

/// An McpServer in another namespace.
fn payroll(allowed: &Value, home: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "payroll", "name": "salaries", "uid": "p"},
        "spec": {"authorizationServerRef": {"namespace": "platform", "name": home},
                 "resource": "https://salaries.internal.example/mcp", "enforcement": {"mode": "External"},
                 "scopes": [{"name": "salaries:read"}, {"name": "salaries:write"}], "allowedClients": allowed},
    })
}

/// All that a client's team can see after the operator has looked, while the client asks for this access: conditions
/// without their times, what is granted, and the Secret without the credential.
async fn told(server: Option<Value>, access: &Value) -> Value {
    let more: Vec<_> = server.into_iter().collect();
    let stage = at_work_beside(&more).await;
    for scope in ["salaries:read", "salaries:write"] {
        let holder = Holder::Marked(mark("McpServer", "payroll", "salaries"));
        stage.server.put_scope(scope, holder);
    }
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["spec"]["access"] = access.clone();
    stage.cluster.put(client);
    stage.settle().await;
    let status = stage.cluster.get(CLIENT).unwrap()["status"].clone();
    let conditions: Vec<_> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| json!([c["type"], c["status"], c["reason"], c["message"]]))
        .collect();
    let (scope, resource) = (stage.value(SECRET, "scope"), stage.value(SECRET, "resource"));
    json!({"conditions": conditions, "granted": status["granted"], "scope": scope, "resource": resource})
}

#[tokio::test]
async fn a_client_learns_nothing_of_servers_that_do_not_allow_it() {
    let nobody = json!([]);
    let others = json!([{"namespaces": {"from": "All"}, "names": ["another"]}]);
    for entry in [
        json!({"server": {"namespace": "payroll", "name": "salaries"}}),
        json!({"server": {"namespace": "payroll", "name": "salaries"}, "scopes": ["salaries:read"]}),
    ] {
        let access = json!([entry]);
        let missing = told(None, &access).await;
        for server in [
            payroll(&Value::Null, "main"),
            payroll(&nobody, "main"),
            payroll(&others, "main"),
            payroll(&Value::Null, "other"),
            payroll(&others, "other"),
        ] {
            assert_eq!(told(Some(server.clone()), &access).await, missing, "{server}");
        }
        let text = missing.to_string();
        assert!(text.contains(r#"["Ready","False","NotAllowed","#), "{text}");
        assert_eq!(
            (&missing["granted"], &missing["scope"], &missing["resource"]),
            (&Value::Null, &json!(""), &Value::Null)
        );
        assert!(
            !text.contains("internal.example") && !text.contains("salaries:write"),
            "{text}"
        );
        assert_eq!(
            text.contains("salaries:read"),
            !entry["scopes"].is_null(),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_client_that_is_allowed_something_is_told_precisely() {
    let all = json!([{"namespaces": {"from": "All"}, "scopes": ["salaries:read"]}]);
    let entry = json!({"server": {"namespace": "payroll", "name": "salaries"}});
    let some = told(Some(payroll(&all, "main")), &json!([entry])).await;
    let text = some.to_string();
    assert!(
        text.contains("payroll/salaries does not allow salaries:write"),
        "{text}"
    );
    assert_eq!(some["granted"][0]["scopes"], json!(["salaries:read"]));
    assert_eq!(some["resource"], "https://salaries.internal.example/mcp");
    let elsewhere = told(Some(payroll(&all, "other")), &json!([entry]))
        .await
        .to_string();
    assert!(elsewhere.contains("DifferentAuthorizationServer"), "{elsewhere}");
}

/// Of the own namespace everything may be known.
#[tokio::test]
async fn a_missing_server_of_the_own_namespace_can_still_come() {
    let said = told(None, &json!([{"server": {"name": "drafts"}}]))
        .await
        .to_string();
    assert!(said.contains(r#"["Ready","Unknown","ServerNotFound","#), "{said}");
}
