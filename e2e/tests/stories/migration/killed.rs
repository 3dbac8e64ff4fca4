//! The operator is killed at each of its writes on the way from one realm to the other.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    lengths, progress,
    proxy::{Call, Fault, RecordingProxy},
    world::World,
};

use super::{
    scene::{Scene, overlap},
    workload,
};
use crate::fixtures::SOON;

/// How many writes of a move are tried, of each side.
const SAMPLE: u64 = 4;
const ALL: u64 = 12;
/// So many writes make a client.
const MAKING: usize = 2;

/// Before the write arrives, or before its answer does, in turn.
fn fault(number: usize) -> Fault {
    if number.is_multiple_of(2) {
        Fault::hold()
    } else {
        Fault::keep_reply()
    }
}

fn is_write(call: &Call) -> bool {
    call.is_write() && !call.target.contains("/leases") && !call.target.contains("/events")
}

/// Kills the operator at a write of the proxy, again and again, back and forth between the realms; what the workload has
/// works all the time, and in the end there is one client.
pub(super) async fn at_each_write(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-killed", "ClientSecret").await?;
    let env = &scene.env;
    operator.stop().await?;
    let api_server = env.api_server_proxy()?;
    let mut options = env.operator_options();
    options.api_server = Some(api_server.url());
    let issuers = [env.realm().issuer(), scene.next.issuer()];
    let most = lengths::of(SAMPLE, ALL);
    let mut met = 0;
    for (side, name) in [(0, "Keycloak"), (1, "the API server")] {
        for number in 1..=usize::try_from(most)? {
            let to = if (number + side).is_multiple_of(2) {
                "main"
            } else {
                "next"
            };
            let from = if to == "main" { "next" } else { "main" };
            if scene.places().await?.contains(to) {
                env.apply(&scene.reader(from, "ClientSecret")).await?;
            }
            let operator = env.start_operator_with(&options).await?;
            scene.only_at(from).await?;
            // The client is made in two writes where it comes to, and removed in one where it was.
            let at_keycloak = |home| if home == "next" { &scene.proxy } else { env.proxy() };
            let (proxy, number_there): (&RecordingProxy, usize) = match side {
                0 if number > MAKING => (at_keycloak(from), number - MAKING),
                0 => (at_keycloak(to), number),
                _ => (&api_server, number),
            };
            let change = async {
                let hits = proxy.inject(fault(number).on(is_write).at(number_there));
                env.apply(&scene.reader(to, "ClientSecret")).await?;
                let was_met = tokio::time::timeout(overlap() + Duration::from_secs(8), hits.first())
                    .await
                    .is_ok();
                operator.kill_hard().await?;
                proxy.heal()?;
                let operator = env.start_operator_with(&options).await?;
                scene.only_at(to).await?;
                operator.stop().await?;
                Ok(was_met)
            };
            let (outcome, was_met) =
                tokio::time::timeout(SOON * 4, workload::during(env, &issuers, change)).await??;
            outcome.unbroken()?;
            met += usize::from(was_met);
            progress::say(&format!(
                "killed at write {number} to {name}, to {to}: met {was_met}"
            ));
        }
    }
    ensure!(met >= 6, "only {met} kills came up");
    Ok(())
}
