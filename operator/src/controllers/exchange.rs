//! The policies by which a server exchanges tokens, as the controllers of both see them.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpServer, TokenExchangePolicy};

use crate::{
    cluster::{has_finalizer, is_deleting},
    context::{Context, find},
    policy::{
        exchange::{Accepted, Parties, judge},
        grants::Tenant,
    },
};

/// The policies by which this server exchanges and that count: one without our finalizer could vanish without its
/// permission being taken back first, and one that is being deleted gives nothing any more.
pub fn policies_of(server: &McpServer, ctx: &Context) -> Vec<Arc<TokenExchangePolicy>> {
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

/// What `read` makes of a policy of the server, if its target lets it be.
pub fn accepted<T>(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    ctx: &Context,
    read: impl FnOnce(&Accepted<'_>) -> T,
) -> Option<T> {
    let target = policy.spec.mcp_server_ref.as_ref().and_then(|target| {
        find(
            &ctx.feeds.servers.store(),
            target.namespace_or(tenant.namespace),
            &target.name,
        )
    });
    let parties = Parties {
        server,
        authorization_server,
        tenant,
        target: target.as_deref(),
    };
    judge(policy, parties).ok().map(|accepted| read(&accepted))
}
