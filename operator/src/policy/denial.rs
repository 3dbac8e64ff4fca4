//! Clients whose tokens gates refuse although they have not expired.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{McpClient, McpServer};

use super::names;

/// The ids of suspended clients that can hold tokens for the server: those that ask for access to it, or have it. Other
/// teams' clients that cannot are not named to the server's team.
pub fn denied<'a>(
    server: &McpServer,
    clients: impl IntoIterator<Item = &'a McpClient>,
    installation: &str,
) -> BTreeSet<String> {
    let name = (server.namespace().unwrap_or_default(), server.name_any());
    let concerned = clients
        .into_iter()
        .filter(|client| denied_at(client).contains(&name));
    concerned.map(|client| id(client, installation)).collect()
}

/// The McpServers, by namespace and name, whose gates refuse the tokens of a client: none as long as it is not suspended.
pub fn denied_at(client: &McpClient) -> BTreeSet<(String, String)> {
    if client.spec.suspended != Some(true) {
        return BTreeSet::new();
    }
    let own = client.namespace().unwrap_or_default();
    let asked = client.spec.access.iter().map(|access| {
        let server = &access.server;
        (server.namespace_or(&own).to_owned(), server.name.clone())
    });
    let granted = client.status.iter().flat_map(|status| &status.granted);
    let granted = granted.filter_map(|granted| granted.server.split_once('/'));
    asked
        .chain(granted.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())))
        .collect()
}

fn id(client: &McpClient, installation: &str) -> String {
    let known = client.status.as_ref().and_then(|status| status.client_id.clone());
    known.unwrap_or_else(|| {
        names::client_id(
            installation,
            &client.namespace().unwrap_or_default(),
            &client.name_any(),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn client(name: &str, suspended: Option<bool>, access: &Value, status: Value) -> McpClient {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "team", "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}, "suspended": suspended, "access": access},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn suspended_clients_are_denied_where_they_can_have_tokens() {
        let server: McpServer = serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "team", "name": "notes"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/"},
        }))
        .unwrap();
        let asks = |server: Value| json!([{"server": server, "scopes": ["a"]}]);
        let notes = asks(json!({"name": "notes"}));
        let granted = json!({"granted": [{"server": "team/notes", "resource": "https://h/"}]});
        let clients = [
            client("active", None, &notes, Value::Null),
            client("resumed", Some(false), &notes, Value::Null),
            client("suspended", Some(true), &notes, Value::Null),
            client(
                "by-id",
                Some(true),
                &asks(json!({"name": "notes", "namespace": "team"})),
                json!({"clientId": "other-id"}),
            ),
            client("had-it", Some(true), &json!([]), granted),
            client(
                "elsewhere",
                Some(true),
                &asks(json!({"name": "notes", "namespace": "other"})),
                Value::Null,
            ),
        ];
        let ids: Vec<_> = denied(&server, &clients, "i").into_iter().collect();
        assert_eq!(ids, ["i.team.had-it", "i.team.suspended", "other-id"]);
    }
}
