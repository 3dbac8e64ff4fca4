//! A server that says that it validates tokens by itself, and does not.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use mcp_auth_e2e::world::World;

use super::setup::Cluster;
use crate::fixtures::{because, server};

pub(super) async fn found(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-external").await?;
    let address = cluster.scene.service_address("everything").await?;
    cluster.edge.lead_to(SocketAddr::new(address.parse()?, 3001));
    let mut open = server(cluster.env(), "everything");
    open["spec"]["resource"] = cluster.edge.resource().into();
    cluster.env().apply(&open).await?;
    let named = cluster.server("everything");
    let condition = ("Enforced", "False", "AnswersWithoutToken");
    because(cluster.env(), named, condition).await?;
    let ready = because(cluster.env(), named, ("Ready", "False", "AnswersWithoutToken")).await?;
    ensure!(
        ready["message"]
            .as_str()
            .is_some_and(|message| message.contains("carried no token")),
        "{ready}"
    );
    cluster.end().await
}
