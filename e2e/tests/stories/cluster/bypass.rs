//! Ways past a gate.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::world::World;
use serde_json::{Value, json};

use super::setup::Cluster;
use crate::fixtures::because;

pub(super) async fn found(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-bypass").await?;
    cluster.env().apply(&cluster.everything(1)).await?;
    cluster.open("everything").await?;
    cluster.holds("everything", &["BypassClosed", "Ready"]).await?;
    another_service(&cluster).await?;
    no_network_policy(&cluster).await?;
    cluster.end().await
}

/// A second Service to the same pods is named for as long as there is one.
async fn another_service(cluster: &Cluster) -> anyhow::Result<()> {
    let space = cluster.env().namespace();
    let shortcut = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "shortcut", "namespace": space },
        "spec": { "selector": { "app": "everything" }, "ports": [{ "port": 80, "targetPort": 3001 }] },
    });
    cluster.env().apply(&shortcut).await?;
    let found = is_open(cluster, "OtherService").await?;
    ensure!(
        found["message"]
            .as_str()
            .is_some_and(|message| message.contains("Service shortcut:")),
        "{found}"
    );
    let delete = ["delete", "service", "shortcut", "--namespace", space];
    cluster.env().kubectl().must(&delete).await?;
    cluster.holds("everything", &["BypassClosed", "Ready"]).await
}

/// Without the NetworkPolicy anybody reaches the pods; with it nobody does.
async fn no_network_policy(cluster: &Cluster) -> anyhow::Result<()> {
    let mut open = cluster.everything(1);
    open["spec"]["enforcement"]["gate"]["networkPolicy"] = json!(false);
    cluster.env().apply(&open).await?;
    let found = is_open(cluster, "PodsReachable").await?;
    ensure!(
        found["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("1 of 1 pods")),
        "{found}"
    );
    open["spec"]["enforcement"]["gate"]["networkPolicy"] = json!(true);
    cluster.env().apply(&open).await?;
    cluster.holds("everything", &["BypassClosed", "Ready"]).await
}

/// Waits until the server is not Ready for this way in. Gives the condition that names it.
async fn is_open(cluster: &Cluster, reason: &str) -> anyhow::Result<Value> {
    let server = cluster.server("everything");
    let found = because(cluster.env(), server, ("BypassClosed", "False", reason)).await?;
    because(cluster.env(), server, ("Ready", "False", reason)).await?;
    Ok(found)
}
