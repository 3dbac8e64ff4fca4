//! What may be exchanged for: servers and internal APIs that allow it.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{Call, NOTES, ORDERS, api_policy, considered, home_with_api, policy_ready};
use crate::{
    fixtures::{SOON, apply_all, because, native, policy, ready, server},
    inventory::published,
    users::{App, says},
};

/// The AuthorizationServer, where `tenant` may have servers of its own and exchange for these APIs.
fn home(env: &StoryEnv, tenant: &str, apis: &[&str]) -> Value {
    let mut home = home_with_api(env);
    let mut grant = json!({
        "namespaces": {
            "from": "Selector",
            "selector": { "matchLabels": { "kubernetes.io/metadata.name": tenant } },
        },
        "servers": { "hosts": ["theirs.example.com"], "scopePrefixes": ["theirs:"] },
    });
    if !apis.is_empty() {
        grant["tokenExchange"] = json!({ "apis": apis });
    }
    home["spec"]["grants"] = json!([grant]);
    home
}

/// A server in the tenant's namespace that uses the story's AuthorizationServer.
fn theirs(env: &StoryEnv, tenant: &str) -> Value {
    let mut theirs = server(env, "theirs");
    theirs["metadata"]["namespace"] = json!(tenant);
    theirs["spec"]["authorizationServerRef"]["namespace"] = json!(env.namespace());
    theirs
}

pub(super) async fn refused(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "exchange-refused").await?;
    let tenant = env.add_namespace("tenant").await?;
    let operator = env.start_operator().await?;
    let space = env.namespace();
    let servers = [
        server(&env, "notes"),
        server(&env, "archive"),
        theirs(&env, &tenant),
    ];
    env.apply(&home(&env, &tenant, &[])).await?;
    apply_all(&env, &servers).await?;
    for (namespace, name) in [(space, "notes"), (space, "archive"), (tenant.as_str(), "theirs")] {
        ready(&env, ("McpServer", namespace, name), SOON).await?;
    }
    env.proxy().clear();

    let policies = [
        policy(&env, "notes-to-archive", "notes", "archive"),
        api_policy(&tenant, "theirs"),
    ];
    apply_all(&env, &policies).await?;
    let archive = ("TokenExchangePolicy", space, "notes-to-archive");
    let said = because(&env, archive, ("Accepted", "False", "ExchangeNotAllowed")).await?;
    let ask = format!(
        "McpServer {space}/archive does not let {space}/notes exchange tokens: ask for an entry with exchange: true in its allowedClients"
    );
    ensure!(said["message"] == ask, "{said}");
    let orders = ("TokenExchangePolicy", tenant.as_str(), "theirs-to-orders");
    let said = because(&env, orders, ("Accepted", "False", "ApiNotGranted")).await?;
    let ask = format!(
        "Namespace {tenant} may not exchange tokens for the API orders: ask for it in grants[].tokenExchange.apis of AuthorizationServer {space}/main"
    );
    ensure!(said["message"] == ask, "{said}");
    for server in &servers {
        considered(&env, server).await?;
    }
    no_trace(&env, &tenant).await?;

    // What was asked for is given: nobody has to touch the policy.
    env.apply(&home(&env, &tenant, &["orders"])).await?;
    ready(&env, orders, SOON).await?;
    ensure!(
        exchanges(&env, "https://theirs.example.com/mcp").await?,
        "it was granted"
    );
    operator.stop().await
}

/// Nothing was written at Keycloak, and no server has a credential.
async fn no_trace(env: &StoryEnv, tenant: &str) -> anyhow::Result<()> {
    let writes = env.proxy().writes();
    ensure!(writes.is_empty(), "{writes:?}");
    for resource in [NOTES, "https://theirs.example.com/mcp"] {
        ensure!(!exchanges(env, resource).await?, "{resource} may exchange");
    }
    for namespace in [env.namespace(), tenant] {
        let secrets: BTreeSet<String> = published(env, namespace).await?;
        let secrets: Vec<_> = secrets
            .iter()
            .filter(|name| name.starts_with("secret/"))
            .collect();
        ensure!(secrets.is_empty(), "{namespace}: {secrets:?}");
    }
    Ok(())
}

/// Whether the client of a server may exchange tokens at all.
async fn exchanges(env: &StoryEnv, resource: &str) -> anyhow::Result<bool> {
    let client = env.realm().find_client(resource).await?;
    let client = client.with_context(|| format!("no client {resource}"))?;
    Ok(client["attributes"]["standard.token.exchange.enabled"] == "true")
}

pub(super) async fn api(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-api").await?;
    let operator = env.start_operator().await?;
    let objects = [
        home_with_api(&env),
        server(&env, "notes"),
        native(&env, "desktop", &["notes"]),
        api_policy(env.namespace(), "notes"),
    ];
    apply_all(&env, &objects).await?;
    policy_ready(&env, "notes-to-orders").await?;
    let call = Call::begin(&env).await?;
    call.reaches_orders().await?;
    // It is for servers that exchange; clients do not get it by themselves.
    let app = App::native(&env, "desktop", "notes").await?;
    let refusal = app.refused("orders:read").await?;
    says(&refusal, "invalid_scope", "Invalid scopes: orders:read")?;
    let orders = env
        .get("TokenExchangePolicy", env.namespace(), "notes-to-orders")
        .await?;
    let status = orders.context("no policy")?["status"].clone();
    ensure!(
        status["audience"] == ORDERS && status["assignedScopes"] == json!(["orders:read"]),
        "{status}"
    );
    operator.stop().await
}
