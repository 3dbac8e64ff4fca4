//! A client that a ServiceAccount stands for moves: its pods need a token for the other issuer, and have until the overlap is
//! over to get it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::Api;
use mcp_auth_e2e::{
    oauth::{Issuer, OAuthClient},
    operator::Operator,
    story::StoryEnv,
    world::World,
};
use mcp_auth_operator::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::{
    scene::{READER, Scene, lag},
    workload::Content,
};
use crate::{
    fixtures::{SOON, annotate, apply_all, because, ready},
    keys::{account, service_account_token},
    rotation::REVOKE,
};

const ACCOUNT: &str = "robot";
const IDENTITY_PROVIDERS: &str = "manage-identity-providers";
const EVERY: Duration = Duration::from_millis(50);

/// The client, for which tokens of the account stand.
fn by_account(scene: &Scene, name: &str, home: &str) -> Value {
    let mut client = scene.reader(home, "ServiceAccountToken");
    client["metadata"]["name"] = json!(name);
    client["spec"]["managed"]["authentication"]["serviceAccount"] = json!({ "name": ACCOUNT });
    // There is nothing to rotate, and so no overlap to choose.
    client["spec"]["rotation"] = Value::Null;
    client
}

fn trusting(mut server: Value) -> Value {
    server["spec"]["keycloak"]["serviceAccountIssuer"] = json!({});
    server
}

/// What is in the client's ConfigMap.
async fn told(env: &StoryEnv, name: &str) -> anyhow::Result<Content> {
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    Ok(maps
        .get(&format!("{name}-mcp-client"))
        .await?
        .data
        .unwrap_or_default())
}

/// A pod that was started with this ConfigMap: with a token for the audience that it names.
async fn pod(env: &StoryEnv, told: &Content) -> anyhow::Result<OAuthClient> {
    let token = service_account_token(env, env.namespace(), ACCOUNT, &told["audience"]).await?;
    Ok(OAuthClient::asserting(&told["client-id"], token))
}

async fn gets_a_token(issuer: &Issuer, client: &OAuthClient, scope: &str) -> anyhow::Result<()> {
    let answer = issuer.client_credentials(client, Some(scope)).await?;
    answer.granted().map(drop)
}

async fn is_refused(issuer: &Issuer, client: &OAuthClient, scope: &str) -> anyhow::Result<()> {
    let refusal = issuer.client_credentials(client, Some(scope)).await?.refused()?;
    ensure!(refusal.error.ends_with("_client"), "{refusal}");
    Ok(())
}

/// Two realms of which the first takes tokens of accounts, and perhaps the second, and the client at work in the first.
async fn at_work(world: &Arc<World>, name: &str, everywhere: bool) -> anyhow::Result<(Scene, Operator)> {
    let scene = Scene::new(world, name).await?;
    let env = &scene.env;
    env.realm().grant_operator_role(IDENTITY_PROVIDERS).await?;
    let operator = env.start_operator().await?;
    if everywhere {
        trust_at_next(&scene).await?;
    }
    let objects = [
        trusting(env.authorization_server("main")),
        account(env.namespace(), ACCOUNT),
        by_account(&scene, READER, "main"),
    ];
    apply_all(env, &objects).await?;
    ready(env, ("McpClient", env.namespace(), READER), SOON).await?;
    Ok((scene, operator))
}

async fn trust_at_next(scene: &Scene) -> anyhow::Result<()> {
    scene.next.grant_operator_role(IDENTITY_PROVIDERS).await?;
    scene.env.apply(&trusting(scene.authorization_server())).await
}

/// Pods of before work at the old realm through the overlap, and those that start during it at the new one; a token for one
/// realm is worth nothing at the other, and until the end the account stands for nobody else at the old one.
pub(super) async fn moves(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = at_work(&world, "migration-account", true).await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    let authority = world.authority();
    let main = Issuer::discover(env.realm().issuer(), authority).await?;
    let next = Issuer::discover(scene.next.issuer(), authority).await?;
    let before = told(env, READER).await?;
    ensure!(before["audience"] == main.url() && before["issuer"] == main.url());
    let old_pod = pod(env, &before).await?;
    gets_a_token(&main, &old_pod, "notes:use").await?;

    let at_work = async {
        let mut count = 0_u32;
        loop {
            if let Err(error) = gets_a_token(&main, &old_pod, "notes:use").await {
                return error.context(format!("after {count} tokens"));
            }
            count += 1;
            tokio::time::sleep(EVERY).await;
        }
    };
    let change = async {
        env.apply(&by_account(&scene, READER, "next")).await?;
        let both = scene.moved().await?;
        let until: Timestamp = both["previous"][0]["validUntil"]
            .as_str()
            .unwrap_or_default()
            .parse()?;
        let left = until.duration_since(SystemClock.now());
        ensure!((55..=60).contains(&left.as_mins()), "it stays until {until}");
        let after = told(env, READER).await?;
        for (key, value) in [
            ("issuer", next.url()),
            ("audience", next.url()),
            ("scope", "bills:use"),
        ] {
            ensure!(after[key] == value, "{key}: {}", after[key]);
        }
        let new_pod = pod(env, &after).await?;
        gets_a_token(&next, &new_pod, "bills:use").await?;
        is_refused(&next, &old_pod, "bills:use").await?;
        is_refused(&main, &new_pod, "notes:use").await?;
        // What is kept there still stands for the account.
        env.apply(&by_account(&scene, "second", "main")).await?;
        let second = ("McpClient", namespace, "second");
        because(env, second, ("Accepted", "False", "ServiceAccountTaken")).await?;
        tokio::time::sleep(lag()).await;
        anyhow::Ok(new_pod)
    };
    let new_pod = tokio::select! {
        changed = change => changed?,
        refused = at_work => return Err(refused.context("a pod of before was refused")),
    };
    // Nobody waits for an hour: who wants it to end before says so. The second has its client in that realm then.
    annotate(env, READER, REVOKE, "1").await?;
    scene
        .status("the end of the old one", |status| {
            status["previous"][0]["tokensUntil"].is_string()
        })
        .await?;
    is_refused(&main, &old_pod, "notes:use").await?;
    gets_a_token(&next, &new_pod, "bills:use").await?;
    ready(env, ("McpClient", namespace, "second"), SOON).await?;
    let second = pod(env, &told(env, "second").await?).await?;
    gets_a_token(&main, &second, "notes:use").await?;
    let secret = env
        .secret_value(namespace, &format!("{READER}-mcp-client"), "client-id")
        .await;
    ensure!(secret.is_err(), "there is a Secret");
    operator.stop().await
}

/// One that moves and takes another account with it still has the first at the old realm, whatever is older: a token of it
/// would stand for either.
pub(super) async fn is_nobody_elses(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = at_work(&world, "migration-account-kept", true).await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    let main = Issuer::discover(env.realm().issuer(), world.authority()).await?;
    let old_pod = pod(env, &told(env, READER).await?).await?;
    env.apply(&account(namespace, "another")).await?;
    let mut other = by_account(&scene, READER, "next");
    other["spec"]["managed"]["authentication"]["serviceAccount"]["name"] = json!("another");
    env.apply(&other).await?;
    scene.moved().await?;
    gets_a_token(&main, &old_pod, "notes:use").await?;

    env.apply(&by_account(&scene, "second", "main")).await?;
    let second = ("McpClient", namespace, "second");
    let taken = because(env, second, ("Accepted", "False", "ServiceAccountTaken")).await?;
    let message = taken["message"].as_str().unwrap_or_default();
    ensure!(message.contains("status.previous"), "{message}");
    gets_a_token(&main, &old_pod, "notes:use").await?;
    annotate(env, READER, REVOKE, "1").await?;
    ready(env, second, SOON).await?;
    is_refused(&main, &old_pod, "notes:use").await?;
    let second = pod(env, &told(env, "second").await?).await?;
    gets_a_token(&main, &second, "notes:use").await?;
    operator.stop().await
}

/// To a realm that takes no tokens of accounts it does not move, and works where it is.
pub(super) async fn stays(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = at_work(&world, "migration-account-stays", false).await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    let reader = ("McpClient", namespace, READER);
    let main = Issuer::discover(env.realm().issuer(), world.authority()).await?;
    let before = told(env, READER).await?;
    let old_pod = pod(env, &before).await?;

    env.apply(&by_account(&scene, READER, "next")).await?;
    because(env, reader, ("Ready", "False", "ServiceAccountsNotTrusted")).await?;
    because(env, reader, ("Migrated", "Unknown", "NotMoved")).await?;
    gets_a_token(&main, &old_pod, "notes:use").await?;
    ensure!(told(env, READER).await? == before, "it is told something else");
    let object = env
        .get("McpClient", namespace, READER)
        .await?
        .context("it is gone")?;
    let here = &object["status"]["registeredAt"]["authorizationServerRef"]["name"];
    ensure!(here == "main", "{}", object["status"]);

    trust_at_next(&scene).await?;
    scene.moved().await?;
    let next = Issuer::discover(scene.next.issuer(), world.authority()).await?;
    let new_pod = pod(env, &told(env, READER).await?).await?;
    gets_a_token(&next, &new_pod, "bills:use").await?;
    gets_a_token(&main, &old_pod, "notes:use").await?;
    operator.stop().await
}
