//! Sessions of the old wire, which belong to whoever began them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    gate::upstream::{ANSWER, SESSION},
    run_folder::RunFolder,
};
use serde_json::{Value, json};

use super::{
    case::PING,
    request::{answer, bare, post, status},
    scene::{Face, RESOURCE, Scene},
};

const ID: &str = "mcp-session-id";

/// A token of a caller who differs by this claim.
fn token_with(scene: &Scene, claim: &str, value: Value) -> anyhow::Result<String> {
    let mut claims = scene.issuer.claims(RESOURCE, "mcp:use")?;
    claims[claim] = value;
    scene.issuer.sign(&claims)
}

/// Nobody but its owner can use a session, whatever they know of it; and the server's own id never gets out.
pub(crate) async fn sessions_belong_to_their_caller(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "sessions").await?;
    let other_server = Scene::start(&run, "sessions-elsewhere").await?;
    let proxy = scene.front(Face::Proxy).await?.address;
    let alice = token_with(&scene, "sub", json!("alice"))?;
    let began = answer(proxy, &post(&alice, &[(ANSWER, "session")], PING)).await?;
    let sealed = began.value(ID).context("no session began")?.to_owned();
    ensure!(!sealed.contains(SESSION), "the server's own id got out");

    let again = token_with(&scene, "sub", json!("alice"))?;
    let before = scene.upstream.requests().len();
    for method in ["POST", "GET", "DELETE"] {
        let request = match method {
            "POST" => post(&again, &[(ID, &sealed)], PING),
            method => bare(method, &again, &[(ID, &sealed)]),
        };
        ensure!(status(proxy, &request).await? == 200, "{method} of its owner");
    }
    let requests = scene.upstream.requests().split_off(before);
    ensure!(requests.len() == 3 && requests.iter().all(|request| request.value(ID) == Some(SESSION)));

    let flipped = sealed.replacen(&sealed[10..11], if &sealed[10..11] == "A" { "B" } else { "A" }, 1);
    for (why, token, id) in [
        (
            "another subject",
            token_with(&scene, "sub", json!("bob"))?,
            sealed.as_str(),
        ),
        (
            "another client",
            token_with(&scene, "client_id", json!("other"))?,
            &sealed,
        ),
        ("the server's own id", alice.clone(), SESSION),
        ("an id that was changed", alice.clone(), &flipped),
        ("an empty id", alice.clone(), ""),
    ] {
        for request in [
            post(&token, &[(ID, id)], PING),
            bare("GET", &token, &[(ID, id)]),
            bare("DELETE", &token, &[(ID, id)]),
        ] {
            let status = status(proxy, &request).await?;
            ensure!(status == 404, "{why}: {status}");
        }
    }
    let twice = status(proxy, &post(&alice, &[(ID, &sealed), (ID, &sealed)], PING)).await?;
    ensure!(twice == 404, "two ids: {twice}");
    ensure!(
        scene.upstream.requests().len() == before + 3,
        "a request of a stranger reached the server"
    );

    let elsewhere = other_server.front(Face::Proxy).await?.address;
    let token = token_with(&other_server, "sub", json!("alice"))?;
    let status = status(elsewhere, &post(&token, &[(ID, &sealed)], PING)).await?;
    ensure!(
        status == 404 && other_server.upstream.requests().is_empty(),
        "at another server: {status}"
    );
    Ok(())
}
