//! Clients that the realm's administrator registers, with Secrets that others fill: the operator proves their credentials
//! and changes nothing.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    operator::Operator,
    proxy::Call,
    runner::Story,
    secrets,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::{World, checkout},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    fixtures::{Named, SOON, apply_all, because, machine, ready, server},
    inventory::{Realm, credential, kept, token_for},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "existing::a_client_of_the_administrator_is_proved_and_left_alone",
            proved_and_left_alone,
        ),
        Story::new("existing::what_is_not_assigned_is_told", not_assigned),
        Story::new("existing::clients_of_others_are_refused", refused),
        Story::new(
            "existing::gates_deny_a_suspended_one_and_no_public_one",
            denied_at_gates,
        ),
    ]
}

const ID: &str = "warehouse-legacy";
const SECRET: &str = "warehouse-oauth";

/// The shipped sample, with the names of the story.
fn sample(env: &StoryEnv) -> anyhow::Result<Value> {
    let text = fs::read_to_string(checkout().join("config/samples/existing-client.yaml"))?;
    let mut client: Value = serde_saphyr::from_str(&text)?;
    client["metadata"]["namespace"] = json!(env.namespace());
    client["spec"]["authorizationServerRef"] = json!({ "name": "main" });
    client["spec"]["access"] = json!([{ "server": { "name": "notes" } }]);
    Ok(client)
}

fn named(env: &StoryEnv) -> Named<'_> {
    ("McpClient", env.namespace(), "warehouse")
}

/// The Secret as somebody fills it.
async fn fill(env: &StoryEnv, id: &str, secret: &str) -> anyhow::Result<()> {
    env.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": env.namespace(), "name": SECRET },
        "stringData": { "CLIENT_ID": id, "CLIENT_SECRET": secret },
    }))
    .await
}

/// The client as an administrator registers it, with these scopes. Gives its path.
async fn register(env: &StoryEnv, secret: &str, scopes: &[&str]) -> anyhow::Result<String> {
    let client = json!({
        "clientId": ID, "protocol": "openid-connect", "publicClient": false, "secret": secret,
        "serviceAccountsEnabled": true, "standardFlowEnabled": false, "fullScopeAllowed": false,
        "defaultClientScopes": ["basic"], "optionalClientScopes": scopes,
    });
    let id = env.realm().admin().create("/clients", &client).await?;
    Ok(format!("/clients/{id}"))
}

/// An operator with the server `notes` and the sample.
async fn at_work(env: &StoryEnv) -> anyhow::Result<Operator> {
    let operator = env.start_operator().await?;
    let objects = [
        env.authorization_server("main"),
        server(env, "notes"),
        sample(env)?,
    ];
    apply_all(env, &objects).await?;
    ready(env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    Ok(operator)
}

/// Whether the operator asks whether the credential works.
fn is_proof(call: &Call) -> bool {
    call.form("client_id").as_deref() == Some(ID)
}

fn proofs(env: &StoryEnv) -> usize {
    env.proxy().calls().iter().filter(|call| is_proof(call)).count()
}

async fn proved_and_left_alone(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "existing-proved").await?;
    let operator = at_work(&env).await?;
    because(
        &env,
        named(&env),
        ("CredentialsReady", "Unknown", "SecretNotFound"),
    )
    .await?;

    let first = secrets::random();
    fill(&env, ID, first.expose_secret()).await?;
    because(&env, named(&env), ("Registered", "Unknown", "ClientNotFound")).await?;
    let client = register(&env, first.expose_secret(), &["notes:use"]).await?;
    let (realm, as_registered) = (Realm::read(&env).await?, env.realm().admin().get(&client).await?);
    let journals = kept(&env).await?;
    // What happens there is not seen from here: the Secret is what wakes the operator at once.
    fill(&env, ID, "wrong").await?;
    because(
        &env,
        named(&env),
        ("CredentialsReady", "False", "CredentialRefused"),
    )
    .await?;
    // The new status wakes the operator, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It may have looked while the right one was still there.
    let refused = env.proxy().calls();
    let refused = refused
        .iter()
        .filter(|call| is_proof(call) && call.status == Some(StatusCode::UNAUTHORIZED))
        .count();
    ensure!(refused == 1, "asked {refused} times about a wrong secret");
    fill(&env, ID, first.expose_secret()).await?;
    ready(&env, named(&env), SOON).await?;
    let status = env.get("McpClient", env.namespace(), "warehouse").await?;
    let status = status.context("it is gone")?["status"].clone();
    ensure!(
        status["clientId"] == ID
            && status["secretName"] == SECRET
            && status["granted"][0]["scopes"][0] == "notes:use",
        "{status}"
    );
    because(&env, named(&env), ("AccessGranted", "True", "Granted")).await?;

    // Who looks again, even without any memory, asks the token endpoint nothing.
    operator.stop().await?;
    env.proxy().clear();
    let operator = env.start_operator().await?;
    let looks = |call: &Call| call.query("clientId").as_deref() == Some(ID);
    env.wait_for_call("a look at the client", SOON, looks).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(proofs(&env) == 0, "what is known is proved again");

    // Rotated from outside.
    let second = secrets::random();
    let mut rotated = as_registered.clone();
    rotated["secret"] = json!(second.expose_secret());
    env.realm().admin().put(&client, &rotated).await?;
    fill(&env, ID, second.expose_secret()).await?;
    env.wait_for_call("a proof of the new secret", SOON, is_proof)
        .await?;
    ready(&env, named(&env), SOON).await?;

    env.kubectl()
        .must(&["delete", "mcpclient", "warehouse", "-n", env.namespace()])
        .await?;
    let mut now = env.realm().admin().get(&client).await?;
    let secret = now["secret"].take();
    ensure!(secret == second.expose_secret(), "its secret was changed");
    let mut expected = as_registered;
    expected["secret"].take();
    // Keycloak notes when a secret was set.
    for client in [&mut now, &mut expected] {
        client["attributes"].take();
    }
    ensure!(now == expected, "it was changed: {now}");
    ensure!(Realm::read(&env).await? == realm && kept(&env).await? == journals);
    ensure!(env.secret_value(env.namespace(), SECRET, "CLIENT_SECRET").await? == second.expose_secret());
    operator.stop().await
}

async fn not_assigned(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "existing-not-assigned").await?;
    let operator = at_work(&env).await?;
    let secret = secrets::random();
    register(&env, secret.expose_secret(), &[]).await?;
    fill(&env, ID, secret.expose_secret()).await?;
    let said = because(&env, named(&env), ("AccessGranted", "False", "NotAssigned")).await?;
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(message.contains("notes:use"), "{message}");
    because(&env, named(&env), ("CredentialsReady", "True", "Proved")).await?;
    operator.stop().await
}

/// Also with a credential that works.
async fn refused(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "existing-refused").await?;
    let operator = at_work(&env).await?;
    env.apply(&machine(&env, "victim", &["notes"])).await?;
    ready(&env, ("McpClient", env.namespace(), "victim"), SOON).await?;
    let victim = credential(&env, "victim").await?;
    let stolen = env
        .secret_value(env.namespace(), "victim-mcp-client", "client-secret")
        .await?;
    let mut suspended = sample(&env)?;
    suspended["spec"]["suspended"] = json!(true);
    env.apply(&suspended).await?;
    let own = env.realm().operator_client_secret().expose_secret();
    for (id, secret, reason) in [
        (victim.id(), stolen.as_str(), "AlreadyHeld"),
        (env.realm().operator_client_id(), own, "BuiltIn"),
        ("account", "x", "BuiltIn"),
        ("https://notes.example.com/mcp", "x", "AlreadyHeld"),
    ] {
        fill(&env, id, secret).await?;
        because(&env, named(&env), ("Accepted", "False", reason)).await?;
        let object = env.get("McpClient", env.namespace(), "warehouse").await?;
        let object = object.context("it is gone")?;
        ensure!(object["status"].get("clientId").is_none(), "{object}");
        ensure!(object["metadata"].get("finalizers").is_none(), "{object}");
        let text = object["status"].to_string();
        ensure!(!text.contains(id), "what the Secret holds is shown: {text}");
        // Whoever holds it lost nothing.
        token_for(&env, &victim, "notes:use", "https://notes.example.com/mcp").await?;
    }
    operator.stop().await
}

/// The id of a client of which everybody knows all that it proves.
const PUBLIC: &str = "desktop-app";

async fn denied_at_gates(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "existing-denied").await?;
    let operator = at_work(&env).await?;
    let secret = secrets::random();
    register(&env, secret.expose_secret(), &["notes:use"]).await?;
    let public = json!({
        "clientId": PUBLIC, "protocol": "openid-connect", "publicClient": true,
        "redirectUris": ["https://desktop.example.com/callback"], "optionalClientScopes": ["notes:use"],
    });
    env.realm().admin().create("/clients", &public).await?;
    apply_all(&env, &gated(&env)).await?;

    let mut impostor = sample(&env)?;
    impostor["metadata"]["name"] = json!("impostor");
    impostor["spec"]["suspended"] = json!(true);
    impostor["spec"]["existing"] = json!({
        "secretRef": { "name": "impostor" }, "grantTypes": ["authorization_code"],
        "redirectUri": "https://desktop.example.com/callback",
    });
    let made_up = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": env.namespace(), "name": "impostor" },
        "stringData": { "client-id": PUBLIC, "client-secret": "made up" },
    });
    apply_all(&env, &[made_up, impostor]).await?;
    let named_impostor = ("McpClient", env.namespace(), "impostor");
    because(
        &env,
        named_impostor,
        ("CredentialsReady", "False", "PublicClient"),
    )
    .await?;

    let mut suspended = sample(&env)?;
    suspended["spec"]["suspended"] = json!(true);
    env.apply(&suspended).await?;
    fill(&env, ID, secret.expose_secret()).await?;
    because(&env, named(&env), ("CredentialsReady", "False", "Suspended")).await?;
    until_denied(&env, &json!([ID])).await?;
    suspended["spec"]["suspended"] = json!(false);
    env.apply(&suspended).await?;
    ready(&env, named(&env), SOON).await?;
    until_denied(&env, &Value::Null).await?;
    operator.stop().await
}

/// The server `notes` behind a gate, of which there are no pods here.
fn gated(env: &StoryEnv) -> [Value; 2] {
    let mut notes = server(env, "notes");
    notes["spec"]["target"] = json!({ "service": "notes" });
    notes["spec"]["enforcement"] = json!({ "mode": "Gate" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": env.namespace(), "name": "notes" },
        "spec": { "selector": { "app": "notes" }, "ports": [{ "port": 80, "targetPort": 3001 }] },
    });
    [service, notes]
}

/// Waits until the gate's policy denies these clients, and no other.
async fn until_denied(env: &StoryEnv, expected: &Value) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    wait_for(&format!("a policy that denies {expected}"), SOON, async || {
        let found = api.get_opt("notes-gate").await?.and_then(|map| map.data);
        let Some(policy) = found.and_then(|mut data| data.remove("policy.json")) else {
            return Ok(Seen::NotYet("there is none".to_owned()));
        };
        let policy: Value = serde_json::from_str(&policy)?;
        let denied = policy.get("deniedClients").unwrap_or(&Value::Null);
        Ok(if denied == expected {
            Seen::Done(())
        } else {
            Seen::NotYet(denied.to_string())
        })
    })
    .await
}
