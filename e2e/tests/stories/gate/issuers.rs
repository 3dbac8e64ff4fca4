//! What the authorization server is asked for, and what happens when it does not answer; and gates without a policy.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    gate::{
        issuer::TestIssuer,
        process::{self, GateProcess},
        upstream::Upstream,
    },
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::json;

use super::{
    case::{PING, call},
    request::{answer, post, status},
    scene::{self, Face, RESOURCE, Scene},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A new key is found at once, a made-up one costs the issuer next to nothing, a foreign issuer nothing at all.
pub(crate) async fn keys_are_fetched_when_they_are_needed(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "keys").await?;
    let (issuer, proxy) = (&scene.issuer, scene.front(Face::Proxy).await?.address);
    let good = |scene: &Scene| scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?);
    let old = good(&scene)?;
    ensure!(status(proxy, &post(&old, &[], PING)).await? == 200);
    let before = issuer.fetches();

    let mut foreign = issuer.claims(RESOURCE, "mcp:use")?;
    foreign["iss"] = json!("https://evil.example");
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "made-up"});
    for _ in 0..20 {
        let token = scene.stranger.sign(&header, &foreign)?;
        ensure!(status(proxy, &post(&token, &[], PING)).await? == 401);
    }
    ensure!(issuer.fetches() == before, "a foreign issuer made the gate ask");

    issuer.rotate()?;
    ensure!(
        status(proxy, &post(&good(&scene)?, &[], PING)).await? == 200,
        "the new key was not found"
    );
    ensure!(
        issuer.fetches() == before + 1,
        "{} fetches",
        issuer.fetches() - before
    );
    for number in 0..200 {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": format!("made-up-{number}")});
        let token = scene
            .stranger
            .sign(&header, &issuer.claims(RESOURCE, "mcp:use")?)?;
        ensure!(status(proxy, &post(&token, &[], PING)).await? == 401);
    }
    let fetches = issuer.fetches() - before;
    ensure!(fetches <= 5, "200 made-up keys made the gate ask {fetches} times");
    Ok(())
}

/// With the issuer down the known keys go on, and a gate that never had one refuses without blaming the token.
pub(crate) async fn an_issuer_that_is_down_opens_nothing(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "issuer-down").await?;
    let proxy = scene.front(Face::Proxy).await?.address;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    ensure!(status(proxy, &post(&token, &[], PING)).await? == 200);
    scene.issuer.set_down(true);
    let another = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    ensure!(
        status(proxy, &post(&another, &[], PING)).await? == 200,
        "known keys are good for a while"
    );

    let (issuer, upstream) = (TestIssuer::start().await?, Upstream::start().await?);
    issuer.set_down(true);
    let policy = scene::policy(&issuer, upstream.address(), &json!({}));
    let folder = run.subfolder("issuer-never-up")?;
    let gate = GateProcess::start(&folder, process::faces()?, Some(&policy), &BTreeMap::new(), &[])?;
    gate.wait_until_ready().await?;
    let token = issuer.sign(&issuer.claims(RESOURCE, "mcp:use")?)?;
    let refused = answer(gate.faces().proxy, &post(&token, &[], PING)).await?;
    ensure!(
        refused.status() == Some(503) && refused.value("retry-after").is_some(),
        "{}",
        refused.first_line
    );
    ensure!(upstream.requests().is_empty());
    issuer.set_down(false);
    wait_for("the keys of an issuer that came up", PATIENCE, async || {
        let status = status(gate.faces().proxy, &post(&token, &[], PING)).await?;
        Ok(if status == 200 {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}

/// Nothing passes before there is a policy; a broken one is not taken, and a good one is, without a restart.
pub(crate) async fn without_a_policy_nothing_passes(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let (issuer, upstream) = (TestIssuer::start().await?, Upstream::start().await?);
    let folder = run.subfolder("no-policy")?;
    let gate = GateProcess::start(&folder, process::faces()?, None, &BTreeMap::new(), &[])?;
    let proxy = gate.faces().proxy;
    let token = issuer.sign(&issuer.claims(RESOURCE, "mcp:use notes:read")?)?;
    let request = post(&token, &[], &call("read_note"));
    wait_for("the gate to listen", PATIENCE, async || {
        let refused = answer(proxy, &request).await?;
        ensure!(refused.status() == Some(503), "{}", refused.first_line);
        Ok(Seen::Done(()))
    })
    .await?;
    ensure!(gate.admin("/readyz").await?.0 == 503, "it says that it is ready");
    ensure!(gate.admin("/livez").await?.0 == 200, "it says that it is dead");

    let good = scene::policy(&issuer, upstream.address(), &json!({}));
    gate.replace_policy(&good)?;
    gate.wait_until_ready().await?;
    ensure!(status(proxy, &request).await? == 200);

    fs::write(folder.join("policy.json"), "{\"version\":1")?;
    wait_for("word of the broken policy", PATIENCE, async || {
        let (status, text) = gate.admin("/readyz").await?;
        ensure!(status == 200, "{text}");
        Ok(if text.trim() == "ok" {
            Seen::NotYet(text)
        } else {
            Seen::Done(())
        })
    })
    .await?;
    ensure!(
        status(proxy, &request).await? == 200,
        "the policy that was good goes on"
    );

    let stricter = json!({"rules": [{"kind": "Tool", "match": "*", "scopes": ["notes:admin"]}]});
    gate.replace_policy(&scene::policy(&issuer, upstream.address(), &stricter))?;
    wait_for("the stricter policy", PATIENCE, async || {
        let status = status(proxy, &request).await?;
        Ok(if status == 403 {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}
