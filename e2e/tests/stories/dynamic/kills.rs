//! The operator is killed while the server does what it was asked for.

use std::sync::Arc;

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{oidc_provider::Options, proxy::Fault, runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::{READER, Scene, condition};
use crate::{fixtures::SOON, rotation::ROTATE};

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new(
        "dynamic::killed_at_any_call_the_operator_counts_what_it_left",
        killed,
    )]
}

/// The number of the last replica.
const LAST: usize = 100;

/// What is begun, the call that is carried out while the operator dies, and how many clients that leaves.
type Kill = (&'static str, Method, i64);

/// Killed at the registration, at that of a rotation, at a change, at the removal of an old client, and at that of the last.
async fn killed(world: Arc<World>) -> anyhow::Result<()> {
    let mut scene = Scene::start(&world, "dynamic::killed", &Options::default()).await?;
    let kills: [Kill; 4] = [
        ("created", Method::POST, 1),
        ("rotated", Method::POST, 1),
        ("changed", Method::PUT, 1),
        ("removed", Method::DELETE, 0),
    ];
    let mut left = 0;
    for (number, (what, method, leaves)) in kills.into_iter().enumerate() {
        die_at(&mut scene, number, &method, what).await?;
        left += leaves;
        let settled = |status: &Value| {
            condition(status, "Ready")["status"] == "True"
                && status["rotation"]["phase"] == "Settled"
                && status["registration"]["unreachable"] == left
        };
        let status = scene.status(&format!("the end after {what}"), settled).await?;
        scene.must_work().await?;
        let clients = scene.server.clients().await?.len();
        ensure!(i64::try_from(clients)? == left + 1, "{what}: {clients} {status}");
    }
    let delete = Fault::keep_reply().on(|call| call.method == Method::DELETE).at(1);
    let hits = scene.proxy.inject(delete);
    let arguments = [
        "delete",
        "mcpclient",
        READER,
        "-n",
        scene.env.namespace(),
        "--wait=false",
    ];
    scene.env.kubectl().must(&arguments).await?;
    hits.first().await;
    scene.restart(LAST).await?;
    scene
        .env
        .wait_gone("mcpclient", scene.env.namespace(), READER, SOON)
        .await?;
    let clients = scene.server.clients().await?.len();
    ensure!(
        i64::try_from(clients)? == left,
        "what nobody can reach is left: {clients}"
    );
    scene.finish().await
}

/// Begins something, and kills the operator at the first call of this kind.
async fn die_at(scene: &mut Scene, number: usize, method: &Method, what: &str) -> anyhow::Result<()> {
    let wanted = method.clone();
    let at = Fault::keep_reply().on(move |call| call.method == wanted && call.path().starts_with("/reg"));
    let hits = scene.proxy.inject(at.at(1));
    let mut reader = scene.reader();
    reader["spec"]["managed"]["displayName"] = json!(match what {
        "changed" | "removed" => "Changed",
        _ => READER,
    });
    match what {
        "rotated" | "removed" => scene.annotate(ROTATE, what).await?,
        _ => scene.env.apply(&reader).await?,
    }
    hits.first().await;
    scene.restart(number).await
}
