//! Who validates tokens in front of a server.

use mcp_auth_crds::v1alpha1::{EnforcementMode, McpServer};

/// The mode of enforcement: what the spec says, and a gate where it says nothing.
pub fn mode(server: &McpServer) -> EnforcementMode {
    let enforcement = server.spec.enforcement.as_ref();
    enforcement
        .and_then(|enforcement| enforcement.mode)
        .unwrap_or(EnforcementMode::Gate)
}

/// Whether the operator runs a gate in front of the server.
pub fn has_gate(server: &McpServer) -> bool {
    mode(server) == EnforcementMode::Gate
}

/// Whether ways past the gate are allowed.
pub fn allows_bypass(server: &McpServer) -> bool {
    let enforcement = server.spec.enforcement.as_ref();
    enforcement.and_then(|enforcement| enforcement.allow_bypass) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_gate_is_what_absence_means() {
        for (enforcement, gate) in [
            (Value::Null, true),
            (json!({}), true),
            (json!({"gate": {"replicas": 2}}), true),
            (json!({"mode": "Gate"}), true),
            (json!({"mode": "External"}), false),
            (json!({"mode": "External", "gate": {"replicas": 2}}), false),
        ] {
            let server: McpServer = serde_json::from_value(json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "s"},
                "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/", "enforcement": enforcement},
            }))
            .unwrap();
            assert_eq!(has_gate(&server), gate, "{enforcement}");
        }
    }
}
