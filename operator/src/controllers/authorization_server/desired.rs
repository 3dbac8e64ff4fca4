//! What is wanted: pure, the making of the provider aside.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AdoptedKind, AuthorizationServer};

use super::observe::Inputs;
use crate::{
    context::Context,
    controllers::halt::Halt,
    error::Error,
    policy::names,
    provider::{
        Provider, ScopeSpec,
        discovery::Discovered,
        keycloak::{Keycloak, Settings},
    },
};

/// A fingerprint of everything that a connection is made from.
pub(super) fn made_from(server: &AuthorizationServer, inputs: &Inputs, discovered: &Discovered) -> String {
    let parts = [
        format!("{:?}", server.uid()),
        server.spec.issuer.clone(),
        format!("{:?}", server.spec.endpoints),
        format!("{discovered:?}"),
        inputs.client_id.clone(),
        inputs.client_secret.expose().to_owned(),
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

/// Whether the AuthorizationServer consents that it takes over this scope itself.
pub(super) fn consents(server: &AuthorizationServer, scope: &str) -> bool {
    server.spec.adoption.iter().any(|consent| {
        consent.kind == AdoptedKind::Scope
            && consent.id == scope
            && Some(&consent.namespace) == server.metadata.namespace.as_ref()
            && Some(&consent.name) == server.metadata.name.as_ref()
    })
}

/// Chooses the provider.
pub(super) fn provider(
    server: &AuthorizationServer,
    inputs: &Inputs,
    discovered: &Discovered,
    ctx: &Context,
) -> Result<Arc<dyn Provider>, Halt> {
    let Some(realm) = &server.spec.keycloak else {
        return Err(Halt::refused(
            "ProviderMissing",
            "Say which authorization server it is: keycloak",
        ));
    };
    let endpoints = server.spec.endpoints.clone().unwrap_or_default();
    let keycloak = Keycloak::new(Settings {
        realm: &realm.realm,
        endpoints: &endpoints,
        discovered,
        client_id: inputs.client_id.clone(),
        client_secret: inputs.client_secret.clone(),
        ca_bundle: inputs.ca_bundle.as_deref().map(str::as_bytes),
        client_ids: names::client_id_prefix(&ctx.installation),
        realms: &ctx.realms,
        egress: &ctx.egress,
        metrics: ctx.metrics.clone(),
        leadership: ctx.leadership.clone(),
    })
    .map_err(Error::from)?;
    Ok(Arc::new(keycloak))
}
