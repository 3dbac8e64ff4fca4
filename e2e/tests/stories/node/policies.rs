//! NetworkPolicies are enforced.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    runner::Story,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::scene::{IN_FORCE, Scene};

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
    let open = scene.fetch("stranger", &service, &Value::Null).await?;
    ensure!(
        open["status"].is_number(),
        "without a policy everybody gets in: {open}"
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
    wait_for("the policy to be in force", IN_FORCE, async || {
        let seen = scene.fetch("stranger", &service, &Value::Null).await?;
        Ok(if seen["error"].is_string() {
            Seen::Done(())
        } else {
            Seen::NotYet(seen.to_string())
        })
    })
    .await?;
    let friend = scene.fetch("friend", &service, &Value::Null).await?;
    ensure!(
        friend["status"].is_number(),
        "whom the policy names gets in: {friend}"
    );
    let outside = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(1))
        .build()?
        .get(&service)
        .send()
        .await;
    ensure!(outside.is_err(), "so is the world outside the cluster kept out");
    Ok(())
}
