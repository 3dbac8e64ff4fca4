//! The objects of a gate besides its policy, its credentials and its NetworkPolicies.

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    deployment, parts,
    services::{self, Origin},
};
use crate::{
    context::{Context, find},
    controllers::{halt::Halt, owned},
    metrics::Kind,
    policy::names,
};

pub(super) async fn keep_services(
    server: &McpServer,
    origin: &Origin,
    sells: bool,
    ctx: &Context,
) -> Result<(), Halt> {
    let feed = &ctx.feeds.services;
    let wanted = [services::front(server, sells), services::peers(server)];
    for service in wanted.iter().chain(origin.service.as_ref()) {
        let name = service.name_any();
        let found = find(&feed.store(), &service.namespace().unwrap_or_default(), &name);
        if found.is_some_and(|found| services::changes_family(&found, service)) {
            owned::remove::<_, Service, _>(server, &name, feed, false, ctx).await?;
        }
        owned::keep(Kind::McpServer, server, service, feed, ctx).await?;
    }
    if origin.service.is_none() {
        let name = names::gate_origin(&server.name_any());
        owned::remove::<_, Service, _>(server, &name, feed, false, ctx).await?;
    }
    Ok(())
}

/// Returns the generation of the Deployment as it is now wanted: a cache may not show it yet.
pub(super) async fn keep_pods(server: &McpServer, ctx: &Context) -> Result<Option<i64>, Halt> {
    let certificate = certificate(server, ctx).await?;
    let deployment =
        deployment::deployment(server, &ctx.config.gate, certificate.as_deref()).map_err(Halt::Refused)?;
    let kept = owned::keep(
        Kind::McpServer,
        server,
        &deployment,
        &ctx.feeds.gates.deployments,
        ctx,
    )
    .await?;
    let budgets = &ctx.feeds.gates.disruption_budgets;
    if let Some(budget) = deployment::disruption_budget(server) {
        owned::keep(Kind::McpServer, server, &budget, budgets, ctx).await?;
    } else {
        let name = names::gate(&server.name_any());
        owned::remove::<_, PodDisruptionBudget, _>(server, &name, budgets, false, ctx).await?;
    }
    Ok(kept.generation)
}

/// By what the certificate is told from others: a new one is read when the pods start.
async fn certificate(server: &McpServer, ctx: &Context) -> Result<Option<String>, Halt> {
    let Some(tls) = parts::options(server).tls else {
        return Ok(None);
    };
    let api: Api<Secret> = ctx.cluster.api(&server.namespace().unwrap_or_default());
    let Some(secret) = api.get_opt(&tls.secret_name).await? else {
        return Err(Halt::waiting(
            "TlsSecretNotFound",
            format!(
                "Secret {} does not exist: create it, or correct enforcement.gate.tls",
                tls.secret_name
            ),
        ));
    };
    let data = secret.data.unwrap_or_default();
    match (data.get("tls.crt"), data.get("tls.key")) {
        (Some(certificate), Some(_)) => Ok(Some(names::hash(&certificate.0, 16))),
        _ => Err(Halt::refused(
            "TlsSecretIncomplete",
            format!("Secret {} lacks tls.crt or tls.key", tls.secret_name),
        )),
    }
}
