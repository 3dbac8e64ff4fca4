//! Clients that authenticate with tokens of their ServiceAccounts.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::DeleteParams};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, because, machine, ready, server},
    rotation::named,
};

const ROLES: [&str; 2] = ["manage-clients", "manage-identity-providers"];
const MAP: &str = "reader-mcp-client";

/// An AuthorizationServer that takes tokens of the cluster's ServiceAccounts.
fn trusting(env: &StoryEnv) -> Value {
    let mut object = env.authorization_server("main");
    object["spec"]["keycloak"]["serviceAccountIssuer"] = json!({});
    object
}

/// A client for which tokens of this ServiceAccount stand.
fn by_account(env: &StoryEnv, name: &str, account: &str) -> Value {
    let mut client = machine(env, name, &["notes"]);
    client["spec"]["managed"]["authentication"] =
        json!({ "method": "ServiceAccountToken", "serviceAccount": { "name": account } });
    client
}

pub(crate) fn account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": name } })
}

/// What is in the client's ConfigMap.
async fn told(env: &StoryEnv) -> anyhow::Result<impl Fn(&str) -> anyhow::Result<String>> {
    let map = Api::<ConfigMap>::namespaced(env.client(), env.namespace())
        .get(MAP)
        .await?;
    let data = map.data.unwrap_or_default();
    Ok(move |key: &str| {
        data.get(key)
            .cloned()
            .with_context(|| format!("no {key} in {MAP}"))
    })
}

/// A token as a pod with this ServiceAccount would get it.
pub(crate) async fn token(
    env: &StoryEnv,
    namespace: &str,
    account: &str,
    audience: &str,
) -> anyhow::Result<SecretString> {
    let audience = format!("--audience={audience}");
    let arguments = [
        "create",
        "token",
        account,
        "-n",
        namespace,
        &audience,
        "--duration=1h",
    ];
    Ok(SecretString::from(
        env.kubectl().must(&arguments).await?.trim().to_owned(),
    ))
}

/// Why the authorization server gives this client no token; `None`: it gives one.
async fn refusal(env: &StoryEnv, client: &OAuthClient) -> anyhow::Result<Option<String>> {
    let answer = env
        .issuer()
        .await?
        .client_credentials(client, Some("notes:use"))
        .await?;
    Ok(match answer.granted() {
        Ok(_) => None,
        Err(refusal) => Some(refusal.to_string()),
    })
}

pub(super) async fn stand_for_one(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::with_operator_roles(&world, "keys-accounts", &ROLES).await?;
    let other = env.add_namespace("other").await?;
    let operator = env.start_operator().await?;
    let own = env.namespace().to_owned();
    let objects = [
        account(&own, "robot"),
        account(&own, "stranger"),
        account(&other, "robot"),
        trusting(&env),
        server(&env, "notes"),
        by_account(&env, "reader", "robot"),
    ];
    apply_all(&env, &objects).await?;
    ready(&env, named(&env), SOON).await?;
    because(
        &env,
        named(&env),
        ("CredentialsReady", "True", "ServiceAccountTrusted"),
    )
    .await?;
    let told = told(&env).await?;
    let (id, audience) = (told("client-id")?, told("audience")?);
    ensure!(told("issuer")? == env.realm().issuer() && audience == env.realm().issuer());
    ensure!(
        env.secret_value(&own, MAP, "client-id").await.is_err(),
        "there is a Secret as well"
    );

    // The same token is good for many requests: a pod has one for an hour.
    let robot = OAuthClient::asserting(&id, token(&env, &own, "robot", &audience).await?);
    for _ in 0..2 {
        let answer = env
            .issuer()
            .await?
            .client_credentials(&robot, Some("notes:use"))
            .await?;
        let scope = answer.granted()?.scope;
        ensure!(scope.split(' ').any(|scope| scope == "notes:use"), "{scope}");
    }
    let found = env.realm().find_client(&id).await?.context("no client")?;
    let left = found["secret"].as_str().unwrap_or("none").to_owned();
    for (what, client) in [
        (
            "another ServiceAccount",
            asserting(&env, &id, &own, "stranger", &audience).await?,
        ),
        (
            "one of this name elsewhere",
            asserting(&env, &id, &other, "robot", &audience).await?,
        ),
        (
            "a token for somebody else",
            asserting(&env, &id, &own, "robot", "https://other.example.com").await?,
        ),
        ("a secret", OAuthClient::confidential(&id, left.into())),
        ("nothing", OAuthClient::public(&id)),
    ] {
        let why = refusal(&env, &client)
            .await?
            .with_context(|| format!("{what} is accepted"))?;
        ensure!(why.contains("_client"), "{what}: {why}");
    }

    // A second client cannot have the account until the first is gone.
    env.apply(&by_account(&env, "second", "robot")).await?;
    let second = ("McpClient", own.as_str(), "second");
    let taken = because(&env, second, ("Accepted", "False", "ServiceAccountTaken")).await?;
    ensure!(
        taken["message"]
            .as_str()
            .is_some_and(|why| why.contains("reader")),
        "{taken}"
    );
    let mut suspended = by_account(&env, "reader", "robot");
    suspended["spec"]["suspended"] = json!(true);
    env.apply(&suspended).await?;
    because(&env, named(&env), ("CredentialsReady", "False", "Suspended")).await?;
    ensure!(
        refusal(&env, &robot).await?.is_some(),
        "a suspended client gets tokens"
    );
    env.kubectl()
        .must(&["delete", "mcpclient", "reader", "-n", &own])
        .await?;
    ready(&env, second, SOON).await?;
    ensure!(
        refusal(&env, &robot).await?.is_some(),
        "the first client still gets tokens"
    );
    let second = OAuthClient::asserting(
        id.replace("reader", "second"),
        token(&env, &own, "robot", &audience).await?,
    );
    ensure!(
        refusal(&env, &second).await?.is_none(),
        "the second client gets none"
    );
    operator.stop().await
}

async fn asserting(
    env: &StoryEnv,
    id: &str,
    namespace: &str,
    account: &str,
    audience: &str,
) -> anyhow::Result<OAuthClient> {
    Ok(OAuthClient::asserting(
        id,
        token(env, namespace, account, audience).await?,
    ))
}

/// Waits until the realm has so many identity providers. Gives them.
async fn identity_providers(env: &StoryEnv, count: usize) -> anyhow::Result<Vec<Value>> {
    wait_for("the identity providers", SOON, async || {
        let found = env.realm().admin().get("/identity-provider/instances").await?;
        let found = found.as_array().cloned().unwrap_or_default();
        Ok(if found.len() == count {
            Seen::Done(found)
        } else {
            Seen::NotYet(format!("{} of them", found.len()))
        })
    })
    .await
}

pub(super) async fn trust(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "keys-trust", &["manage-clients"]).await?;
    let operator = env.start_operator().await?;
    let objects = [
        account(env.namespace(), "robot"),
        env.authorization_server("main"),
        server(&env, "notes"),
        by_account(&env, "reader", "robot"),
        machine(&env, "plain", &["notes"]),
    ];
    apply_all(&env, &objects).await?;
    because(
        &env,
        named(&env),
        ("Accepted", "False", "ServiceAccountsNotTrusted"),
    )
    .await?;
    env.apply(&trusting(&env)).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    let missing = because(&env, home, ("Ready", "False", "PermissionMissing")).await?;
    ensure!(
        missing["message"]
            .as_str()
            .is_some_and(|why| why.contains("manage-identity-providers")),
        "{missing}"
    );
    because(
        &env,
        named(&env),
        ("Accepted", "Unknown", "ServiceAccountsNotReady"),
    )
    .await?;
    ready(&env, ("McpClient", env.namespace(), "plain"), SOON).await?;
    env.realm()
        .grant_operator_role("manage-identity-providers")
        .await?;
    ready(&env, named(&env), SOON).await?;
    let made = identity_providers(&env, 1).await?;
    ensure!(
        made[0]["config"]["issuer"] == env.cluster().address(),
        "{}",
        made[0]
    );

    let told = told(&env).await?;
    let id = told("client-id")?;
    let robot = asserting(&env, &id, env.namespace(), "robot", &told("audience")?).await?;
    ensure!(refusal(&env, &robot).await?.is_none(), "it is not trusted");
    // To a secret, and back.
    env.apply(&machine(&env, "reader", &["notes"])).await?;
    ready(&env, named(&env), SOON).await?;
    ensure!(
        refusal(&env, &robot).await?.is_some(),
        "the ServiceAccount still stands for it"
    );
    let secret = env.secret_value(env.namespace(), MAP, "client-secret").await?;
    ensure!(
        refusal(&env, &OAuthClient::confidential(&id, secret.clone().into()))
            .await?
            .is_none()
    );
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    ensure!(maps.get_opt(MAP).await?.is_none(), "the ConfigMap is left over");
    env.apply(&by_account(&env, "reader", "robot")).await?;
    ready(&env, named(&env), SOON).await?;
    ensure!(
        refusal(&env, &OAuthClient::confidential(&id, secret.into()))
            .await?
            .is_some()
    );
    ensure!(refusal(&env, &robot).await?.is_none());
    maps.delete(MAP, &DeleteParams::default()).await?;
    wait_for("the ConfigMap", SOON, async || {
        Ok(match maps.get_opt(MAP).await? {
            Some(_) => Seen::Done(()),
            None => Seen::NotYet("it is gone".to_owned()),
        })
    })
    .await?;

    // Nobody is trusted any more whom nobody wants to be.
    env.apply(&env.authorization_server("main")).await?;
    identity_providers(&env, 0).await?;
    because(
        &env,
        named(&env),
        ("Accepted", "False", "ServiceAccountsNotTrusted"),
    )
    .await?;
    ensure!(refusal(&env, &robot).await?.is_some(), "it is still trusted");
    env.apply(&trusting(&env)).await?;
    identity_providers(&env, 1).await?;
    let kubectl = env.kubectl();
    kubectl
        .must(&["delete", "mcpclient,mcpserver", "--all", "-n", env.namespace()])
        .await?;
    kubectl
        .must(&["delete", "authorizationserver", "main", "-n", env.namespace()])
        .await?;
    identity_providers(&env, 0).await?;
    operator.stop().await
}
