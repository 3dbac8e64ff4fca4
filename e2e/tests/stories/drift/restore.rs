//! What a backup brings back finds its own again.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::Value;

use super::{NOTES, OBJECTS, all_ready, held, objects, registered};
use crate::{
    fixtures::{SOON, apply_all},
    inventory::{Realm, becomes, credential, kept, token_for},
};

/// Takes everything of ours out of the cluster without letting the operator clean up, as the loss of a cluster does.
async fn lose(env: &StoryEnv) -> anyhow::Result<()> {
    for (kind, name) in OBJECTS {
        let patch = r#"{"metadata":{"finalizers":null}}"#;
        let space = env.namespace();
        let strip = ["patch", kind, name, "-n", space, "--type=merge", "-p", patch];
        env.kubectl().must(&strip).await?;
        env.kubectl().must(&["delete", kind, name, "-n", space]).await?;
    }
    Ok(())
}

pub(super) async fn restore(world: Arc<World>, name: &str, without_journals: bool) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, name).await?;
    let mut operator = env.start_operator().await?;
    apply_all(&env, &objects(&env)).await?;
    all_ready(&env).await?;
    let worker = credential(&env, "worker").await?;
    let (realm, secrets) = (Realm::read(&env).await?, held(&env).await?);
    let registered_before = registered(&env, &worker).await?;
    let uid = uid(&env).await?;

    operator.stop().await?;
    lose(&env).await?;
    if without_journals {
        for secret in kept(&env).await?.keys() {
            env.kubectl()
                .must(&["delete", "secret", secret, "-n", env.operator_namespace()])
                .await?;
        }
    }
    token_for(&env, &worker, "notes:use", NOTES)
        .await
        .context("the cluster is gone, the client is not")?;
    apply_all(&env, &objects(&env)).await?;
    operator = env.start_operator().await?;
    all_ready(&env).await?;

    ensure!(self::uid(&env).await? != uid, "that was no restore");
    becomes("the Secrets as they were", &secrets, SOON, async || {
        held(&env).await
    })
    .await?;
    ensure!(
        Realm::read(&env).await? == realm,
        "something was made anew or twice"
    );
    ensure!(
        registered(&env, &worker).await? == registered_before,
        "a registration changed"
    );
    let mark = env.realm().find_client(worker.id()).await?.unwrap_or_default();
    ensure!(
        mark["attributes"]["mcpauth.uid"] == self::uid(&env).await?,
        "the old mark stayed"
    );
    token_for(&env, &worker, "notes:use", NOTES).await?;
    let rotated = operator.metric("mcp_auth_operator_rotations_total", &[]).await?;
    ensure!(rotated < 1.0, "a credential was replaced");
    operator.stop().await
}

async fn uid(env: &StoryEnv) -> anyhow::Result<Value> {
    let worker = env.get("McpClient", env.namespace(), "worker").await?;
    Ok(worker.context("there is no worker")?["metadata"]["uid"].clone())
}
