//! The API server is away: the operator ends with its lease, and goes on where it was.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use mcp_auth_e2e::world::World;

use super::{
    RECOVERY,
    crowd::{Crowd, Shape},
    lease, outage,
    traffic::{self, Histogram},
    trust,
};

/// So many clients there are.
const CLIENTS: usize = 200;

pub(super) async fn is_away(world: Arc<World>) -> anyhow::Result<()> {
    let shape = Shape {
        name: "outages-api-server",
        clients: CLIENTS,
        lease: lease(),
    };
    Crowd::tell(&world, &shape, away).await
}

async fn away(crowd: &Crowd) -> anyhow::Result<()> {
    let (env, first) = (&crowd.env, crowd.kubelet.operator());
    let secrets = crowd.secrets().await?;
    crowd.api_server.refuse_connections().await?;
    let began = Instant::now();
    // Others reach it: there is work to do, of which the operator does not hear.
    crowd.grow("new", 1).await?;
    let told = crowd
        .watched(outage())
        .await
        .context("while the API server is away")?;
    ensure!(
        told.values().sum::<usize>() <= 1,
        "what was Ready is not any more: {told:?}"
    );
    ensure!(!first.process().is_running(), "it goes on without a lease");
    let late = traffic::writes(env.proxy().calls(), began + trust(), Instant::now());
    ensure!(late.is_empty(), "written without a lease: {late:?}");
    crowd.unwritten(&secrets).await?;

    env.proxy().clear();
    crowd.api_server.heal()?;
    let took = crowd
        .all_ready(RECOVERY)
        .await
        .context("after the API server came back")?;
    crowd.unwritten(&secrets).await?;
    let busiest = Histogram::of(&env.proxy().calls()).busiest()?;
    crowd.world.note(format!(
        "the API server away for {} s under {CLIENTS} clients: a client that was made meanwhile was Ready {:.1} s after it \
         came back, with {busiest} calls to Keycloak in the busiest second",
        outage().as_secs(),
        took.as_secs_f64()
    ));
    Ok(())
}
