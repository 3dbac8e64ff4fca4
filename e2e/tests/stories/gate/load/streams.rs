//! A thousand open event streams.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mcp_auth_e2e::{
    bench::measure::resident_memory,
    gate::{client::Stream, issuer, upstream::ANSWER},
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::json;

use super::super::{
    faults::PATIENCE,
    request::bare,
    scene::{self, RESOURCE, Scene},
};

const STREAMS: usize = 1000;
/// How many more have a token that expires.
const EXPIRING: usize = 50;
const EVENTS: usize = 3;
const AT_ONCE: usize = 50;
/// More than they take, and far less than a leak would.
const MOST: u64 = 80 << 20;

fn memory(scene: &Scene) -> anyhow::Result<u64> {
    let pid = scene.gate.process().pid().context("the gate is gone")?;
    resident_memory(pid.unsigned_abs())
}

async fn open(scene: &Scene, token: &str, count: usize) -> anyhow::Result<Vec<Stream>> {
    let (proxy, request) = (scene.gate.faces().proxy, bare("GET", token, &[(ANSWER, "all")]));
    let request = &request;
    let one = |_| async move {
        let mut stream = Stream::open(proxy, request).await?;
        ensure!(stream.head.status() == Some(200), "{}", stream.head.first_line);
        stream.wait_for(": open").await?;
        anyhow::Ok(stream)
    };
    stream::iter(0..count)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn until_open(scene: &Scene, count: usize) -> anyhow::Result<()> {
    wait_for("the gate to count its streams", PATIENCE, async || {
        let open = scene.gate.metric("mcp_auth_gate_streams").await?;
        #[expect(clippy::cast_precision_loss, reason = "there are a thousand")]
        let wanted = count as f64;
        Ok(if (open - wanted).abs() < 0.5 {
            Seen::Done(())
        } else {
            Seen::NotYet(open.to_string())
        })
    })
    .await
}

/// A thousand streams get all their events, end when they have to, and leave nothing behind.
pub(super) async fn a_thousand_streams(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let flags = ["--stream-grace", "1s", "--max-requests-per-caller", "2000"];
    let scene = Scene::start_with(&run, "thousand-streams", &json!({}), &flags).await?;
    let before = memory(&scene)?;
    let began = Instant::now();
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let mut streams = open(&scene, &token, STREAMS).await?;
    let opened = began.elapsed();
    until_open(&scene, STREAMS).await?;
    let during = memory(&scene)?;

    let began = Instant::now();
    for number in 1..=EVENTS {
        scene.upstream.send_to_all();
        let event = format!("{{\"event\":{number}}}");
        for stream in &mut streams {
            stream.wait_for(&event).await?;
        }
    }
    let sent = began.elapsed();
    some_expire(&scene).await?;

    let began = Instant::now();
    let denied = json!({"deniedClients": ["agent"]});
    let policy = scene::policy(&scene.issuer, scene.upstream.address(), &denied);
    scene.gate.replace_policy(&policy)?;
    for stream in &mut streams {
        stream.until_clean_end().await?;
    }
    let ended = began.elapsed();
    drop(streams);
    until_open(&scene, 0).await?;
    scene.upstream.until_left(STREAMS + EXPIRING).await?;
    let after = memory(&scene)?;
    note(&run, [before, during, after], [opened, sent, ended]);
    ensure!(during < MOST, "it took {} MiB", during >> 20);
    Ok(())
}

/// Streams whose token expires end beside the others, and not before it does.
async fn some_expire(scene: &Scene) -> anyhow::Result<()> {
    let mut claims = scene.issuer.claims(RESOURCE, "mcp:use")?;
    let expires = issuer::now()? + 2;
    claims["exp"] = json!(expires);
    let mut expiring = open(scene, &scene.issuer.sign(&claims)?, EXPIRING).await?;
    for stream in &mut expiring {
        stream.until_clean_end().await?;
    }
    ensure!(issuer::now()? > expires, "they ended before their token");
    until_open(scene, STREAMS).await
}

fn note(run: &RunFolder, memory: [u64; 3], took: [Duration; 3]) {
    let [before, during, after] = memory.map(|bytes| bytes >> 20);
    let [opened, sent, ended] = took.map(|took| took.as_secs_f64());
    run.note(format!(
        "gate: {STREAMS} streams: {before} MiB before, {during} MiB open, {after} MiB after; opened in {opened:.1} s, {EVENTS} events to each in {sent:.1} s, all ended {ended:.1} s after a policy that denies their client was written"
    ));
}
