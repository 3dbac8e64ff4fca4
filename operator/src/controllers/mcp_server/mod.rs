//! McpServer: audience and scopes at the authorization server, ConfigMaps for the workload, the credentials with which
//! tokens are exchanged, and the gate in front of the server.

mod answers;
mod credentials;
mod desired;
mod gate;
mod holding;
mod observe;
mod probe;
mod public;
mod registering;
mod status;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::McpServer;
use mcp_auth_gate_core::document::Exchange;

use self::{
    gate::Outcome,
    holding::{hold_back, spec_counts},
    observe::{Home, Observed},
    status::Progress,
};
use super::{
    conflict, deletion,
    halt::{self, Halt},
    home, owned,
    pass::{self, Next},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    context::Context,
    credential::flow,
    error::Error,
    metrics::Kind,
    policy::{enforcement, exchange::locked, external, grants::Tenant},
    provider::{Credential, ObservedLimits, Plan, Read, ResourceSpec},
};

pub(in crate::controllers) use self::gate::{COMPONENT, GATE, ORIGIN};
pub use self::probe::Probes;

/// The pass, measured and counted.
pub async fn run(server: Arc<McpServer>, ctx: Arc<Context>) -> Result<Action, Error> {
    pass::run(Kind::McpServer, &*server, &ctx, reconcile(&server, &ctx)).await
}

/// One pass: look, decide, act, report.
async fn reconcile(server: &Arc<McpServer>, ctx: &Arc<Context>) -> Result<Next, Error> {
    if is_deleting(&**server) && !has_finalizer(&**server) {
        return Ok(Next::Await);
    }
    ctx.probes.recall(server);
    let mut progress = Progress::default();
    let result = if is_deleting(&**server) {
        let mut cleaned = clean_up(server, ctx).await;
        if cleaned.is_err() {
            // Its gate serves until the end.
            let held_back = hold_back(server, &progress, false, ctx).await;
            cleaned = held_back.and(cleaned);
        }
        let reference = Some(&server.spec.authorization_server_ref);
        let mark = home::mark(&**server, &ctx.installation);
        let forget = flow::forget(ctx, &mark);
        deletion::conclude(Kind::McpServer, &**server, reference, cleaned, forget, ctx).await
    } else {
        let advanced = Box::pin(advance(server, ctx, &mut progress)).await;
        if let Err(halt) = &advanced {
            hold_back(server, &progress, spec_counts(server, halt, ctx), ctx)
                .await
                .and(advanced)
        } else {
            advanced
        }
    };
    let now = ctx.now();
    // No watch shows what lacks our labels.
    let in_the_way = matches!(&result, Err(Halt::Refused(refusal)) if refusal.reason == owned::NOT_OWNED);
    let build = |halt: Option<&Halt>| status::status(server, progress, halt, now);
    pass::report(
        Kind::McpServer,
        &**server,
        server.status.as_ref(),
        result,
        build,
        ctx,
    )
    .await
    .map(|next| {
        if in_the_way && next == Next::Resync {
            status::again(server, now)
        } else {
            next
        }
    })
}

/// Brings the server as far as it gets, and notes in `progress` how far that is.
async fn advance(server: &Arc<McpServer>, ctx: &Arc<Context>, progress: &mut Progress) -> Result<Next, Halt> {
    let namespace = server.namespace().unwrap_or_default();
    let authorization_server =
        home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace)?;
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    if let Err(refusal) = desired::granted(server, &authorization_server, tenant) {
        withdraw(server, &authorization_server, ctx).await?;
        progress.withdrawn();
        return Err(Halt::Refused(refusal));
    }
    if !has_finalizer(&**server) {
        // It has nothing there that could be taken away.
        desired::check(server).map_err(Halt::Refused)?;
        desired::admits(server, &authorization_server).map_err(Halt::Refused)?;
        home::stays(&authorization_server)?;
    }
    external::may_serve(&authorization_server).map_err(Halt::Refused)?;
    let connection = home::connection(ctx, &authorization_server)?;
    let home = Home {
        authorization_server,
        connection,
    };

    let (observed, want, plan) = look(server, &home, tenant, ctx).await?;
    if let Some(halt) = stop(server, &home, &plan, ctx) {
        take_away(server, &home, &want, &plan, &halt, ctx, progress).await?;
        return Err(halt);
    }
    progress.accepted(server);
    progress.leaves(want.exchange_scopes.clone());
    ctx.cluster.add_finalizer(&**server).await?;

    progress.needs_credentials(observed.given.needs_credential());
    let held = credentials::hold(&want, &observed, ctx).await?;
    let secret = held.as_ref().map(|held| &held.secret);
    let registered = registering::register(server, &home, &want, secret, &observed, ctx, progress).await?;

    publish(server, &home, &observed, ctx).await?;
    progress.published(server);
    let own = secret.filter(|_| !observed.given.exchanges.is_empty());
    let own = own.map(|secret| (&*registered.client_id, secret));
    let for_gate = prepare_gate(server, own, &observed, ctx).await?;
    let gate = Gate {
        server,
        home: &home,
        observed: &observed,
        credentials: for_gate.as_deref(),
        ctx,
    };
    // Narrower rules do not wait for the proof of a credential, only exchanges do.
    let proved = gate::proved(observed.gate.document().as_ref(), &observed.given.exchanges);
    let kept = gate.keep(&proved).await;
    let settled = credentials::settle(server, &home, &registered, &observed, held, ctx, progress).await;
    let kept = if settled.is_ok() && proved != observed.given.exchanges {
        gate.keep(&observed.given.exchanges).await
    } else {
        kept
    };
    let version = match (kept, settled) {
        (Ok(outcome), settled) => {
            let version = outcome.map(|outcome| {
                progress.gate(outcome.reports, outcome.status);
                outcome.version
            });
            settled.map(|()| version.unwrap_or_default())?
        }
        (Err(halt), settled) => return Err(settled.err().unwrap_or(halt)),
    };
    progress.enforced(probe::enforcement(server, &version, ctx));
    Ok(progress.next(server, ctx.now()))
}

/// Gives the gate its credentials, before they are proved, or takes the gate away from a server that has none any more.
/// Returns by what a gate tells its credentials from others.
async fn prepare_gate(
    server: &McpServer,
    own: Option<(&str, &Credential)>,
    observed: &Observed,
    ctx: &Context,
) -> Result<Option<String>, Halt> {
    if enforcement::has_gate(server) {
        let credentials = gate::give_credentials(server, own, &observed.gate, ctx).await?;
        return Ok(Some(credentials));
    }
    Box::pin(gate::remove(server, ctx)).await?;
    Ok(None)
}

/// What is needed to put the gate in force, if there is one.
struct Gate<'a> {
    server: &'a Arc<McpServer>,
    home: &'a Home,
    observed: &'a Observed,
    credentials: Option<&'a str>,
    ctx: &'a Arc<Context>,
}

impl Gate<'_> {
    /// Puts it in force with these exchanges.
    async fn keep(&self, exchanges: &[Exchange]) -> Result<Option<Outcome>, Halt> {
        let Some(credentials) = self.credentials else {
            return Ok(None);
        };
        let keep = gate::keep(
            self.server,
            self.home,
            self.observed,
            exchanges,
            credentials,
            self.ctx,
        );
        Box::pin(keep).await.map(Some)
    }
}

/// How old the answers may be on which something new rests. Who makes what is there already is refused by the server, so all
/// that an older one costs is a resource without scopes, made for somebody who is refused then. Many that come at once are
/// made from one list of scopes, which a realm with thousands of them takes a while to give.
const RECENT: Read = Read::Within(Duration::from_secs(1));

/// What is the case, what is wanted, and what is to be done about it.
///
/// From memory one can tell that nothing is to be done. What changes something rests on what is there now: by now somebody
/// else may hold the resource or one of the scopes, and then nothing may be given. What is all new rests on what was there
/// a moment ago ([`RECENT`]).
async fn look(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    ctx: &Context,
) -> Result<(Observed, ResourceSpec, Plan), Halt> {
    let mut read = Read::Within(ctx.config.resync_interval / 2);
    loop {
        let observed = observe::observe(server, home, tenant, read, ctx).await?;
        let want = desired::resource(server, home, &observed, &ctx.installation);
        let plan = home
            .connection
            .provider()
            .map(|provider| provider.plan_resource(&want, &observed.resource, &observed.scopes, None))
            .unwrap_or_default();
        // Of the scopes of others that it gets, each has to be theirs still.
        let new = plan.only_creates() && want.exchange_scopes.is_empty();
        let enough = read == Read::Fresh || (new && read == RECENT);
        if plan.calls.is_empty() || enough {
            return Ok((observed, want, plan));
        }
        read = if new { RECENT } else { Read::Fresh };
    }
}

/// Why no more may be done than to take away, if so.
fn stop(server: &McpServer, home: &Home, plan: &Plan, ctx: &Context) -> Option<Halt> {
    let namespace = server.namespace().unwrap_or_default();
    let admitted = desired::check(server).and_then(|()| desired::admits(server, &home.authorization_server));
    let refused = admitted.err().map(Halt::Refused).or_else(|| {
        conflict::refusal(
            &plan.conflicts,
            &namespace,
            &ctx.installation,
            &home.authorization_server,
        )
    });
    refused
        .or_else(|| registering::held_by_another(server, home, ctx))
        .or_else(|| halt::is_paused(server).then_some(Halt::Paused))
}

/// Takes away what is not wanted any more, whatever else stands in the way: else a team could keep what was taken back
/// by writing something that is refused, or by a pause.
async fn take_away(
    server: &McpServer,
    home: &Home,
    want: &ResourceSpec,
    plan: &Plan,
    halt: &Halt,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    if !has_finalizer(server) {
        return Ok(());
    }
    progress.leaves(want.exchange_scopes.clone());
    if let Some(provider) = home.connection.provider() {
        provider.execute(&plan.revocations()).await?;
    }
    if !matches!(halt, Halt::Paused) {
        progress.lost(server, want);
    } else if let Some(status) = status::without(server, want) {
        ctx.cluster.write_status(server, &status).await?;
    }
    Ok(())
}

/// Writes the ConfigMaps that workloads and gateways read.
async fn publish(server: &McpServer, home: &Home, observed: &Observed, ctx: &Context) -> Result<(), Halt> {
    let exchanges = &observed.given.exchanges;
    for wanted in desired::config_maps(server, &home.connection.metadata, exchanges) {
        owned::keep_map(Kind::McpServer, server, &wanted, ctx).await?;
    }
    Ok(())
}

/// Takes away at the authorization server what the server's namespace is not granted any more.
async fn withdraw(
    server: &McpServer,
    authorization_server: &Arc<mcp_auth_crds::v1alpha1::AuthorizationServer>,
    ctx: &Context,
) -> Result<(), Halt> {
    if !has_finalizer(server) {
        return Ok(());
    }
    let connection = home::connection(ctx, authorization_server)?;
    let Some(provider) = connection.provider() else {
        return Ok(());
    };
    let read = Read::Within(ctx.config.resync_interval / 2);
    let resource = provider.observe_resource(&server.spec.resource, read).await?;
    let scopes = provider.observe_scopes(read).await?;
    let mark = home::mark(server, &ctx.installation);
    let want = home::withdrawn_resource(desired::bare_resource(server, mark.clone()));
    let plan = provider.plan_resource(&want, &resource, &scopes, None);
    // Its scopes may be left while its client is gone, or is somebody else's by now: the first is not made again for
    // this, and the second is not ours to change.
    let plan = if plan.conflicts.is_empty() {
        plan.revocations()
    } else {
        provider.plan_resource_removal(&mark, &resource, &scopes)
    };
    provider.execute(&plan).await?;
    Ok(())
}

/// Removes what is ours at the authorization server.
async fn clean_up(server: &McpServer, ctx: &Context) -> Result<(), Halt> {
    let namespace = server.namespace().unwrap_or_default();
    let authorization_server =
        home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace)?;
    if external::is_external(&authorization_server).is_some() {
        // What somebody else has made is theirs to take away.
        return Ok(());
    }
    let connection = home::connection(ctx, &authorization_server)?;
    let provider = home::administered(&connection)?;
    let resource = provider
        .observe_resource(&server.spec.resource, Read::Fresh)
        .await?;
    let scopes = provider.observe_scopes(Read::Fresh).await?;
    if matches!(resource.limits, ObservedLimits::Locked) {
        withdraw(server, &authorization_server, ctx).await?;
        return Err(Halt::Refused(locked(&connection.access)));
    }
    let mark = &home::mark(server, &ctx.installation);
    let replan = || async move {
        let resource = provider
            .observe_resource(&server.spec.resource, Read::Fresh)
            .await?;
        let scopes = provider.observe_scopes(Read::Fresh).await?;
        Ok(provider.plan_resource_removal(mark, &resource, &scopes))
    };
    let plan = provider.plan_resource_removal(mark, &resource, &scopes);
    settle::remove(provider, plan, || replan().boxed()).await
}
