//! Resources at an authorization server at which only clients can be registered: either nobody has made them, and then no
//! McpServer can be served, or somebody else has, and what McpServers declare is taken as it is.

use std::sync::Arc;

use kube::ResourceExt;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpServer};
use serde_json::Value;

use super::{Refusal, scopes};
use crate::provider::{Holder, Mark, ObservedClient, ObservedLimits, ObservedScopes, Presence, ScopeOwner};

/// Whether somebody else has made the resources. `None`: the operator makes them, at a server that lets it.
pub fn is_external(authorization_server: &AuthorizationServer) -> Option<bool> {
    let registration = authorization_server.spec.dynamic_registration.as_ref()?;
    Some(registration.resource_management.is_some())
}

/// Why an McpServer cannot be served there.
///
/// # Errors
/// Nobody has made its resource.
pub fn may_serve(authorization_server: &AuthorizationServer) -> Result<(), Refusal> {
    if is_external(authorization_server) != Some(false) {
        return Ok(());
    }
    Err(Refusal::new(
        "ResourcesUnsupported",
        format!(
            "AuthorizationServer {} offers registration of clients only: let its administrator make resource and scopes there and say dynamicRegistration.resourceManagement: External, or use another AuthorizationServer",
            authorization_server.name_any()
        ),
    ))
}

/// The other McpServer that has this resource at the same issuer. Nobody else keeps two from having the same one there, by
/// which a token for one would be good for the other. Of two the older one has it.
pub fn holder<'a>(
    server: &McpServer,
    others: impl Iterator<Item = &'a McpServer>,
    shares_issuer: impl Fn(&McpServer) -> bool,
) -> Option<&'a McpServer> {
    let age = |server: &McpServer| {
        let meta = &server.metadata;
        let created = meta.creation_timestamp.clone().map(|time| time.0);
        (created, meta.namespace.clone(), meta.name.clone())
    };
    let name = |server: &McpServer| (server.namespace(), server.name_any());
    let mut others = others.filter(|other| name(other) != name(server));
    others.find(|other| {
        other.spec.resource == server.spec.resource && age(other) < age(server) && shares_issuer(other)
    })
}

/// The scopes that a server declares, as if they had been found with its mark.
pub fn scopes_of(server: &McpServer, installation: &str) -> ObservedScopes {
    let mark = Mark {
        installation: installation.to_owned(),
        kind: "McpServer".to_owned(),
        namespace: server.namespace().unwrap_or_default(),
        name: server.name_any(),
        uid: server.uid().unwrap_or_default(),
    };
    let owned = |name: String| {
        let owner = ScopeOwner {
            holder: Holder::Marked(mark.clone()),
            raw: Value::Null,
        };
        (name, Arc::new(owner))
    };
    Arc::new(scopes::effective(server).into_keys().map(owned).collect())
}

/// What is known of a resource that somebody else made: nothing.
pub fn resource() -> ObservedClient {
    ObservedClient {
        presence: Presence::Absent,
        client_id: None,
        secret: None,
        is_public: false,
        secret_expires: None,
        keys: [].into(),
        raw: None,
        limits: ObservedLimits::Unmarked,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn authorization_server(registration: &Value) -> AuthorizationServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {"issuer": "https://as.example", "dynamicRegistration": registration},
        }))
        .unwrap()
    }

    fn server(namespace: &str, resource: &str, created: &str) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": namespace, "name": "s", "creationTimestamp": created},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource,
                     "scopes": [{"name": "s:use", "description": "Use"}]},
        }))
        .unwrap()
    }

    #[test]
    fn servers_are_served_where_somebody_made_their_resources() {
        for (registration, served) in [
            (json!({"resourceManagement": "External"}), true),
            (json!({}), false),
        ] {
            let server = authorization_server(&registration);
            assert_eq!(may_serve(&server).is_ok(), served, "{registration}");
        }
        let mut keycloak = authorization_server(&json!({}));
        keycloak.spec.dynamic_registration = None;
        assert!(may_serve(&keycloak).is_ok());
    }

    #[test]
    fn a_resource_belongs_to_the_older_server_of_an_issuer() {
        let old = server("a", "https://h/", "2026-01-01T00:00:00Z");
        let young = server("b", "https://h/", "2026-01-02T00:00:00Z");
        let other = server("c", "https://i/", "2026-01-01T00:00:00Z");
        let all = [&old, &young, &other];
        let held = |of: &McpServer, shares: bool| {
            holder(of, all.into_iter(), |_| shares).and_then(ResourceExt::namespace)
        };
        assert_eq!(held(&young, true), Some("a".into()));
        assert_eq!(held(&young, false), None, "elsewhere it is another resource");
        assert_eq!(held(&old, true), None);
        assert_eq!(held(&other, true), None);
    }

    #[test]
    fn declared_scopes_count_for_their_own_server_only() {
        let (one, two) = (
            server("a", "https://h/", "2026-01-01T00:00:00Z"),
            server("b", "https://i/", "2026-01-01T00:00:00Z"),
        );
        let scopes = scopes_of(&one, "i");
        let is_of = |server: &McpServer| super::super::access::is_scope_of(server, "i", "s:use", &scopes);
        assert!(is_of(&one) && !is_of(&two));
    }
}
