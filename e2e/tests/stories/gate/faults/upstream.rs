//! A server that is gone, slow, or talks nonsense.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    gate::{
        client::{LAST_CHUNK, Stream},
        http1::Message,
        upstream::{ANSWER, Upstream},
    },
    run_folder::RunFolder,
};
use serde_json::{Value, json};

use super::{
    super::{
        case::{OWN_PAGE, PING},
        request::{answer, post},
        scene::{RESOURCE, Scene},
    },
    answered, until_answered,
};

/// What a page can read as the answer to its message.
fn is_readable(refused: &Message, status: u16) -> anyhow::Result<()> {
    ensure!(refused.status() == Some(status), "{}", refused.first_line);
    let origin = refused.value("access-control-allow-origin");
    ensure!(origin == Some(OWN_PAGE), "{:?}", refused.headers);
    let body: Value = serde_json::from_slice(&refused.body).context("no JSON")?;
    ensure!(
        body["jsonrpc"] == "2.0" && body["id"] == 7 && body["error"]["code"].is_i64(),
        "{body}"
    );
    Ok(())
}

fn from_a_page(scene: &Scene, kind: &str) -> anyhow::Result<Vec<u8>> {
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    Ok(post(&token, &[("origin", OWN_PAGE), (ANSWER, kind)], PING))
}

/// Whatever the server sends in place of an answer, the client gets an error that belongs to its message.
pub(super) async fn a_bad_server_is_answered_for(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let flags = ["--upstream-header-timeout", "3s"];
    let scene = Scene::start_with(&run, "bad-server", &json!({}), &flags).await?;
    let proxy = scene.gate.faces().proxy;
    for (kind, status) in [
        ("garbage", 502),
        ("nothing", 502),
        ("half-a-head", 502),
        ("two-lengths", 502),
        ("huge-head", 502),
        ("endless-head", 502),
        ("slow-head", 504),
        ("silence", 504),
    ] {
        let refused = answer(proxy, &from_a_page(&scene, kind)?)
            .await
            .with_context(|| kind.to_owned())?;
        is_readable(&refused, status).with_context(|| kind.to_owned())?;
        answered("the next request", proxy, &from_a_page(&scene, "")?, 200).await?;
    }
    let pid = scene.gate.process().pid().context("the gate is gone")?;
    let memory = mcp_auth_e2e::bench::measure::resident_memory(pid.unsigned_abs())?;
    ensure!(memory < 64 << 20, "it takes {} MiB", memory >> 20);
    Ok(())
}

/// An answer that breaks off never looks whole to the client.
pub(super) async fn half_an_answer_is_seen_as_half(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "half-answers").await?;
    for (kind, begins) in [
        ("cut-json", "{\"jsonrpc\":"),
        ("cut-chunk", "{}"),
        ("cut-stream", "data: {}"),
    ] {
        let mut stream = Stream::open(scene.gate.faces().proxy, &from_a_page(&scene, kind)?).await?;
        ensure!(
            stream.head.status() == Some(200),
            "{kind}: {}",
            stream.head.first_line
        );
        let rest = stream.rest().await?;
        let text = String::from_utf8_lossy(&rest);
        ensure!(text.contains(begins), "{kind}: {text}");
        ensure!(!rest.ends_with(LAST_CHUNK), "{kind} looks whole: {text}");
        if let Some(length) = stream.head.value("content-length") {
            ensure!(rest.len() < length.parse()?, "{kind} looks whole: {text}");
        } else {
            ensure!(
                stream.head.value("transfer-encoding") == Some("chunked"),
                "{kind}"
            );
        }
    }
    let cut = scene
        .gate
        .metric("mcp_auth_gate_upstream_failures_total{failure=\"cut\"}")
        .await?;
    ensure!((cut - 3.0).abs() < 0.1, "{cut} cut answers were counted");
    Ok(())
}

/// Without a server every message has its error, and with it everything is as before.
pub(super) async fn a_server_goes_and_comes_back(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let mut scene = Scene::start(&run, "server-goes").await?;
    let (proxy, address) = (scene.gate.faces().proxy, scene.upstream.address());
    let request = from_a_page(&scene, "")?;
    answered("before", proxy, &request, 200).await?;
    // Another in its place takes the old one along.
    scene.upstream = Upstream::start().await?;
    until_answered("word that the server is gone", proxy, &request, 502).await?;
    is_readable(&answer(proxy, &request).await?, 502)?;
    scene.upstream = Upstream::start_at(address).await?;
    until_answered("the server to be back", proxy, &request, 200).await
}
