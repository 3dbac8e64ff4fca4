//! The role that it takes, and what is the case without it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{story::StoryEnv, world::World};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    NOTES, PASSWORD, all_ready, entries_are, fails, limited, objects, put_foreign, start, users_token, works,
};
use crate::{
    fixtures::{SOON, apply_all, because, ready},
    inventory::becomes,
};

pub(super) async fn without_it(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "subjects-role", &["manage-clients"]).await?;
    env.realm().create_user("alice", PASSWORD).await?;
    put_foreign(&env).await?;
    let operator = start(&env).await?;
    apply_all(&env, &objects(&env)).await?;
    refused(&env).await?;

    env.realm().grant_operator_role("manage-realm").await?;
    all_ready(&env).await?;
    entries_are(&env, 1).await?;
    let desktop = users_token(&env, "desktop", "http://127.0.0.1:41234/callback").await?;
    works(&env, &desktop, "archive:use").await?;

    env.realm().revoke_operator_role("manage-realm").await?;
    taken_back(&env, &desktop).await?;
    deleted_meanwhile(&env, &desktop).await?;
    operator.stop().await
}

/// The scopes of the client of `notes`, and whether it carries the mark of limits.
async fn attached(env: &StoryEnv) -> anyhow::Result<(Value, bool)> {
    let client = env
        .realm()
        .find_client(NOTES)
        .await?
        .context("the client of notes")?;
    let marked = !client["attributes"]["mcpauth.exchange-limits"].is_null();
    Ok((client["optionalClientScopes"].clone(), marked))
}

/// The policy says what is missing, nothing else suffers, and nothing is written or given.
async fn refused(env: &StoryEnv) -> anyhow::Result<()> {
    let refused = because(env, limited(env), ("Programmed", "False", "PermissionMissing")).await?;
    ensure!(
        refused["message"]
            == "The operator's credential lacks manage-realm, without which exchange cannot be limited to subjectClients: grant it at the authorization server, or leave subjectClients out",
        "{refused}"
    );
    // It is this policy's matter alone.
    for (kind, name) in [
        ("AuthorizationServer", "main"),
        ("McpServer", "notes"),
        ("McpClient", "desktop"),
        ("TokenExchangePolicy", "notes-to-ledger"),
    ] {
        ready(env, (kind, env.namespace(), name), SOON).await?;
    }
    let attached = attached(env).await?;
    ensure!(attached == (json!(["ledger:use"]), false), "{attached:?}");
    entries_are(env, 0).await?;
    let calls = env.proxy().calls();
    let asked = calls.iter().find(|call| call.path().contains("client-policies"));
    ensure!(asked.is_none(), "{asked:?} is not allowed and need not be asked");
    Ok(())
}

/// The exchange ends, and what limited it stays until it may be removed.
async fn taken_back(env: &StoryEnv, desktop: &SecretString) -> anyhow::Result<()> {
    because(env, limited(env), ("Programmed", "False", "PermissionMissing")).await?;
    becomes(
        "the scope detached",
        &(json!(["ledger:use"]), true),
        SOON,
        async || attached(env).await,
    )
    .await?;
    because(
        env,
        ("McpServer", env.namespace(), "notes"),
        ("Registered", "False", "PermissionMissing"),
    )
    .await?;
    works(env, desktop, "ledger:use").await?;
    entries_are(env, 1).await?;
    delete(env, "tokenexchangepolicy", "notes-to-archive", "--timeout=40s").await?;
    env.realm().grant_operator_role("manage-realm").await?;
    ready(env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    entries_are(env, 0).await
}

/// A server that goes meanwhile exchanges nothing any more, and waits for what it made.
async fn deleted_meanwhile(env: &StoryEnv, desktop: &SecretString) -> anyhow::Result<()> {
    apply_all(env, &objects(env)).await?;
    all_ready(env).await?;
    entries_are(env, 1).await?;
    env.realm().revoke_operator_role("manage-realm").await?;
    because(env, limited(env), ("Programmed", "False", "PermissionMissing")).await?;
    let notes = ("McpServer", env.namespace(), "notes");
    delete(env, "mcpserver", "notes", "--wait=false").await?;
    // A pass that comes before the AuthorizationServer's own says what it met, for a moment.
    becomes(
        "what it waits for",
        &json!("The limits of exchange that were made at the authorization server cannot be removed: the operator's credential lacks manage-realm, grant it there"),
        SOON,
        async || {
            let waits = because(env, notes, ("Accepted", "False", "PermissionMissing")).await?;
            Ok(waits["message"].clone())
        },
    )
    .await?;
    let off = "invalid_request: Standard token exchange is not enabled for the requested client";
    fails(env, desktop, "ledger:use", off).await?;
    entries_are(env, 1).await?;
    env.realm().grant_operator_role("manage-realm").await?;
    env.wait_gone("mcpserver", env.namespace(), "notes", SOON).await?;
    ensure!(env.realm().find_client(NOTES).await?.is_none());
    entries_are(env, 0).await
}

async fn delete(env: &StoryEnv, kind: &str, name: &str, wait: &str) -> anyhow::Result<()> {
    env.kubectl()
        .must(&["delete", kind, name, "-n", env.namespace(), wait])
        .await
        .map(drop)
}
