//! A client that is suspended is switched off at once, and comes back as it was, without its old sessions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{oauth::Tokens, samples, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{NOTES, client_ready};
use crate::{
    fixtures::{apply_all, because, native, server, web},
    users::{App, Claims, alice, says},
};

/// A client before it is suspended.
struct Before {
    name: &'static str,
    app: App,
    secret: BTreeMap<String, String>,
    tokens: Tokens,
}

impl Before {
    async fn new(env: &StoryEnv, name: &'static str, app: App) -> anyhow::Result<Self> {
        Ok(Self {
            tokens: app.tokens("notes:use").await?,
            secret: secret(env, name).await?,
            name,
            app,
        })
    }
}

async fn secret(env: &StoryEnv, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    samples::secret(env, env.namespace(), &format!("{name}-mcp-client")).await
}

/// Both clients, suspended or not.
async fn apply(env: &StoryEnv, suspended: bool) -> anyhow::Result<()> {
    let change = |mut client: Value| {
        client["spec"]["suspended"] = json!(suspended);
        client
    };
    let clients = [
        change(native(env, "desktop", &["notes"])),
        change(web(env, "portal", &["notes"])),
    ];
    apply_all(env, &clients).await
}

pub(super) async fn suspension(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-suspended").await?;
    let sub = alice(&env).await?;
    let operator = env.start_operator().await?;
    apply_all(&env, &[env.authorization_server("main"), server(&env, "notes")]).await?;
    apply(&env, false).await?;
    client_ready(&env, "desktop").await?;
    client_ready(&env, "portal").await?;
    let clients = [
        Before::new(&env, "desktop", App::native(&env, "desktop", "notes").await?).await?,
        Before::new(&env, "portal", App::web(&env, "portal", "notes").await?).await?,
    ];

    apply(&env, true).await?;
    for client in &clients {
        is_off(&env, client).await?;
    }
    apply(&env, false).await?;
    for client in &clients {
        is_back(&env, client, &sub).await?;
    }
    operator.stop().await
}

async fn is_off(env: &StoryEnv, client: &Before) -> anyhow::Result<()> {
    let named = ("McpClient", env.namespace(), client.name);
    let said = because(env, named, ("Ready", "False", "Suspended")).await?;
    ensure!(
        said["message"] == "The client is suspended: it gets no tokens until suspended is false",
        "{said}"
    );
    env.wait_condition(named, ("Stalled", "True"), Duration::from_secs(1))
        .await?;
    let refusal = client.app.refresh(&client.tokens).await?.refused()?;
    says(
        &refusal,
        "invalid_client",
        "Invalid client or Invalid client credentials",
    )?;
    let read = client.app.dead_end(&client.app.login("notes:use")).await?;
    ensure!(read.contains("Client disabled."), "{read}");
    Ok(())
}

async fn is_back(env: &StoryEnv, client: &Before, sub: &str) -> anyhow::Result<()> {
    client_ready(env, client.name).await?;
    ensure!(
        secret(env, client.name).await? == client.secret,
        "another id or credential of {}",
        client.name
    );
    let refusal = client.app.refresh(&client.tokens).await?.refused()?;
    says(&refusal, "invalid_grant", "Stale token")?;
    let tokens = client.app.tokens("notes:use").await?;
    let claims = Claims {
        audience: Some(NOTES),
        scopes: &["notes:use"],
        azp: client.app.client.id(),
        sub,
        lifetime: 300,
    };
    claims
        .check(&client.app.issuer, &tokens.access_token)
        .await
        .map(drop)
}
