//! More than fits on a page.

use std::{sync::Arc, time::Instant};

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use mcp_auth_e2e::{progress, runner::Story, world::World};
use mcp_auth_operator::provider::{ClientSpec, Provider as _, Read};

use super::{REMEMBERED, Scene, agent, connect, mark, orders};

const CLIENTS: usize = 260;

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new(
        "provider::hundreds_of_clients_are_read_in_pages_and_once_for_all",
        pages,
    )]
}

fn numbered(n: usize) -> ClientSpec {
    ClientSpec {
        mark: mark("McpClient", &format!("c{n}")),
        client_id: format!("prod.team.c{n}"),
        ..agent()
    }
}

async fn pages(world: Arc<World>) -> anyhow::Result<()> {
    let mut scene = Scene::new(&world, "provider-pages").await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    // Not ours, although the search finds it: it holds our prefix, but does not begin with it.
    let decoy = serde_json::json!({"clientId": "not.prod.team.c1", "protocol": "openid-connect"});
    scene.env.realm().admin().create("/clients", &decoy).await?;
    let begun = Instant::now();
    let together = &scene;
    stream::iter((0..CLIENTS).map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(8, |n| async move {
            let plan = together.put_client(&numbered(n), REMEMBERED).await?;
            ensure!(plan.calls.len() == 1, "{plan:?}");
            Ok(())
        })
        .await?;
    let took = begun.elapsed();

    // As after a restart: nothing is remembered.
    scene.keycloak = connect(&scene.env).await?;
    scene.env.proxy().clear();
    let begun = Instant::now();
    let unchanged = stream::iter(0..CLIENTS)
        .map(|n| {
            let scene = &scene;
            async move { Ok::<_, anyhow::Error>(scene.put_client(&numbered(n), REMEMBERED).await?.is_empty()) }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    ensure!(unchanged.len() == CLIENTS && unchanged.into_iter().all(|unchanged| unchanged));
    let calls = scene.env.proxy().calls();
    let reads = calls.iter().filter(|call| call.method == Method::GET).count();
    ensure!(reads == 4, "three pages of clients and the scopes: {calls:?}");
    progress::say(&format!(
        "{CLIENTS} clients made in {took:?}, and found unchanged in {:?} with {reads} reads",
        begun.elapsed()
    ));

    let decoy = scene
        .keycloak
        .observe_client("not.prod.team.c1", Read::Fresh)
        .await?;
    ensure!(
        scene
            .keycloak
            .plan_client_removal(&mark("McpClient", "c1"), &decoy)
            .is_empty()
    );
    Ok(())
}
