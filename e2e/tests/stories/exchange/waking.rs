//! What a policy waits for wakes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::Value;

use super::{Call, api_policy, home_with_api};
use crate::fixtures::{Named, SOON, apply_all, because, native, open_server, policy, ready, server};

/// How long after a change in the cluster the policy that waited for it is Ready, on a machine that is busy with other
/// stories. The summary of the run says how long it was.
const AWAKE: Duration = Duration::from_secs(15);

/// Applies `change` and expects the policy to be Ready in time.
async fn wakes(env: &StoryEnv, change: &Value, policy: Named<'_>) -> anyhow::Result<()> {
    let began = Instant::now();
    env.apply(change).await?;
    ready(env, policy, AWAKE).await?;
    env.world().note(format!(
        "TokenExchangePolicy {} was Ready {:.1} s after what it waited for was applied",
        policy.2,
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The operator looks again by itself only after an hour: whatever happens sooner, a watch has brought about.
pub(super) async fn target_appears(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-wakes").await?;
    let space = env.namespace();
    let mut options = env.operator_options();
    "1h".clone_into(&mut options.resync_interval);
    "1h".clone_into(&mut options.max_backoff);
    let operator = env.start_operator_with(&options).await?;
    let objects = [
        env.authorization_server("main"),
        server(&env, "notes"),
        native(&env, "desktop", &["notes"]),
        policy(&env, "notes-to-archive", "notes", "archive"),
        api_policy(space, "notes"),
    ];
    apply_all(&env, &objects).await?;
    let archive: Named<'_> = ("TokenExchangePolicy", space, "notes-to-archive");
    let said = because(&env, archive, ("Ready", "Unknown", "TargetNotFound")).await?;
    let wanted = format!("McpServer {space}/archive does not exist: create it, or correct mcpServerRef");
    ensure!(said["message"] == wanted, "{said}");
    let orders: Named<'_> = ("TokenExchangePolicy", space, "notes-to-orders");
    let said = because(&env, orders, ("Accepted", "False", "ApiNotFound")).await?;
    let wanted = format!(
        "AuthorizationServer {space}/main has no API orders: declare it in its apis, or name another one"
    );
    ensure!(said["message"] == wanted, "{said}");

    // First it is there, and then it allows the exchange.
    env.apply(&server(&env, "archive")).await?;
    because(&env, archive, ("Accepted", "False", "ExchangeNotAllowed")).await?;
    ready(&env, ("McpServer", space, "archive"), SOON).await?;
    wakes(&env, &open_server(&env, "archive"), archive).await?;
    wakes(&env, &home_with_api(&env), orders).await?;

    // Ready is true of it: the server can exchange for both.
    let call = Call::begin(&env).await?;
    call.reaches("archive").await?;
    call.reaches_orders().await?;
    operator.stop().await
}
