//! A client whose metadata is a document of its own, at an authorization server where somebody has to register each such
//! document: the operator does, on behalf of the namespace.
//!
//! It is a path of its own beside that of managed clients: there is no credential, the id is the document's address, and what
//! the client is comes from whoever publishes the document. So what is allowed is judged anew in every pass, both what the
//! document says and what the client is registered with.
//!
//! ```text
//!  looked at: document, client ──judge──▶ journal: begun ──▶ registered ──▶ looked at, judged ──▶ marked, granted ──▶ forgotten
//! ```
//!
//! The mark comes with the second write. Until it is there, the journal says that the client is ours: killed in between, the
//! next pass goes on with it.

mod judge;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpClient, McpServer, MetadataDocument};

use super::{
    desired,
    observe::{self, Asked},
    status::{self, Progress},
};
use crate::{
    cluster::has_finalizer,
    connections::Connection,
    context::Context,
    controllers::{conflict, halt::Halt, home, pass::Next, settle},
    credential::flow,
    metrics::Kind,
    policy::grants::{self, Tenant},
    provider::{
        Capability, Conflict, DocumentSpec, ObservedDocument, ObservedScopes, Presence, Provider,
        ProviderError, Read, Reading,
    },
};

/// When to look again at a document that could not be read, or is none.
const AGAIN: Duration = Duration::from_mins(1);

/// Brings the client as far as it gets, and notes in `progress` how far that is.
pub(super) async fn advance(
    client: &McpClient,
    document: &MetadataDocument,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Next, Halt> {
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, &client.spec.authorization_server_ref, &namespace)?;
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    let allowed = grants::client(&server, tenant, &[]).map_err(Halt::Refused);
    if allowed.is_err() && !has_finalizer(client) {
        return allowed.map(|()| Next::Await);
    }
    if !has_finalizer(client) {
        home::stays(&server)?;
    }
    let connection = home::connection(ctx, &server)?;
    let site = Site {
        client,
        document,
        server: &server,
        tenant,
        provider: provider(&connection, &server)?,
        takes_documents: connection.discovered.documents,
        ctx,
    };
    let seen = site.look().await?;
    if let Some(refused) = site.conflict(&seen) {
        if seen.begun {
            // Should that one lose its mark, it does not become this one's.
            flow::forget(ctx, &home::mark(client, &ctx.installation)).await?;
        }
        progress.unidentified();
        return Err(refused);
    }
    let judged = allowed.and_then(|()| site.judged(&seen.document));
    if let Err(refused) = judged {
        site.withdraw(&seen).await?;
        progress.withdrawn();
        return Err(refused);
    }
    let access = site.access(&seen);
    if let Some(halt) = desired::held_back(client, &access) {
        return Err(site.hold_back(halt, &seen, &access, progress).await?);
    }
    progress.accepted();
    ctx.cluster.add_finalizer(client).await?;
    site.put_in_force(&seen, &access, progress).await
}

/// Removes the client from its authorization server.
pub(super) async fn end(client: &McpClient, document: &MetadataDocument, ctx: &Context) -> Result<(), Halt> {
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, &client.spec.authorization_server_ref, &namespace)?;
    let connection = home::connection(ctx, &server)?;
    let Ok(provider) = provider(&connection, &server) else {
        return Ok(());
    };
    let mark = &home::mark(client, &ctx.installation);
    let begun = is_begun(client, document, provider, ctx).await?;
    let replan = || async move {
        let observed = provider.observe_document(&document.url, Read::Fresh).await?;
        Ok(provider.plan_document_removal(mark, &observed, begun))
    };
    settle::remove(provider, replan().await?, || replan().boxed()).await
}

fn provider<'a>(connection: &'a Connection, server: &AuthorizationServer) -> Result<&'a dyn Provider, Halt> {
    let can = connection
        .access
        .capabilities
        .contains(&Capability::DocumentClients);
    let provider = connection.provider().filter(|_| can);
    provider.ok_or_else(|| judge::unsupported(server))
}

/// Whether the journal says that we began to register the document.
async fn is_begun(
    client: &McpClient,
    document: &MetadataDocument,
    provider: &dyn Provider,
    ctx: &Context,
) -> Result<bool, Halt> {
    let journal = flow::read(ctx, &home::mark(client, &ctx.installation)).await?;
    let begun = journal.and_then(|journal| journal.begun);
    Ok(begun == Some(judge::begun(provider.realm(), &document.url)))
}

/// A client and where it is registered.
#[derive(Clone, Copy)]
struct Site<'a> {
    client: &'a McpClient,
    document: &'a MetadataDocument,
    server: &'a AuthorizationServer,
    tenant: Tenant<'a>,
    provider: &'a dyn Provider,
    /// Whether the server says that it takes them for client ids.
    takes_documents: bool,
    ctx: &'a Context,
}

/// What a pass needs to know.
struct Seen {
    document: ObservedDocument,
    scopes: ObservedScopes,
    servers: Vec<Asked>,
    /// We began to register it.
    begun: bool,
}

impl Site<'_> {
    async fn look(self) -> Result<Seen, Halt> {
        let read = self.usual();
        let (document, scopes) = futures::try_join!(
            self.provider.observe_document(&self.document.url, read),
            self.provider.observe_scopes(read)
        )?;
        Ok(Seen {
            document,
            scopes,
            servers: observe::servers(self.client, self.ctx)?,
            begun: is_begun(self.client, self.document, self.provider, self.ctx).await?,
        })
    }

    fn usual(self) -> Read {
        Read::Within(self.ctx.config.resync_interval / 2)
    }

    /// Why the client is not to be had: one address is one client of the tenant, and somebody else has it.
    fn conflict(self, seen: &Seen) -> Option<Halt> {
        let Presence::Held(holder) = &seen.document.presence else {
            return None;
        };
        let mark = home::mark(self.client, &self.ctx.installation);
        if seen.document.presence.claimable(&mark, seen.begun) {
            return None;
        }
        let conflict = Conflict {
            subject: format!("client {}", self.document.url),
            holder: holder.clone(),
        };
        let (namespace, installation) = (self.tenant.namespace, &self.ctx.installation);
        conflict::refusal(&[conflict], namespace, installation, self.server)
    }

    fn judged(self, observed: &ObservedDocument) -> Result<(), Halt> {
        judge::callbacks(self.server, self.tenant, observed).map_err(Halt::Refused)
    }

    fn access(self, seen: &Seen) -> desired::Granted {
        let scopes = |_: &McpServer| Arc::clone(&seen.scopes);
        desired::access(
            self.client,
            self.tenant,
            self.server,
            &seen.servers,
            &scopes,
            &self.ctx.installation,
        )
    }

    /// What is wanted of the client as it was found: nothing, where that may not be.
    fn want(self, observed: &ObservedDocument, access: &desired::Granted, begun: bool) -> DocumentSpec {
        let access = self.judged(observed).is_ok().then_some(access);
        judge::spec(self.client, self.document, access, begun, &self.ctx.installation)
    }

    /// Takes all from it that it has.
    async fn withdraw(self, seen: &Seen) -> Result<(), Halt> {
        let want = judge::spec(
            self.client,
            self.document,
            None,
            seen.begun,
            &self.ctx.installation,
        );
        let plan = self.provider.plan_document(&want, &seen.document, &seen.scopes);
        self.provider.execute(&plan).await?;
        Ok(())
    }

    /// It gets nothing new. What it may not have any more is taken away all the same.
    async fn hold_back(
        self,
        halt: Halt,
        seen: &Seen,
        access: &desired::Granted,
        progress: &mut Progress,
    ) -> Result<Halt, Halt> {
        let want = self.want(&seen.document, access, seen.begun);
        let plan = self.provider.plan_document(&want, &seen.document, &seen.scopes);
        self.provider.execute(&plan.revocations()).await?;
        progress.held_back(self.client, access);
        let lost = status::without(self.client, want.enabled, access, progress, self.ctx.now());
        if let (Halt::Paused, Some(status)) = (&halt, lost) {
            self.ctx.cluster.write_status(self.client, &status).await?;
        }
        Ok(halt)
    }

    async fn put_in_force(
        self,
        seen: &Seen,
        access: &desired::Granted,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        let (provider, ctx) = (self.provider, self.ctx);
        let mark = home::mark(self.client, &ctx.installation);
        let mut begun = seen.begun;
        let want = self.want(&seen.document, access, begun);
        let registers = seen.document.presence == Presence::Absent
            && matches!(seen.document.reading, Reading::Valid { .. });
        if registers && want.enabled && !begun {
            let said = judge::begun(provider.realm(), &want.url);
            flow::begin_document(ctx, &mark, said).await?;
            begun = true;
        }
        let plan = provider.plan_document(&want, &seen.document, &seen.scopes);
        let scopes = &seen.scopes;
        let replan = || {
            async move {
                let observed = provider.observe_document(&self.document.url, Read::Fresh).await?;
                let want = self.want(&observed, access, begun);
                Ok::<_, ProviderError>(provider.plan_document(&want, &observed, scopes))
            }
            .boxed()
        };
        let version = format!("{} {want:?} {}", provider.realm(), seen.document.version);
        settle::settle(
            Kind::McpClient,
            self.client,
            provider,
            plan,
            &version,
            replan,
            ctx,
        )
        .await?;
        let now = provider.observe_document(&want.url, self.usual()).await?;
        if judge::owns(&mark, &now) {
            if begun {
                flow::forget(ctx, &mark).await?;
            }
            progress.identified(&want.url);
        }
        if let Err(refused) = self.judged(&now) {
            progress.withdrawn();
            return Err(refused);
        }
        self.report(&want, &now, access, progress)
    }

    /// Says how far it got.
    fn report(
        self,
        want: &DocumentSpec,
        now: &ObservedDocument,
        access: &desired::Granted,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        if !want.enabled {
            progress.granted(access);
            return Err(Halt::refused("Suspended", status::SUSPENDED));
        }
        if let Some(halt) = judge::shortcoming(want, now) {
            progress.look_again(AGAIN);
            return Err(halt);
        }
        if now.reading == Reading::Unreachable {
            progress.look_again(AGAIN);
            progress.registered_from_before(&want.url);
        } else {
            progress.registered(&want.url);
        }
        progress.granted(access);
        if let Some(halt) = judge::unadvertised(self.server, self.takes_documents) {
            return Err(halt);
        }
        progress.documented();
        Ok(Next::Resync)
    }
}
