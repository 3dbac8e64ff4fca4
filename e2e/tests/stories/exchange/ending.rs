//! Each way in which an exchange ends.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{story::StoryEnv, world::World};

use super::{Call, NOT_ENABLED, policy_ready, server_credential};
use crate::{
    fixtures::{SOON, apply_all, because, native, open_server, policy, server, usual_operator},
    inventory::becomes,
    users::says,
};

const NOTES_SECRET: &str = "notes-mcp-auth";

/// `notes` exchanges for each of these targets.
async fn begin(env: &StoryEnv, targets: &[&str]) -> anyhow::Result<Call> {
    let mut objects = vec![
        env.authorization_server("main"),
        server(env, "notes"),
        native(env, "desktop", &["notes"]),
    ];
    for target in targets {
        objects.push(open_server(env, target));
        objects.push(policy(env, &format!("notes-to-{target}"), "notes", target));
    }
    apply_all(env, &objects).await?;
    for target in targets {
        policy_ready(env, &format!("notes-to-{target}")).await?;
    }
    let call = Call::begin(env).await?;
    for target in targets {
        call.reaches(target).await?;
    }
    Ok(call)
}

/// Deletes a policy. It is gone only when what it gave is.
async fn delete(env: &StoryEnv, name: &str) -> anyhow::Result<()> {
    let arguments = [
        "delete",
        "tokenexchangepolicy",
        name,
        "-n",
        env.namespace(),
        "--timeout=30s",
    ];
    env.kubectl().must(&arguments).await.map(drop)
}

/// Fails if `notes` may still exchange for anything, or has a credential to do so.
async fn is_over(env: &StoryEnv, call: &Call, target: &str) -> anyhow::Result<()> {
    let refusal = call.exchange(&format!("{target}:use")).await?.refused()?;
    says(&refusal, "invalid_request", NOT_ENABLED)?;
    env.wait_gone("secret", env.namespace(), NOTES_SECRET, SOON).await
}

pub(super) async fn policies(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-ends").await?;
    let operator = usual_operator(&env).await?;
    let call = begin(&env, &["archive", "search"]).await?;
    let secret = env
        .secret_value(env.namespace(), NOTES_SECRET, "client-secret")
        .await?;

    delete(&env, "notes-to-archive").await?;
    let refusal = call.exchange("archive:use").await?.refused()?;
    says(&refusal, "invalid_scope", "Invalid scopes: archive:use")?;
    call.reaches("search").await?;
    policy_ready(&env, "notes-to-search").await?;
    let now = env
        .secret_value(env.namespace(), NOTES_SECRET, "client-secret")
        .await?;
    ensure!(now == secret, "another credential");

    delete(&env, "notes-to-search").await?;
    is_over(&env, &call, "search").await?;
    operator.stop().await
}

pub(super) async fn target_withdraws(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-withdrawn").await?;
    let operator = usual_operator(&env).await?;
    let call = begin(&env, &["archive", "search"]).await?;
    let space = env.namespace();
    let withdrawn = async |target: &str| {
        env.apply(&server(&env, target)).await?;
        let name = format!("notes-to-{target}");
        let policy = ("TokenExchangePolicy", space, name.as_str());
        let said = because(&env, policy, ("Accepted", "False", "ExchangeNotAllowed")).await?;
        let wanted = format!(
            "McpServer {space}/{target} does not let {space}/notes exchange tokens: ask for an entry with exchange: true in its allowedClients"
        );
        ensure!(said["message"] == wanted, "{said}");
        let policy = because(&env, policy, ("Ready", "False", "ExchangeNotAllowed")).await;
        policy.map(drop)
    };

    withdrawn("archive").await?;
    exchange_scopes(&env, &["search:use"]).await?;
    let refusal = call.exchange("archive:use").await?.refused()?;
    says(&refusal, "invalid_scope", "Invalid scopes: archive:use")?;
    call.reaches("search").await?;
    withdrawn("search").await?;
    exchange_scopes(&env, &[]).await?;
    is_over(&env, &call, "search").await?;

    env.apply(&open_server(&env, "search")).await?;
    policy_ready(&env, "notes-to-search").await?;
    let call = Call {
        notes: server_credential(&env, "notes").await?,
        ..call
    };
    call.reaches("search").await?;
    operator.stop().await
}

/// Waits until `notes` says that it can exchange for these scopes: it says so when it is the case at Keycloak.
async fn exchange_scopes(env: &StoryEnv, scopes: &[&str]) -> anyhow::Result<()> {
    let expected: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    becomes("the exchange scopes of notes", &expected, SOON, async || {
        let notes = env.get("McpServer", env.namespace(), "notes").await?;
        let said = &notes.unwrap_or_default()["status"]["exchangeScopes"];
        let texts = said.as_array().into_iter().flatten();
        Ok(texts
            .filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect())
    })
    .await
}
