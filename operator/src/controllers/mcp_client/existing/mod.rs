//! A client that somebody else registers: it is looked at and its credential is proved, and nothing is written but its
//! status.

mod claim;
mod proof;
mod refusals;
mod status;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{ExistingClient, McpClient, McpServer};

pub use self::refusals::Refusals;
use self::{claim::Claim, proof::Question, status::Progress};
use super::{
    desired, dynamic,
    observe::{self, Observed},
};
use crate::{
    connections::Connection,
    context::Context,
    controllers::{
        halt::Halt,
        home,
        pass::{self, Next, key},
    },
    error::Error,
    metrics::Kind,
    policy::grants::{self, Tenant},
    provider::{Presence, Proof, Provider, ProviderError, Read},
};

/// When to look again at what somebody has to set right at the authorization server, where no watch shows it.
const AGAIN: Duration = Duration::from_mins(1);

/// One pass: look, decide, report.
pub(super) async fn reconcile(
    client: &McpClient,
    existing: &ExistingClient,
    ctx: &Context,
) -> Result<Next, Error> {
    let mut progress = Progress::from(client);
    let result = advance(client, existing, ctx, &mut progress).await;
    let (now, awaited) = (ctx.now(), progress.awaited());
    let build = |halt: Option<&Halt>| status::status(client, existing, progress, halt, now);
    let old = client.status.as_ref();
    let next = pass::report(Kind::McpClient, client, old, result, build, ctx).await?;
    Ok(awaited.map_or(next, Next::After))
}

/// Looks how far the client gets, and notes it in `progress`.
async fn advance(
    client: &McpClient,
    existing: &ExistingClient,
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
    if let Err(refusal) = grants::client(&server, tenant, &[]) {
        progress.withdrawn();
        return Err(Halt::Refused(refusal));
    }
    let secrets: Api<Secret> = ctx.cluster.api(&namespace);
    let secret = secrets.get_opt(&existing.secret_ref.name).await?;
    let claim = match Claim::read(existing, secret.as_ref()) {
        Ok(claim) => claim,
        Err(halt) => {
            progress.unclaimed(existing);
            return Err(halt);
        }
    };
    progress.claimed(&claim);
    let connection = home::connection(ctx, &server)?;
    if connection.registrar().is_some() {
        return Err(dynamic::existing_unsupported());
    }
    let observed = observe(client, &claim, &connection, ctx).await?;
    let own = home::administered(&connection)?.own_client_id();
    let presence = &observed.client.presence;
    if let Some(refused) = claim.refusal(presence, own, client, &server, &ctx.installation) {
        progress.withdrawn();
        return Err(refused);
    }
    let scopes = |_: &McpServer| Arc::clone(&observed.scopes);
    let access = desired::access(
        client,
        tenant,
        &server,
        &observed.servers,
        &scopes,
        &ctx.installation,
    );
    progress.allowed(&access);
    // Nothing is written, so there is nothing that a pause would hold.
    if let Some(refused @ Halt::Refused(_)) = desired::held_back(client, &access) {
        return Err(refused);
    }
    progress.accepted();
    if *presence == Presence::Absent {
        progress.refuted(AGAIN);
        return Err(claim.unregistered());
    }
    progress.registered(&claim);
    if observed.client.is_public {
        progress.refuted(AGAIN);
        return Err(claim.unprovable());
    }
    let question = Question {
        client,
        existing,
        claim: &claim,
        at_server: observed.client.secret.as_ref(),
        access: &access,
    };
    ask(&question, &connection, ctx, progress).await?;
    if client.spec.is_suspended() {
        return Err(Halt::refused("Suspended", status::SUSPENDED));
    }
    progress.works();
    Ok(Next::Resync)
}

async fn observe(
    client: &McpClient,
    claim: &Claim,
    connection: &Connection,
    ctx: &Context,
) -> Result<Observed, Halt> {
    let provider = home::administered(connection)?;
    let usual = Read::Within(ctx.config.resync_interval / 2);
    // Others register it: what memory says of it may have been true before they did.
    let read = if claim.was_proved(client) {
        usual
    } else {
        Read::Fresh
    };
    let (observed, scopes) = futures::try_join!(
        provider.observe_client(&claim.client_id, read),
        provider.observe_scopes(usual)
    )?;
    Ok(Observed {
        client: observed,
        scopes,
        servers: observe::servers(client, ctx)?,
        journal: None,
        kept_key: None,
    })
}

/// Proves what is not known from before.
async fn ask(
    question: &Question<'_>,
    connection: &Connection,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let Some(proof) = question.proof() else {
        return Err(Halt::refused("NoGrantTypes", "Name at least one grant type"));
    };
    let proved = if question.is_answered() {
        Ok(())
    } else {
        let provider = home::administered(connection)?;
        prove(question, &proof, provider, &connection.made_from, ctx).await
    };
    let again = || ctx.refusals.pause(&key(question.client), ctx.clock.instant());
    let lacks = match proved {
        Ok(()) => None,
        Err(ProviderError::Ungranted { why }) => Some(why),
        Err(ProviderError::Unproved { why }) => {
            progress.refuted(again());
            return Err(question.claim.refused(&why));
        }
        Err(error) => return Err(error.into()),
    };
    progress.proved(question.claim);
    progress.assigned(question, lacks.as_deref().map(|why| (why, again())));
    Ok(())
}

/// Asks the authorization server, unless it refused the very same not long ago.
async fn prove(
    question: &Question<'_>,
    proof: &Proof,
    provider: &dyn Provider,
    made_from: &str,
    ctx: &Context,
) -> Result<(), ProviderError> {
    let client = key(question.client);
    let fingerprint = question.fingerprint(made_from);
    if let Some(why) = ctx.refusals.known(&client, &fingerprint, ctx.clock.instant()) {
        return Err(why);
    }
    let proved = provider.prove(proof, ctx.now()).await;
    match &proved {
        Ok(()) => ctx.refusals.forget(&client),
        Err(why @ (ProviderError::Unproved { .. } | ProviderError::Ungranted { .. })) => {
            let pace = (ctx.config.resync_interval, rand::random());
            ctx.refusals
                .note(&client, fingerprint, why.clone(), ctx.clock.instant(), pace);
        }
        // That says nothing about the credential.
        Err(_) => {}
    }
    proved
}
