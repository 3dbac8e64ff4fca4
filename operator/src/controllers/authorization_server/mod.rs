//! AuthorizationServer: a connection that was checked, the scopes of managed APIs, and the credential that is kept
//! for clean-up.

mod desired;
mod kept;
mod observe;
mod status;

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::AuthorizationServer;

use self::{
    observe::{Inputs, Referrers},
    status::Progress,
};
use super::{
    conflict, deletion,
    halt::Halt,
    home,
    pass::{self, Next, key},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    connections::Connection,
    context::Context,
    error::Error,
    metrics::Kind,
    provider::{Access, ProviderError, Read, discovery},
};

/// The pass, measured and counted.
pub async fn run(server: Arc<AuthorizationServer>, ctx: Arc<Context>) -> Result<Action, Error> {
    pass::run(
        Kind::AuthorizationServer,
        &*server,
        &ctx,
        reconcile(&server, &ctx),
    )
    .await
}

/// One pass: look, decide, act, report.
async fn reconcile(server: &AuthorizationServer, ctx: &Context) -> Result<Next, Error> {
    let namespace = server.namespace().unwrap_or_default();
    if is_deleting(server) && !has_finalizer(server) {
        ctx.connections.remove(&namespace, &server.name_any());
        return Ok(Next::Await);
    }
    let referrers = observe::referrers(server, ctx);
    let mut progress = Progress::new(&referrers);
    let result = if is_deleting(server) {
        delete(server, &referrers, ctx, &mut progress).await
    } else {
        advance(server, ctx, &mut progress).await
    };
    status::report(server, progress, result, ctx).await
}

/// Connects, checks, and keeps what belongs to the AuthorizationServer itself as declared.
async fn advance(server: &AuthorizationServer, ctx: &Context, progress: &mut Progress) -> Result<Next, Halt> {
    let inputs = observe::inputs(server, ctx).await?;
    let connection = connect(server, inputs, ctx, progress).await?;
    desired::check(server)?;
    manage_apis(server, &connection, ctx, progress).await?;
    Ok(Next::Resync)
}

/// The connection, checked not long ago; made anew when what it is made of has changed.
///
/// Every change of a referring object leads here, so a check is made once per resync and not at each pass, unless
/// the last pass failed.
async fn connect(
    server: &AuthorizationServer,
    inputs: Inputs,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Arc<Connection>, Halt> {
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let made_from = desired::made_from(server, &inputs);
    let existing = ctx
        .connections
        .get(&namespace, &name)
        .filter(|connection| connection.made_from == made_from);
    let failed = ctx
        .backoff
        .failures(Kind::AuthorizationServer.as_str(), &key(server))
        > 0;
    let now = ctx.clock.instant();
    if let Some(connection) = existing
        .as_ref()
        .filter(|c| !failed && c.is_fresh(now, ctx.config.resync_interval / 2))
    {
        progress.discovered(&connection.metadata);
        progress.signed_in(&connection.access);
        return Ok(Arc::clone(connection));
    }
    let connection = check(server, &inputs, made_from, existing.as_ref(), ctx, progress)
        .await
        .inspect_err(|halt| {
            // Whoever depends on it waits for a better credential, instead of failing with this one.
            if let Halt::Failed(
                Error::PermissionsMissing { .. } | Error::Provider(ProviderError::Unauthenticated { .. }),
            ) = halt
            {
                ctx.connections.remove(&namespace, &name);
            }
        })?;
    kept::keep(server, &inputs, ctx).await?;
    // Those who failed while it could not be reached are woken too, instead of waiting for their back-off.
    if failed || existing.is_none_or(|existing| !Arc::ptr_eq(&existing, &connection)) {
        ctx.connections.set(&namespace, &name, Arc::clone(&connection));
    }
    Ok(connection)
}

/// Finds out what the server says of itself, signs in, and keeps the connection if it still says and allows the same.
async fn check(
    server: &AuthorizationServer,
    inputs: &Inputs,
    made_from: String,
    existing: Option<&Arc<Connection>>,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Arc<Connection>, Halt> {
    let endpoints = server.spec.endpoints.clone().unwrap_or_default();
    let asked = ctx.clock.instant();
    let discovered = discovery::discover(&observe::egress(inputs, ctx)?, &server.spec.issuer, &endpoints)
        .await
        .map_err(Error::from)?;
    progress.discovered(&discovered.metadata);
    let existing =
        existing.filter(|c| (&c.metadata, &c.grant_types) == (&discovered.metadata, &discovered.grant_types));
    let provider = match existing {
        Some(connection) => Arc::clone(&connection.provider),
        None => desired::provider(server, inputs, &discovered, ctx)?,
    };
    let access = provider.check_access().await?;
    refuse_missing(&access)?;
    progress.signed_in(&access);
    if let Some(connection) = existing.filter(|connection| connection.access == access) {
        connection.confirm(asked);
        return Ok(Arc::clone(connection));
    }
    Ok(Arc::new(Connection {
        provider,
        metadata: discovered.metadata,
        grant_types: discovered.grant_types,
        access,
        made_from,
        checked: Mutex::new(asked),
    }))
}

fn refuse_missing(access: &Access) -> Result<(), Halt> {
    if access.missing.is_empty() {
        return Ok(());
    }
    // Roles are granted at the authorization server, where no watch looks: this is tried again with back-off.
    Err(Error::PermissionsMissing {
        missing: access.missing.join(", "),
    }
    .into())
}

/// Keeps the scopes of managed APIs as declared.
async fn manage_apis(
    server: &AuthorizationServer,
    connection: &Connection,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let provider = &*connection.provider;
    let mark = home::mark(server, &ctx.installation);
    let want = desired::api_scopes(server);
    let consent = |scope: &str| desired::consents(server, scope);
    let (mark, want, consent) = (&mark, &want, &consent);
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    let mut plan = provider.plan_scopes(mark, want, &provider.observe_scopes(remembered).await?, consent);
    if !plan.calls.is_empty() {
        // By now somebody else may hold one of them, and then nothing may be written at all.
        plan = provider.plan_scopes(mark, want, &provider.observe_scopes(Read::Fresh).await?, consent);
    }
    if let Some(refused) = conflict::refusal(&plan.conflicts, &mark.namespace, &ctx.installation, server) {
        return Err(refused);
    }
    if settle::is_paused(server) {
        provider.execute(&plan.revocations()).await?;
        return Err(Halt::Paused);
    }
    ctx.cluster.add_finalizer(server).await?;
    let replan = || {
        async move { Ok(provider.plan_scopes(mark, want, &provider.observe_scopes(Read::Fresh).await?, consent)) }.boxed()
    };
    settle::settle(
        Kind::AuthorizationServer,
        server,
        provider,
        plan,
        &format!("{want:?}"),
        replan,
        ctx,
    )
    .await?;
    progress.registered(want);
    Ok(())
}

/// Waits until nothing refers to the AuthorizationServer, staying connected for those who clean up, and then cleans
/// up after itself.
async fn delete(
    server: &AuthorizationServer,
    referrers: &Referrers,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Next, Halt> {
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    if referrers.count() > 0 {
        if ctx.connections.get(&namespace, &name).is_none() {
            let inputs = observe::inputs_for_cleanup(server, ctx).await?;
            connect(server, inputs, ctx, progress).await?;
        }
        return Err(Halt::waiting("InUse", referrers.message()));
    }
    let cleaned = clean_up(server, ctx, progress).await;
    let forget = kept::forget(server, ctx);
    let gone = deletion::conclude(Kind::AuthorizationServer, server, None, cleaned, forget, ctx).await?;
    ctx.connections.remove(&namespace, &name);
    Ok(gone)
}

/// Removes the scopes of managed APIs.
async fn clean_up(server: &AuthorizationServer, ctx: &Context, progress: &mut Progress) -> Result<(), Halt> {
    if desired::api_scopes(server).is_empty() {
        return Ok(());
    }
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let connection = match ctx.connections.get(&namespace, &name) {
        Some(connection) => connection,
        None => {
            connect(
                server,
                observe::inputs_for_cleanup(server, ctx).await?,
                ctx,
                progress,
            )
            .await?
        }
    };
    let provider = &*connection.provider;
    let scopes = provider.observe_scopes(Read::Fresh).await?;
    let plan = provider.plan_scopes(&home::mark(server, &ctx.installation), &[], &scopes, &|_| false);
    provider.execute(&plan).await?;
    Ok(())
}
