//! McpClient: a client at the authorization server, with exactly the access that it asks for and servers allow, and
//! a Secret with a credential that was proved to work.

mod accounts;
mod desired;
mod document;
mod dynamic;
mod existing;
mod migration;
mod observe;
mod registration;
mod rotation;
mod status;

use std::sync::Arc;

use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, DeletionPolicy, McpClient, McpServer, ObjectReference};

use self::{
    registration::{Registration, can_overlap},
    rotation::Rotation,
    status::Progress,
};
use super::{
    conflict, deletion,
    halt::Halt,
    home,
    pass::{self, Next},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    context::Context,
    credential::flow,
    error::Error,
    metrics::Kind,
    policy::grants::{self, Tenant},
    provider::{Presence, Read},
};

pub use self::existing::Refusals;
pub(super) use self::{
    accounts::{contend, is_refused as lacks_account, is_used as has_account, of as account},
    desired::{map_name, secret_name},
};

/// The pass, measured and counted.
pub async fn run(client: Arc<McpClient>, ctx: Arc<Context>) -> Result<Action, Error> {
    pass::run(Kind::McpClient, &*client, &ctx, reconcile(&client, &ctx)).await
}

/// One pass: look, decide, act, report.
async fn reconcile(client: &McpClient, ctx: &Context) -> Result<Next, Error> {
    if is_deleting(client) && !has_finalizer(client) {
        return Ok(Next::Await);
    }
    if !is_deleting(client)
        && let Some(existing) = &client.spec.existing
    {
        return Box::pin(existing::reconcile(client, existing, ctx)).await;
    }
    let mut progress = Progress::default();
    let mut result = if is_deleting(client) {
        let cleaned = clean_up(client, ctx).await;
        let reference = Some(&client.spec.authorization_server_ref);
        let mark = home::mark(client, &ctx.installation);
        let forget = flow::forget(ctx, &mark);
        deletion::conclude(Kind::McpClient, client, reference, cleaned, forget, ctx).await
    } else if let Some(document) = &client.spec.metadata_document {
        Box::pin(document::advance(client, document, ctx, &mut progress)).await
    } else {
        Box::pin(advance(client, ctx, &mut progress)).await
    };
    if !is_deleting(client) && client.spec.metadata_document.is_none() {
        let tended = Box::pin(migration::tend(client, ctx, &mut progress)).await;
        result = result.and_then(|next| tended.map(|()| next));
    }
    let (now, sooner) = (ctx.now(), progress.sooner());
    let build = |halt: Option<&Halt>| status::status(client, progress, halt, now);
    let next = pass::report(
        Kind::McpClient,
        client,
        client.status.as_ref(),
        result,
        build,
        ctx,
    )
    .await?;
    Ok(match (next, sooner) {
        (Next::Resync, Some(wait)) => Next::After(wait),
        (Next::After(next), Some(wait)) => Next::After(next.min(wait)),
        (next, _) => next,
    })
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
    let homes = migration::homes(client, ctx).await?;
    let is_home = migration::is_home(client, &homes, &server);
    let refused = grants::client(&server, tenant, &desired::redirect_uris(managed)).map_err(Halt::Refused);
    // As long as it is registered, a token of its account would stand for either client that has it.
    if let Err(refused) = refused.and_then(|()| accounts::free(client, ctx)) {
        // Of what it has elsewhere this says nothing.
        if is_home {
            withdraw(client, &server, ctx).await?;
            progress.withdrawn();
        }
        return Err(refused);
    }
    let is_new = homes.here.is_none() && !homes.parked.is_empty();
    if !has_finalizer(client) || !is_home || is_new {
        home::stays(&server)?;
    }
    let connection = home::connection(ctx, &server)?;
    if let Some(registrar) = connection.registrar() {
        let site = dynamic::Site {
            client,
            server: &server,
            connection: &connection,
            registrar,
            ctx,
        };
        return Box::pin(site.advance(managed, tenant, is_home, progress)).await;
    }
    let provider = home::administered(&connection)?;
    let place = migration::place(client, &server, &connection);

    let age = ctx.config.resync_interval / 2;
    let mut observed = observe::observe(client, &connection, &place, age, ctx).await?;
    let scopes = |_: &McpServer| Arc::clone(&observed.scopes);
    let access = desired::access(
        client,
        tenant,
        &server,
        &observed.servers,
        &scopes,
        &ctx.installation,
    );
    let want = desired::client(client, managed, &access, &server, &ctx.installation);
    let plan = provider.plan_client(&want, &observed.client, &observed.scopes, None, ctx.now());
    if let Some(refused) = conflict::refusal(&plan.conflicts, &namespace, &ctx.installation, &server) {
        return Err(refused);
    }
    let rotation = Rotation::of(client, can_overlap(&connection));
    let registration = Registration {
        client,
        connection: &connection,
        place: &place,
        want: &want,
        access: &access,
        rotation: &rotation,
    };
    let held_back = desired::held_back(client, &access).or_else(|| rotation.refusal());
    if let Some(halt) = held_back.or_else(|| accounts::trusted(client, &server).err()) {
        if !is_home {
            return Err(halt);
        }
        // What is not ours yet is not changed before all of it may be.
        if observed.client.presence.claimable(&want.mark, false) {
            provider.execute(&plan.revocations()).await?;
            if let Some(journal) = &observed.journal {
                progress.rotation(&rotation, journal, ctx.now());
            }
            registration.revoke(&observed, ctx, progress).await?;
        }
        progress.held_back(client, &access);
        let lost = status::without(client, want.enabled, &access, progress, ctx.now());
        if let (Halt::Paused, Some(status)) = (&halt, lost) {
            ctx.cluster.write_status(client, &status).await?;
        }
        return Err(halt);
    }
    progress.accepted_without(desired::unheeded(client, &server));
    ctx.cluster.add_finalizer(client).await?;
    if migration::arrive(client, &place, ctx).await? {
        observed = observe::observe(client, &connection, &place, age, ctx).await?;
    }
    if let Some(id) = &observed.client.client_id {
        progress.identified(id);
    }
    let alone = rotation.without_overlap();
    registration.put_in_force(&alone, &observed, ctx, progress).await
}

/// Switches the client off at the authorization server when its namespace lost the grant.
async fn withdraw(client: &McpClient, server: &AuthorizationServer, ctx: &Context) -> Result<(), Halt> {
    if !has_finalizer(client) {
        return Ok(());
    }
    let connection = home::connection(ctx, server)?;
    if let Some(registrar) = connection.registrar() {
        let site = dynamic::Site {
            client,
            server,
            connection: &connection,
            registrar,
            ctx,
        };
        return Box::pin(site.end()).await;
    }
    let provider = home::administered(&connection)?;
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

/// Removes the client wherever it is registered unless it is to be retained.
async fn clean_up(client: &McpClient, ctx: &Context) -> Result<(), Halt> {
    if client.spec.deletion_policy == Some(DeletionPolicy::Retain) {
        return Ok(());
    }
    if let Some(document) = &client.spec.metadata_document {
        return Box::pin(document::end(client, document, ctx)).await;
    }
    let (home, failed) = migration::end_elsewhere(client, ctx).await?;
    if let Some(home) = home {
        end_at(client, &home, ctx).await?;
    }
    failed.map_or(Ok(()), Err)
}

async fn end_at(client: &McpClient, home: &ObjectReference, ctx: &Context) -> Result<(), Halt> {
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, home, &namespace)?;
    let connection = home::connection(ctx, &server)?;
    if let Some(registrar) = connection.registrar() {
        let site = dynamic::Site {
            client,
            server: &server,
            connection: &connection,
            registrar,
            ctx,
        };
        return Box::pin(site.end_for_good()).await;
    }
    let provider = home::administered(&connection)?;
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
