//! Readiness is what the kubelet finds out.

use std::sync::Arc;

use mcp_auth_e2e::{runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::Scene;

pub(super) fn stories() -> Vec<Story> {
    vec![Story::on_node(
        "node::a_pod_whose_probe_fails_is_taken_out_of_its_service",
        probes_decide,
    )]
}

/// A server that is ready until it is told to fail, and again when it is told to heal.
const SERVER: &str = r#"
    let ready = true;
    require("http").createServer((request, response) => {
        if (request.url === "/fail") ready = false;
        if (request.url === "/heal") ready = true;
        response.statusCode = request.url === "/ready" && !ready ? 503 : 200;
        response.end("ok");
    }).listen(8080);
"#;

async fn probes_decide(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "node-probes").await?;
    let probe = json!({
        "httpGet": { "path": "/ready", "port": 8080 },
        "periodSeconds": 1,
        "failureThreshold": 1,
    });
    scene.service("web", 8080).await?;
    scene
        .start_script("web", json!({ "app": "web" }), SERVER, probe)
        .await?;
    scene.start_client("client", json!({})).await?;
    let pod = scene.pod_address("web").await?;
    answers(&scene, true).await?;
    // The pod is told by its own address, where readiness does not matter.
    for (command, in_service) in [("fail", false), ("heal", true)] {
        let url = format!("http://{pod}:8080/{command}");
        reqwest::get(url).await?.error_for_status()?;
        answers(&scene, in_service).await?;
    }
    Ok(())
}

/// Waits until the Service has somebody to answer, or nobody.
async fn answers(scene: &Scene, expected: bool) -> anyhow::Result<()> {
    let as_expected = |seen: &Value| seen["status"].is_number() == expected;
    scene
        .fetch_until("client", "http://web:8080/", &Value::Null, as_expected)
        .await
        .map(drop)
}
