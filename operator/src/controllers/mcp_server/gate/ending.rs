//! What a gate loses, and the end of a gate.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Resource as _, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{EnforcementMode, McpServer};
use mcp_auth_gate_core::document::Document;

use super::{
    denials::denied,
    document::{self, Withdrawn},
    refresh,
};
use crate::{
    cluster::{Ownership, ownership},
    context::{Context, find},
    controllers::{halt::Halt, owned},
    error::Error,
    metrics::Kind,
    policy::{
        denial::{self, Denials},
        names,
    },
};

/// Takes out of the policy in force what was withdrawn, whatever else stands in the way of a new policy.
pub(in crate::controllers::mcp_server) async fn withdraw(
    server: &McpServer,
    withdrawn: &Withdrawn,
    ctx: &Context,
) -> Result<(), Halt> {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return Ok(());
    };
    let (namespace, name) = (
        server.namespace().unwrap_or_default(),
        names::gate(&server.name_any()),
    );
    let cached = find(&ctx.feeds.config_maps.store(), &namespace, &name);
    if !matches!(
        ownership(cached.as_deref().map(|map| &map.metadata), &owner),
        Ownership::Ours { .. }
    ) {
        return Ok(());
    }
    let api: Api<ConfigMap> = ctx.cluster.api(&namespace);
    let map = api.get_opt(&name).await?;
    let found = ownership(map.as_ref().map(|map| &map.metadata), &owner);
    let (Ownership::Ours { alive: true }, Some(in_force)) = (found, document::stored(map.as_ref())) else {
        return Ok(());
    };
    let (denials, left) = less(server, map.as_ref(), in_force.clone(), withdrawn, ctx);
    let text = left.to_text();
    let policy = Document::hash(text.as_bytes());
    if left == in_force {
        // The pods may not have been told yet.
        return Ok(refresh(server, &policy, None, ctx).await?);
    }
    let wanted = document::config_map(server, text, &denials);
    super::doubt(server, ctx);
    owned::keep_seen(Kind::McpServer, server, &wanted, map.as_ref(), ctx).await?;
    Ok(refresh(server, &policy, None, ctx).await?)
}

/// What is left of the policy in force, and since when it denies whom. Nobody is admitted again by this.
fn less(
    server: &McpServer,
    map: Option<&ConfigMap>,
    in_force: Document,
    withdrawn: &Withdrawn,
    ctx: &Context,
) -> (Denials, Document) {
    let mut denials = document::denials(map, ctx.now());
    for (id, denial) in denied(server, map, ctx) {
        denials.insert(id, denial);
    }
    let mut left = document::without(in_force, withdrawn, &denials);
    if withdrawn.spec_counts {
        left = document::with_spec(left, server);
    }
    denial::fit(&mut denials);
    left.denied_clients.retain(|id| denials.contains_key(id));
    (denials, left)
}

/// Takes the gate away from a server that has none any more.
pub(in crate::controllers::mcp_server) async fn remove(
    server: &McpServer,
    ctx: &Context,
) -> Result<(), Error> {
    let had_one = server.status.as_ref().and_then(|status| status.enforcement) == Some(EnforcementMode::Gate);
    let name = server.name_any();
    let (gate, peers, origin) = (
        names::gate(&name),
        names::gate_peers(&name),
        names::gate_origin(&name),
    );
    let feeds = &ctx.feeds;
    for policy in [&origin, &gate] {
        owned::remove::<_, NetworkPolicy, _>(server, policy, &feeds.gates.network_policies, had_one, ctx)
            .await?;
    }
    for service in [&gate, &peers, &origin] {
        owned::remove::<_, Service, _>(server, service, &feeds.services, had_one, ctx).await?;
    }
    owned::remove::<_, PodDisruptionBudget, _>(server, &gate, &feeds.gates.disruption_budgets, had_one, ctx)
        .await?;
    owned::remove::<_, Deployment, _>(server, &gate, &feeds.gates.deployments, had_one, ctx).await?;
    owned::remove::<_, ConfigMap, _>(server, &gate, &feeds.config_maps, had_one, ctx).await?;
    owned::remove::<_, Secret, _>(server, &gate, &feeds.secrets, had_one, ctx).await
}
