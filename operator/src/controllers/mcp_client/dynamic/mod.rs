//! A client at an authorization server at which one can only register (RFC 7591, RFC 7592).
//!
//! It is a path of its own beside that of administered servers, because nothing there holds here: the server chooses id and
//! secret, says them once, and lets nobody look for them. So the journal is not a note beside the truth, it is all there is,
//! and a pass is a walk from one journal to the next:
//!
//! ```text
//!  journal, what was read back, spec, time ──chain──▶ one step ──▶ at most one call ──▶ journal ──▶ again, until nothing is left
//!                                          (pure)
//! ```
//!
//! A rotation is a second registration, and the old one is removed after the overlap: few servers replace a secret, and none
//! says when the old one ends. What is registered belongs to its issuer: a client that moves leaves its journal behind.
//!
//! What no such protocol can give is bounded, counted and named instead: a lost answer leaves one registration that nobody
//! can reach, and so does a server that lets nobody remove what was registered.

mod calls;
mod chain;
mod course;
mod desired;
mod keeping;
mod status;

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::{
    condition::{self, types},
    v1alpha1::{AuthorizationServer, ManagedClient, McpClient, McpServer},
};

use self::course::{Course, Wanted};
use super::{
    desired as common, migration, observe,
    rotation::Rotation,
    status::{Progress, SUSPENDED},
};
use crate::{
    cluster::is_deleting,
    connections::Connection,
    context::Context,
    controllers::{
        halt::Halt,
        home,
        pass::{self, Next},
    },
    credential::homes::Parked,
    metrics::Kind,
    policy::{external, grants::Tenant},
    provider::{ObservedScopes, Provider, registration::Registrar},
};

pub(super) use self::desired::existing_unsupported;

/// A client and where it is registered.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) client: &'a McpClient,
    pub(super) server: &'a AuthorizationServer,
    pub(super) connection: &'a Connection,
    pub(super) registrar: &'a dyn Registrar,
    pub(super) ctx: &'a Context,
}

impl Site<'_> {
    /// Brings the client as far as it gets.
    pub(super) async fn advance(
        self,
        managed: &ManagedClient,
        tenant: Tenant<'_>,
        is_home: bool,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let (client, ctx) = (self.client, self.ctx);
        if client.spec.is_suspended() {
            progress.accepted();
            // Nothing there can be switched off, only removed.
            self.end().await?;
            return Err(Halt::refused("Suspended", SUSPENDED));
        }
        let offered = self.registrar.offered();
        if let Some(refused) = desired::unsupported(client, managed, self.server, offered) {
            return Err(refused);
        }
        let servers = observe::servers(client, ctx)?;
        let scopes = |server: &McpServer| self.scopes_of(server);
        let access = common::access(client, tenant, self.server, &servers, &scopes, &ctx.installation);
        let spec = common::client(client, managed, &access, self.server, &ctx.installation);
        let asked = desired::asked(managed, &spec, offered);
        let rotation = Rotation::of(client, true);
        let mut course = Course::open(self).await?;
        if let Some(halt) = common::held_back(client, &access).or_else(|| rotation.refusal()) {
            if !course.loses(&spec, &rotation) {
                course.tidy().await?;
                if is_home {
                    progress.held_back(client, &access);
                }
                return Err(halt);
            }
            // What takes something away does not wait.
            tracing::info!("carries out what takes something away from a client that is held back");
        }
        progress.accepted();
        ctx.cluster.add_finalizer(client).await?;
        let place = migration::place(client, self.server, self.connection);
        if migration::arrive(client, &place, ctx).await? {
            course = Course::open(self).await?;
        }
        let wanted = Wanted {
            spec: &spec,
            asked: &asked,
            access: &access,
            rotation: &rotation,
        };
        course.follow(Some(&wanted), progress).await
    }

    /// Removes all that is registered for the client.
    pub(super) async fn end(self) -> Result<(), Halt> {
        let mut course = Course::open(self).await?;
        course.follow(None, &mut Progress::default()).await.map(drop)
    }

    /// The same of what is registered where the client was before, which is forgotten then.
    pub(super) async fn end_parked(self, parked: &Parked) -> Result<(), Halt> {
        let mut course = Course::open_parked(self, parked)?;
        course.follow(None, &mut Progress::default()).await?;
        course.farewell().await;
        Ok(())
    }

    /// The same for a client that is being deleted, whose status and journal go too.
    pub(super) async fn end_for_good(self) -> Result<(), Halt> {
        let mut course = Course::open(self).await?;
        course.follow(None, &mut Progress::default()).await?;
        course.farewell().await;
        Ok(())
    }

    /// The scopes of a server that somebody else has made, once the server is accepted: one that is refused must lend no
    /// scopes to anybody.
    fn scopes_of(self, server: &McpServer) -> ObservedScopes {
        let is_registered = server
            .status
            .as_ref()
            .is_some_and(|status| condition::is_true(&status.conditions, types::REGISTERED));
        if is_registered {
            external::scopes_of(server, &self.ctx.installation)
        } else {
            ObservedScopes::default()
        }
    }

    /// Whether somebody else of the same issuer has this client id: the operator itself, or another McpClient. Of two that
    /// were given the same, the older one has it.
    fn is_taken(self, client_id: &str, is_fresh: bool) -> bool {
        let ctx = self.ctx;
        let issuer = &self.server.spec.issuer;
        let servers = ctx.feeds.authorization_servers.store().state();
        let is_operator = |server: &Arc<AuthorizationServer>| {
            let namespace = server.namespace().unwrap_or_default();
            let connection = ctx.connections.get(&namespace, &server.name_any());
            connection.is_some_and(|connection| {
                let is_own = |provider: &dyn Provider| provider.own_client_id() == client_id;
                connection.provider().is_some_and(is_own)
            })
        };
        let same_issuer = servers.iter().filter(|server| server.spec.issuer == *issuer);
        if same_issuer.into_iter().any(is_operator) {
            return true;
        }
        let age = |client: &McpClient| {
            let meta = client.meta();
            (
                meta.creation_timestamp.clone().map(|time| time.0),
                meta.uid.clone(),
            )
        };
        let has_it = |other: &McpClient| {
            let status = other.status.as_ref();
            other.metadata.uid != self.client.metadata.uid
                && status.and_then(|status| status.client_id.as_deref()) == Some(client_id)
                && (is_fresh || age(other) < age(self.client))
                && self.issuer_of(other).as_deref() == Some(issuer)
        };
        ctx.feeds
            .clients
            .store()
            .state()
            .iter()
            .any(|other| has_it(other))
    }

    fn issuer_of(self, client: &McpClient) -> Option<String> {
        let home = client
            .status
            .as_ref()
            .and_then(|status| status.registered_at.as_ref());
        if let Some(home) = home {
            return Some(home.issuer.clone());
        }
        let namespace = client.namespace().unwrap_or_default();
        let reference = &client.spec.authorization_server_ref;
        let server = home::authorization_server(self.ctx, reference, &namespace);
        server.ok().map(|server| server.spec.issuer.clone())
    }

    /// Tells people.
    async fn tell(self, said: &chain::Said, software_id: &str) {
        let (reason, note) = status::event(said, software_id);
        self.tell_of(reason, note).await;
    }

    async fn tell_of(self, reason: &'static str, note: String) {
        use kube::runtime::events::EventType;
        tracing::warn!("{note}");
        if is_deleting(self.client) {
            let note = format!("McpClient {}: {note}", pass::key(self.client));
            pass::tell(self.server, EventType::Warning, reason, note, self.ctx).await;
        } else {
            pass::tell(self.client, EventType::Warning, reason, note, self.ctx).await;
        }
    }

    /// Others changed the registration, and it was set right.
    async fn tell_drift(self) {
        use kube::runtime::events::EventType;
        self.ctx
            .metrics
            .drift_repaired(Kind::McpClient, "AuthorizationServer");
        let note = "Set right what was changed at the authorization server: the registration".to_owned();
        pass::tell(self.client, EventType::Warning, "DriftRepaired", note, self.ctx).await;
    }
}
