//! Servers that share a host.

use mcp_auth_crds::v1alpha1::McpServer;
use url::Url;

/// Whether two servers are at the same scheme, host and port.
pub fn share(one: &McpServer, other: &McpServer) -> bool {
    let origin = |server: &McpServer| Url::parse(&server.spec.resource).ok().map(|url| url.origin());
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Whether no other server is at its host: then the metadata may stand at the host's top level too, where many clients
/// look (RFC 9728 section 3.3 wants them to be those of the resource that was asked for).
pub fn is_alone<'a>(server: &McpServer, all: impl IntoIterator<Item = &'a McpServer>) -> bool {
    let same = |other: &McpServer| {
        (&other.metadata.namespace, &other.metadata.name)
            == (&server.metadata.namespace, &server.metadata.name)
    };
    !all.into_iter().any(|other| !same(other) && share(server, other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(name: &str, resource: &str) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "n", "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource},
        }))
        .unwrap()
    }

    #[test]
    fn a_server_is_alone_unless_another_has_its_scheme_host_and_port() {
        let own = server("s", "https://h.example/a");
        for (resource, alone) in [
            ("https://h.example/b", false),
            ("https://h.example/", false),
            ("https://h.example:8443/a", true),
            ("http://h.example/a", true),
            ("https://i.example/a", true),
        ] {
            let other = server("other", resource);
            assert_eq!(is_alone(&own, [&own, &other]), alone, "{resource}");
        }
        assert!(is_alone(&own, [&own]));
    }
}
