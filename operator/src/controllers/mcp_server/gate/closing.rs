//! The NetworkPolicies around a gate and around the server behind it.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    network::{self, Surroundings},
    services::Origin,
};
use crate::{
    cluster::{Ownership, ownership},
    context::{Context, find},
    controllers::{halt::Halt, owned},
    metrics::Kind,
    policy::names,
};

/// Lets in whom the gate is for, and nobody else to where tokens are bought.
pub(super) async fn keep_gate(server: &McpServer, origin: &Origin, ctx: &Context) -> Result<(), Halt> {
    let policies = policies(server, ctx);
    let wanted =
        network::wanted(server).then(|| network::around_gate(server, origin, &surroundings(&policies, ctx)));
    let name = names::gate(&server.name_any());
    keep(server, &name, wanted.as_ref(), wanted.is_some(), ctx).await
}

/// Lets only the gate reach the server, but not before a gate `can_start`: until then the server stays as reachable as it
/// was. What is closed stays closed.
pub(super) async fn keep_server(
    server: &McpServer,
    origin: &Origin,
    can_start: bool,
    ctx: &Context,
) -> Result<(), Halt> {
    let is_wanted = network::wanted(server);
    let policies = policies(server, ctx);
    let policy = (is_wanted && can_start)
        .then(|| network::around_server(server, origin, &surroundings(&policies, ctx)))
        // While the number of its port is not known, what is closed stays closed.
        .flatten();
    let name = names::gate_origin(&server.name_any());
    let stays = is_wanted && origin.service.is_some();
    keep(server, &name, policy.as_ref(), stays, ctx).await
}

/// Whether there was a gate in front of the server before: nobody is to get past it because it cannot be changed now.
pub(super) fn has_gate(server: &McpServer, ctx: &Context) -> bool {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return false;
    };
    let (namespace, name) = (
        server.namespace().unwrap_or_default(),
        names::gate(&server.name_any()),
    );
    let deployment = find(&ctx.feeds.gates.deployments.store(), &namespace, &name);
    ownership(deployment.as_deref().map(|found| &found.metadata), &owner) == (Ownership::Ours { alive: true })
}

async fn keep(
    server: &McpServer,
    name: &str,
    wanted: Option<&NetworkPolicy>,
    stays: bool,
    ctx: &Context,
) -> Result<(), Halt> {
    let feed = &ctx.feeds.gates.network_policies;
    if let Some(policy) = wanted {
        owned::keep(Kind::McpServer, server, policy, feed, ctx).await?;
    } else if !stays {
        owned::remove::<_, NetworkPolicy, _>(server, name, feed, false, ctx).await?;
    }
    Ok(())
}

/// All NetworkPolicies of the namespace.
fn policies(server: &McpServer, ctx: &Context) -> Vec<Arc<NetworkPolicy>> {
    let namespace = server.namespace();
    let mut policies = ctx.feeds.gates.network_policies.store().state();
    policies.retain(|policy| policy.namespace() == namespace);
    policies
}

fn surroundings<'a>(policies: &'a [Arc<NetworkPolicy>], ctx: &'a Context) -> Surroundings<'a> {
    Surroundings {
        policies,
        operator: &ctx.config.namespace,
        gate_labels: &ctx.config.gate.labels,
    }
}
