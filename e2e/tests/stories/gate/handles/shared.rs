//! Exchanged tokens in the header of requests: whose they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::run_folder::RunFolder;
use serde_json::json;

use super::{
    super::{
        case::PING,
        request::{post, status},
        scene::{RESOURCE, Scene},
    },
    scene::credentials,
};

const CALLER: &str = "x-caller";
const CALLS: usize = 50;

/// Calls that come at once share an exchange if they are one caller's, and never otherwise; nor do two servers.
pub(in super::super) async fn exchanged_tokens_are_nobody_elses(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let exchange = json!({"exchanges": [{
        "name": "reports",
        "delivery": "Header",
        "audience": "https://reports.example",
        "scopes": [{"name": "reports:read"}],
    }]});
    let scene = Scene::start_as(&run, "shared", &exchange, &[], &credentials()).await?;
    let proxy = scene.gate.faces().proxy;
    let mut tokens = Vec::new();
    for caller in ["alice", "bob"] {
        let mut claims = scene.issuer.claims(RESOURCE, "mcp:use")?;
        claims["sub"] = json!(caller);
        tokens.push((caller, scene.issuer.sign(&claims)?));
    }
    let calls = (0..CALLS).map(|number| {
        let (caller, token) = &tokens[number % 2];
        let request = post(token, &[(CALLER, caller)], PING);
        async move { status(proxy, &request).await }
    });
    let statuses = try_join_all(calls).await?;
    ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let forms = scene.issuer.exchanges();
    ensure!(forms.len() == 2, "{} exchanges for two callers", forms.len());
    let mut received: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in scene.upstream.requests() {
        let caller = request.value(CALLER).context("no caller")?.to_owned();
        let token = request.value("authorization").context("no token")?.to_owned();
        ensure!(
            tokens.iter().all(|(_, callers)| !token.contains(callers)),
            "{caller}'s own token"
        );
        received.entry(caller).or_default().insert(token);
    }
    let (alice, bob) = (&received["alice"], &received["bob"]);
    ensure!(
        alice.len() == 1 && bob.len() == 1 && alice != bob,
        "a token is of two callers"
    );
    the_same_token_at_two_servers(&run, &scene, &exchange, &tokens[0].1).await
}

/// Each server has its own exchange, also for a token that both are shown.
async fn the_same_token_at_two_servers(
    run: &Arc<RunFolder>,
    scene: &Scene,
    exchange: &serde_json::Value,
    token: &str,
) -> anyhow::Result<()> {
    let mut changes = exchange.clone();
    let issuer = &scene.issuer;
    // The other server trusts the same issuer, and is the same resource.
    let ours = super::super::scene::policy(issuer, scene.upstream.address(), &json!({}));
    changes["authorizationServer"] = ours["authorizationServer"].clone();
    let other = Scene::start_as(run, "shared-other", &changes, &[], &credentials()).await?;
    let before = issuer.exchanges().len();
    let request = post(token, &[], PING);
    ensure!(status(other.gate.faces().proxy, &request).await? == 200);
    ensure!(
        issuer.exchanges().len() == before + 1,
        "the other server did not exchange"
    );
    let received = |scene: &Scene| {
        let requests = scene.upstream.requests();
        requests
            .last()
            .and_then(|request| request.value("authorization").map(str::to_owned))
    };
    let theirs = received(&other).context("the other server got no token")?;
    let all = scene.upstream.requests();
    let mut all = all.iter().filter_map(|request| request.value("authorization"));
    ensure!(all.all(|token| token != theirs), "two servers got one token");
    Ok(())
}
