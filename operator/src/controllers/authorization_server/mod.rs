//! AuthorizationServer: a connection that was checked, the scopes of managed APIs, and the credential that is kept
//! for clean-up.

mod connect;
mod desired;
mod kept;
mod observe;
mod self_registration;
mod status;
mod tenant_settings;
mod trust;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::AuthorizationServer;

use self::{connect::connect, observe::Referrers, status::Progress};
use super::{
    conflict, deletion,
    halt::{self, Halt},
    home,
    pass::{self, Next},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    connections::Connection,
    context::Context,
    error::Error,
    metrics::Kind,
    provider::{Provider, Read},
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
    let mut progress = Progress::new(server, &referrers);
    let result = if is_deleting(server) {
        delete(server, &referrers, ctx, &mut progress).await
    } else {
        advance(server, ctx, &mut progress).await
    };
    let now = ctx.now();
    let build = |halt: Option<&Halt>| status::status(server, progress, halt, now);
    pass::report(
        Kind::AuthorizationServer,
        server,
        server.status.as_ref(),
        result,
        build,
        ctx,
    )
    .await
}

/// Connects, checks, and keeps what belongs to the AuthorizationServer itself as declared.
async fn advance(server: &AuthorizationServer, ctx: &Context, progress: &mut Progress) -> Result<Next, Halt> {
    let inputs = observe::inputs(server, ctx).await?;
    let connection = connect(server, inputs, ctx, progress).await?;
    desired::check(server)?;
    // None waits for another.
    let trusts = trust::keep(server, &connection, ctx, progress).await;
    let apis = manage_apis(server, &connection, ctx).await;
    let registers = self_registration::keep(server, &connection, ctx, progress).await;
    let always = tenant_settings::always(server, ctx);
    let settings = tenant_settings::keep(server, &connection, always, ctx, progress).await;
    apis?;
    let is_changed = settings?;
    trusts?;
    progress.registered(&desired::api_scopes(server));
    registers?;
    if is_changed {
        connection.doubt(ctx.clock.instant());
        return Ok(Next::After(Duration::ZERO));
    }
    Ok(Next::Resync)
}

/// Keeps the scopes of managed APIs as declared.
async fn manage_apis(
    server: &AuthorizationServer,
    connection: &Connection,
    ctx: &Context,
) -> Result<(), Halt> {
    let Some(provider) = connection.provider() else {
        return Ok(());
    };
    let mark = home::mark(server, &ctx.installation);
    let want = desired::api_scopes(server);
    let consent = |scope: &str| desired::consents(server, scope);
    let (mark, want, consent) = (&mark, &want, &consent);
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    let mut plan = provider.plan_scopes(mark, want, &provider.observe_scopes(remembered).await?, consent);
    if !plan.calls.is_empty() {
        // By now somebody else may hold one of them, and then nothing may be given.
        plan = provider.plan_scopes(mark, want, &provider.observe_scopes(Read::Fresh).await?, consent);
    }
    let refused = conflict::refusal(&plan.conflicts, &mark.namespace, &ctx.installation, server);
    if let Some(halt) = refused.or_else(|| halt::is_paused(server).then_some(Halt::Paused)) {
        // What takes away waits for nothing. Without our finalizer there is nothing that could be taken away.
        if has_finalizer(server) {
            provider.execute(&plan.revocations()).await?;
        }
        return Err(halt);
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

/// Removes the scopes of managed APIs, and what was made in the realm so that secrets of clients can overlap, clients
/// register themselves, or tokens of ServiceAccounts count.
async fn clean_up(server: &AuthorizationServer, ctx: &Context, progress: &mut Progress) -> Result<(), Halt> {
    let overlaps = desired::overlaps(server);
    let registered = self_registration::stored(server).is_some() || trust::stored(server).is_some();
    if desired::api_scopes(server).is_empty() && !overlaps && !registered {
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
    let Some(provider) = connection.provider() else {
        return Ok(());
    };
    if overlaps && !observe::shares_realm(server, provider.realm(), ctx) {
        let replan = || async move {
            let observed = provider.observe_overlap(Read::Fresh).await?;
            Ok(provider.plan_overlap(false, &observed))
        };
        settle::remove(provider, replan().await?, || replan().boxed()).await?;
    }
    self_registration::remove(server, provider, ctx).await?;
    remove_apis(server, provider, ctx).await?;
    trust::remove(server, provider, ctx).await
}

async fn remove_apis(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
) -> Result<(), Halt> {
    if desired::api_scopes(server).is_empty() {
        return Ok(());
    }
    let mark = &home::mark(server, &ctx.installation);
    let replan = || async move {
        let scopes = provider.observe_scopes(Read::Fresh).await?;
        Ok(provider.plan_scopes(mark, &[], &scopes, &|_| false))
    };
    settle::remove(provider, replan().await?, || replan().boxed()).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        provider::{Holder, Mark},
        testing::{INSTALLATION, stage},
    };

    #[tokio::test]
    async fn a_scope_of_somebody_else_keeps_no_scope_that_an_api_lost() {
        for (finalizers, left) in [
            (json!(["mcpauth.dev/cleanup"]), vec!["api:kept", "taken"]),
            (json!([]), vec!["api:kept", "api:lost", "taken"]),
        ] {
            let stage = stage(&[]).await;
            let object = json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
                "metadata": {"namespace": "platform", "name": "main", "uid": "as", "finalizers": finalizers},
                "spec": {
                    "issuer": "https://as.example/realms/r", "credentials": {"secretRef": {"name": "c"}},
                    "apis": [{"name": "a", "audience": "urn:a", "manage": true,
                              "scopes": [{"name": "api:kept"}, {"name": "api:new"}, {"name": "taken"}]}],
                },
            });
            let server: AuthorizationServer = serde_json::from_value(object).unwrap();
            let mark = home::mark(&server, INSTALLATION);
            for scope in ["api:kept", "api:lost"] {
                stage.server.put_scope(scope, Holder::Marked(mark.clone()));
            }
            let thief = Mark {
                kind: "McpServer".into(),
                ..mark
            };
            stage.server.put_scope("taken", Holder::Marked(thief));
            let connection = stage.ctx.connections.get("platform", "main").unwrap();
            let halt = manage_apis(&server, &connection, &stage.ctx).await;
            assert!(
                matches!(&halt, Err(Halt::Refused(refusal)) if refusal.reason == "AlreadyHeld"),
                "{halt:?}"
            );
            assert_eq!(stage.server.scopes(), left);
        }
    }
}
