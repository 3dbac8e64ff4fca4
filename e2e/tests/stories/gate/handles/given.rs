//! Handles as the server gets them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_auth_e2e::{gate::issuer, run_folder::RunFolder};
use serde_json::{Value, json};

use super::scene::Replicas;

/// How much clocks may differ, for the gate.
const CLOCK_SKEW: i64 = 10;

/// What a token says.
fn claims(token: &Value) -> anyhow::Result<Value> {
    let payload = token.as_str().and_then(|token| token.split('.').nth(1));
    let payload = URL_SAFE_NO_PAD.decode(payload.context("no token")?)?;
    Ok(serde_json::from_slice(&payload)?)
}

/// A handle buys at either replica, with one exchange, what the policy sells and nothing else, until its call is over.
pub(in super::super) async fn they_buy_while_their_call_is_open(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Replicas::start(&run, "handles").await?;
    let token = scene.token(&json!({}))?;
    let (stream, handle) = scene.call(0, &token, &[]).await?;
    ensure!(!handle.contains(&token), "the handle holds the token");
    let (other_stream, other) = scene.call(0, &token, &[]).await?;
    ensure!(handle != other, "two calls have one handle");
    let mut bought = Vec::new();
    for replica in [0, 1] {
        let (status, sold) = scene.buy(scene.tokens(replica), "reports", &handle).await?;
        ensure!(status == 200, "replica {replica}: {status} {}", sold["error"]);
        ensure!(claims(&sold["access_token"])?["aud"] == "https://reports.example");
        bought.push(sold["access_token"].clone());
    }
    ensure!(
        bought[0] == bought[1] && scene.issuer.exchanges().len() == 1,
        "it was exchanged twice"
    );
    let relayed = "mcp_auth_gate_purchases_total{outcome=\"relayed\"}";
    ensure!(scene.gates[1].metric(relayed).await? > 0.5, "nothing was relayed");
    ensure!(scene.gates[0].metric(relayed).await? < 0.5, "it was relayed back");
    for (name, status, error) in [
        ("ledger", 503, "temporarily_unavailable"),
        ("anything", 404, "unknown_policy"),
    ] {
        for replica in [0, 1] {
            let refused = scene.buy(scene.tokens(replica), name, &handle).await?;
            ensure!(
                refused == (status, json!({"error": error})),
                "{name}: {}",
                refused.0
            );
        }
    }
    drop(stream);
    scene.upstream.until_left(1).await?;
    scene.until_it_buys_nothing("after its call", &handle).await?;
    let (status, _) = scene.buy(scene.tokens(1), "reports", &other).await?;
    ensure!(status == 200, "the other call goes on: {status}");
    drop(other_stream);
    Ok(())
}

/// A handle is worth no more than the caller's token, and nothing without the replica that knows it.
pub(in super::super) async fn they_end_with_their_token_client_and_replica(
    run: Arc<RunFolder>,
) -> anyhow::Result<()> {
    let scene = Replicas::start(&run, "handles-that-end").await?;
    let at_its_end = scene.token(&json!({"exp": issuer::now()? - CLOCK_SKEW + 5}))?;
    let (_stream, expires) = scene.call(0, &at_its_end, &[]).await?;
    scene.until_it_buys_nothing("after its token", &expires).await?;

    let (mut stream, suspended) = scene
        .call(0, &scene.token(&json!({"client_id": "bad"}))?, &[])
        .await?;
    let (_other_stream, other) = scene.call(0, &scene.token(&json!({}))?, &[]).await?;
    ensure!(
        scene.buy(scene.tokens(1), "reports", &suspended).await?.0 == 200,
        "before"
    );
    let policy = scene.policy(&json!({"deniedClients": ["bad"]}));
    // The replica that knows the handle decides; the other one has the old policy.
    scene.gates[0].replace_policy(&policy)?;
    stream.until_clean_end().await?;
    scene
        .until_it_buys_nothing("after its client was suspended", &suspended)
        .await?;
    ensure!(
        scene.buy(scene.tokens(1), "reports", &other).await?.0 == 200,
        "another client's"
    );

    scene.issuer.rotate()?;
    // The new key has to be fetched, and the old one is gone from the document.
    let (_new_stream, new) = scene.call(0, &scene.token(&json!({}))?, &[]).await?;
    scene
        .until_it_buys_nothing("after its key was withdrawn", &other)
        .await?;
    ensure!(
        scene.buy(scene.tokens(1), "reports", &new).await?.0 == 200,
        "of the new key"
    );

    scene.gates[0].process().kill_hard().await?;
    let alone = scene.buy(scene.tokens(1), "reports", &new).await?;
    ensure!(
        alone == (503, json!({"error": "temporarily_unavailable"})),
        "without its replica: {}",
        alone.0
    );
    Ok(())
}
