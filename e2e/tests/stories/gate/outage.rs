//! Engines whose gate is gone.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::run_folder::RunFolder;

use super::{
    case::PING,
    request::{bare, post, status},
    scene::{Face, RESOURCE, Scene},
};

/// An engine that cannot ask lets nothing through, good token or not.
pub(crate) async fn without_a_gate_nothing_passes(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "outage").await?;
    let fronts = [scene.front(Face::Envoy).await?, scene.front(Face::Traefik).await?];
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    for front in &fronts {
        ensure!(status(front.address, &post(&token, &[], PING)).await? == 200);
    }
    let before = scene.upstream.requests().len();
    scene.gate.process().kill_hard().await?;
    for front in &fronts {
        for request in [
            post(&token, &[], PING),
            post("x", &[], PING),
            bare("GET", &token, &[]),
        ] {
            let status = status(front.address, &request).await?;
            let expected = match front.face {
                Face::Traefik => 500,
                _ => 503,
            };
            ensure!(status == expected, "{:?}: {status}", front.face);
        }
    }
    ensure!(
        scene.upstream.requests().len() == before,
        "the server got a request"
    );
    Ok(())
}
