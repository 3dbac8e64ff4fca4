//! A client whose `authorizationServerRef` changes: it is registered anew at the other authorization server, and what it has
//! where it was goes on working until the new credential is proved, and for the overlap of its rotation after that.
//!
//! ```text
//!  looked at there: grants, connection, conflicts, access ──▶ journal: the old page is put aside, a new one is begun
//!   ──▶ registered ──▶ workload's Secret ──▶ proof ──▶ journal: until when ──▶ removed at the old one ──▶ forgotten
//! ```
//!
//! Before the first arrow nothing has happened, so one that is refused there, or cannot be reached, leaves the client where
//! it is. What it has elsewhere is tended by every pass, whatever became of the rest of it: what may not be kept ends at
//! once.

mod rules;
mod status;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use k8s_openapi::jiff::SignedDuration;
use kube::{ResourceExt as _, runtime::events::EventType};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpClient, ObjectReference};

use self::rules::{Elsewhere, Facts};
pub(super) use self::status::{History, history, last_report, report};
use super::{accounts, desired, dynamic, rotation::Rotation, status::Progress};
use crate::{
    connections::Connection,
    context::{Context, find},
    controllers::{
        deletion,
        halt::Halt,
        home,
        pass::{self, key},
        settle,
    },
    credential::{
        book::Book,
        homes::{Drawer, Homes, Leaving, Page, Parked, Place},
        moving,
    },
    error::Error,
    metrics::{GivenUp, Kind},
    policy::grants::{self, Tenant},
    provider::{ProviderError, Read},
};

/// When to try again to remove what is left elsewhere.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the client is to be registered.
pub(super) fn place(client: &McpClient, server: &AuthorizationServer, connection: &Connection) -> Place {
    let mut redirect_uris = client
        .spec
        .managed
        .as_ref()
        .map(desired::redirect_uris)
        .unwrap_or_default();
    redirect_uris.sort_unstable();
    Place {
        namespace: server.namespace().unwrap_or_default(),
        name: server.name_any(),
        issuer: server.spec.issuer.clone(),
        realm: connection.realm().to_owned(),
        registers: connection.registrar().is_some(),
        redirect_uris,
        account: accounts::of(client).map(str::to_owned),
    }
}

/// Where the client is registered, as its journal says; when that is lost, as its status does.
pub(super) async fn homes(client: &McpClient, ctx: &Context) -> Result<Homes, Error> {
    let mark = home::mark(client, &ctx.installation);
    let journaled = moving::read(ctx, &mark).await?;
    Ok(journaled.unwrap_or_else(|| remembered(client, ctx)))
}

fn remembered(client: &McpClient, ctx: &Context) -> Homes {
    let registers = |reference: &ObjectReference| {
        let namespace = client.namespace().unwrap_or_default();
        let server = home::authorization_server(ctx, reference, &namespace);
        server.is_ok_and(|server| server.spec.dynamic_registration.is_some())
    };
    rules::remembered(client, registers)
}

/// The journal as it is now.
async fn opened(client: &McpClient, ctx: &Context) -> Result<Drawer, Error> {
    let mark = home::mark(client, &ctx.installation);
    let found = moving::open(ctx, &mark).await?;
    Ok(found.unwrap_or_else(|| Drawer {
        homes: remembered(client, ctx),
        ..Drawer::default()
    }))
}

/// Whether the client is registered nowhere but at this AuthorizationServer.
pub(super) fn is_home(client: &McpClient, homes: &Homes, server: &AuthorizationServer) -> bool {
    rules::is_home(client, homes, Some(server))
}

/// The client is about to be registered at `place`: what it has elsewhere is put aside. Whether the journal is another than
/// before.
pub(super) async fn arrive(client: &McpClient, place: &Place, ctx: &Context) -> Result<bool, Halt> {
    let mark = home::mark(client, &ctx.installation);
    let journaled = moving::read(ctx, &mark).await?;
    let homes = journaled.clone().unwrap_or_else(|| remembered(client, ctx));
    // The first that is written to a journal says where that is.
    let is_first = journaled.is_none() && homes.parked.is_empty() && homes.are_at(place);
    if is_first || homes.here.as_ref() == Some(place) {
        return Ok(false);
    }
    let drawer = opened(client, ctx).await?;
    let Some(arrived) = drawer.arrived(place.clone(), leaving(client, ctx)) else {
        return Err(Halt::waiting(
            "MigrationsPending",
            "The client is registered at several AuthorizationServers that it moved away from: it moves on when one of these registrations has ended, see status.previous",
        ));
    };
    moving::write(ctx, &mark, &arrived).await?;
    Ok(true)
}

/// What is known of the client as it leaves.
fn leaving(client: &McpClient, ctx: &Context) -> Leaving {
    let status = client.status.clone().unwrap_or_default();
    let usual = || desired::client_id(client, &ctx.installation);
    Leaving {
        client_id: status.client_id.unwrap_or_else(usual),
        granted: status.granted,
        revocation: status.last_handled_revoke_request,
    }
}

/// Ends what the client has elsewhere, as far as that is to end now, and notes the rest in `progress`.
pub(super) async fn tend(client: &McpClient, ctx: &Context, progress: &mut Progress) -> Result<(), Halt> {
    let mut homes = homes(client, ctx).await?;
    let namespace = client.namespace().unwrap_or_default();
    let server = home::authorization_server(ctx, &client.spec.authorization_server_ref, &namespace).ok();
    let is_home = rules::is_home(client, &homes, server.as_deref());
    if is_home && progress.works() && homes.parked.iter().any(|parked| parked.until.is_none()) {
        let overlap = Rotation::of(client, true).overlap().unwrap_or_default();
        let until = ctx.now().checked_add(overlap).unwrap_or_else(|_| ctx.now());
        homes = change(client, ctx, |drawer| drawer.settled(until)).await?;
    }
    let unmoved = homes.here.as_ref().filter(|_| !is_home);
    if unmoved.is_some_and(|here| must_end(client, &rules::unmoved(client, here), ctx)) {
        let now = ctx.now();
        homes = change(client, ctx, |drawer| {
            drawer.parked(leaving(client, ctx), Some(now))
        })
        .await?;
    }
    let mut left = None;
    for parked in homes.parked.clone() {
        if let Some(wait) = lasts(client, &parked, ctx) {
            progress.look_again(wait);
            continue;
        }
        match end(client, &parked, &homes, ctx).await {
            Ok(()) => {}
            Err(halt @ Halt::Failed(Error::NotLeading | Error::Cluster { .. })) => return Err(halt),
            Err(halt) => {
                progress.look_again(AGAIN);
                left = left.or(Some((parked.place.clone(), halt)));
            }
        }
    }
    let homes = self::homes(client, ctx).await?;
    let is_home = rules::is_home(client, &homes, server.as_deref());
    progress.housed(homes, is_home, left);
    Ok(())
}

/// For how long the client may keep what it has there; `None`: no longer.
fn lasts(client: &McpClient, parked: &Parked, ctx: &Context) -> Option<Duration> {
    if must_end(client, &Elsewhere::of(parked), ctx) {
        return None;
    }
    let Some(until) = parked.until else {
        return Some(ctx.config.resync_interval);
    };
    let wait = until.duration_since(ctx.now());
    wait.is_positive()
        .then(|| Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(100))
}

/// Whether the client may not keep what it has there.
fn must_end(client: &McpClient, elsewhere: &Elsewhere<'_>, ctx: &Context) -> bool {
    let namespace = client.namespace().unwrap_or_default();
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    let place = elsewhere.place;
    let servers = elsewhere.granted.iter().filter_map(|granted| {
        let (namespace, name) = granted.server.split_once('/')?;
        let server = home::mcp_server(ctx, namespace, name).ok()??;
        Some((granted, server))
    });
    let servers: Vec<_> = servers.collect();
    rules::must_end(&Facts {
        client,
        tenant,
        elsewhere,
        authorization_server: reached(place, ctx).as_deref(),
        servers: &servers,
    })
}

/// The AuthorizationServer by which a place is reached. One that came back as another under its name is none.
fn reached(place: &Place, ctx: &Context) -> Option<Arc<AuthorizationServer>> {
    let found = find::<AuthorizationServer>(
        &ctx.feeds.authorization_servers.store(),
        &place.namespace,
        &place.name,
    );
    found.filter(|server| {
        let registers = server.spec.dynamic_registration.is_some();
        (&server.spec.issuer, registers) == (&place.issuer, place.registers)
    })
}

/// Changes what the journal says of places.
async fn change(
    client: &McpClient,
    ctx: &Context,
    change: impl FnOnce(&Drawer) -> Drawer,
) -> Result<Homes, Error> {
    let mark = home::mark(client, &ctx.installation);
    let drawer = opened(client, ctx).await?;
    let changed = change(&drawer);
    if changed == drawer {
        return Ok(drawer.homes);
    }
    Ok(moving::write(ctx, &mark, &changed).await?.homes)
}

/// Notes what became of the registrations of a client at a place that it left.
pub(super) async fn note(client: &McpClient, place: &Place, book: &Book, ctx: &Context) -> Result<(), Error> {
    let page = Page::of(book).map_err(kube::Error::SerdeError)?;
    change(client, ctx, |drawer| drawer.noted(place, page)).await?;
    Ok(())
}

/// Removes what the client has at a place that it left, and forgets the place.
async fn end(client: &McpClient, parked: &Parked, homes: &Homes, ctx: &Context) -> Result<(), Halt> {
    if let Err(halt) = remove(client, parked, homes, ctx).await {
        let Some(why) = given_up(client, parked, ctx) else {
            return Err(halt);
        };
        announce(client, &parked.place, why, ctx).await;
    }
    change(client, ctx, |drawer| drawer.without(&parked.place)).await?;
    Ok(())
}

async fn remove(client: &McpClient, parked: &Parked, homes: &Homes, ctx: &Context) -> Result<(), Halt> {
    let place = &parked.place;
    let server = reached(place, ctx).ok_or_else(|| gone(place))?;
    let connection = home::connection(ctx, &server)?;
    if let Some(registrar) = connection.registrar() {
        let site = dynamic::Site {
            client,
            server: &server,
            connection: &connection,
            registrar,
            ctx,
        };
        return Box::pin(site.end_parked(parked)).await;
    }
    let provider = home::administered(&connection)?;
    let is_in_use = |here: &Place| !here.registers && here.realm == provider.realm();
    if homes.here.as_ref().is_some_and(is_in_use) {
        return Ok(());
    }
    let mark = &home::mark(client, &ctx.installation);
    let client_id = &desired::client_id(client, &ctx.installation);
    let replan = || async move {
        let observed = provider.observe_client(client_id, Read::Fresh).await?;
        Ok::<_, ProviderError>(provider.plan_client_removal(mark, &observed))
    };
    settle::remove(provider, replan().await?, || replan().boxed()).await
}

fn gone(place: &Place) -> Halt {
    let Place { namespace, name, .. } = place;
    Halt::waiting(
        "AuthorizationServerNotFound",
        format!("AuthorizationServer {namespace}/{name} does not exist, or is another than it was"),
    )
}

/// Whether what is left at a place is given up: when that is asked for, and late when nothing is there by which it could be
/// reached.
fn given_up(client: &McpClient, parked: &Parked, ctx: &Context) -> Option<GivenUp> {
    if let Some(why) = deletion::given_up(client, ctx.now(), ctx.config.deletion_timeout) {
        return Some(why);
    }
    let patience = SignedDuration::try_from(ctx.config.deletion_timeout).ok()?;
    let late = parked.until?.checked_add(patience).ok()?;
    (reached(&parked.place, ctx).is_none() && late <= ctx.now()).then_some(GivenUp::Timeout)
}

async fn announce(client: &McpClient, place: &Place, why: GivenUp, ctx: &Context) {
    let note = format!(
        "Gave up cleaning up after McpClient {} at AuthorizationServer {}/{} ({}): what it made there may still exist",
        key(client),
        place.namespace,
        place.name,
        why.as_str()
    );
    tracing::warn!("{note}");
    ctx.metrics.deletion_given_up(Kind::McpClient, why);
    pass::tell(client, EventType::Warning, "CleanupGivenUp", note, ctx).await;
}

/// Removes all that the client has elsewhere, as far as that can be done now. Gives by which AuthorizationServer the rest is
/// to be reached, and why something could not be removed.
pub(super) async fn end_elsewhere(
    client: &McpClient,
    ctx: &Context,
) -> Result<(Option<ObjectReference>, Option<Halt>), Halt> {
    let homes = homes(client, ctx).await?;
    let mut failed = None;
    for parked in &homes.parked {
        if let Err(halt) = remove(client, parked, &homes, ctx).await {
            failed = failed.or(Some(halt));
            continue;
        }
        change(client, ctx, |drawer| drawer.without(&parked.place)).await?;
    }
    Ok((rules::last_home(client, &homes), failed))
}

/// Whether the AuthorizationServer lets the client's namespace register clients at all, and this one's redirect URIs.
fn grants(server: &AuthorizationServer, tenant: Tenant<'_>, redirect_uris: &[String]) -> bool {
    grants::client(server, tenant, redirect_uris).is_ok()
}
