//! A credential is replaced once for each new value of the annotation. (The shortest interval of rotation by age is
//! a minute, which is for unit tests.)

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    operator::Operator,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{NOTES, client_ready};
use crate::{
    fixtures::{SOON, apply_all, because, server, web},
    users::{App, Claims, alice, says},
};

const ROTATIONS: &str = "mcp_auth_operator_rotations_total";

/// The client with a request to rotate. Its display name is `name`, so that each state is another generation.
fn portal(env: &StoryEnv, name: &str, request: Option<&str>) -> Value {
    let mut portal = web(env, "portal", &["notes"]);
    portal["spec"]["managed"]["displayName"] = json!(name);
    // The old one is to end at once.
    portal["spec"]["rotation"] = json!({ "overlap": "0s" });
    if let Some(request) = request {
        portal["metadata"]["annotations"] = json!({ "mcpauth.dev/rotate-requested-at": request });
    }
    portal
}

async fn status(env: &StoryEnv) -> anyhow::Result<Value> {
    let object = env.get("McpClient", env.namespace(), "portal").await?;
    Ok(object.context("no such client")?["status"].clone())
}

/// Waits until a request was acted upon.
async fn handled(env: &StoryEnv, request: &str) -> anyhow::Result<()> {
    wait_for("an answer to the request", SOON, async || {
        let status = status(env).await?;
        Ok(if status["lastHandledRotateRequest"] == request {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}

async fn rotations(operator: &Operator, reason: &str) -> anyhow::Result<f64> {
    operator.metric(ROTATIONS, &[("reason", reason)]).await
}

pub(super) async fn rotation(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-rotation").await?;
    let sub = alice(&env).await?;
    let operator = env.start_operator().await?;
    let objects = [
        env.authorization_server("main"),
        server(&env, "notes"),
        portal(&env, "first", None),
    ];
    apply_all(&env, &objects).await?;
    client_ready(&env, "portal").await?;
    let before = App::web(&env, "portal", "notes").await?;
    let tokens = before.tokens("notes:use").await?;
    let (first, hash) = (secret(&env).await?, status(&env).await?["secretHash"].clone());
    env.proxy().clear();

    env.apply(&portal(&env, "first", Some("monday"))).await?;
    handled(&env, "monday").await?;
    because(
        &env,
        ("McpClient", env.namespace(), "portal"),
        ("CredentialsReady", "True", "Proved"),
    )
    .await?;
    let second = secret(&env).await?;
    ensure!(
        second != first && status(&env).await?["secretHash"] != hash,
        "the same credential"
    );
    proved_once(&env, &second)?;
    let refusal = before.refresh(&tokens).await?.refused()?;
    says(
        &refusal,
        "unauthorized_client",
        "Invalid client or Invalid client credentials",
    )?;
    // The session goes on with the new one.
    let after = App::web(&env, "portal", "notes").await?;
    let tokens = after.refresh(&tokens).await?.granted()?;
    let claims = Claims {
        audience: Some(NOTES),
        scopes: &["notes:use"],
        azp: before.client.id(),
        sub: &sub,
        lifetime: 300,
    };
    claims.check(&after.issuer, &tokens.access_token).await?;

    same_request_again(&env, &operator, &second).await?;
    env.apply(&portal(&env, "third", Some("tuesday"))).await?;
    handled(&env, "tuesday").await?;
    ensure!(
        secret(&env).await? != second,
        "another request and the same credential"
    );
    ensure!((rotations(&operator, "Requested").await? - 2.0).abs() < 0.5);
    operator.stop().await
}

async fn secret(env: &StoryEnv) -> anyhow::Result<String> {
    env.secret_value(env.namespace(), "portal-mcp-client", "client-secret")
        .await
}

/// The new credential was put in force with one write, and tried once as the workload would use it.
fn proved_once(env: &StoryEnv, secret: &str) -> anyhow::Result<()> {
    let writes = env.proxy().writes();
    ensure!(writes.len() == 1, "{writes:?}");
    let written: Value = writes[0].json()?;
    ensure!(written["secret"] == secret, "another secret was written");
    let proofs: Vec<_> = env
        .proxy()
        .calls()
        .into_iter()
        .filter(|call| call.form("client_secret").as_deref() == Some(secret))
        .collect();
    ensure!(
        proofs.len() == 1
            && proofs[0].form("grant_type").as_deref() == Some("authorization_code")
            && proofs[0].status == Some(StatusCode::BAD_REQUEST),
        "{proofs:?}"
    );
    Ok(())
}

/// A request that was acted upon is not acted upon when it is taken away, nor when it comes back.
async fn same_request_again(env: &StoryEnv, operator: &Operator, secret_now: &str) -> anyhow::Result<()> {
    let rotated = status(env).await?["rotation"].clone();
    for (name, request) in [("second", None), ("first", Some("monday"))] {
        env.apply(&portal(env, name, request)).await?;
        client_ready(env, "portal").await?;
        let status = status(env).await?;
        ensure!(
            secret(env).await? == secret_now
                && status["rotation"] == rotated
                && status["lastHandledRotateRequest"] == "monday",
            "rotated again: {status}"
        );
    }
    ensure!((rotations(operator, "Requested").await? - 1.0).abs() < 0.5);
    Ok(())
}
