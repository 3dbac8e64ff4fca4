//! An authorization server that is gone for a while.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::run_folder::RunFolder;
use serde_json::json;

use super::{
    super::{
        case::PING,
        request::{answer, post},
        scene::{RESOURCE, Scene},
    },
    answered, until_answered,
};

/// Tokens of known keys go on, whether they were seen before or not; of unknown ones nobody can say; and when the issuer
/// is back, so is everything, without anybody doing anything.
pub(super) async fn an_issuer_goes_and_comes_back(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "issuer-goes").await?;
    let proxy = scene.gate.faces().proxy;
    let token = |scene: &Scene| scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?);
    let (seen, unseen) = (token(&scene)?, token(&scene)?);
    answered("before", proxy, &post(&seen, &[], PING), 200).await?;

    scene.issuer.set_down(true);
    answered("a token that was seen", proxy, &post(&seen, &[], PING), 200).await?;
    answered("one that was not", proxy, &post(&unseen, &[], PING), 200).await?;
    scene.issuer.rotate()?;
    let rotated = token(&scene)?;
    let before = scene.upstream.requests().len();
    let refused = answer(proxy, &post(&rotated, &[], PING)).await?;
    ensure!(
        refused.status() == Some(503) && refused.value("retry-after").is_some(),
        "a key that nobody can look up: {}",
        refused.first_line
    );
    let forged = scene.stranger.sign(
        &json!({"alg": "ES256", "typ": "at+jwt", "kid": "ec-0"}),
        &scene.issuer.claims(RESOURCE, "mcp:use")?,
    )?;
    answered("a forged token", proxy, &post(&forged, &[], PING), 401).await?;
    ensure!(
        scene.upstream.requests().len() == before,
        "a refused request reached the server"
    );

    scene.issuer.set_down(false);
    until_answered("the new key", proxy, &post(&rotated, &[], PING), 200).await?;
    answered("the key that is gone", proxy, &post(&seen, &[], PING), 401).await
}
