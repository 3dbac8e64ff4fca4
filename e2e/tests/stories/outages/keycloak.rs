//! Keycloak is away: nothing is written, everybody is told, and it is not run over when it comes back.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::world::World;

use super::{
    RECOVERY,
    crowd::{Crowd, Shape},
    outage,
    traffic::Histogram,
};

/// So many clients there are.
const CLIENTS: usize = 200;

/// The longest pause between two tries of a realm that is away, in these stories, in seconds.
const LONGEST_PAUSE: u64 = 5;

/// What is under way at one realm at a time.
const AT_A_TIME: u64 = 8;

/// How often a call is tried until the realm counts as away.
const TRIES: u64 = 3;

/// So many clients are made while it is away: work that waits for its return.
const NEW: usize = 60;

pub(super) async fn is_away(world: Arc<World>) -> anyhow::Result<()> {
    let shape = Shape {
        name: "outages-keycloak",
        clients: CLIENTS,
        lease: Duration::from_secs(15),
    };
    Crowd::tell(&world, &shape, away).await
}

/// The most calls to a realm that is away: what was under way when it went, and one after each pause from then on. Pauses
/// vary by a quarter, and begin short.
fn most_calls() -> u64 {
    TRIES * (AT_A_TIME + 5 + outage().as_secs() * 4 / (LONGEST_PAUSE * 3))
}

async fn away(crowd: &Crowd) -> anyhow::Result<()> {
    let (proxy, operator) = (crowd.env.proxy(), crowd.kubelet.operator());
    let secrets = crowd.secrets().await?;
    let calls = async || {
        let total = "mcp_auth_operator_authorization_server_calls_total";
        operator.metric(total, &[]).await
    };
    let before = calls().await?;
    proxy.refuse_connections().await?;
    crowd.grow("new", NEW).await?;
    let told = crowd.watched(outage()).await.context("while Keycloak is away")?;
    let made = calls().await? - before;
    let unreachable = ("Unknown".to_owned(), "AuthorizationServerUnreachable".to_owned());
    let were_told = told.get(&unreachable).copied().unwrap_or_default();
    ensure!(
        were_told > NEW,
        "only {were_told} clients say that Keycloak is away: {told:?}"
    );
    ensure!(
        made <= f64::from(u32::try_from(most_calls())?),
        "{made} calls to a realm that is away, {} at most",
        most_calls()
    );
    crowd.unwritten(&secrets).await?;

    proxy.clear();
    proxy.heal()?;
    let took = crowd
        .all_ready(RECOVERY)
        .await
        .context("after Keycloak came back")?;
    let busiest = Histogram::of(&proxy.calls()).busiest()?;
    crowd.unwritten(&secrets).await?;
    crowd.world.note(format!(
        "Keycloak away for {} s under {CLIENTS} clients: {made} calls meanwhile ({} at most), {were_told} clients said so, \
         all and {NEW} new ones Ready {:.1} s after it came back, with {busiest} calls in the busiest second",
        outage().as_secs(),
        most_calls(),
        took.as_secs_f64()
    ));
    Ok(())
}
