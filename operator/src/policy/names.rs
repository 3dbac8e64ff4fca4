//! Names that we derive, so that a restore or re-creation finds its own again.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use url::Url;

/// The longest installation name that client ids carry as it is.
const SHORT_INSTALLATION: usize = 20;

/// The longest DNS label.
const LONGEST_LABEL: usize = 63;

/// The installation as client ids carry it: itself when short, else eight hex digits of its SHA-256.
///
/// It distinguishes the clusters that share a realm for people who look at client ids. Ownership is decided by
/// the whole installation in the mark, never by this.
pub fn short_installation(installation: &str) -> String {
    if installation.len() <= SHORT_INSTALLATION {
        installation.to_owned()
    } else {
        hash(installation.as_bytes(), 4)
    }
}

/// What the client ids of all McpClients of the installation begin with.
pub fn client_id_prefix(installation: &str) -> String {
    format!("{}.", short_installation(installation))
}

/// Client id of an McpClient: `<installation, short>.<namespace>.<name>`. Namespaces hold no dot, so it is unique.
pub fn client_id(installation: &str, namespace: &str, name: &str) -> String {
    format!("{}{namespace}.{name}", client_id_prefix(installation))
}

/// The scope of an McpServer that declares none.
pub fn default_scope(namespace: &str, name: &str) -> String {
    format!("mcp.{namespace}.{name}")
}

/// Secret of an McpClient, unless its spec names another.
pub fn client_secret(client: &str) -> String {
    format!("{client}-mcp-client")
}

/// ConfigMap of variables, and Secret of credentials, of an McpServer.
pub fn server_auth(server: &str) -> String {
    format!("{server}-mcp-auth")
}

/// ConfigMap with the metadata document of an McpServer.
pub fn server_metadata(server: &str) -> String {
    format!("{server}-mcp-metadata")
}

/// Deployment, Service, ConfigMap and Secret of the gate of an McpServer.
pub fn gate(server: &str) -> String {
    format!("{server}-gate")
}

/// Headless Service of the pods of a gate.
pub fn gate_peers(server: &str) -> String {
    format!("{server}-gate-peers")
}

/// Headless Service by which a gate finds the pods of its McpServer. Only the longest names of McpServers have to be cut
/// for it: a Service has a DNS label.
pub fn gate_origin(server: &str) -> String {
    const END: &str = "-gate-origin";
    if server.len() + END.len() <= LONGEST_LABEL {
        return format!("{server}{END}");
    }
    // Names are ASCII, and longer than what is left of them.
    let start: String = server.chars().take(42).collect();
    format!("{start}-{}{END}", hash(server.as_bytes(), 4))
}

/// Where the metadata document of `resource` has to be served: the well-known path inserted before the path of
/// the resource (RFC 9728 section 3.1). `None` when `resource` is no URL.
pub fn metadata_url(resource: &str) -> Option<String> {
    let mut url = Url::parse(resource).ok()?;
    let path = if url.path() == "/" { "" } else { url.path() };
    let inserted = format!("/.well-known/oauth-protected-resource{path}");
    url.set_path(&inserted);
    Some(url.into())
}

/// Whether a URL parser (WHATWG) gives `resource` back unchanged. MCP clients ask for what their parser returns,
/// so anything else would never match. The schema refuses all but hosts that merely look like IP addresses.
pub fn is_canonical(resource: &str) -> bool {
    Url::parse(resource).is_ok_and(|url| url.as_str() == resource)
}

/// What the subject token types of a server begin with ([`subject_token_type`]).
pub fn subject_token_types(installation: &str, namespace: &str, server: &str) -> String {
    let object = format!("{installation}/{namespace}/{server}");
    format!("urn:mcp-auth-operator:{}:", hash(object.as_bytes(), 16))
}

/// The type by which a server presents its callers' tokens to an action of its authorization server (RFC 8693 section 3):
/// each server has one of its own for each action.
pub fn subject_token_type(installation: &str, namespace: &str, server: &str, action: &str) -> String {
    let own = subject_token_types(installation, namespace, server);
    format!("{own}{}", hash(action.as_bytes(), 8))
}

/// The first `bytes` bytes of the SHA-256 of `data` in hex.
pub fn hash(data: &[u8], bytes: usize) -> String {
    Sha256::digest(data)
        .iter()
        .take(bytes)
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_readable_and_unique() {
        assert_eq!(client_id("prod", "team-a", "agent"), "prod.team-a.agent");
        let uid = "3f1c6d0e-7a60-4c59-9e64-0c6f8f1f6a55";
        assert_eq!(client_id(uid, "a", "b").split('.').next().map(str::len), Some(8));
        assert_ne!(
            short_installation(uid),
            short_installation("3f1c6d0e-7a60-4c59-9e64-0c6f8f1f6a56")
        );
    }

    #[test]
    fn the_objects_of_a_gate_have_names_that_kubernetes_takes() {
        assert_eq!(gate_origin("orders"), "orders-gate-origin");
        let longest = |last: &str| format!("{}{last}", "a".repeat(51));
        for server in [longest(""), longest("b"), longest("c")] {
            for name in [gate(&server), gate_peers(&server), gate_origin(&server)] {
                assert!(name.len() <= LONGEST_LABEL, "{name}");
            }
        }
        assert_ne!(gate_origin(&longest("b")), gate_origin(&longest("c")));
    }

    #[test]
    fn the_well_known_path_goes_before_the_path_of_the_resource() {
        for (resource, url) in [
            (
                "https://h.example/mcp",
                "https://h.example/.well-known/oauth-protected-resource/mcp",
            ),
            (
                "https://h.example/",
                "https://h.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://h.example:8443/a/b",
                "https://h.example:8443/.well-known/oauth-protected-resource/a/b",
            ),
        ] {
            assert_eq!(metadata_url(resource).as_deref(), Some(url));
        }
    }

    #[test]
    fn only_what_a_url_parser_leaves_alone_is_canonical() {
        for (resource, canonical) in [
            ("https://h.example/mcp", true),
            ("https://h.example/", true),
            ("https://[::1]/", true),
            ("https://h.example", false),
            ("https://1/", false),
            ("https://[0:0::1]/", false),
            ("https://H.example/", false),
            ("https://h.example:443/", false),
        ] {
            assert_eq!(is_canonical(resource), canonical, "{resource}");
        }
    }
}
