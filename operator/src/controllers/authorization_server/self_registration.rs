//! Clients that register themselves: what the realm needs for it as a whole, and which scopes they can have.
//!
//! Status says that something is being made before it is made, so that it is found again by whoever takes it away.

mod wishes;

use std::collections::BTreeSet;

use futures::FutureExt as _;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, ClientRegistration, ClientRegistrationStatus, McpServer};

use super::{desired, observe, status::Progress, tenant_settings};
use crate::{
    cluster::{has_finalizer, is_deleting},
    connections::Connection,
    context::Context,
    controllers::{
        conflict,
        halt::{self, Halt},
        home, settle,
    },
    error::Error,
    metrics::Kind,
    policy::{
        access,
        grants::{self, Tenant},
        names, scopes,
    },
    provider::{
        Access, Capability, Doors, ObservedScopes, Plan, Provider, ProviderError, Read, RegistrationSpec,
    },
};

/// What the status says of it.
pub(super) fn stored(server: &AuthorizationServer) -> Option<&ClientRegistrationStatus> {
    server.status.as_ref()?.client_registration.as_ref()
}

/// Whether clients may register themselves there, or might have been let.
pub(super) fn concerns(server: &AuthorizationServer) -> bool {
    server.spec.client_registration.is_some() || stored(server).is_some()
}

/// Makes it so, or undoes it, as the spec says.
pub(super) async fn keep(
    server: &AuthorizationServer,
    connection: &Connection,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let Some(spec) = &server.spec.client_registration else {
        if let Some(provider) = connection.provider()
            && remove(server, provider, ctx).await?
        {
            tenant_settings::close(server, provider, ctx, progress).await?;
        }
        progress.registers(None);
        return Ok(());
    };
    possible(server, spec, &connection.access)?;
    let provider = home::administered(connection)?;
    first_of_the_realm(server, provider, ctx)?;
    if stored(server).is_none() {
        wishes::check(server, spec)?;
        // Written to the status, this comes by here again.
        progress.registers(Some(ClientRegistrationStatus::default()));
        return Err(Halt::waiting(
            "Waiting",
            "Waits until the status says that it is set up",
        ));
    }
    let round = Round {
        server,
        spec,
        connection,
        provider,
        ctx,
    };
    let result = round.open(progress).await;
    if let Err(Halt::Refused(refusal)) = &result
        && (server.spec.auth0.is_some() || wishes::SHUTTING.contains(&refusal.reason))
    {
        progress.registers(Some(ClientRegistrationStatus::default()));
        round.shut(progress).await?;
    }
    result
}

/// Whether the operator can do it there.
fn possible(server: &AuthorizationServer, spec: &ClientRegistration, access: &Access) -> Result<(), Halt> {
    // No switch of the tenant's would change it at Auth0, which is said in other words.
    let documents = spec
        .metadata_documents
        .as_ref()
        .filter(|_| server.spec.auth0.is_none())
        .map(|_| Capability::MetadataDocuments);
    for capability in [Some(Capability::SelfRegistration), documents]
        .into_iter()
        .flatten()
    {
        if access.capabilities.contains(&capability) {
            continue;
        }
        return Err(match access.withheld.get(&capability) {
            // As with all roles, nothing tells when it is granted.
            Some(permission) => Halt::Failed(Error::PermissionsMissing {
                missing: format!("{permission} for clientRegistration"),
            }),
            None if capability == Capability::MetadataDocuments => Halt::refused(
                "MetadataDocumentsUnsupported",
                "The authorization server does not read client ID metadata documents: switch that on there (Keycloak: --features=cimd), or leave out clientRegistration.metadataDocuments",
            ),
            None => Halt::refused(
                "SelfRegistrationUnsupported",
                "The authorization server cannot refuse closed scopes to clients that register themselves: leave out clientRegistration",
            ),
        });
    }
    Ok(())
}

/// One AuthorizationServer says it for a realm: the one that came first.
fn first_of_the_realm(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
) -> Result<(), Halt> {
    let age = |server: &AuthorizationServer| {
        let meta = &server.metadata;
        (
            meta.creation_timestamp.clone().map(|time| time.0),
            meta.uid.clone(),
        )
    };
    let others = observe::of_the_same_realm(server, provider.realm(), ctx);
    let first = others
        .iter()
        .find(|other| concerns(other) && age(other) < age(server));
    match first {
        None => Ok(()),
        Some(other) => Err(Halt::refused(
            "RegistrationTaken",
            format!(
                "AuthorizationServer {}/{} has clientRegistration for the same realm: leave it to that one",
                other.namespace().unwrap_or_default(),
                other.name_any()
            ),
        )),
    }
}

/// What a round of it needs.
struct Round<'a> {
    server: &'a AuthorizationServer,
    spec: &'a ClientRegistration,
    connection: &'a Connection,
    provider: &'a dyn Provider,
    ctx: &'a Context,
}

impl Round<'_> {
    /// Opens what is to be open, once nothing else is: that was shown.
    async fn open(&self, progress: &mut Progress) -> Result<(), Halt> {
        wishes::check(self.server, self.spec)?;
        self.settle(Doors::Leave).await?;
        self.set_tenant(progress).await?;
        if let Err(error) = self.prove().await {
            return Err(unproved(error));
        }
        let want = self.settle(Doors::Open).await?;
        progress.opened(want.open);
        Ok(())
    }

    /// Settings on which all of it rests, where there are some.
    async fn set_tenant(&self, progress: &mut Progress) -> Result<(), Halt> {
        let want = tenant_settings::OPEN;
        let remembered = Read::Within(self.ctx.config.resync_interval / 2);
        let differing = self.provider.observe_settings(want, remembered).await?;
        if differing.is_empty() {
            return Ok(());
        }
        progress.registers(Some(ClientRegistrationStatus::default()));
        self.settle(Doors::Shut).await?;
        if !tenant_settings::are_managed(self.server) {
            return Err(wishes::settings_missing(&differing));
        }
        let set = tenant_settings::keep(self.server, self.connection, want, self.ctx, progress).await;
        set.map(drop)
    }

    /// Nothing is open any more.
    async fn shut(&self, progress: &mut Progress) -> Result<(), Halt> {
        let shut = self.settle(Doors::Shut).await.map(drop);
        // What stands in the way of the one is none of the other's business.
        tenant_settings::shut(self.server, self.provider, self.ctx, progress).await?;
        shut
    }

    /// Carries out plans until nothing is left to do.
    async fn settle(&self, doors: Doors) -> Result<RegistrationSpec, Halt> {
        let (server, ctx) = (self.server, self.ctx);
        let remembered = Read::Within(ctx.config.resync_interval / 2);
        let (mut want, mut plan) = self.plan(doors, remembered).await?;
        if !plan.is_empty() {
            // What is written rests on what is there now.
            (want, plan) = self.plan(doors, Read::Fresh).await?;
        }
        let namespace = server.namespace().unwrap_or_default();
        let refused = if server.spec.auth0.is_some() {
            wishes::grant_held(&plan.conflicts)
        } else {
            conflict::refusal(&plan.conflicts, &namespace, &ctx.installation, server)
        };
        if let Some(halt) = refused.or_else(|| halt::is_paused(server).then_some(Halt::Paused)) {
            self.provider.execute(&plan.revocations()).await?;
            return Err(halt);
        }
        let replan = || async move { Ok(self.plan(doors, Read::Fresh).await?.1) }.boxed();
        // What is opened comes into force after what refuses, and is noted apart.
        let part = format!("registration {doors:?}");
        let version = format!("{want:?}");
        settle::settle_part(
            &part,
            Kind::AuthorizationServer,
            server,
            self.provider,
            plan,
            &version,
            replan,
            ctx,
        )
        .await?;
        Ok(want)
    }

    /// Scopes are read last: what a policy names and nobody has any more is gone, and not about to be made.
    async fn plan(&self, doors: Doors, read: Read) -> Result<(RegistrationSpec, Plan), ProviderError> {
        let mut want = desired::registration(self.spec);
        let observed = self.provider.observe_registration(Some(&want), read).await?;
        let scopes = self.provider.observe_scopes(read).await?;
        want.open = open_scopes(self.server, &scopes, self.ctx);
        let plan = self
            .provider
            .plan_registration(Some(&want), doors, &observed, &scopes);
        Ok((want, plan))
    }

    /// Shows that what is closed is refused.
    async fn prove(&self) -> Result<(), ProviderError> {
        let want = desired::registration(self.spec);
        let remembered = Read::Within(self.ctx.config.resync_interval / 2);
        let observed = self
            .provider
            .observe_registration(Some(&want), remembered)
            .await?;
        self.provider
            .prove_closed(&observed, remembered, self.ctx.now())
            .await
    }
}

/// What follows from a proof that failed.
fn unproved(error: ProviderError) -> Halt {
    match error {
        ProviderError::Ungranted { .. } | ProviderError::Unproved { .. } => Halt::refused(
            wishes::UNPROVED,
            format!(
                "No client can register itself, because the authorization server does not refuse what is closed ({error}): look for what contradicts the operator there (Keycloak: client policies; Auth0: the mode of dynamic client registration), or remove clientRegistration"
            ),
        ),
        error => error.into(),
    }
}

/// The scopes that clients can have which register themselves: of the McpServers that say so, those that they hold.
fn open_scopes(server: &AuthorizationServer, at_server: &ObservedScopes, ctx: &Context) -> BTreeSet<String> {
    let before: BTreeSet<String> = stored(server)
        .into_iter()
        .flat_map(|stored| stored.scopes.iter().cloned())
        .collect();
    let mut open = BTreeSet::new();
    for mcp_server in ctx.feeds.servers.store().state() {
        if !opens(&mcp_server, server, ctx) {
            continue;
        }
        let scopes = access::self_registered(&mcp_server);
        let held = scopes
            .into_iter()
            .filter(|scope| access::is_scope_of(&mcp_server, &ctx.installation, scope, at_server));
        // One that is paused opens no more than it did.
        let paused = halt::is_paused(&*mcp_server);
        let keys = held.map(|scope| at_server.key(&mcp_server.spec.resource, &scope));
        open.extend(keys.filter(|key| !paused || before.contains(key)));
    }
    open
}

/// Whether what the McpServer says counts here.
fn opens(mcp_server: &McpServer, server: &AuthorizationServer, ctx: &Context) -> bool {
    let namespace = mcp_server.namespace().unwrap_or_default();
    let reference = &mcp_server.spec.authorization_server_ref;
    if Some(&reference.name) != server.metadata.name.as_ref()
        || Some(reference.namespace_or(&namespace)) != server.metadata.namespace.as_deref()
        || is_deleting(mcp_server)
        || !has_finalizer(mcp_server)
    {
        return false;
    }
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    let default_scope = names::default_scope(&namespace, &mcp_server.name_any());
    let declared = scopes::effective(mcp_server);
    let resource = &mcp_server.spec.resource;
    grants::server(server, tenant, resource, declared.keys(), &default_scope).is_ok()
}

/// Removes what was made for it, unless another AuthorizationServer of the realm needs it. Whether it did.
pub(super) async fn remove(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
) -> Result<bool, Halt> {
    let others = observe::of_the_same_realm(server, provider.realm(), ctx);
    if stored(server).is_none() || others.iter().any(|other| stored(other).is_some()) {
        return Ok(false);
    }
    let plan = || async move {
        let observed = provider.observe_registration(None, Read::Fresh).await?;
        let scopes = provider.observe_scopes(Read::Fresh).await?;
        Ok::<_, ProviderError>(provider.plan_registration(None, Doors::Shut, &observed, &scopes))
    };
    let first = plan().await?;
    settle::settle(
        Kind::AuthorizationServer,
        server,
        provider,
        first,
        "no client registers itself",
        || plan().boxed(),
        ctx,
    )
    .await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
