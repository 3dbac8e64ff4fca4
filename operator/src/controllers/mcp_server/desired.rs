//! What is wanted: pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{
    AdoptedKind, AllowedClients, AuthorizationServer, DiscoveredMetadata, DurationText, McpServer,
};
use mcp_auth_gate_core::document::{Delivery, Exchange};
use serde_json::json;

use super::{
    gate::TOKENS_PORT,
    observe::{Home, Observed},
};
use crate::{
    cluster::config_map,
    controllers::home,
    policy::{
        Refusal,
        grants::{self, Tenant},
        names, scopes,
    },
    provider::{ExchangeActions, Mark, ResourceSpec},
};

/// Lifetime of exchanged tokens, unless the spec says otherwise.
const EXCHANGE_TOKEN_LIFETIME: Duration = Duration::from_mins(5);
/// Key of the metadata document in its ConfigMap: the well-known name of RFC 9728.
const METADATA_KEY: &str = "oauth-protected-resource";

/// Whether the spec itself can be honoured, beyond what the schema checks.
pub(super) fn check(server: &McpServer) -> Result<(), Refusal> {
    if !names::is_canonical(&server.spec.resource) {
        return Err(Refusal::new(
            "ResourceNotCanonical",
            "MCP clients would spell resource differently: write it as a URL parser returns it (IP addresses in their canonical form)",
        ));
    }
    Ok(())
}

/// Whether the server may be open to clients that register themselves.
pub(super) fn admits(server: &McpServer, authorization_server: &AuthorizationServer) -> Result<(), Refusal> {
    let opens = |entry: &AllowedClients| entry.self_registered == Some(true);
    let open = server.spec.allowed_clients.iter().flatten().any(opens);
    if open && authorization_server.spec.client_registration.is_none() {
        return Err(Refusal::new(
            "SelfRegistrationOff",
            "The AuthorizationServer does not let clients register themselves: remove the entry with selfRegistered from allowedClients, or ask for clientRegistration there",
        ));
    }
    Ok(())
}

/// Whether the namespace may register this resource and these scopes.
pub(super) fn granted(
    server: &McpServer,
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
) -> Result<(), Refusal> {
    let default_scope = names::default_scope(tenant.namespace, &server.name_any());
    let scopes = scopes::effective(server);
    grants::server(
        authorization_server,
        tenant,
        &server.spec.resource,
        scopes.keys(),
        &default_scope,
    )
}

/// The server at the authorization server, without permissions of others.
pub(super) fn bare_resource(server: &McpServer, mark: Mark) -> ResourceSpec {
    let lifetime = server
        .spec
        .exchange_token_lifetime
        .as_ref()
        .and_then(DurationText::duration);
    ResourceSpec {
        mark,
        resource: server.spec.resource.clone(),
        display_name: server.name_any(),
        scopes: scopes::effective(server),
        exchange_scopes: [].into(),
        exchange_audiences: [].into(),
        exchange_actions: ExchangeActions::default(),
        exchange_token_lifetime: lifetime.unwrap_or(EXCHANGE_TOKEN_LIFETIME),
        adopt: false,
        adopt_scopes: [].into(),
    }
}

/// The server at the authorization server.
pub(super) fn resource(
    server: &McpServer,
    home: &Home,
    observed: &Observed,
    installation: &str,
) -> ResourceSpec {
    let mark = home::mark(server, installation);
    let consents = home
        .authorization_server
        .spec
        .adoption
        .iter()
        .filter(|consent| (&consent.namespace, &consent.name) == (&mark.namespace, &mark.name));
    let (clients, scopes): (Vec<_>, Vec<_>) =
        consents.partition(|consent| consent.kind == AdoptedKind::Client);
    ResourceSpec {
        exchange_scopes: observed.given.scopes.clone(),
        exchange_audiences: observed.given.audiences.clone(),
        exchange_actions: observed.given.actions(),
        adopt: clients.iter().any(|consent| consent.id == server.spec.resource),
        adopt_scopes: scopes.into_iter().map(|consent| consent.id.clone()).collect(),
        ..bare_resource(server, mark)
    }
}

/// The ConfigMap of variables, and the one with the metadata document.
pub(super) fn config_maps(
    server: &McpServer,
    metadata: &DiscoveredMetadata,
    exchanges: &[Exchange],
) -> Vec<ConfigMap> {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return Vec::new();
    };
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let scopes: Vec<String> = scopes::challenged(server).into_iter().collect();
    let resource = server.spec.resource.clone();
    // Where the server buys tokens, by the name of a policy: `<this>/<policy>`.
    let buys = exchanges
        .iter()
        .any(|exchange| exchange.delivery == Delivery::Endpoint);
    let tokens = buys.then(|| {
        let address = format!(
            "http://{}.{namespace}.svc:{TOKENS_PORT}/token",
            names::gate(&name)
        );
        ("MCP_AUTH_TOKEN_URL", address)
    });
    let variables: BTreeMap<String, String> = [
        ("MCP_AUTH_ISSUER", metadata.issuer.clone()),
        ("MCP_AUTH_JWKS_URI", metadata.jwks_uri.clone()),
        ("MCP_AUTH_AUDIENCE", resource.clone()),
        ("MCP_AUTH_RESOURCE", resource.clone()),
        (
            "MCP_AUTH_METADATA_URL",
            names::metadata_url(&resource).unwrap_or_default(),
        ),
        ("MCP_AUTH_SCOPES", scopes.join(" ")),
    ]
    .into_iter()
    .chain(tokens)
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    let document = json!({
        "resource": resource,
        "authorization_servers": [metadata.issuer],
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    });
    vec![
        config_map(&namespace, &names::server_auth(&name), &owner, variables),
        config_map(
            &namespace,
            &names::server_metadata(&name),
            &owner,
            BTreeMap::from([(METADATA_KEY.to_owned(), format!("{document:#}\n"))]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team", "name": "orders", "uid": "u"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp", "enforcement": {"mode": "External"},
                     "scopes": [{"name": "read", "challenge": true}, {"name": "write"}]},
        }))
        .unwrap()
    }

    #[test]
    fn metadata_and_variables_come_from_the_resource_alone() {
        let metadata = DiscoveredMetadata {
            issuer: "https://as/realms/r".into(),
            jwks_uri: "https://as/certs".into(),
            token_endpoint: "https://as/token".into(),
            authorization_endpoint: None,
        };
        let maps = config_maps(&server(), &metadata, &[]);
        let variables = maps[0].data.as_ref().unwrap();
        assert_eq!(variables["MCP_AUTH_AUDIENCE"], "https://h.example/mcp");
        assert_eq!(
            variables["MCP_AUTH_METADATA_URL"],
            "https://h.example/.well-known/oauth-protected-resource/mcp"
        );
        assert_eq!(variables["MCP_AUTH_SCOPES"], "read");
        assert!(!variables.contains_key("MCP_AUTH_TOKEN_URL"));
        let document: serde_json::Value =
            serde_json::from_str(&maps[1].data.as_ref().unwrap()["oauth-protected-resource"]).unwrap();
        assert_eq!(document["resource"], "https://h.example/mcp");
        assert_eq!(document["authorization_servers"], json!(["https://as/realms/r"]));
        assert_eq!(document["scopes_supported"], json!(["read"]), "no full catalogue");
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    }

    #[test]
    fn a_server_that_buys_tokens_is_told_where() {
        let metadata = DiscoveredMetadata::default();
        let variables = |delivery| {
            let exchange = Exchange {
                name: "orders".into(),
                delivery,
                audience: "https://orders/".into(),
                scopes: vec![],
                subject_clients: None,
                subject_token_type: None,
            };
            config_maps(&server(), &metadata, &[exchange])[0]
                .data
                .clone()
                .unwrap()
        };
        let bought = variables(Delivery::Endpoint);
        assert_eq!(
            bought["MCP_AUTH_TOKEN_URL"],
            "http://orders-gate.team.svc:8082/token"
        );
        assert!(!variables(Delivery::Header).contains_key("MCP_AUTH_TOKEN_URL"));
    }

    #[test]
    fn a_server_cannot_open_itself_to_clients_that_the_authorization_server_does_not_admit() {
        let mut home: AuthorizationServer = serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {"issuer": "https://as/realms/r", "credentials": {"secretRef": {"name": "c"}}},
        }))
        .unwrap();
        let mut server = server();
        assert!(admits(&server, &home).is_ok());
        server.spec.allowed_clients = serde_json::from_value(json!([{"selfRegistered": true}])).unwrap();
        assert_eq!(admits(&server, &home).unwrap_err().reason, "SelfRegistrationOff");
        home.spec.client_registration =
            serde_json::from_value(json!({"dynamic": {"trustedRedirectHosts": ["localhost"]}})).unwrap();
        assert!(admits(&server, &home).is_ok());
        assert!(check(&server).is_ok());
        server.spec.resource = "https://1/".into();
        assert_eq!(check(&server).unwrap_err().reason, "ResourceNotCanonical");
    }
}
