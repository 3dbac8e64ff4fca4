//! Servers that share a host.

use mcp_auth_crds::{
    condition::{self, types},
    v1alpha1::McpServer,
};
use url::Url;

/// Scheme, host and port of a server.
pub fn origin(server: &McpServer) -> Option<String> {
    let url = Url::parse(&server.spec.resource).ok()?;
    Some(url.origin().ascii_serialization())
}

/// Whether two servers are at the same scheme, host and port.
fn share(one: &McpServer, other: &McpServer) -> bool {
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Whether a server has its place at its host. One that is refused has none, or a stranger could take others' metadata from
/// the host's top level by naming it.
pub fn is_accepted(server: &McpServer) -> bool {
    let status = server.status.as_ref();
    status.is_some_and(|status| condition::is_true(&status.conditions, types::ACCEPTED))
}

/// Whether no other accepted server is at its host: then the metadata may stand at the host's top level too, where many clients
/// look (RFC 9728 section 3.3 wants them to be those of the resource that was asked for).
pub fn is_alone<'a>(server: &McpServer, all: impl IntoIterator<Item = &'a McpServer>) -> bool {
    let same = |other: &McpServer| {
        (&other.metadata.namespace, &other.metadata.name)
            == (&server.metadata.namespace, &server.metadata.name)
    };
    !all.into_iter()
        .any(|other| !same(other) && is_accepted(other) && share(server, other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(name: &str, resource: &str, accepted: &str) -> McpServer {
        let accepted = json!({"type": "Accepted", "status": accepted, "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "n", "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource},
            "status": {"conditions": [accepted]},
        }))
        .unwrap()
    }

    #[test]
    fn a_server_is_alone_unless_another_has_its_scheme_host_and_port() {
        let own = server("s", "https://h.example/a", "True");
        for (resource, alone) in [
            ("https://h.example/b", false),
            ("https://h.example/", false),
            ("https://h.example:8443/a", true),
            ("http://h.example/a", true),
            ("https://i.example/a", true),
        ] {
            let other = server("other", resource, "True");
            assert_eq!(is_alone(&own, [&own, &other]), alone, "{resource}");
            for refused in ["False", "Unknown"] {
                let other = server("other", resource, refused);
                assert!(is_alone(&own, [&own, &other]), "a stranger at {resource}");
            }
        }
        assert!(is_alone(&own, [&own]));
    }
}
