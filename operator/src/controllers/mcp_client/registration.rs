//! Putting a client in force with its credential: chosen, registered, handed over to the workload, proved, and replaced.

use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource as _;
use mcp_auth_crds::v1alpha1::McpClient;

use super::{
    accounts, desired,
    observe::Observed,
    rotation::Rotation,
    status::{self, Progress},
};
use crate::{
    cluster::{self, has_finalizer},
    connections::Connection,
    context::Context,
    controllers::{
        applied::PART,
        halt::Halt,
        home, owned,
        pass::{Next, key},
        settle,
    },
    credential::{self, Choice, Facts, Reason, flow, homes::Place},
    error::Error,
    metrics::Kind,
    policy::names,
    provider::{
        Authentication, Capability, ClientSpec, Credential, CredentialKind, Credentials, ObservedClient,
        Presence, Provider, ProviderError, Read,
    },
};

/// Whether two secrets of a client can be valid there for a while.
pub(super) fn can_overlap(connection: &Connection) -> bool {
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
    (connection, place): (&Connection, &Place),
    want: &ClientSpec,
    observed: &Observed,
    ctx: &Context,
) -> Result<Option<flow::Held>, Halt> {
    let Some(kind) = want.authentication.credential() else {
        flow::hold_none(ctx, &want.mark, observed.journal.as_ref(), place).await?;
        return Ok(None);
    };
    let facts = Facts {
        at_server: observed.at_server(kind),
        // What expires is a secret that may be left over.
        expires: observed
            .client
            .secret_expires
            .filter(|_| kind == CredentialKind::Secret),
        ..rotation.facts(observed.journal.as_ref(), ctx.now())
    };
    let mut choice = credential::choose(facts);
    let mut deferred = None;
    if let (Choice::Make(Reason::Due), Some(current)) = (&choice, facts.current()) {
        let (spacing, now) = (ctx.config.rotation_spacing, ctx.clock.instant());
        if let Err(wait) = ctx.pace.take(connection.realm(), spacing, now) {
            deferred = Some(wait);
            choice = Choice::Keep(current.clone());
        }
    }
    let held = flow::hold(ctx, &want.mark, facts, choice, Some(place)).await?;
    if let Some(reason) = held.made {
        ctx.metrics.rotated(reason.as_str());
    }
    Ok(Some(flow::Held { deferred, ..held }))
}

/// Whether the authorization server was asked for something and does not do it.
fn is_not_kept(halt: &Halt) -> bool {
    matches!(
        halt,
        Halt::Failed(Error::Provider(ProviderError::Malformed {
            operation: settle::READ_BACK,
            ..
        }))
    )
}

/// By what credentials in force are told from others, without telling them.
fn fingerprint(credentials: &Credentials) -> String {
    let previous = credentials.previous.as_ref();
    let parts = [
        credentials.current.expose().to_owned(),
        previous.map_or_else(String::new, |previous| {
            format!("{}\n{}", previous.credential.expose(), previous.until)
        }),
    ];
    names::hash(parts.join("\n").as_bytes(), 8)
}

/// A client that is registered as it is to be.
struct Registered {
    /// The id by which it gets tokens.
    client_id: String,
    /// Whether anything was written by which the credential may work no more. How long the one before it stays valid is
    /// nothing of that kind.
    disturbs: bool,
}

/// A client as it is to be registered, and where.
#[derive(Clone, Copy)]
pub(super) struct Registration<'a> {
    pub(super) client: &'a McpClient,
    pub(super) connection: &'a Connection,
    pub(super) place: &'a Place,
    pub(super) want: &'a ClientSpec,
    pub(super) access: &'a desired::Granted,
    pub(super) rotation: &'a Rotation,
}

impl<'a> Registration<'a> {
    /// Registers the client, with the credential that is its turn, and hands that over. Says when to look again.
    ///
    /// `alone` is the rotation where only one secret can be valid.
    pub(super) async fn put_in_force(
        self,
        alone: &'a Rotation,
        observed: &Observed,
        ctx: &Context,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let held = hold(
            self.rotation,
            (self.connection, self.place),
            self.want,
            observed,
            ctx,
        )
        .await?;
        if let Some(held) = &held {
            progress.rotation(self.rotation, &held.journal, ctx.now());
        }
        let (registration, registered) = match self
            .register(held.as_ref(), &observed.client, observed, ctx)
            .await
        {
            // One that throws the old secret away leaves the new one in force, which the workload needs all the sooner.
            Err(halt) if self.keeps_old_secret(held.as_ref(), ctx) && is_not_kept(&halt) => {
                tracing::warn!("the authorization server does not keep the old secret while it is replaced");
                let provider = home::administered(self.connection)?;
                let now = provider.observe_client(&self.want.client_id, Read::Fresh).await?;
                let alone = Self {
                    rotation: alone,
                    ..self
                };
                (alone, alone.register(held.as_ref(), &now, observed, ctx).await?)
            }
            registered => (self, registered?),
        };
        let want = self.want.known_as(&registered.client_id);
        progress.identified(&want.client_id);
        progress.registered(&want.client_id);
        progress.granted(self.access);
        let registration = Registration {
            want: &want,
            ..registration
        };
        registration
            .hand_over(held, registered.disturbs, ctx, progress)
            .await
    }

    /// Whether two secrets are to be valid now. Two keys are no more to ask for than one.
    fn keeps_old_secret(&self, held: Option<&flow::Held>, ctx: &Context) -> bool {
        let held = held.filter(|held| held.secret.kind() == CredentialKind::Secret);
        let accepted = held.and_then(|held| self.rotation.accepted(&held.journal, ctx.now()));
        accepted.is_some_and(|accepted| accepted.previous.is_some())
    }

    /// Makes the client at the authorization server as it is to be, and reads back until nothing is left to do.
    async fn register(
        &self,
        held: Option<&flow::Held>,
        client: &ObservedClient,
        observed: &Observed,
        ctx: &Context,
    ) -> Result<Registered, Halt> {
        let (want, provider) = (self.want, home::administered(self.connection)?);
        let credentials = held.and_then(|held| self.rotation.accepted(&held.journal, ctx.now()));
        let credentials = credentials.as_ref();
        if let Some(held) = held.filter(|_| self.keeps_old_secret(held, ctx)) {
            prepare_overlap(provider, held, ctx).await?;
        }
        let plan = provider.plan_client(want, client, &observed.scopes, credentials, ctx.now());
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
        let realm = self.connection.realm();
        let version = format!("{realm} {want:?} {:?}", credentials.map(fingerprint));
        let (kind, object) = (Kind::McpClient, key(self.client));
        let is_drift = ctx.applied.is(kind, &object, &version);
        let wrote = settle::settle(kind, self.client, provider, plan, &version, replan, ctx).await?;
        let alone =
            credentials.map(|credentials| fingerprint(&Credentials::only(credentials.current.clone())));
        let part = format!("{object}{PART}credential");
        let is_same = ctx
            .applied
            .note(kind, &part, &format!("{realm} {want:?} {alone:?}"));
        let known = client.client_id.clone().filter(|_| !wrote);
        Ok(Registered {
            client_id: match known {
                Some(id) => id,
                None => self.id(provider, ctx).await?,
            },
            disturbs: wrote && (is_drift || !is_same),
        })
    }

    /// The id by which the client gets tokens. It was read back a moment ago, so memory has it.
    async fn id(&self, provider: &dyn Provider, ctx: &Context) -> Result<String, Halt> {
        let derived = &self.want.client_id;
        let read = Read::Alone(ctx.config.resync_interval / 2);
        let observed = provider.observe_client(derived, read).await?;
        Ok(observed.client_id.unwrap_or_else(|| derived.clone()))
    }

    /// Gives the workload its credential, proves that it works, and says when to look again.
    async fn hand_over(
        self,
        held: Option<flow::Held>,
        wrote: bool,
        ctx: &Context,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let account = accounts::of(self.client).filter(|_| self.uses_account());
        let secret = held.as_ref().map(|held| &held.secret);
        let published = match account {
            Some(_) => Box::pin(self.publish_map(ctx, progress)).await?,
            None => self.publish(secret, ctx, progress).await?,
        };
        if !published {
            return Ok(Next::Resync);
        }
        if !self.want.enabled {
            return Err(Halt::refused("Suspended", status::SUSPENDED));
        }
        if let Some(account) = account {
            progress.trusted(&format!("{}/{account}", self.want.mark.namespace));
            return Ok(Next::Resync);
        }
        let Some(held) = held else {
            progress.proved("A public client has no credential; its registration was read back");
            return Ok(Next::Resync);
        };
        let Some(proof) = desired::proof(self.want, self.access, &held.secret) else {
            return Err(Halt::refused("NoGrantTypes", "Name at least one grant type"));
        };
        let (mark, provider) = (&self.want.mark, home::administered(self.connection)?);
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
    pub(super) async fn revoke(
        self,
        observed: &Observed,
        ctx: &Context,
        progress: &mut Progress,
    ) -> Result<(), Halt> {
        let exists = has_finalizer(self.client) && observed.client.presence != Presence::Absent;
        if !exists || !self.rotation.revokes(observed.journal.as_ref(), ctx.now()) {
            return Ok(());
        }
        // What it is to have instead of a credential is not in force yet: until then it has one like before.
        let id = observed.client.client_id.as_ref().unwrap_or(&self.want.client_id);
        let mut want = self.want.known_as(id);
        if want.authentication.credential().is_none() {
            want.authentication = Authentication::ClientSecret;
        }
        let revoked = Registration { want: &want, ..self };
        let held = hold(self.rotation, (self.connection, self.place), &want, observed, ctx).await?;
        let credentials = held
            .as_ref()
            .and_then(|held| self.rotation.accepted(&held.journal, ctx.now()));
        if let Some(credentials) = credentials {
            let provider = home::administered(self.connection)?;
            let plan = provider.plan_credentials(&want, &observed.client, &credentials);
            provider.execute(&plan).await?;
            revoked.hand_over(held, true, ctx, progress).await?;
        }
        Ok(())
    }

    /// Makes the workload's Secret hold the credential. Returns whether there is a Secret.
    pub(super) async fn publish(
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
        if let Some(map) = status.and_then(|status| status.config_map_name.as_deref()) {
            let feed = &ctx.feeds.config_maps;
            owned::remove::<_, ConfigMap, _>(self.client, map, feed, true, ctx).await?;
        }
        progress.published(name, published.hash);
        Ok(true)
    }

    fn uses_account(&self) -> bool {
        matches!(self.want.authentication, Authentication::ServiceAccount(_))
    }

    /// The same for a workload that needs nothing secret: what it needs is in a ConfigMap.
    async fn publish_map(&self, ctx: &Context, progress: &mut Progress) -> Result<bool, Halt> {
        let Some(owner) = self.client.controller_owner_ref(&()) else {
            return Ok(false);
        };
        let (namespace, name) = (&self.want.mark.namespace, desired::map_name(self.client));
        let data = desired::map_data(self.client, self.want, self.access, &self.connection.metadata);
        let wanted = cluster::config_map(namespace, &name, &owner, data);
        owned::keep_map(Kind::McpClient, self.client, &wanted, ctx).await?;
        let status = self.client.status.as_ref();
        if let Some(before) = status.and_then(|status| status.secret_name.as_deref()) {
            flow::take_back(ctx, namespace, before, &owner).await?;
        }
        progress.published_map(name);
        Ok(true)
    }
}
