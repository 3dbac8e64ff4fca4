//! The server's own credential at its authorization server, while tokens are exchanged: by itself or by its gate.

use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    observe::{Home, Observed},
    registering::Registered,
    status::Progress,
};
use crate::{
    cluster::{Ownership, ownership},
    context::{Context, find},
    controllers::{halt::Halt, home},
    credential::{self, Facts, flow},
    metrics::Kind,
    policy::names,
    provider::{Proof, ResourceSpec},
};

/// Chooses the server's own credential, while a policy needs one.
pub(super) async fn hold(
    want: &ResourceSpec,
    observed: &Observed,
    ctx: &Context,
) -> Result<Option<flow::Held>, Halt> {
    if !observed.given.needs_credential() {
        return Ok(None);
    }
    let facts = facts(observed, ctx);
    Ok(Some(
        flow::hold(ctx, &want.mark, facts, credential::choose(facts), None).await?,
    ))
}

fn facts<'a>(observed: &'a Observed, ctx: &Context) -> Facts<'a> {
    Facts::unrotated(
        observed.journal.as_ref(),
        observed.resource.secret.as_ref(),
        ctx.now(),
    )
}

/// Gives the workload its credential, while it exchanges tokens by itself, and proves that it works; or takes it away.
pub(super) async fn settle(
    server: &McpServer,
    home: &Home,
    registered: &Registered,
    observed: &Observed,
    held: Option<flow::Held>,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let mark = home::mark(server, &ctx.installation);
    let Some(held) = held else {
        take_back(server, ctx).await?;
        if observed.journal.is_some() {
            flow::forget(ctx, &mark).await?;
        }
        return Ok(());
    };
    let published = if observed.given.by_itself {
        hand_over(server, home, &registered.client_id, &held, ctx).await?
    } else {
        take_back(server, ctx).await?;
        None
    };
    let proof = Proof::TokenExchange {
        client_id: registered.client_id.clone(),
        secret: held.secret,
        by_actions: observed.given.actions().only,
    };
    flow::prove(
        ctx,
        &mark,
        home::administered(&home.connection)?,
        held.journal,
        &proof,
        registered.wrote,
        &facts(observed, ctx),
    )
    .await?;
    progress.handed_over(server, published);
    Ok(())
}

/// Gives the workload its credential. Returns name and hash of the Secret.
async fn hand_over(
    server: &McpServer,
    home: &Home,
    client_id: &str,
    held: &flow::Held,
    ctx: &Context,
) -> Result<Option<(String, String)>, Halt> {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return Ok(None);
    };
    let namespace = server.namespace().unwrap_or_default();
    let name = names::server_auth(&server.name_any());
    let content = credential::secret::Content {
        client_id,
        secret: Some(&held.secret),
        issuer: &home.connection.metadata.issuer,
        token_endpoint: &home.connection.metadata.token_endpoint,
        scope: None,
        resource: None,
    };
    let wanted = flow::Wanted {
        namespace: &namespace,
        name: &name,
        owner: &owner,
        labels: credential::secret::labels(None),
        data: credential::secret::data(&content, None),
    };
    let last = server
        .status
        .as_ref()
        .and_then(|status| status.secret_hash.as_deref());
    let published = flow::publish(ctx, wanted, last).await?;
    if published.repaired {
        ctx.metrics.drift_repaired(Kind::McpServer, "Secret");
    }
    Ok(Some((name, published.hash)))
}

/// Takes the credential away from the workload when no policy needs it any more. The status does not tell of one whose
/// proof failed, or that a pass wrote which did not get further; the cache does.
async fn take_back(server: &McpServer, ctx: &Context) -> Result<(), Halt> {
    let mark = home::mark(server, &ctx.installation);
    let name = names::server_auth(&server.name_any());
    if let Some(owner) = server.controller_owner_ref(&()) {
        let told = server.status.iter().any(|status| status.secret_name.is_some());
        let cached = find(&ctx.feeds.secrets.store(), &mark.namespace, &name);
        let cached = ownership(cached.as_deref().map(|found| &found.metadata), &owner);
        if told || matches!(cached, Ownership::Ours { .. }) {
            flow::take_back(ctx, &mark.namespace, &name, &owner).await?;
        }
    }
    Ok(())
}
