//! How long things take and how many calls they cost. The numbers are in the summary of the run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mcp_auth_e2e::{runner::Story, story::StoryEnv, world::World};
use serde_json::Value;

use crate::fixtures::{
    Named, SOON, apply_all, machine, native, open_server, policy, ready, server, usual_operator, web,
};

/// Within what a small installation is Ready, on a machine that does other things too. The aim is 5 s.
const ALL_READY: Duration = Duration::from_secs(12);

/// The most calls to the authorization server for a new client, its proof included.
const CALLS_PER_CLIENT: u32 = 4;

/// How many clients are made one after another.
const CLIENTS: u32 = 6;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("numbers::from_apply_to_ready", apply_to_ready),
        Story::new("numbers::calls_for_a_new_client", calls_for_a_new_client),
    ]
}

/// 1 AuthorizationServer, 3 servers, 5 clients, 2 policies.
fn installation(env: &StoryEnv) -> Vec<Value> {
    vec![
        env.authorization_server("main"),
        server(env, "notes"),
        open_server(env, "archive"),
        open_server(env, "search"),
        machine(env, "reporter", &["notes"]),
        machine(env, "indexer", &["archive", "search"]),
        web(env, "portal", &["notes", "archive"]),
        web(env, "intranet", &["search"]),
        native(env, "desktop", &["notes"]),
        policy(env, "notes-to-archive", "notes", "archive"),
        policy(env, "archive-to-search", "archive", "search"),
    ]
}

fn name(object: &Value) -> Named<'_> {
    let metadata = &object["metadata"];
    (
        object["kind"].as_str().unwrap_or_default(),
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    )
}

async fn apply_to_ready(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "numbers-ready").await?;
    let operator = usual_operator(&env).await?;
    let objects = installation(&env);
    let began = Instant::now();
    apply_all(&env, &objects).await?;
    let applied = began.elapsed();
    for object in &objects {
        ready(&env, name(object), SOON).await?;
    }
    let took = began.elapsed();
    world.note(format!(
        "apply to Ready, 1 AuthorizationServer + 3 servers + 5 clients + 2 policies: {:.1} s, of which kubectl {:.1} s \
         (aim 5 s), with {} calls to Keycloak",
        took.as_secs_f64(),
        applied.as_secs_f64(),
        env.proxy().calls().len(),
    ));
    ensure!(took <= ALL_READY, "it took {took:?}");
    operator.stop().await
}

async fn calls_for_a_new_client(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "numbers-calls").await?;
    let operator = usual_operator(&env).await?;
    let clients = |name: &str| machine(&env, name, &["notes"]);
    apply_all(
        &env,
        &[
            env.authorization_server("main"),
            server(&env, "notes"),
            clients("first"),
        ],
    )
    .await?;
    ready(&env, ("McpClient", env.namespace(), "first"), SOON).await?;

    env.proxy().clear();
    for number in 0..CLIENTS {
        let client = clients(&format!("client-{number}"));
        env.apply(&client).await?;
        ready(&env, name(&client), SOON).await?;
    }
    let calls = env.proxy().calls();
    let count = u32::try_from(calls.len())?;
    world.note(format!(
        "calls to Keycloak for a new client: {:.1} (aim {CALLS_PER_CLIENT})",
        f64::from(count) / f64::from(CLIENTS),
    ));
    ensure!(count <= CLIENTS * CALLS_PER_CLIENT, "{calls:#?}");
    operator.stop().await
}
