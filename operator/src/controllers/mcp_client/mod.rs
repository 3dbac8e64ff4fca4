//! McpClient: a client at the authorization server, with exactly the access that it asks for and servers allow, and
//! a Secret with a credential that was proved to work.

mod desired;
mod observe;
mod status;

use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::jiff::SignedDuration;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::{
    annotations,
    v1alpha1::{AuthorizationServer, DeletionPolicy, McpClient},
};

use self::{observe::Observed, status::Progress};
use super::{
    conflict, deletion,
    halt::Halt,
    home,
    pass::{self, Next},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    connections::Connection,
    context::Context,
    credential::{self, Facts, flow},
    error::Error,
    metrics::Kind,
    policy::grants::{self, Tenant},
    provider::{Authentication, ClientSpec, Credential, Plan, Presence, Read},
};

pub(super) use self::desired::secret_name;

/// The pass, measured and counted.
pub async fn run(client: Arc<McpClient>, ctx: Arc<Context>) -> Result<Action, Error> {
    pass::run(Kind::McpClient, &*client, &ctx, reconcile(&client, &ctx)).await
}

/// One pass: look, decide, act, report.
async fn reconcile(client: &McpClient, ctx: &Context) -> Result<Next, Error> {
    if is_deleting(client) && !has_finalizer(client) {
        return Ok(Next::Await);
    }
    let mut progress = Progress::default();
    let result = if is_deleting(client) {
        let cleaned = clean_up(client, ctx).await;
        let reference = Some(&client.spec.authorization_server_ref);
        let mark = home::mark(client, &ctx.installation);
        let forget = flow::forget(ctx, &mark);
        deletion::conclude(Kind::McpClient, client, reference, cleaned, forget, ctx).await
    } else {
        advance(client, ctx, &mut progress).await
    };
    let now = ctx.now();
    let build = |halt: Option<&Halt>| status::status(client, progress, halt, now);
    pass::report(
        Kind::McpClient,
        client,
        client.status.as_ref(),
        result,
        build,
        ctx,
    )
    .await
}

/// Brings the client as far as it gets, and notes in `progress` how far that is.
async fn advance(client: &McpClient, ctx: &Context, progress: &mut Progress) -> Result<Next, Halt> {
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, &client.spec.authorization_server_ref, &namespace)?;
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    let managed = desired::managed(client)?;
    if let Err(refusal) = grants::client(&server, tenant, &managed.redirect_uris) {
        withdraw(client, &server, ctx).await?;
        progress.withdrawn();
        return Err(Halt::Refused(refusal));
    }
    if !has_finalizer(client) {
        home::stays(&server)?;
    }
    let connection = home::connection(ctx, &server)?;
    let provider = &*connection.provider;

    let observed = observe::observe(
        client,
        &connection,
        Read::Within(ctx.config.resync_interval / 2),
        ctx,
    )
    .await?;
    let access = desired::access(client, tenant, &server, &observed, &ctx.installation);
    let want = desired::client(client, managed, &access, &server, &ctx.installation);
    let plan = provider.plan_client(&want, &observed.client, &observed.scopes, None, ctx.now());
    if let Some(refused) = conflict::refusal(&plan.conflicts, &namespace, &ctx.installation, &server) {
        return Err(refused);
    }
    if let Some(halt) = desired::held_back(client, &access) {
        // What is not ours yet is not changed before all of it may be.
        if observed.client.presence.claimable(&want.mark, false) {
            provider.execute(&plan.revocations()).await?;
        }
        progress.held_back(client, &access);
        let lost = status::without(client, &want, &access, ctx.now());
        if let (Halt::Paused, Some(status)) = (&halt, lost) {
            ctx.cluster.write_status(client, &status).await?;
        }
        return Err(halt);
    }
    progress.accepted(&want);
    ctx.cluster.add_finalizer(client).await?;

    let held = hold(client, &want, &observed, ctx).await?;
    let secret = held.as_ref().map(|held| &held.secret);
    let plan = provider.plan_client(&want, &observed.client, &observed.scopes, secret, ctx.now());
    let wrote = register(client, &connection, &want, secret, plan, ctx).await?;
    progress.registered(&want);
    progress.granted(&access);
    hand_over(client, &connection, &want, &access, held, wrote, ctx, progress).await
}

/// Chooses the client's credential; a public client has none.
async fn hold(
    client: &McpClient,
    want: &ClientSpec,
    observed: &Observed,
    ctx: &Context,
) -> Result<Option<flow::Held>, Halt> {
    if want.authentication == Authentication::None {
        if observed.journal.is_some() {
            flow::forget(ctx, &want.mark).await?;
        }
        return Ok(None);
    }
    let held = flow::hold(ctx, &want.mark, facts(client, observed, ctx)).await?;
    if let Some(reason) = held.made {
        ctx.metrics.rotated(reason.as_str());
    }
    Ok(Some(held))
}

fn facts<'a>(client: &'a McpClient, observed: &'a Observed, ctx: &Context) -> Facts<'a> {
    let interval = client
        .spec
        .rotation
        .as_ref()
        .and_then(|rotation| rotation.interval.duration());
    Facts {
        journal: observed.journal.as_ref(),
        at_server: observed.client.secret.as_ref(),
        request: client
            .annotations()
            .get(annotations::ROTATE_REQUESTED_AT)
            .map(String::as_str),
        interval: interval.and_then(|interval| SignedDuration::try_from(interval).ok()),
        now: ctx.now(),
    }
}

/// Carries out the plan and reads back until nothing is left to do. Returns whether anything was written.
async fn register(
    client: &McpClient,
    connection: &Connection,
    want: &ClientSpec,
    secret: Option<&Credential>,
    plan: Plan,
    ctx: &Context,
) -> Result<bool, Halt> {
    let provider = &*connection.provider;
    let replan = || {
        async move {
            let observed = provider.observe_client(&want.client_id, Read::Fresh).await?;
            let scopes = provider
                .observe_scopes(Read::Within(ctx.config.resync_interval / 2))
                .await?;
            Ok(provider.plan_client(want, &observed, &scopes, secret, ctx.now()))
        }
        .boxed()
    };
    let version = format!(
        "{want:?} {:?}",
        secret.map(|secret| crate::policy::names::hash(secret.expose().as_bytes(), 8))
    );
    settle::settle(Kind::McpClient, client, provider, plan, &version, replan, ctx).await
}

/// Gives the workload its credential, proves that it works, and says when the next one is due.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the pass, which knows all of this"
)]
async fn hand_over(
    client: &McpClient,
    connection: &Connection,
    want: &ClientSpec,
    access: &desired::Granted,
    held: Option<flow::Held>,
    wrote: bool,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Next, Halt> {
    let Some(owner) = client.controller_owner_ref(&()) else {
        return Ok(Next::Resync);
    };
    let secret = held.as_ref().map(|held| &held.secret);
    let name = desired::secret_name(client);
    let wanted = flow::Wanted {
        namespace: &want.mark.namespace,
        name: &name,
        owner: &owner,
        labels: credential::secret::labels(client.spec.secret.as_ref()),
        data: desired::secret_data(client, want, access, &connection.metadata, secret),
    };
    let last = client
        .status
        .as_ref()
        .and_then(|status| status.secret_hash.as_deref());
    let published = flow::publish(ctx, wanted, last).await?;
    if published.repaired {
        ctx.metrics.drift_repaired(Kind::McpClient, "Secret");
    }
    let before = client
        .status
        .as_ref()
        .and_then(|status| status.secret_name.as_deref());
    if let Some(before) = before.filter(|before| *before != name) {
        flow::take_back(ctx, &want.mark.namespace, before, &owner).await?;
    }
    progress.published(name, published.hash);
    if !want.enabled {
        return Err(Halt::refused("Suspended", status::SUSPENDED));
    }
    let Some(held) = held else {
        progress.proved("A public client has no credential; its registration was read back");
        return Ok(Next::Resync);
    };
    let Some(proof) = desired::proof(want, access, &held.secret) else {
        return Err(Halt::refused("NoGrantTypes", "Name at least one grant type"));
    };
    let journal = flow::prove(
        ctx,
        &want.mark,
        &*connection.provider,
        held.journal,
        &proof,
        wrote,
    )
    .await?;
    progress.proved("The credential in the Secret was proved at the token endpoint");
    Ok(progress.rotation(client, &journal, ctx.now()))
}

/// Switches the client off at the authorization server when its namespace lost the grant.
async fn withdraw(client: &McpClient, server: &AuthorizationServer, ctx: &Context) -> Result<(), Halt> {
    if !has_finalizer(client) {
        return Ok(());
    }
    let connection = home::connection(ctx, server)?;
    let provider = &*connection.provider;
    let read = Read::Within(ctx.config.resync_interval / 2);
    let mark = home::mark(client, &ctx.installation);
    let observed = provider
        .observe_client(&desired::client_id(client, &ctx.installation), read)
        .await?;
    if observed.presence == Presence::Absent || !observed.presence.claimable(&mark, false) {
        return Ok(());
    }
    let scopes = provider.observe_scopes(read).await?;
    let want = desired::client(
        client,
        desired::managed(client)?,
        &desired::Granted::default(),
        server,
        &ctx.installation,
    );
    let plan = provider.plan_client(&home::withdrawn_client(want), &observed, &scopes, None, ctx.now());
    provider.execute(&plan).await?;
    Ok(())
}

/// Removes the client at the authorization server unless it is to be retained.
async fn clean_up(client: &McpClient, ctx: &Context) -> Result<(), Halt> {
    if client.spec.deletion_policy == Some(DeletionPolicy::Retain) {
        return Ok(());
    }
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, &client.spec.authorization_server_ref, &namespace)?;
    let connection = home::connection(ctx, &server)?;
    let provider = &*connection.provider;
    let mark = &home::mark(client, &ctx.installation);
    let client_id = &desired::client_id(client, &ctx.installation);
    let replan = || async move {
        let observed = provider.observe_client(client_id, Read::Fresh).await?;
        Ok(provider.plan_client_removal(mark, &observed))
    };
    settle::remove(provider, replan().await?, || replan().boxed()).await
}

#[cfg(test)]
mod tests;
