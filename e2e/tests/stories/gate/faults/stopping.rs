//! Gates that are asked to stop while something is open.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::{
    gate::{client::Stream, upstream::ANSWER},
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::json;
use tokio::net::TcpStream;

use super::{
    super::{
        case::PING,
        request::{answer, bare, post},
        scene::{RESOURCE, Scene},
    },
    PATIENCE,
};

const STREAMS: usize = 20;

async fn open_streams(scene: &Scene, token: &str) -> anyhow::Result<Vec<Stream>> {
    let request = bare("GET", token, &[(ANSWER, "all")]);
    let proxy = scene.gate.faces().proxy;
    let mut streams = try_join_all((0..STREAMS).map(|_| Stream::open(proxy, &request))).await?;
    for stream in &mut streams {
        stream.wait_for(": open").await?;
    }
    Ok(streams)
}

async fn until_nothing_is_taken(scene: &Scene) -> anyhow::Result<()> {
    wait_for("the gate to take nothing new", PATIENCE, async || {
        Ok(match TcpStream::connect(scene.gate.faces().proxy).await {
            Ok(_) => Seen::NotYet("it takes connections".to_owned()),
            Err(_) => Seen::Done(()),
        })
    })
    .await
}

/// A call that is under way ends as it would have, streams end cleanly when the time is up, and then the gate does.
pub(super) async fn what_is_open_ends_before_the_gate_does(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let drain = Duration::from_secs(4);
    let scene = Scene::start_with(&run, "stopping", &json!({}), &["--drain-timeout", "4s"]).await?;
    let proxy = scene.gate.faces().proxy;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let mut streams = open_streams(&scene, &token).await?;
    let held = post(&token, &[(ANSWER, "held")], PING);
    let held = tokio::spawn(async move { answer(proxy, &held).await });
    super::until_served(&scene, STREAMS + 1).await?;

    let asked = Instant::now();
    scene.gate.process().terminate();
    until_nothing_is_taken(&scene).await?;
    let (status, text) = scene.gate.admin("/readyz").await?;
    ensure!(status == 503 && text.contains("stopping"), "{status}: {text}");
    scene.upstream.send_to_all();
    ensure!(held.await??.status() == Some(200), "the call was cut off");
    for stream in &mut streams {
        stream
            .wait_for("{\"event\":1}")
            .await
            .context("events go on until the end")?;
    }
    ensure!(scene.gate.process().is_running(), "it ended before its streams");
    for stream in &mut streams {
        stream.until_clean_end().await?;
    }
    ensure!(
        asked.elapsed() >= drain,
        "the streams ended after {:?}",
        asked.elapsed()
    );
    let ended = tokio::time::timeout(PATIENCE, scene.gate.process().wait()).await;
    let ended = ended.context("it goes on")??;
    ensure!(ended.success(), "it ended with {ended}");
    Ok(())
}

/// A second signal waits for nothing.
pub(super) async fn asked_twice_it_ends_at_once(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let flags = ["--drain-timeout", "1h"];
    let scene = Scene::start_with(&run, "stopping-at-once", &json!({}), &flags).await?;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let mut streams = open_streams(&scene, &token).await?;
    scene.gate.process().terminate();
    until_nothing_is_taken(&scene).await?;
    ensure!(scene.gate.process().is_running(), "its streams are open");
    let asked = Instant::now();
    scene.gate.process().terminate();
    let ended = tokio::time::timeout(PATIENCE, scene.gate.process().wait()).await;
    let ended = ended.context("it goes on")??;
    ensure!(ended.success(), "it ended with {ended}");
    for stream in &mut streams {
        stream.rest().await?;
    }
    run.note(format!(
        "gate: with {STREAMS} open streams a second SIGTERM ended it within {:.2} s",
        asked.elapsed().as_secs_f64()
    ));
    Ok(())
}
