//! The operator is killed while the tenant does what it was asked for.

use std::sync::Arc;

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{operator::Operator, proxy::Fault, runner::Story, samples, world::World};

use super::scene::{Scene, for_itself};
use crate::fixtures::{SOON, apply_all, machine, ready, server};

/// An API, its application, a client, its secret and its grant.
const FEWEST: usize = 5;

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new("auth0::operator_is_killed_at_every_write", killed)]
}

/// Killed at each write of a server and a client that come to be, before it hears of it: there is one of each, and what the
/// Secret holds works.
async fn killed(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-killed").await?;
    let env = &scene.env;
    let mut operator = start(&scene, 0).await?;
    env.apply(&scene.authorization_server("main")).await?;
    ready(env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;
    let mut at = 1;
    loop {
        let (notes, reader) = (format!("notes{at}"), format!("reader{at}"));
        let is_write = |call: &mcp_auth_e2e::proxy::Call| {
            call.path().starts_with("/api/v2") && call.method != Method::GET
        };
        let hits = scene.proxy.inject(Fault::keep_reply().on(is_write).at(at));
        apply_all(env, &[server(env, &notes), machine(env, &reader, &[&notes])]).await?;
        let named = ("McpClient", env.namespace(), &*reader);
        tokio::select! {
            () = hits.first() => {}
            ready = ready(env, named, SOON) => ready?,
        }
        let has_struck = hits.count() > 0;
        if has_struck {
            operator.kill_hard().await?;
            scene.proxy.heal()?;
            operator = start(&scene, at).await?;
            ready(env, named, SOON).await?;
        }
        is_one(&scene, &notes, &reader).await?;
        if !has_struck {
            break;
        }
        at += 1;
    }
    ensure!(at > FEWEST, "there were {} writes", at - 1);
    world.note(format!(
        "killed at each of {} writes at the stand-in for Auth0",
        at - 1
    ));
    scene.is_others_untouched()?;
    operator.stop().await
}

/// One that does not wait for the lease of the one before it: that is another story.
async fn start(scene: &Scene, number: usize) -> anyhow::Result<Operator> {
    let mut options = scene.env.operator_options();
    options.lease_name = format!("lease-{number}");
    scene.env.start_operator_with(&options).await
}

async fn is_one(scene: &Scene, notes: &str, reader: &str) -> anyhow::Result<()> {
    let env = &scene.env;
    let everything = scene.auth0.dashboard().everything();
    let clients = everything["clients"].as_object().into_iter().flatten();
    for mark in [
        format!("McpServer/{}/{notes}", env.namespace()),
        format!("McpClient/{}/{reader}", env.namespace()),
    ] {
        let is_its =
            |client: &serde_json::Value| client["fields"]["client_metadata"]["mcpauth_object"] == *mark;
        let count = clients.clone().filter(|(_, client)| is_its(client)).count();
        ensure!(count == 1, "{count} clients of {mark}");
    }
    let issuer = scene.issuer().await?;
    let client = samples::oauth_client(env, env.namespace(), &format!("{reader}-mcp-client")).await?;
    let resource = format!("https://{notes}.example.com/mcp");
    let tokens = issuer
        .token(&client, for_itself(None, &resource))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    ensure!(token.audiences() == [resource], "{}", token.claims);
    ensure!(token.text("scope") == format!("{notes}:use"), "{}", token.claims);
    Ok(())
}
