//! Handles that nobody was given.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_auth_e2e::run_folder::RunFolder;
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use super::{
    super::scene::Scene,
    scene::{HANDLE, Replicas, credentials},
};

fn made_up(minted_by: SocketAddr) -> String {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let secret: [u8; 32] = rand::random();
    format!(
        "{}.{}",
        encoded(&secret),
        encoded(minted_by.to_string().as_bytes())
    )
}

/// Guesses, handles of other servers and such as clients send buy nothing, and lead nobody anywhere.
pub(in super::super) async fn what_was_not_given_buys_nothing(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let ours = Replicas::start(&run, "handles-ours").await?;
    let theirs = Replicas::start(&run, "handles-theirs").await?;
    let token = ours.token(&json!({}))?;
    let (_stream, good) = ours.call(0, &token, &[]).await?;
    let (_their_stream, foreign) = theirs.call(0, &theirs.token(&json!({}))?, &[]).await?;
    ours.buys_nothing("of another server", &foreign).await?;
    theirs.buys_nothing("of another server", &good).await?;

    // Whoever could make a replica show handles to an address of theirs would get them all.
    let trap = TcpListener::bind("127.0.0.1:0").await?;
    let (secret, _) = good.split_once('.').unwrap_or_default();
    let led_away = made_up(trap.local_addr()?);
    let (_, elsewhere) = led_away.split_once('.').unwrap_or_default();
    for (why, handle) in [
        ("a guess", made_up(ours.tokens(0))),
        ("a guess at the peer", made_up(ours.tokens(1))),
        ("of an address that is no replica", led_away.clone()),
        ("a good one that leads elsewhere", format!("{secret}.{elsewhere}")),
        ("nonsense", "nonsense".to_owned()),
    ] {
        ours.buys_nothing(why, &handle).await?;
    }
    let lured = timeout(Duration::from_millis(200), trap.accept()).await;
    ensure!(
        lured.is_err(),
        "a handle was shown to an address that is no replica"
    );

    let sent = [(HANDLE, good.as_str()), ("Mcp_Auth_Handle", good.as_str())];
    let (_other_stream, other) = ours.call(1, &token, &sent).await?;
    ensure!(other != good, "a client chose the handle");
    let requests = ours.upstream.requests();
    let last = requests
        .last()
        .map(|request| String::from_utf8_lossy(&request.head).into_owned());
    ensure!(
        !last.unwrap_or_default().contains(secret),
        "what a client sent reached the server"
    );
    ensure!(
        ours.buy(ours.tokens(0), "reports", &good).await?.0 == 200,
        "the good one is as good as before"
    );
    without_anything_to_sell(&run).await
}

/// A server that has nothing to buy gets no handle, not even one that its client made up.
async fn without_anything_to_sell(run: &Arc<RunFolder>) -> anyhow::Result<()> {
    let more: BTreeMap<_, _> = credentials();
    let scene = Scene::start_as(run, "handles-none", &json!({}), &[], &more).await?;
    let token = scene
        .issuer
        .sign(&scene.issuer.claims(super::super::scene::RESOURCE, "mcp:use")?)?;
    let sent = [(HANDLE, "made-up"), ("mcp_auth_handle", "made-up")];
    let request = super::super::request::post(&token, &sent, super::super::case::PING);
    ensure!(super::super::request::status(scene.gate.faces().proxy, &request).await? == 200);
    let requests = scene.upstream.requests();
    ensure!(requests.len() == 1 && !String::from_utf8_lossy(&requests[0].head).contains("made-up"));
    Ok(())
}
