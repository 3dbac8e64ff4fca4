//! A client that a ServiceAccount stands for moves: its pods need a token for the other issuer, and have until the overlap is
//! over to get it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::Api;
use mcp_auth_e2e::{
    oauth::{Issuer, OAuthClient},
    story::StoryEnv,
    world::World,
};
use serde_json::{Value, json};

use super::{
    scene::{READER, Scene, lag},
    workload::Content,
};
use crate::{
    fixtures::{SOON, annotate, because, ready},
    keys::{account, service_account_token},
    rotation::REVOKE,
};

const ACCOUNT: &str = "robot";
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

/// Pods of before work at the old realm through the overlap, and those that start during it at the new one; a token for one
/// realm is worth nothing at the other, and until the end the account stands for nobody else at the old one.
pub(super) async fn moves(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "migration-account").await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    for realm in [env.realm(), &scene.next] {
        realm.grant_operator_role("manage-identity-providers").await?;
    }
    for object in [
        trusting(env.authorization_server("main")),
        trusting(scene.authorization_server()),
        account(namespace, ACCOUNT),
        by_account(&scene, READER, "main"),
    ] {
        env.apply(&object).await?;
    }
    let operator = env.start_operator().await?;
    let reader = ("McpClient", namespace, READER);
    ready(env, reader, SOON).await?;
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
        let left = until.duration_since(Timestamp::now());
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

/// To a realm that takes no tokens of accounts it does not move, and works where it is.
pub(super) async fn stays(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "migration-account-stays").await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    env.realm()
        .grant_operator_role("manage-identity-providers")
        .await?;
    for object in [
        trusting(env.authorization_server("main")),
        account(namespace, ACCOUNT),
        by_account(&scene, READER, "main"),
    ] {
        env.apply(&object).await?;
    }
    let operator = env.start_operator().await?;
    let reader = ("McpClient", namespace, READER);
    ready(env, reader, SOON).await?;
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

    scene
        .next
        .grant_operator_role("manage-identity-providers")
        .await?;
    env.apply(&trusting(scene.authorization_server())).await?;
    scene.moved().await?;
    let next = Issuer::discover(scene.next.issuer(), world.authority()).await?;
    let new_pod = pod(env, &told(env, READER).await?).await?;
    gets_a_token(&next, &new_pod, "bills:use").await?;
    gets_a_token(&main, &old_pod, "notes:use").await?;
    operator.stop().await
}
