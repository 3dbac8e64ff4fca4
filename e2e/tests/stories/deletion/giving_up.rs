//! Clean-ups that do not work are given up, and what may be left behind is named.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mcp_auth_e2e::{
    lengths,
    operator::Operator,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::Value;

use super::{GIVEN_UP_TOTAL, ask, one_of_each};
use crate::{
    fixtures::SOON,
    inventory::{Realm, becomes, kept},
};

/// How long these operators try to clean up.
fn timeout() -> Duration {
    Duration::from_secs(lengths::of(6, 120))
}

/// When an object is gone that was given up at [`timeout`]: with the back-off of a failing pass, and head-room.
fn given_up() -> Duration {
    timeout() + Duration::from_secs(14)
}

/// Waits for the Event that names what may be left behind of an object.
async fn told(env: &StoryEnv, namespace: &str, about: &str, object: &str) -> anyhow::Result<()> {
    wait_for(&format!("an Event about {object}"), SOON, async || {
        let events: Value = env.kubectl().json(&["get", "events", "-n", namespace]).await?;
        let found = events["items"].as_array().into_iter().flatten().any(|event| {
            event["reason"] == "CleanupGivenUp"
                && event["type"] == "Warning"
                && event["involvedObject"]["kind"] == about
                && event["message"]
                    .as_str()
                    .is_some_and(|note| note.contains(object))
        });
        Ok(if found {
            Seen::Done(())
        } else {
            Seen::NotYet(events["items"].to_string())
        })
    })
    .await
}

/// Waits until so many objects are counted as given up: they are counted once they are gone.
async fn counted(operator: &Operator, labels: &[(&str, &str)], count: f64) -> anyhow::Result<()> {
    becomes("the count of what was given up", &count, SOON, async || {
        operator.metric(GIVEN_UP_TOTAL, labels).await
    })
    .await
}

pub(super) async fn outage(world: Arc<World>, name: &str, restarted: bool) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, &format!("delete-{name}")).await?;
    let space = env.namespace();
    let mut options = env.operator_options();
    options.deletion_timeout = format!("{}s", timeout().as_secs());
    let mut operator = env.start_operator_with(&options).await?;
    one_of_each(&env).await?;
    let before = Realm::read(&env).await?;
    if restarted {
        operator.stop().await?;
    }
    env.proxy().refuse_connections().await?;

    let began = Instant::now();
    for (kind, name) in OBJECTS {
        ask(&env, kind, name).await?;
    }
    if restarted {
        operator = env.start_operator_with(&options).await?;
    }
    for (kind, name) in [
        ("mcpclient", "worker"),
        ("mcpserver", "notes"),
        ("mcpserver", "archive"),
    ] {
        env.wait_gone(kind, space, name, given_up()).await?;
        // The time of deletion is in whole seconds.
        let waited = began.elapsed() + Duration::from_secs(1);
        ensure!(waited >= timeout(), "{kind} was given up after {waited:?}");
        let spelled = if kind == "mcpclient" {
            "McpClient"
        } else {
            "McpServer"
        };
        told(
            &env,
            space,
            "AuthorizationServer",
            &format!("{spelled} {space}/{name}"),
        )
        .await?;
    }
    env.wait_gone("tokenexchangepolicy", space, "notes-to-archive", given_up())
        .await?;
    env.wait_gone("authorizationserver", space, "main", given_up())
        .await?;
    let object = format!("AuthorizationServer {space}/main");
    told(&env, env.operator_namespace(), "Namespace", &object).await?;

    for (kind, count) in [
        ("McpClient", 1.0),
        ("McpServer", 2.0),
        ("AuthorizationServer", 1.0),
    ] {
        counted(&operator, &[("kind", kind), ("reason", "timeout")], count).await?;
    }
    let kept = kept(&env).await?;
    ensure!(kept.is_empty(), "left in the operator's namespace: {kept:?}");
    ensure!(
        Realm::read(&env).await? == before,
        "what was named is what is left"
    );
    operator.stop().await
}

/// What [`one_of_each`] makes.
const OBJECTS: [(&str, &str); 5] = [
    ("authorizationserver", "main"),
    ("mcpclient", "worker"),
    ("tokenexchangepolicy", "notes-to-archive"),
    ("mcpserver", "notes"),
    ("mcpserver", "archive"),
];

pub(super) async fn abandon(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "delete-abandon").await?;
    let space = env.namespace();
    let operator = env.start_operator().await?;
    one_of_each(&env).await?;
    let before = Realm::read(&env).await?;
    env.proxy().refuse_connections().await?;
    ask(&env, "mcpclient", "worker").await?;
    let worker = ("McpClient", space, "worker");
    // It stays, and says why, until somebody decides.
    env.wait_condition(worker, ("Ready", "Unknown"), SOON).await?;
    let labels = [("kind", "McpClient"), ("reason", "abandon")];
    ensure!(
        operator.metric(GIVEN_UP_TOTAL, &labels).await? < 1.0,
        "given up without being asked to"
    );
    let arguments = [
        "annotate",
        "mcpclient",
        "worker",
        "-n",
        space,
        "mcpauth.dev/abandon=true",
    ];
    env.kubectl().must(&arguments).await?;
    env.wait_gone("mcpclient", space, "worker", given_up()).await?;
    told(
        &env,
        space,
        "AuthorizationServer",
        &format!("McpClient {space}/worker"),
    )
    .await?;
    counted(&operator, &labels, 1.0).await?;
    let journal = format!("mcpclient.{space}.worker");
    ensure!(!kept(&env).await?.contains_key(&journal), "its journal is left");
    ensure!(
        Realm::read(&env).await? == before,
        "what was named is what is left"
    );
    operator.stop().await
}
