//! Each way in which an exchange ends.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{proxy::Fault, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{Call, NOT_ENABLED, considered, policy_ready, server_credential};
use crate::{
    fixtures::{SOON, apply_all, because, native, open_server, policy, ready, server},
    inventory::becomes,
    users::{Claims, resource, says},
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

/// Waits until `notes` has no credential any more, which it loses last: from then on it may not exchange at all.
async fn is_over(env: &StoryEnv, call: &Call, target: &str) -> anyhow::Result<()> {
    env.wait_gone("secret", env.namespace(), NOTES_SECRET, SOON)
        .await?;
    is_refused(call, target).await
}

/// Fails if `notes` may exchange for anything.
async fn is_refused(call: &Call, target: &str) -> anyhow::Result<()> {
    let refusal = call.exchange(&format!("{target}:use")).await?.refused()?;
    says(&refusal, "invalid_request", NOT_ENABLED)
}

pub(super) async fn policies(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-ends").await?;
    let operator = env.start_operator().await?;
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
    is_refused(&call, "search").await?;
    is_over(&env, &call, "search").await?;
    operator.stop().await
}

/// Pausing a server keeps nobody from taking back what it was allowed.
pub(super) async fn paused_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-paused").await?;
    let operator = env.start_operator().await?;
    let call = begin(&env, &["archive", "search"]).await?;
    let annotate = async |change: &str| {
        let arguments = ["annotate", "mcpserver", "notes", "-n", env.namespace(), change];
        env.kubectl().must(&arguments).await.map(drop)
    };
    annotate("mcpauth.dev/reconcile=paused").await?;
    delete(&env, "notes-to-archive").await?;
    let refusal = call.exchange("archive:use").await?.refused()?;
    says(&refusal, "invalid_scope", "Invalid scopes: archive:use")?;
    call.reaches("search").await?;
    delete(&env, "notes-to-search").await?;
    is_refused(&call, "search").await?;

    annotate("mcpauth.dev/reconcile-").await?;
    is_over(&env, &call, "search").await?;
    ready(&env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    operator.stop().await
}

/// `notes` exchanges for `archive`, which has the scopes `archive:use` and `archive:purge`; the policy lists these.
async fn begin_with(env: &StoryEnv, listed: &[&str]) -> anyhow::Result<Call> {
    let mut archive = open_server(env, "archive");
    archive["spec"]["scopes"] = json!([{ "name": "archive:use" }, { "name": "archive:purge" }]);
    let objects = [
        env.authorization_server("main"),
        server(env, "notes"),
        archive,
        native(env, "desktop", &["notes"]),
        listing(env, listed),
    ];
    apply_all(env, &objects).await?;
    policy_ready(env, "notes-to-archive").await?;
    let call = Call::begin(env).await?;
    let tokens = call.exchange(&listed.join(" ")).await?.granted()?;
    let claims = Claims {
        audience: Some(&resource("archive")),
        scopes: listed,
        ..call.claims()
    };
    claims.check(&call.issuer, &tokens.access_token).await?;
    Ok(call)
}

/// The policy of [`begin_with`].
fn listing(env: &StoryEnv, scopes: &[&str]) -> Value {
    let mut policy = policy(env, "notes-to-archive", "notes", "archive");
    let scopes = scopes.iter().map(|scope| json!({ "name": scope }));
    policy["spec"]["scopes"] = scopes.collect();
    policy
}

/// A policy that lists less than before is Ready when the rest is gone. Keycloak is slow to take it.
pub(super) async fn shorter_list(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-shorter").await?;
    let operator = env.start_operator().await?;
    let call = begin_with(&env, &["archive:use", "archive:purge"]).await?;
    let detach = Fault::delay(Duration::from_secs(3)).on(|call| call.method == Method::DELETE);
    env.proxy().inject(detach);
    env.apply(&listing(&env, &["archive:use"])).await?;
    policy_ready(&env, "notes-to-archive").await?;
    let refusal = call.exchange("archive:purge").await?.refused()?;
    says(&refusal, "invalid_scope", "Invalid scopes: archive:purge")?;
    call.reaches("archive").await?;
    env.proxy().heal()?;
    operator.stop().await
}

/// A paused policy gives no more than before, and what it lists no more ends all the same.
pub(super) async fn paused_policy(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-held").await?;
    let operator = env.start_operator().await?;
    let call = begin_with(&env, &["archive:use"]).await?;
    let paused = |scopes: &[&str]| {
        let mut policy = listing(&env, scopes);
        policy["metadata"]["annotations"] = json!({ "mcpauth.dev/reconcile": "paused" });
        policy
    };
    env.apply(&paused(&["archive:use", "archive:purge"])).await?;
    considered(&env, &server(&env, "notes")).await?;
    let refusal = call.exchange("archive:purge").await?.refused()?;
    says(&refusal, "invalid_scope", "Invalid scopes: archive:purge")?;
    call.reaches("archive").await?;

    env.apply(&paused(&["archive:purge"])).await?;
    exchange_scopes(&env, &[]).await?;
    is_refused(&call, "archive").await?;

    env.apply(&listing(&env, &["archive:purge"])).await?;
    policy_ready(&env, "notes-to-archive").await?;
    exchange_scopes(&env, &["archive:purge"]).await?;
    operator.stop().await
}

/// A policy that names another server: the first one loses what it gave, long before anybody looks by himself.
pub(super) async fn other_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-moves").await?;
    let operator = env.start_operator().await?;
    let call = begin(&env, &["archive"]).await?;
    let mut moved = policy(&env, "notes-to-archive", "drafts", "archive");
    env.apply(&server(&env, "drafts")).await?;
    env.apply(&moved).await?;
    policy_ready(&env, "notes-to-archive").await?;
    is_over(&env, &call, "archive").await?;
    exchange_scopes(&env, &[]).await?;

    moved["spec"]["serverRef"] = json!({ "name": "notes" });
    env.apply(&moved).await?;
    policy_ready(&env, "notes-to-archive").await?;
    call.reaches("archive").await?;
    operator.stop().await
}

pub(super) async fn target_withdraws(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange-withdrawn").await?;
    let operator = env.start_operator().await?;
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
    is_refused(&call, "search").await?;
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
