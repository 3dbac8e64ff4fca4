//! For the tests of a gate's parts.

use mcp_auth_crds::v1alpha1::McpServer;
use serde_json::{Value, json};

/// A server in mode Gate, with these fields in its spec besides.
pub(super) fn server(spec: &Value) -> McpServer {
    let mut server = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": "notes", "uid": "u", "generation": 1},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp",
                 "target": {"service": "notes"}},
    });
    let fields = server["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    serde_json::from_value(server).unwrap()
}
