//! The policies by which a server exchanges tokens, as the controllers of both see them.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpServer, TokenExchangePolicy};

use crate::{
    cluster::{has_finalizer, is_deleting},
    context::Context,
    controllers::{halt::Halt, home},
    policy::{
        exchange::{Accepted, Parties, judge},
        grants::Tenant,
    },
};

/// The policies by which this server exchanges and that count: one without our finalizer could vanish without its
/// permission being taken back first, and one that is being deleted gives nothing any more.
///
/// # Errors
/// While one of the namespace cannot be read: it may be one of them.
pub fn policies_of(server: &McpServer, ctx: &Context) -> Result<Vec<Arc<TokenExchangePolicy>>, Halt> {
    let own = server.namespace().unwrap_or_default();
    let unread = ctx.feeds.policies.unread();
    if let Some(policy) = unread
        .iter()
        .find(|policy| policy.namespace.as_ref() == Some(&own))
    {
        return Err(home::unreadable("TokenExchangePolicy", &own, &policy.name));
    }
    let (namespace, name) = (server.namespace(), server.name_any());
    let counts = |policy: &TokenExchangePolicy| {
        policy.namespace() == namespace
            && policy.spec.server_ref.name == name
            && has_finalizer(policy)
            && !is_deleting(policy)
    };
    let policies = ctx.feeds.policies.store().state().into_iter();
    Ok(policies.filter(|policy| counts(policy)).collect())
}

/// What `read` makes of a policy of the server, if its target lets it be.
///
/// # Errors
/// While the target cannot be read.
pub fn accepted<T>(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    ctx: &Context,
    read: impl FnOnce(&Accepted<'_>) -> T,
) -> Result<Option<T>, Halt> {
    let target = match &policy.spec.mcp_server_ref {
        Some(target) => home::mcp_server(ctx, target.namespace_or(tenant.namespace), &target.name)?,
        None => None,
    };
    let parties = Parties {
        server,
        authorization_server,
        tenant,
        target: target.as_deref(),
    };
    Ok(judge(policy, parties).ok().map(|accepted| read(&accepted)))
}
