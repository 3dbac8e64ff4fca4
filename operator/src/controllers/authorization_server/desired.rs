//! What is wanted: pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AdoptedKind, AuthorizationServer, ClientRegistration};

use super::{
    observe::{Credentials, Inputs},
    self_registration, tenant_settings,
};
use crate::{
    controllers::halt::Halt,
    policy::{names, presets},
    provider::{Capability, DocumentsSpec, DynamicSpec, RegistrationSpec, ScopeSpec, SignIn},
};

/// A fingerprint of everything in the cluster that a connection is made from.
pub(super) fn made_from(server: &AuthorizationServer, inputs: &Inputs) -> String {
    let parts = [
        format!("{:?}", server.uid()),
        server.spec.issuer.clone(),
        format!("{:?} {:?}", server.spec.endpoints, trust(server)),
        format!("{:?} {}", adoption(server), tenant_settings::are_managed(server)),
        self_registration::concerns(server).to_string(),
        match &inputs.credentials {
            Credentials::Client { client_id, sign_in } => {
                let shown = match sign_in {
                    SignIn::Secret(secret) => format!("secret {}", secret.expose()),
                    SignIn::Key(key) => format!("key {}", key.expose()),
                    SignIn::Token => "token".to_owned(),
                };
                format!("{client_id}\n{shown}")
            }
            Credentials::Registration(token) => {
                format!(
                    "registration {}",
                    token.as_ref().map_or("", |token| token.expose())
                )
            }
        },
        inputs.ca_bundle.clone().unwrap_or_default(),
    ];
    names::hash(parts.join("\n").as_bytes(), 16)
}

/// The scopes of the APIs that the operator manages.
pub(super) fn api_scopes(server: &AuthorizationServer) -> Vec<ScopeSpec> {
    let managed = server.spec.apis.iter().filter(|api| api.manage == Some(true));
    managed
        .flat_map(|api| {
            api.scopes.iter().map(|scope| ScopeSpec {
                name: scope.name.0.clone(),
                description: scope.description.clone().unwrap_or_default(),
                audience: api.audience.clone(),
            })
        })
        .collect()
}

/// Whether something may have been made in the realm so that two secrets of a client can be valid.
pub(super) fn overlaps(server: &AuthorizationServer) -> bool {
    let capabilities = server.status.iter().flat_map(|status| &status.capabilities);
    capabilities
        .into_iter()
        .any(|capability| capability == Capability::SecretOverlap.as_str())
}

/// Where programs of a user listen.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];

/// What clients are to find that register themselves, but for the scopes that they can have.
pub(super) fn registration(spec: &ClientRegistration) -> RegistrationSpec {
    RegistrationSpec {
        dynamic: spec.dynamic.as_ref().map(|dynamic| DynamicSpec {
            hosts: dynamic
                .trusted_redirect_hosts
                .iter()
                .map(|host| host.0.clone())
                .chain(presets::hosts(&dynamic.presets))
                .collect(),
            max_clients: dynamic.max_clients,
        }),
        documents: spec.metadata_documents.as_ref().map(|documents| DocumentsSpec {
            domains: documents
                .allowed_domains
                .iter()
                .map(|domain| domain.0.clone())
                .chain(presets::domains(&documents.presets))
                .collect(),
            hosts: match &documents.redirect_hosts {
                Some(hosts) => hosts.iter().map(|host| host.0.clone()).collect(),
                None => BTreeSet::from(LOOPBACK.map(str::to_owned)),
            }
            .into_iter()
            .chain(presets::hosts(&documents.presets))
            .collect(),
        }),
        refuse_device_flow: spec.refuse_device_flow == Some(true),
        ..RegistrationSpec::default()
    }
}

/// How it is to come that tokens of ServiceAccounts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust<'a> {
    /// The operator sees to it.
    Ours,
    /// Somebody else does, in what has this name.
    Theirs(&'a str),
}

/// See [`Trust`]; `None`: they are not to count.
pub(super) fn trust(server: &AuthorizationServer) -> Option<Trust<'_>> {
    let issuer = server.spec.keycloak.as_ref()?.service_account_issuer.as_ref()?;
    Some(match &issuer.identity_provider {
        Some(theirs) => Trust::Theirs(theirs),
        None => Trust::Ours,
    })
}

/// Which clients McpClients may take over where the authorization server chooses ids, as `McpClient/<namespace>/<name>`:
/// nothing else tells there which one is meant.
pub(super) fn adoption(server: &AuthorizationServer) -> BTreeMap<String, String> {
    if server.spec.auth0.is_none() {
        return BTreeMap::new();
    }
    let consents = server.spec.adoption.iter();
    consents
        .filter(|consent| consent.kind == AdoptedKind::Client)
        .map(|consent| {
            let adopter = format!("McpClient/{}/{}", consent.namespace, consent.name);
            (consent.id.clone(), adopter)
        })
        .collect()
}

/// Whether the spec can be honoured, beyond what the schema checks: a scope puts one audience into tokens, so no two
/// managed APIs can share one. At Auth0 each API has scopes of its own.
pub(super) fn check(server: &AuthorizationServer) -> Result<(), Halt> {
    if server.spec.auth0.is_some() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    match api_scopes(server)
        .into_iter()
        .find(|scope| !seen.insert(scope.name.clone()))
    {
        Some(twice) => Err(Halt::refused(
            "DuplicateScope",
            format!(
                "Two managed APIs declare the scope {}: give each API scopes of its own",
                twice.name
            ),
        )),
        None => Ok(()),
    }
}

/// Whether the AuthorizationServer consents that it takes over this scope itself.
pub(super) fn consents(server: &AuthorizationServer, scope: &str) -> bool {
    server.spec.adoption.iter().any(|consent| {
        consent.kind == AdoptedKind::Scope
            && consent.id == scope
            && Some(&consent.namespace) == server.metadata.namespace.as_ref()
            && Some(&consent.name) == server.metadata.name.as_ref()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(second: &str) -> AuthorizationServer {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {
                "issuer": "https://as/realms/r", "credentials": {"secretRef": {"name": "c"}},
                "apis": [
                    {"name": "a", "audience": "urn:a", "manage": true, "scopes": [{"name": "read"}]},
                    {"name": "b", "audience": "urn:b", "manage": true, "scopes": [{"name": second}]},
                    {"name": "c", "audience": "urn:c", "scopes": [{"name": "read"}]},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn presets_count_besides_what_is_listed() {
        let spec = serde_json::from_value(serde_json::json!({
            "dynamic": {"presets": ["Inspector"], "trustedRedirectHosts": ["app.example"]},
            "metadataDocuments": {"presets": ["VSCode"], "redirectHosts": []},
        }))
        .unwrap();
        let want = registration(&spec);
        let set = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(
            want.dynamic.unwrap().hosts,
            set(&["127.0.0.1", "app.example", "github.com", "localhost"])
        );
        let documents = want.documents.unwrap();
        assert_eq!(documents.domains, set(&["vscode.dev"]));
        assert!(documents.hosts.contains("127.0.0.1") && !documents.hosts.contains("localhost"));
    }

    #[test]
    fn managed_apis_cannot_share_a_scope() {
        assert!(check(&server("read")).is_err());
        assert!(check(&server("write")).is_ok());
        let mut at_auth0 = server("read");
        at_auth0.spec.auth0 = serde_json::from_value(serde_json::json!({"domain": "as"})).unwrap();
        assert!(check(&at_auth0).is_ok());
        assert_eq!(
            api_scopes(&server("write")).len(),
            2,
            "what is not managed is left alone"
        );
    }
}
