//! NetworkPolicies are enforced.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::Scene;

pub(super) fn stories() -> Vec<Story> {
    vec![Story::on_node(
        "node::a_network_policy_lets_in_whom_it_names_and_nobody_else",
        policy_is_enforced,
    )]
}

async fn policy_is_enforced(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "node-policies").await?;
    tokio::try_join!(
        scene.start_everything(),
        scene.start_client("friend", json!({ "role": "gate" })),
        scene.start_client("stranger", json!({ "role": "other" })),
    )?;
    let service = format!("http://{}:3001/", scene.service_address("everything").await?);
    for pod in ["friend", "stranger"] {
        scene.reach(pod, &service, &Value::Null).await?;
    }
    ensure!(
        from_outside(&service).await?,
        "without a policy everybody gets in"
    );

    scene
        .env
        .apply(&json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": "gate-only", "namespace": scene.env.namespace() },
            "spec": {
                "podSelector": { "matchLabels": { "app": "everything" } },
                "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "role": "gate" } } }] }],
            },
        }))
        .await?;
    let kept_out = |seen: &Value| seen["error"].is_string();
    scene
        .fetch_until("stranger", &service, &Value::Null, kept_out)
        .await?;
    let friend = scene.fetch("friend", &service, &Value::Null).await?;
    ensure!(
        friend["status"].is_number(),
        "whom the policy names gets in: {friend}"
    );
    ensure!(
        !from_outside(&service).await?,
        "the world outside the cluster is kept out as well"
    );
    // The policy does not name the kubelet, whose probes must still get in: it asks each second and gives up after three.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ready = [
        "rollout",
        "status",
        "deployment/everything",
        "--timeout=1s",
        "--namespace",
    ];
    scene
        .env
        .kubectl()
        .must(&[&ready[..], &[scene.env.namespace()]].concat())
        .await
        .map(drop)
}

/// Whether this machine gets an answer.
async fn from_outside(url: &str) -> anyhow::Result<bool> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    Ok(http.get(url).send().await.is_ok())
}
