//! The samples of the main job with the AuthorizationServer swapped, and nothing else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    caller::Caller,
    oauth::{Exchange, Issuer, LoginRequest, OAuthClient, VerifiedToken},
    operator::Operator,
    runner::Story,
    samples::{self, placed},
    stand::Stand,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::scene::{PASSWORD, Scene, for_itself};
use crate::rotation::ROTATE;

const READY: Duration = Duration::from_mins(2);
const USER: &str = "alice";
const ORDERS: &str = "https://orders.internal.example.com";

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new("auth0::operator_samples", samples_work)]
}

async fn samples_work(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-samples").await?;
    let env = &scene.env;
    let teams = samples::TEAMS.map(|team| placed(env, team));
    for team in &teams {
        env.kubectl().run(&["create", "namespace", team]).await?;
    }
    let stand = Stand::prepare(&world).await?;
    let mut options = samples::operator_options(env);
    stand.allow(&mut options, env, Some("mcp-auth-gate:none"))?;
    let operator = env.start_operator_with(&options).await?;
    samples::apply(env, &stand, &scene.authorization_server("company")).await?;
    samples::wait_until_ready(env, &stand, READY, |_, _| {}).await?;
    let issuer = scene.issuer().await?;
    let [team_a, team_b] = &teams;
    let documents = format!("https://documents.{team_b}.mcp.example.com/mcp");

    let reporter = machine(&scene, &issuer, team_a, "reporter", &documents).await?;
    keys(&scene, &issuer, team_a).await?;
    gate(&scene, &stand, &issuer, team_b, &reporter).await?;
    suspended(&scene, &stand, &issuer, team_b).await?;
    exchange(&scene, &issuer, team_a, &documents).await?;
    rotated(&scene, &issuer, team_a, &documents).await?;
    nothing_is_told(&scene, &operator, team_a).await?;
    scene.is_others_untouched()?;
    end(&scene).await?;
    operator.stop().await
}

/// A token with what the Secret holds is what was declared, and there is none for anything else. Gives it.
async fn machine(
    scene: &Scene,
    issuer: &Issuer,
    team: &str,
    name: &str,
    documents: &str,
) -> anyhow::Result<SecretString> {
    let env = &scene.env;
    let data = samples::secret(env, team, &format!("{name}-mcp-client")).await?;
    let client = samples::oauth_client(env, team, &format!("{name}-mcp-client")).await?;
    ensure!(
        data["resource"] == documents && data["scope"] == "documents:read",
        "{:?}",
        data.keys()
    );
    ensure!(data["issuer"] == scene.auth0.issuer());
    // The tenant has chosen the id, and everybody says it.
    let object = env.get("McpClient", team, name).await?.unwrap_or_default();
    ensure!(
        object["status"]["clientId"] == client.id(),
        "{}",
        object["status"]
    );
    let at_auth0 = scene.client(client.id())?;
    let mark = &at_auth0["client_metadata"]["mcpauth_object"];
    ensure!(*mark == format!("McpClient/{team}/{name}"), "{at_auth0}");
    let registered = condition(&object, "Registered");
    ensure!(
        registered["message"]
            .as_str()
            .is_some_and(|text| text.contains(client.id())),
        "{registered}"
    );

    let accepted = condition(&object, "Accepted");
    let says = accepted["message"].as_str().unwrap_or_default();
    ensure!(says.contains("accessTokenLifetime has no effect"), "{accepted}");

    // By the value of `resource`, without a scope: all that it was granted.
    let tokens = issuer
        .token(&client, for_itself(None, &data["resource"]))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    is(&token, documents, &["documents:read"])?;
    ensure!(token.lifetime()? == 300, "{}", token.claims);
    ensure!(token.text("iss") == scene.auth0.issuer(), "{}", token.claims);
    ensure!(token.text("client_id") == client.id(), "{}", token.claims);
    for (scope, audience) in [
        (Some("documents:write"), documents),
        (None, "https://assistant.mcp.example.com/mcp"),
        (None, ORDERS),
        (None, "https://foreign.example.com/"),
        (None, &scene.auth0.management_audience()),
    ] {
        let refused = issuer
            .token(&client, for_itself(scope, audience))
            .await?
            .refused()?;
        ensure!(refused.error == "access_denied", "{audience}: {refused}");
    }
    Ok(tokens.access_token)
}

/// The same for one that signs with a key.
async fn keys(scene: &Scene, issuer: &Issuer, team: &str) -> anyhow::Result<()> {
    let data = samples::secret(&scene.env, team, "archiver-mcp-client").await?;
    let pem = SecretString::from(data["client-key.pem"].clone());
    let client = OAuthClient::signing(&data["client-id"], &pem, issuer.url())?;
    let tokens = issuer
        .token(&client, for_itself(None, &data["resource"]))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    is(
        &token,
        "https://assistant.mcp.example.com/mcp",
        &[&format!("mcp.{team}.assistant")],
    )
}

/// The gate takes the tokens that are for its server, and no others.
async fn gate(
    scene: &Scene,
    stand: &Stand,
    issuer: &Issuer,
    team: &str,
    of_another: &SecretString,
) -> anyhow::Result<()> {
    let resource = stand.edge().resource();
    let http = scene.env.world().authority().http_client()?.no_proxy().build()?;
    let caller = Caller::new(http.clone(), &resource);
    let reply = caller.call("tools/list", json!({})).await?;
    ensure!(reply.status == StatusCode::UNAUTHORIZED, "{reply}");
    let metadata = reply.challenged("resource_metadata").context("no metadata")?;
    let document: Value = http.get(metadata).send().await?.json().await?;
    ensure!(
        document["authorization_servers"] == json!([scene.auth0.issuer()]),
        "{document}"
    );

    let agent = samples::oauth_client(&scene.env, team, "agent-mcp-client").await?;
    let form = for_itself(Some("everything:use"), &resource);
    let token = issuer.token(&agent, form).await?.granted()?.access_token;
    let mut caller = caller.with_token(&token);
    caller.begin().await?;
    let reply = caller.tool("echo", json!({ "message": "hello" })).await?;
    ensure!(
        reply.status == StatusCode::OK && reply.message["result"].is_object(),
        "{reply}"
    );
    let reply = caller.tool("get-env", json!({})).await?;
    ensure!(reply.status == StatusCode::FORBIDDEN, "{reply}");
    let reply = caller
        .with_token(of_another)
        .call("tools/list", json!({}))
        .await?;
    ensure!(reply.status == StatusCode::UNAUTHORIZED, "{reply}");
    Ok(())
}

/// A suspended client gets no token, and gates refuse those that it has: by the id that Auth0 has chosen.
async fn suspended(scene: &Scene, stand: &Stand, issuer: &Issuer, team: &str) -> anyhow::Result<()> {
    let env = &scene.env;
    let agent = samples::oauth_client(env, team, "agent-mcp-client").await?;
    let suspend = async |yes: bool| {
        let patch = json!({ "spec": { "suspended": yes } }).to_string();
        let arguments = [
            "patch",
            "mcpclient",
            "agent",
            "-n",
            team,
            "--type=merge",
            "-p",
            &patch,
        ];
        env.kubectl().must(&arguments).await
    };
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), team);
    let denied = async |yes: bool| {
        wait_for("the denial", READY, async || {
            let data = maps.get("everything-gate").await?.data.unwrap_or_default();
            let policy: Value = serde_json::from_str(&data["policy.json"])?;
            let all = policy["deniedClients"].as_array().cloned().unwrap_or_default();
            Ok(if all.contains(&json!(agent.id())) == yes {
                Seen::Done(())
            } else {
                Seen::NotYet(policy["deniedClients"].to_string())
            })
        })
        .await
    };
    suspend(true).await?;
    denied(true).await?;
    let form = || for_itself(None, &stand.edge().resource());
    wait_for("no more tokens", READY, async || {
        Ok(match issuer.token(&agent, form()).await?.outcome() {
            Ok(_) => Seen::NotYet("there is one".to_owned()),
            Err(_) => Seen::Done(()),
        })
    })
    .await?;
    suspend(false).await?;
    denied(false).await?;
    let named = ("McpClient", team, "agent");
    env.wait_condition(named, ("Ready", "True"), READY).await?;
    issuer.token(&agent, form()).await?.granted().map(drop)
}

/// A user signs in, and the server that they call gets tokens in exchange for theirs: for what policies name, and nothing
/// else.
async fn exchange(scene: &Scene, issuer: &Issuer, team: &str, documents: &str) -> anyhow::Result<()> {
    let (assistant, scope) = (
        "https://assistant.mcp.example.com/mcp",
        format!("mcp.{team}.assistant"),
    );
    let permissions = [
        (assistant, &*scope),
        (ORDERS, "orders-api:read"),
        (ORDERS, "orders-api:write"),
        (documents, "documents:read"),
        (documents, "documents:write"),
    ];
    scene.user(USER, &permissions).await?;
    let desktop = samples::oauth_client(&scene.env, team, "desktop-mcp-client").await?;
    let request = LoginRequest {
        redirect_uri: "http://127.0.0.1/callback".to_owned(),
        scope: scope.clone(),
        resource: Some(assistant.to_owned()),
        username: USER.to_owned(),
        password: SecretString::from(PASSWORD),
    };
    let code = issuer.sign_in(&desktop, &request).await?.granted()?;
    ensure!(code.consent.is_some(), "a third party has to ask");
    let tokens = issuer.redeem(&desktop, &code).await?.granted()?;
    is(&issuer.verify(&tokens.access_token).await?, assistant, &[&scope])?;

    let server = samples::oauth_client(&scene.env, team, "assistant-mcp-auth").await?;
    for (audience, scopes, given) in [
        (ORDERS, "orders-api:read orders-api:write", "orders-api:read"),
        (documents, "documents:read documents:write", "documents:read"),
    ] {
        let exchange = Exchange {
            subject_token: &tokens.access_token,
            scope: Some(scopes),
            audience: Some(audience),
        };
        let exchanged = issuer.exchange(&server, &exchange).await?.granted()?;
        let token = issuer.verify(&exchanged.access_token).await?;
        is(&token, audience, &[given])?;
        ensure!(token.claims["act"]["sub"] == server.id(), "{}", token.claims);
    }
    let foreign = Exchange {
        subject_token: &tokens.access_token,
        scope: None,
        audience: Some("https://foreign.example.com/"),
    };
    let refused = issuer.exchange(&server, &foreign).await?.refused()?;
    ensure!(refused.error == "unauthorized_client", "{refused}");
    Ok(())
}

/// A new secret takes the place of the old one, and the id stays.
async fn rotated(scene: &Scene, issuer: &Issuer, team: &str, documents: &str) -> anyhow::Result<()> {
    let env = &scene.env;
    let old = samples::oauth_client(env, team, "reporter-mcp-client").await?;
    let before = samples::secret(env, team, "reporter-mcp-client").await?;
    let request = format!("{ROTATE}=1");
    let arguments = ["annotate", "mcpclient", "reporter", &request, "-n", team];
    env.kubectl().must(&arguments).await?;
    let data = wait_for("another secret", READY, async || {
        let data = samples::secret(env, team, "reporter-mcp-client").await?;
        Ok(if data["client-secret"] == before["client-secret"] {
            Seen::NotYet("the same".to_owned())
        } else {
            Seen::Done(data)
        })
    })
    .await?;
    ensure!(data["client-id"] == before["client-id"], "it is another client");
    let new = samples::oauth_client(env, team, "reporter-mcp-client").await?;
    let form = || for_itself(None, documents);
    let tokens = issuer.token(&new, form()).await?.granted()?;
    is(
        &issuer.verify(&tokens.access_token).await?,
        documents,
        &["documents:read"],
    )?;
    let refused = issuer.token(&old, form()).await?.refused()?;
    ensure!(refused.error == "access_denied", "{refused}");
    let object = env.get("McpClient", team, "reporter").await?.unwrap_or_default();
    ensure!(
        object["status"]["rotation"]["overlap"] == "Unsupported",
        "{}",
        object["status"]
    );
    Ok(())
}

/// No secret is in the log or in one of our objects.
async fn nothing_is_told(scene: &Scene, operator: &Operator, team: &str) -> anyhow::Result<()> {
    let env = &scene.env;
    let mut secrets = vec![scene.auth0.operator().client_secret.expose_secret().to_owned()];
    for (name, key) in [
        ("reporter-mcp-client", "client-secret"),
        ("scheduler-oauth", "OAUTH_CLIENT_SECRET"),
        ("assistant-mcp-auth", "client-secret"),
    ] {
        secrets.push(env.secret_value(team, name, key).await?);
    }
    let told = [
        operator.log()?,
        env.kubectl()
            .must(&["get", "mcp-auth", "-A", "-o", "yaml"])
            .await?,
        env.kubectl()
            .must(&["get", "events", "-n", team, "-o", "yaml"])
            .await?,
    ];
    for text in &told {
        ensure!(
            secrets.iter().all(|secret| !text.contains(secret)),
            "a secret is told"
        );
        // `{"alg`, `{"typ` and `{"kid` in base64, as tokens begin.
        let begins = ["eyJhbG", "eyJ0eX", "eyJraW"];
        ensure!(
            !begins.iter().any(|token| text.contains(token)),
            "a token is told"
        );
    }
    Ok(())
}

/// Nothing of ours is left, and all that is others' is as it was.
async fn end(scene: &Scene) -> anyhow::Result<()> {
    samples::remove(&scene.env, READY).await?;
    scene.nothing_remains(READY).await?;
    scene.is_others_untouched()
}

fn is(token: &VerifiedToken, audience: &str, scopes: &[&str]) -> anyhow::Result<()> {
    let expected: BTreeSet<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    ensure!(token.typ.as_deref() == Some("at+jwt"), "{:?}", token.typ);
    ensure!(token.audiences() == [audience], "{}", token.claims);
    ensure!(token.scopes() == expected, "{}", token.claims);
    Ok(())
}

fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|found| found["type"] == type_);
    found.cloned().unwrap_or_default()
}
