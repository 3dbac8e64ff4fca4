//! What is the case: reads only.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, Delivery, McpServer, TokenExchangePolicy};

use crate::{
    cluster::{has_finalizer, is_deleting},
    connections::Connection,
    context::{Context, find},
    controllers::{halt::Halt, home, settle},
    credential::{flow, journal::Journal},
    policy::{
        exchange::{Parties, judge},
        grants::Tenant,
        names,
    },
    provider::{ObservedResource, ObservedScopes, Read},
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
    /// The scopes of others that accepted policies let this server get by exchange.
    pub(super) exchange: BTreeSet<String>,
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
    let policies = policies_of(server, ctx);
    let exchange = exchange(server, home, tenant, &policies, &scopes, ctx);
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

/// The policies by which this server exchanges and that count: one without our finalizer could vanish without its
/// permission being taken back first, and one that is being deleted gives nothing any more.
fn policies_of(server: &McpServer, ctx: &Context) -> Vec<Arc<TokenExchangePolicy>> {
    let (namespace, name) = (server.namespace(), server.name_any());
    let counts = |policy: &TokenExchangePolicy| {
        policy.namespace() == namespace
            && policy.spec.server_ref.name == name
            && has_finalizer(policy)
            && !is_deleting(policy)
    };
    ctx.feeds
        .policies
        .store()
        .state()
        .into_iter()
        .filter(|policy| counts(policy))
        .collect()
}

fn exchange(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    policies: &[Arc<TokenExchangePolicy>],
    scopes: &ObservedScopes,
    ctx: &Context,
) -> BTreeSet<String> {
    let attachable = |policy: &Arc<TokenExchangePolicy>| {
        let target = policy.spec.mcp_server_ref.as_ref().and_then(|target| {
            find(
                &ctx.feeds.servers.store(),
                target.namespace_or(tenant.namespace),
                &target.name,
            )
        });
        let authorization_server = &home.authorization_server;
        let parties = Parties {
            server,
            authorization_server,
            tenant,
            target: target.as_deref(),
        };
        let accepted = judge(policy, parties).ok()?;
        let scopes = accepted.attachable(&ctx.installation, authorization_server, scopes);
        Some(given(policy, scopes))
    };
    policies.iter().filter_map(attachable).flatten().collect()
}

/// What a policy gives of what could be attached: a paused one no more than before.
fn given(policy: &TokenExchangePolicy, attachable: BTreeSet<String>) -> BTreeSet<String> {
    if !settle::is_paused(policy) {
        return attachable;
    }
    let before = policy.status.iter().flat_map(|status| &status.assigned_scopes);
    before
        .filter(|scope| attachable.contains(*scope))
        .cloned()
        .collect()
}
