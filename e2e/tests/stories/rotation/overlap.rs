//! The old secret stays valid beside the new one, where the authorization server can do that.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{lengths, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{
    ROTATE, annotate, at_work, credentials_ready, named, refused, secret, settled, status, workload,
};
use crate::fixtures::{SOON, ready};

const ROTATIONS: u32 = 10;

/// How late the workload reads its Secret: a kubelet takes up to a minute.
fn lag() -> Duration {
    Duration::from_secs(lengths::of(1, 60))
}

/// How long the old one stays valid: longer than that, with the time between two looks.
fn overlap() -> Duration {
    lag() + Duration::from_secs(lengths::of(2, 10))
}

/// Asks for a rotation and waits until it is over, with the end of the old one. Gives the status while both were valid.
async fn rotate(env: &StoryEnv, request: &str) -> anyhow::Result<Value> {
    let before = secret(env).await?;
    annotate(env, ROTATE, request).await?;
    let both = status(env, "two valid secrets", |status| {
        status["lastHandledRotateRequest"] == request && status["rotation"]["phase"] == "Overlapping"
    })
    .await?;
    ensure!(secret(env).await? != before, "the same secret");
    ensure!(
        credentials_ready(&both),
        "not ready while it was replaced: {both}"
    );
    settled(env, overlap()).await?;
    Ok(both)
}

pub(super) async fn nobody_is_refused(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "rotation-overlap").await?;
    let operator = at_work(&env, overlap()).await?;
    let first = secret(&env).await?;
    let rotations = async {
        let mut last = Value::Null;
        for number in 0..ROTATIONS {
            last = rotate(&env, &number.to_string()).await?;
        }
        Ok(last)
    };
    let (outcome, last) = workload::during(&env, "client-secret", lag(), rotations).await?;
    ensure!(
        outcome.refused.is_empty(),
        "{} of {} requests were refused, the first: {:?}",
        outcome.refused.len(),
        outcome.granted,
        outcome.refused.first()
    );
    ensure!(
        last["rotation"]["overlap"] == "Supported" && last["rotation"]["previousValidUntil"].is_string(),
        "{last}"
    );
    ensure!(refused(&env, &first).await?, "the first secret still works");
    ready(&env, named(&env), SOON).await?;
    world.note(format!(
        "{ROTATIONS} rotations with a workload that reads its Secret {} s late: {} tokens, none refused",
        lag().as_secs(),
        outcome.granted
    ));
    operator.stop().await
}

/// Without the role that it takes, or the feature, the old secret ends with the write of the new one.
pub(super) async fn gap(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "rotation-gap", &["manage-clients"]).await?;
    let operator = at_work(&env, overlap()).await?;
    let settled = status(&env, "a status", |status| {
        status["rotation"]["phase"] == "Settled"
    })
    .await?;
    ensure!(settled["rotation"]["overlap"] == "Unsupported", "{settled}");
    let rotations = async {
        for number in 0..ROTATIONS {
            let before = secret(&env).await?;
            let request = number.to_string();
            annotate(&env, ROTATE, &request).await?;
            let after = status(&env, "an answer", |status| {
                status["lastHandledRotateRequest"] == request
            })
            .await?;
            ensure!(
                credentials_ready(&after) && after["rotation"]["phase"] == "Settled",
                "{after}"
            );
            ensure!(refused(&env, &before).await?, "the old secret still works");
            ensure!(secret(&env).await? != before, "the same secret");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    };
    let (outcome, ()) = workload::during(&env, "client-secret", Duration::ZERO, rotations).await?;
    // Each rotation has a gap of its own: refusals that are closer together than a rotation takes are one.
    let mut gaps: Vec<workload::Outcome> = Vec::new();
    for refusal in &outcome.refused {
        let of_last = gaps.last_mut().filter(|gap| {
            let last = gap.refused.last();
            last.is_some_and(|last| refusal.0 - last.0 < Duration::from_millis(300))
        });
        match of_last {
            Some(gap) => gap.refused.push(refusal.clone()),
            None => gaps.push(workload::Outcome {
                granted: 0,
                refused: vec![refusal.clone()],
            }),
        }
    }
    let longest = gaps.iter().map(workload::Outcome::gap).max().unwrap_or_default();
    world.note(format!(
        "{ROTATIONS} rotations without overlap: {} of {} requests were refused, for {} ms at the longest",
        outcome.refused.len(),
        outcome.granted + outcome.refused.len(),
        longest.as_millis()
    ));
    ensure!(longest < Duration::from_secs(2), "a gap of {longest:?}");
    operator.stop().await
}

/// What others have in the documents of the realm stays, and what was made for the overlap goes with the
/// AuthorizationServer.
pub(super) async fn realm_as_before(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "rotation-realm").await?;
    let admin = env.realm().admin();
    let path = |document: &str| format!("/client-policies/{document}");
    let theirs = json!({ "name": "theirs", "description": "", "executors": [
        { "executor": "reject-implicit-grant", "configuration": { "auto-configure": true } },
    ] });
    let policy = json!({ "name": "theirs", "description": "", "enabled": true, "conditions": [], "profiles": ["theirs"] });
    admin
        .put(&path("profiles"), &json!({ "profiles": [theirs] }))
        .await?;
    admin
        .put(&path("policies"), &json!({ "policies": [policy] }))
        .await?;
    let read = async || -> anyhow::Result<(Value, Value)> {
        Ok((
            admin.get(&path("profiles")).await?,
            admin.get(&path("policies")).await?,
        ))
    };
    let before = read().await?;
    let operator = at_work(&env, Duration::from_secs(3)).await?;
    ensure!(
        read().await? == before,
        "something was written before it was needed"
    );

    annotate(&env, ROTATE, "now").await?;
    status(&env, "two valid secrets", |status| {
        status["rotation"]["phase"] == "Overlapping"
    })
    .await?;
    let during = read().await?;
    let names = |document: &Value, field: &str| -> Vec<String> {
        let entries = document[field].as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| entry["name"].as_str().map(str::to_owned))
            .collect()
    };
    for (document, field) in [(&during.0, "profiles"), (&during.1, "policies")] {
        let names = names(document, field);
        ensure!(
            names.len() == 2 && names.contains(&"theirs".to_owned()),
            "{names:?}"
        );
    }
    status(&env, "one valid secret", |status| {
        status["rotation"]["phase"] == "Settled"
    })
    .await?;
    let client = env
        .realm()
        .find_client(&client_id(&env).await?)
        .await?
        .unwrap_or_default();
    let left: Vec<&String> = client["attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| name.contains("rotated") || name.contains("overlap"))
        .collect();
    ensure!(left.is_empty(), "left on the client: {left:?}");

    for (kind, name) in [
        ("mcpclient", "reader"),
        ("mcpserver", "notes"),
        ("authorizationserver", "main"),
    ] {
        env.kubectl()
            .must(&["delete", kind, name, "-n", env.namespace(), "--timeout=60s"])
            .await?;
    }
    ensure!(read().await? == before, "left in the realm: {:?}", read().await?);
    operator.stop().await
}

async fn client_id(env: &StoryEnv) -> anyhow::Result<String> {
    env.secret_value(env.namespace(), "reader-mcp-client", "client-id")
        .await
}
