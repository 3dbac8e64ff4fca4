//! The operator is killed while the door is opened, and while it is shut.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use mcp_auth_e2e::{
    operator::Operator,
    proxy::{Call, Fault},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

use super::scene::{Door, NOTES};

/// To open: the mode, the door, a probe that comes and goes, a note and a grant. To shut: the grant, the note and the door.
const FEWEST: usize = 9;

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new(
        "auth0::operator_is_killed_at_every_write_of_the_door",
        killed,
    )]
}

/// Killed at each write before it hears of it: in the end it is open or shut as it is to be, with one grant or none, and
/// nothing is left of proofs.
async fn killed(world: Arc<World>) -> anyhow::Result<()> {
    let mut door = Door::new(&world, "auth0-door-killed", false).await?;
    let open = door.main();
    let mut shut = open.clone();
    shut["spec"]
        .as_object_mut()
        .context("no spec")?
        .remove("clientRegistration");
    door.env().apply(&shut).await?;
    let (mut kills, mut number) = (0, 0);
    for lost in [false, true] {
        let mut at = 1;
        loop {
            let mut has_struck = false;
            for spec in [&open, &shut] {
                let fault = if lost {
                    Fault::lose_reply()
                } else {
                    Fault::keep_reply()
                };
                let hits = door.scene.proxy.inject(fault.on(is_write).at(at));
                door.env().apply(spec).await?;
                tokio::select! {
                    () = hits.first() => {}
                    right = is_right(&door, spec) => right?,
                }
                if hits.count() > 0 {
                    has_struck = true;
                    kills += 1;
                    if !lost {
                        number += 1;
                        door = restarted(door, number).await?;
                    }
                }
                is_right(&door, spec).await?;
                door.scene.proxy.heal()?;
            }
            if !has_struck {
                break;
            }
            at += 1;
        }
    }
    ensure!(kills >= 2 * FEWEST, "there were {kills} writes");
    world.note(format!(
        "the door at the stand-in was opened and shut through {kills} faults"
    ));
    door.is_others_untouched()?;
    door.operator.stop().await
}

fn is_write(call: &Call) -> bool {
    let is_ours = call.path().starts_with("/api/v2") || call.path() == "/oidc/register";
    is_ours && call.method != Method::GET
}

/// Another one in its place, which does not wait for the lease of the one before it.
async fn restarted(mut door: Door, number: usize) -> anyhow::Result<Door> {
    door.operator.kill_hard().await?;
    door.scene.proxy.heal()?;
    let mut options = Door::options(door.env())?;
    options.lease_name = format!("lease-{number}");
    let operator: Operator = door.env().start_operator_with(&options).await?;
    door.operator = operator;
    Ok(door)
}

async fn is_right(door: &Door, spec: &Value) -> anyhow::Result<()> {
    let is_open = spec["spec"]["clientRegistration"].is_object();
    let expected: &[_] = if is_open { &[("notes:use", NOTES)] } else { &[] };
    door.grants_become(expected).await?;
    door.until("what is left", async || {
        let (status, probes) = (door.status().await?, door.registered());
        let notes = door.clients_with("mcpauth_default_grant").len();
        let told = if is_open {
            status["clientRegistration"]["open"] == true
        } else {
            status["clientRegistration"].is_null()
        };
        let is_so = told && door.is_open() == is_open && probes.is_empty() && notes == expected.len();
        Ok((is_so, json!([status, probes, notes]).to_string()))
    })
    .await
}
