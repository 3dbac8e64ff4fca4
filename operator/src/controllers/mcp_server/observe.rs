//! What is the case: reads only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, Delivery, McpServer, TokenExchangePolicy};

use crate::{
    connections::Connection,
    context::Context,
    controllers::{exchange, halt::Halt, home, settle},
    credential::{flow, journal::Journal},
    policy::{
        exchange::{Accepted, enforceable, give, in_force, subjects},
        grants::Tenant,
        names,
    },
    provider::{ObservedResource, ObservedScopes, Read, Subjects},
};

/// The AuthorizationServer of a server, connected.
pub(super) struct Home {
    pub(super) authorization_server: Arc<AuthorizationServer>,
    pub(super) connection: Arc<Connection>,
}

/// What a pass needs to know.
#[derive(Debug)]
pub(super) struct Observed {
    /// The audience at the authorization server.
    pub(super) resource: ObservedResource,
    /// The realm's scopes.
    pub(super) scopes: ObservedScopes,
    /// The scopes of others that accepted policies let this server get by exchange, and for whose tokens.
    pub(super) exchange: BTreeMap<String, Subjects>,
    /// A policy wants the server to exchange by itself.
    pub(super) needs_secret: bool,
    /// The journal of the server's own credential.
    pub(super) journal: Option<Journal>,
    /// The ConfigMaps, in the order in which they are wanted.
    pub(super) config_maps: [Option<ConfigMap>; 2],
}

pub(super) async fn observe(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    read: Read,
    ctx: &Context,
) -> Result<Observed, Halt> {
    let (namespace, name) = (tenant.namespace, server.name_any());
    let provider = &*home.connection.provider;
    let (resource, scopes) = futures::try_join!(
        provider.observe_resource(&server.spec.resource, read),
        provider.observe_scopes(read)
    )?;
    let policies = exchange::policies_of(server, ctx)?;
    let exchange = exchange(server, home, tenant, &policies, &scopes, ctx)?;
    let config_maps: Api<ConfigMap> = ctx.cluster.api(namespace);
    let mark = home::mark(server, &ctx.installation);
    let (auth, metadata) = (names::server_auth(&name), names::server_metadata(&name));
    let (auth, metadata) = futures::try_join!(config_maps.get_opt(&auth), config_maps.get_opt(&metadata))?;
    Ok(Observed {
        resource,
        scopes,
        needs_secret: !exchange.is_empty()
            && policies
                .iter()
                .any(|policy| policy.spec.delivery == Delivery::Secret),
        exchange,
        journal: flow::read(ctx, &mark).await?,
        config_maps: [auth, metadata],
    })
}

/// The scopes of others that the policies give, and for whose tokens.
fn exchange(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    policies: &[Arc<TokenExchangePolicy>],
    scopes: &ObservedScopes,
    ctx: &Context,
) -> Result<BTreeMap<String, Subjects>, Halt> {
    let authorization_server = &home.authorization_server;
    let attachable =
        |accepted: &Accepted<'_>| accepted.attachable(&ctx.installation, authorization_server, scopes);
    let mut all = BTreeMap::new();
    for policy in policies {
        if enforceable(policy, &home.connection.access).is_err() {
            continue;
        }
        let scopes = exchange::accepted(policy, server, authorization_server, tenant, ctx, attachable)?;
        let own = subjects(policy, &ctx.installation);
        for (scope, subjects) in given(policy, server, scopes.unwrap_or_default(), &own) {
            give(&mut all, [scope], &subjects);
        }
    }
    Ok(all)
}

/// What a policy gives of what could be attached, and for whose tokens: a paused one no more than before.
fn given(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    attachable: BTreeSet<String>,
    own: &Subjects,
) -> BTreeMap<String, Subjects> {
    if !settle::is_paused(policy) {
        return attachable.into_iter().map(|scope| (scope, own.clone())).collect();
    }
    let in_force = in_force(server);
    let before = policy.status.iter().flat_map(|status| &status.assigned_scopes);
    before
        .filter(|scope| attachable.contains(*scope))
        .filter_map(|scope| Some((scope.clone(), own.and(in_force.get(scope)?)?)))
        .collect()
}
