//! Keys are replaced, lost, and exchanged for secrets.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{lengths, story::StoryEnv, world::World};

use super::{PEM, at_work, by};
use crate::{
    fixtures::{SOON, ready},
    rotation::{
        REVOKE, ROTATE, annotate, credentials_ready, named, refused, settled, status, value, workload,
    },
};

const ROTATIONS: u32 = 10;

/// How late the workload reads its Secret: a kubelet takes up to a minute.
fn lag() -> Duration {
    Duration::from_secs(lengths::of(1, 60))
}

/// How long the old key stays valid.
fn overlap() -> Duration {
    lag() + Duration::from_secs(lengths::of(2, 10))
}

/// Without any role or feature at Keycloak beyond managing clients.
pub(super) async fn nobody_is_refused(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "keys-overlap", &["manage-clients"]).await?;
    let operator = at_work(&env, "PrivateKeyJwt", overlap(), &[]).await?;
    let first = value(&env, PEM).await?;
    let rotations = async {
        for number in 0..ROTATIONS {
            let before = value(&env, PEM).await?;
            let request = number.to_string();
            annotate(&env, ROTATE, &request).await?;
            let both = status(&env, "two valid keys", |status| {
                status["lastHandledRotateRequest"] == request && status["rotation"]["phase"] == "Overlapping"
            })
            .await?;
            ensure!(
                credentials_ready(&both),
                "not ready while it was replaced: {both}"
            );
            ensure!(both["rotation"]["overlap"] == "Supported", "{both}");
            ensure!(value(&env, PEM).await? != before, "the same key");
            ensure!(!refused(&env, &before).await?, "the old key ended at once");
            settled(&env, overlap()).await?;
            ensure!(refused(&env, &before).await?, "the old key still works");
        }
        Ok(())
    };
    let (outcome, ()) = workload::during(&env, PEM, lag(), rotations).await?;
    ensure!(
        outcome.refused.is_empty(),
        "{} of {} requests were refused, the first: {:?}",
        outcome.refused.len(),
        outcome.granted,
        outcome.refused.first()
    );
    world.note(format!(
        "{ROTATIONS} rotations of a private key with a workload that reads its Secret {} s late: {} tokens, none refused",
        lag().as_secs(),
        outcome.granted
    ));

    let last = value(&env, PEM).await?;
    annotate(&env, REVOKE, "leaked").await?;
    status(&env, "an answer to the revocation", |status| {
        status["lastHandledRevokeRequest"] == "leaked"
    })
    .await?;
    for old in [&first, &last] {
        ensure!(
            refused(&env, old).await?,
            "a key from before the revocation works"
        );
    }
    ensure!(
        !refused(&env, &value(&env, PEM).await?).await?,
        "the new key does not work"
    );
    operator.stop().await
}

/// From a secret, of which two are valid, to a key, and back.
pub(super) async fn another_method(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "keys-method").await?;
    let long = Duration::from_mins(10);
    let operator = at_work(&env, "ClientSecret", long, &[]).await?;
    let first = value(&env, "client-secret").await?;
    annotate(&env, ROTATE, "1").await?;
    status(&env, "two valid secrets", |status| {
        status["rotation"]["phase"] == "Overlapping"
    })
    .await?;
    let second = value(&env, "client-secret").await?;
    let client_id = value(&env, "client-id").await?;
    let mut before = vec![first, second];
    for (method, key, gone) in [
        ("PrivateKeyJwt", PEM, "client-secret"),
        ("ClientSecret", "client-secret", PEM),
    ] {
        env.apply(&by(&env, method, long)).await?;
        let generation = env
            .get("McpClient", env.namespace(), "reader")
            .await?
            .unwrap_or_default()["metadata"]["generation"]
            .clone();
        let after = status(&env, "the other method", |status| {
            status["observedGeneration"] == generation && credentials_ready(status)
        })
        .await?;
        ensure!(after["rotation"]["phase"] == "Settled", "{after}");
        ensure!(value(&env, gone).await.is_err(), "{gone} is left in the Secret");
        ensure!(value(&env, "client-id").await? == client_id, "another client");
        let now = value(&env, key).await?;
        ensure!(!refused(&env, &now).await?, "{key} does not work");
        for old in &before {
            ensure!(refused(&env, old).await?, "what was before {method} works");
        }
        before.push(now);
    }
    operator.stop().await
}

pub(super) async fn lost(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "keys-lost").await?;
    let operator = at_work(&env, "PrivateKeyJwt", Duration::from_mins(1), &[]).await?;
    let first = value(&env, PEM).await?;
    operator.stop().await?;
    let journal = format!("mcpclient.{}.reader", env.namespace());
    let delete = async |namespace: &str, name: &str| {
        let arguments = ["delete", "secret", name, "-n", namespace];
        env.kubectl().must(&arguments).await.map(drop)
    };
    delete(env.operator_namespace(), &journal).await?;
    let operator = env.start_operator().await?;
    let restored = async || {
        mcp_auth_e2e::wait::wait_for("the journal", SOON, async || {
            let found = env
                .secret_value(env.operator_namespace(), &journal, "current")
                .await;
            let proved = env
                .secret_value(env.operator_namespace(), &journal, "proved")
                .await;
            Ok(match (found, proved) {
                (Ok(found), Ok(_)) => mcp_auth_e2e::wait::Seen::Done(found),
                _ => mcp_auth_e2e::wait::Seen::NotYet("it is not there".to_owned()),
            })
        })
        .await
    };
    ensure!(restored().await? == first, "it is not the key in the Secret");
    ensure!(value(&env, PEM).await? == first);
    operator.stop().await?;

    delete(env.operator_namespace(), &journal).await?;
    delete(env.namespace(), "reader-mcp-client").await?;
    let operator = env.start_operator().await?;
    let second = restored().await?;
    ensure!(second != first, "where did it find the key?");
    ready(&env, named(&env), SOON).await?;
    ensure!(value(&env, PEM).await? == second);
    ensure!(refused(&env, &first).await?, "the lost key still works");
    ensure!(!refused(&env, &second).await?);
    operator.stop().await
}
