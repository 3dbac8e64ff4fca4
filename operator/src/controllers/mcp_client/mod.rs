//! McpClient: a client at the authorization server, with exactly the access that it asks for and servers allow, and
//! a Secret with a credential that was proved to work.

mod desired;
mod observe;
mod rotation;
mod status;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, DeletionPolicy, McpClient};

use self::{observe::Observed, rotation::Rotation, status::Progress};
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
    credential::{self, Choice, Facts, Reason, flow},
    error::Error,
    metrics::Kind,
    policy::{
        grants::{self, Tenant},
        names,
    },
    provider::{
        Authentication, Capability, ClientSpec, Credential, Credentials, Plan, Presence, Provider, Read,
    },
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
    let rotation = Rotation::of(client, can_overlap(&connection));
    let handed = Handed {
        client,
        connection: &connection,
        want: &want,
        access: &access,
        rotation: &rotation,
    };
    if let Some(halt) = desired::held_back(client, &access).or_else(|| rotation.refusal()) {
        // What is not ours yet is not changed before all of it may be.
        if observed.client.presence.claimable(&want.mark, false) {
            provider.execute(&plan.revocations()).await?;
            handed.revoke(&observed, ctx, progress).await?;
        }
        progress.held_back(client, &access);
        let lost = status::without(client, &want, &access, progress, ctx.now());
        if let (Halt::Paused, Some(status)) = (&halt, lost) {
            ctx.cluster.write_status(client, &status).await?;
        }
        return Err(halt);
    }
    progress.accepted(&want);
    ctx.cluster.add_finalizer(client).await?;

    let held = hold(&rotation, &connection, &want, &observed, ctx).await?;
    let credentials = held.as_ref().and_then(|held| {
        progress.rotation(&rotation, &held.journal, ctx.now());
        rotation.accepted(&held.journal, ctx.now())
    });
    if let (
        Some(held),
        Some(Credentials {
            previous: Some(_), ..
        }),
    ) = (&held, &credentials)
    {
        prepare_overlap(provider, held, ctx).await?;
    }
    let plan = provider.plan_client(
        &want,
        &observed.client,
        &observed.scopes,
        credentials.as_ref(),
        ctx.now(),
    );
    let wrote = register(client, &connection, &want, credentials.as_ref(), plan, ctx).await?;
    progress.registered(&want);
    progress.granted(&access);
    handed.over(held, wrote, ctx, progress).await
}

/// Whether two secrets of a client can be valid there for a while.
fn can_overlap(connection: &Connection) -> bool {
    connection
        .access
        .capabilities
        .contains(&Capability::SecretOverlap)
}

/// Makes the realm let two secrets of a client be valid, before one has two.
async fn prepare_overlap(provider: &dyn Provider, held: &flow::Held, ctx: &Context) -> Result<(), Halt> {
    let read = if held.journal.pending.is_some() {
        Read::Fresh
    } else {
        Read::Within(ctx.config.resync_interval / 2)
    };
    let observed = provider.observe_overlap(read).await?;
    let plan = provider.plan_overlap(true, &observed);
    if !plan.is_empty() {
        provider.execute(&plan).await?;
    }
    Ok(())
}

/// Chooses the client's credential; a public client has none.
async fn hold(
    rotation: &Rotation,
    connection: &Connection,
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
    let facts = Facts {
        at_server: observed.client.secret.as_ref(),
        expires: observed.client.secret_expires,
        ..rotation.facts(observed.journal.as_ref(), ctx.now())
    };
    let mut choice = credential::choose(facts);
    let mut deferred = None;
    if let (Choice::Make(Reason::Due), Some(current)) = (&choice, facts.current()) {
        let (spacing, now) = (ctx.config.rotation_spacing, ctx.clock.instant());
        if let Err(wait) = ctx.pace.take(connection.provider.realm(), spacing, now) {
            deferred = Some(wait);
            choice = Choice::Keep(current.clone());
        }
    }
    let held = flow::hold(ctx, &want.mark, facts, choice).await?;
    if let Some(reason) = held.made {
        ctx.metrics.rotated(reason.as_str());
    }
    Ok(Some(flow::Held { deferred, ..held }))
}

/// Carries out the plan and reads back until nothing is left to do. Returns whether anything was written.
async fn register(
    client: &McpClient,
    connection: &Connection,
    want: &ClientSpec,
    credentials: Option<&Credentials>,
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
            Ok(provider.plan_client(want, &observed, &scopes, credentials, ctx.now()))
        }
        .boxed()
    };
    let hash = |secret: &Credential| names::hash(secret.expose().as_bytes(), 8);
    let version = format!(
        "{want:?} {:?}",
        credentials.map(|held| {
            let previous = held.previous.as_ref();
            (
                hash(&held.current),
                previous.map(|previous| (hash(&previous.credential), previous.until)),
            )
        })
    );
    settle::settle(Kind::McpClient, client, provider, plan, &version, replan, ctx).await
}

/// What the end of a pass knows of the client.
#[derive(Clone, Copy)]
struct Handed<'a> {
    client: &'a McpClient,
    connection: &'a Connection,
    want: &'a ClientSpec,
    access: &'a desired::Granted,
    rotation: &'a Rotation,
}

impl Handed<'_> {
    /// Gives the workload its credential, proves that it works, and says when to look again.
    async fn over(
        self,
        held: Option<flow::Held>,
        wrote: bool,
        ctx: &Context,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let secret = held.as_ref().map(|held| &held.secret);
        if !self.publish(secret, ctx, progress).await? {
            return Ok(Next::Resync);
        }
        if !self.want.enabled {
            return Err(Halt::refused("Suspended", status::SUSPENDED));
        }
        let Some(held) = held else {
            progress.proved("A public client has no credential; its registration was read back");
            return Ok(Next::Resync);
        };
        let Some(proof) = desired::proof(self.want, self.access, &held.secret) else {
            return Err(Halt::refused("NoGrantTypes", "Name at least one grant type"));
        };
        let (mark, provider) = (&self.want.mark, &*self.connection.provider);
        let was_pending = held.journal.pending.is_some();
        let facts = self.rotation.facts(None, ctx.now());
        let journal = flow::prove(ctx, mark, provider, held.journal, &proof, wrote, &facts).await?;
        progress.proved("The credential in the Secret was proved at the token endpoint");
        progress.rotation(self.rotation, &journal, ctx.now());
        if was_pending && journal.previous.is_some() {
            // The old one ends sooner than it was to while the new one was not proved.
            return Ok(Next::After(Duration::ZERO));
        }
        Ok(self.rotation.look_again(&journal, held.deferred, ctx.now()))
    }

    /// Replaces the credential alone, if its revocation is asked for: that waits for nothing that keeps the client from
    /// getting what is new.
    async fn revoke(self, observed: &Observed, ctx: &Context, progress: &mut Progress) -> Result<(), Halt> {
        let exists = has_finalizer(self.client) && observed.client.presence != Presence::Absent;
        if !exists || !self.rotation.revokes(observed.journal.as_ref(), ctx.now()) {
            return Ok(());
        }
        let held = hold(self.rotation, self.connection, self.want, observed, ctx).await?;
        let credentials = held
            .as_ref()
            .and_then(|held| self.rotation.accepted(&held.journal, ctx.now()));
        if let Some(credentials) = credentials {
            let provider = &*self.connection.provider;
            let plan = provider.plan_credentials(self.want, &observed.client, &credentials);
            provider.execute(&plan).await?;
            self.over(held, true, ctx, progress).await?;
        }
        Ok(())
    }

    /// Makes the workload's Secret hold the credential. Returns whether there is a Secret.
    async fn publish(
        &self,
        secret: Option<&Credential>,
        ctx: &Context,
        progress: &mut Progress,
    ) -> Result<bool, Halt> {
        let Some(owner) = self.client.controller_owner_ref(&()) else {
            return Ok(false);
        };
        let name = desired::secret_name(self.client);
        let namespace = &self.want.mark.namespace;
        let metadata = &self.connection.metadata;
        let wanted = flow::Wanted {
            namespace,
            name: &name,
            owner: &owner,
            labels: credential::secret::labels(self.client.spec.secret.as_ref()),
            data: desired::secret_data(self.client, self.want, self.access, metadata, secret),
        };
        let status = self.client.status.as_ref();
        let last = status.and_then(|status| status.secret_hash.as_deref());
        let published = flow::publish(ctx, wanted, last).await?;
        if published.repaired {
            ctx.metrics.drift_repaired(Kind::McpClient, "Secret");
        }
        let before = status.and_then(|status| status.secret_name.as_deref());
        if let Some(before) = before.filter(|before| *before != name) {
            flow::take_back(ctx, namespace, before, &owner).await?;
        }
        progress.published(name, published.hash);
        Ok(true)
    }
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
