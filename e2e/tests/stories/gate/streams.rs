//! Answers that take their time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    gate::{
        client::Stream,
        issuer,
        upstream::{ANSWER, EVENTS},
    },
    run_folder::RunFolder,
};
use serde_json::json;

use super::{
    case::PING,
    request::{bare, post},
    scene::{Face, RESOURCE, Scene},
};

/// Every event of a stream comes through every face before the next one is sent: nobody holds one back.
pub(crate) async fn events_come_as_they_are_sent(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "events").await?;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    for face in [Face::Proxy, Face::Envoy, Face::Traefik] {
        let front = scene.front(face).await?;
        for request in [
            post(&token, &[(ANSWER, "events")], PING),
            bare("GET", &token, &[(ANSWER, "events")]),
        ] {
            let mut stream = Stream::open(front.address, &request).await?;
            ensure!(
                stream.head.status() == Some(200),
                "{face:?}: {}",
                stream.head.first_line
            );
            ensure!(stream.head.value("content-type") == Some("text/event-stream"));
            ensure!(
                stream.head.value("x-accel-buffering") == Some("no"),
                "{face:?}: {:?}",
                stream.head.headers
            );
            for number in 0..EVENTS {
                scene.upstream.send_event();
                let text = format!("{{\"event\":{number}}}");
                stream
                    .wait_for(&text)
                    .await
                    .with_context(|| format!("{face:?}: event {number}"))?;
            }
        }
    }
    Ok(())
}

/// A stream of the proxy ends when the token of its request has expired, and the grace after that.
pub(crate) async fn a_stream_ends_with_its_token(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start_with(&run, "expiry", &json!({}), &["--stream-grace", "1s"]).await?;
    let mut claims = scene.issuer.claims(RESOURCE, "mcp:use")?;
    let expires = issuer::now()? + 2;
    claims["exp"] = json!(expires);
    let token = scene.issuer.sign(&claims)?;
    let front = scene.front(Face::Proxy).await?;
    let request = bare("GET", &token, &[(ANSWER, "endless")]);
    let mut stream = Stream::open(front.address, &request).await?;
    ensure!(stream.head.status() == Some(200), "{}", stream.head.first_line);
    let began = tokio::time::Instant::now();
    while stream.next().await?.is_some() {
        ensure!(began.elapsed() < Duration::from_secs(20), "the stream goes on");
    }
    let ended = issuer::now()?;
    ensure!(ended >= expires, "it ended {} s too early", expires - ended);
    Ok(())
}
