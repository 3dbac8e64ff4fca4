//! Callers that are no longer accepted while their streams are open.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    gate::{client::Stream, upstream::ANSWER},
    run_folder::RunFolder,
};
use serde_json::json;

use super::{
    super::{
        case::PING,
        request::{answer, bare, post},
        scene::{self, RESOURCE, Scene},
    },
    answered, until_answered,
};

fn token_of(scene: &Scene, client: &str) -> anyhow::Result<String> {
    let mut claims = scene.issuer.claims(RESOURCE, "mcp:use")?;
    claims["client_id"] = json!(client);
    scene.issuer.sign(&claims)
}

async fn stream(scene: &Scene, token: &str) -> anyhow::Result<Stream> {
    let request = bare("GET", token, &[(ANSWER, "all")]);
    let mut stream = Stream::open(scene.gate.faces().proxy, &request).await?;
    stream.wait_for(": open").await?;
    Ok(stream)
}

/// With the policy that suspends a client, its streams and calls end and those of others go on.
pub(super) async fn a_suspended_client_is_out_at_once(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "suspension").await?;
    let proxy = scene.gate.faces().proxy;
    let (bad, good) = (token_of(&scene, "bad")?, token_of(&scene, "good")?);
    let (mut ends, mut stays) = (stream(&scene, &bad).await?, stream(&scene, &good).await?);
    let held = post(&bad, &[(ANSWER, "held")], PING);
    let held = tokio::spawn(async move { answer(proxy, &held).await });
    super::until_served(&scene, 3).await?;

    let written = Instant::now();
    let changes = json!({"deniedClients": ["bad"]});
    let policy = scene::policy(&scene.issuer, scene.upstream.address(), &changes);
    scene.gate.replace_policy(&policy)?;
    ends.until_clean_end().await?;
    let took = written.elapsed();
    let refused = held.await??;
    ensure!(refused.status() == Some(401), "the call: {}", refused.first_line);
    scene.upstream.until_left(2).await?;
    answered("the next call", proxy, &post(&bad, &[], PING), 401).await?;
    scene.upstream.send_to_all();
    stays
        .wait_for("{\"event\":1}")
        .await
        .context("another client's stream")?;
    run.note(format!(
        "gate: the stream of a suspended client ended {:.1} s after the policy was written",
        took.as_secs_f64()
    ));
    Ok(())
}

/// A stream does not outlive the key that signed its token, once the gate knows that it is gone.
pub(super) async fn a_withdrawn_key_ends_its_streams(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "withdrawn-key").await?;
    let proxy = scene.gate.faces().proxy;
    let old = token_of(&scene, "agent")?;
    let rsa = scene.issuer.rsa_key();
    let other = rsa.sign(&rsa.header(), &scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let (mut ends, mut stays) = (stream(&scene, &old).await?, stream(&scene, &other).await?);
    scene.issuer.rotate()?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    scene.upstream.send_to_all();
    ends.wait_for("{\"event\":1}")
        .await
        .context("nobody has asked for keys yet")?;
    // The first token of the new key makes the gate ask.
    let new = token_of(&scene, "agent")?;
    until_answered("the new key", proxy, &post(&new, &[], PING), 200).await?;
    ends.until_clean_end().await?;
    scene.upstream.send_to_all();
    stays
        .wait_for("{\"event\":2}")
        .await
        .context("the stream of a key that stays")?;
    answered("the old key", proxy, &post(&old, &[], PING), 401).await
}
