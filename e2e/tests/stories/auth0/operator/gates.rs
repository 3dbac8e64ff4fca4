//! A gate that exchanges tokens at the stand-in, by the policy and the credential that the operator gave it.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    auth0::Verdict,
    caller::Caller,
    gate::{
        process::{self, GateProcess},
        upstream::Upstream,
    },
    oauth::{Exchange, Issuer, LoginRequest, VerifiedToken},
    runner::Story,
    samples,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::scene::{PASSWORD, Scene, for_itself};
use crate::fixtures::{SOON, apply_all, machine, native, ready, server};

const NOTES: &str = "https://notes.example.com/mcp";
const ORDERS: &str = "https://orders.internal.example.com";
const ACTION: &str = "exchange-for-orders";

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("auth0::operator_gate_exchanges", gate_exchanges),
        Story::new("auth0::operator_gate_exchanges_by_an_action", by_an_action),
    ]
}

/// The server gets a token for the orders API in place of its caller's: for that API alone, with the scope that the policy
/// names, and with the caller's client and the server's in the chain of those who act.
async fn gate_exchanges(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-gate").await?;
    let env = &scene.env;
    let mut options = env.operator_options();
    options.trust = Some(env.authority_file()?);
    options.extra.push("--gate-image=mcp-auth-gate:none".to_owned());
    let operator = env.start_operator_with(&options).await?;
    let mut main = scene.authorization_server("main");
    main["spec"]["apis"] = json!([{
        "name": "orders", "audience": ORDERS, "manage": true,
        "scopes": [{ "name": "orders-api:read" }, { "name": "orders-api:write" }],
    }]);
    let mut notes = server(env, "notes");
    notes["spec"]["enforcement"] = json!({ "mode": "Gate" });
    notes["spec"]["target"] = json!({ "service": "notes" });
    let policy = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": { "namespace": env.namespace(), "name": "notes-orders" },
        "spec": {
            "serverRef": { "name": "notes" }, "apiRef": { "name": "orders" },
            "scopes": [{ "name": "orders-api:read" }], "delivery": "Header",
        },
    });
    let clients = [
        native(env, "desktop", &["notes"]),
        machine(env, "robot", &["notes"]),
    ];
    apply_all(
        env,
        &[&[main, service(&scene), notes, policy][..], &clients].concat(),
    )
    .await?;
    for name in ["desktop", "robot"] {
        ready(env, ("McpClient", env.namespace(), name), SOON).await?;
    }
    let (upstream, issuer) = (Upstream::start().await?, scene.issuer().await?);
    let gate = gate(&scene, &upstream).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let caller = Caller::new(http, format!("http://{}/mcp", gate.faces().proxy));

    let token = user_token(&scene, &issuer).await?;
    let reply = caller
        .clone()
        .with_token(&token)
        .call("tools/list", json!({}))
        .await?;
    ensure!(reply.status == StatusCode::OK, "{reply}\n{}", gate.log()?);
    let exchanged = arrived(&upstream, &issuer).await?;
    let before = issuer.verify(&token).await?;
    ensure!(
        exchanged.text("sub") == before.text("sub"),
        "{}",
        exchanged.claims
    );
    let chain = &exchanged.claims["act"]["act"]["sub"];
    ensure!(*chain == before.text("client_id"), "{}", exchanged.claims);

    // Auth0 exchanges tokens of users only, and the caller's own token goes nowhere.
    let calls = upstream.requests().len();
    let robot = samples::oauth_client(env, env.namespace(), "robot-mcp-client").await?;
    let own = issuer
        .token(&robot, for_itself(None, NOTES))
        .await?
        .granted()?
        .access_token;
    let reply = caller.with_token(&own).call("tools/list", json!({})).await?;
    ensure!(reply.status == StatusCode::UNAUTHORIZED, "{reply}");
    ensure!(upstream.requests().len() == calls, "a call arrived");
    ensure!(!gate.log()?.contains("eyJ"), "the gate logs tokens");
    operator.stop().await
}

/// A deployed action says which user a token is for. The profile for it comes and goes with the policy, and with it goes
/// what the server could get; Auth0's own exchange is no way round the action.
async fn by_an_action(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-action").await?;
    let env = &scene.env;
    let mut options = env.operator_options();
    // Nothing tells that an action was deployed.
    "3s".clone_into(&mut options.resync_interval);
    options.trust = Some(env.authority_file()?);
    options.extra.push("--gate-image=mcp-auth-gate:none".to_owned());
    let operator = env.start_operator_with(&options).await?;
    by_an_action_of(&scene).await?;
    let named = ("TokenExchangePolicy", env.namespace(), "notes-orders");
    ready(env, ("McpClient", env.namespace(), "desktop"), SOON).await?;
    wait_for("an action that is missed", SOON, async || {
        let policy = env.get(named.0, named.1, named.2).await?.unwrap_or_default();
        let conditions = policy["status"]["conditions"].as_array().cloned();
        let misses = |condition: &Value| condition["reason"] == "ActionNotReady";
        Ok(if conditions.iter().flatten().any(misses) {
            Seen::Done(())
        } else {
            Seen::NotYet(policy["status"].to_string())
        })
    })
    .await?;
    let profiles = || scene.made("token_exchange_profiles");
    ensure!(profiles().is_empty(), "{:?}", profiles());

    deploy(&scene).await?;
    let (upstream, issuer) = (Upstream::start().await?, scene.issuer().await?);
    let profile = wait_for("a profile", SOON, async || {
        Ok(match &profiles()[..] {
            [profile] => Seen::Done(profile.clone()),
            others => Seen::NotYet(format!("{others:?}")),
        })
    })
    .await?;
    let gate = gate(&scene, &upstream).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let caller = Caller::new(http, format!("http://{}/mcp", gate.faces().proxy));
    let token = user_token(&scene, &issuer).await?;
    let user = issuer.verify(&token).await?.text("sub").to_owned();
    let kind = profile["subject_token_type"].clone();
    let shown = kind.clone();
    scene.auth0.set_action(ACTION, move |event| {
        if shown == event.subject_token_type.as_str() {
            Verdict::User(user.clone())
        } else {
            Verdict::Nobody
        }
    });
    let caller = caller.with_token(&token);
    wait_for("the profile in the status", SOON, async || {
        let policy = env.get(named.0, named.1, named.2).await?.unwrap_or_default();
        let shown = json!({ "name": ACTION, "profile": profile["id"], "subjectTokenType": kind });
        Ok(if policy["status"]["action"] == shown {
            Seen::Done(())
        } else {
            Seen::NotYet(policy["status"].to_string())
        })
    })
    .await?;
    let reply = caller.call("tools/list", json!({})).await?;
    ensure!(reply.status == StatusCode::OK, "{reply}\n{}", gate.log()?);
    arrived(&upstream, &issuer).await?;

    let own = samples::oauth_client(env, env.namespace(), "notes-gate").await?;
    let round = Exchange {
        subject_token: &token,
        scope: Some("orders-api:read"),
        audience: Some(ORDERS),
    };
    let refused = issuer.exchange(&own, &round).await?.refused()?;
    ensure!(refused.error == "unauthorized_client", "{refused}");

    let arguments = [
        "delete",
        "tokenexchangepolicy",
        "notes-orders",
        "-n",
        env.namespace(),
    ];
    env.kubectl().must(&arguments).await?;
    ensure!(profiles().is_empty(), "{:?}", profiles());
    operator.stop().await
}

/// The token with which the last request came to the server: for the orders API alone, with the scope that the policy names.
async fn arrived(upstream: &Upstream, issuer: &Issuer) -> anyhow::Result<VerifiedToken> {
    let requests = upstream.requests();
    let sent = requests.last().context("nothing arrived")?.value("authorization");
    let sent = sent
        .and_then(|value| value.strip_prefix("Bearer "))
        .context("no token arrived")?;
    let exchanged = issuer.verify(&SecretString::from(sent)).await?;
    let claims = &exchanged.claims;
    ensure!(exchanged.audiences() == [ORDERS], "{claims}");
    ensure!(exchanged.text("scope") == "orders-api:read", "{claims}");
    Ok(exchanged)
}

/// A server that may exchange tokens by the action alone, and a client that users sign in by.
async fn by_an_action_of(scene: &Scene) -> anyhow::Result<()> {
    let env = &scene.env;
    let mut main = scene.authorization_server("main");
    main["spec"]["apis"] = json!([{
        "name": "orders", "audience": ORDERS, "manage": true, "scopes": [{ "name": "orders-api:read" }, { "name": "orders-api:write" }],
    }]);
    let same = json!({ "from": "Same" });
    main["spec"]["auth0"]["exchangeActions"] = json!([{ "name": ACTION, "namespaces": same }]);
    let mut notes = server(env, "notes");
    notes["spec"]["enforcement"] = json!({ "mode": "Gate" });
    notes["spec"]["target"] = json!({ "service": "notes" });
    let policy = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": { "namespace": env.namespace(), "name": "notes-orders" },
        "spec": {
            "serverRef": { "name": "notes" }, "apiRef": { "name": "orders" }, "action": ACTION,
            "scopes": [{ "name": "orders-api:read" }], "delivery": "Header",
        },
    });
    let desktop = native(env, "desktop", &["notes"]);
    apply_all(env, &[main, service(scene), notes, policy, desktop]).await?;
    Ok(())
}

/// An action as the administrator of a tenant makes one.
async fn deploy(scene: &Scene) -> anyhow::Result<()> {
    let dashboard = scene.auth0.dashboard();
    let action = json!({
        "name": ACTION, "code": "exports.onExecuteCustomTokenExchange = async () => {};", "runtime": "node22",
        "supported_triggers": [{ "id": "custom-token-exchange", "version": "v1" }],
    });
    let action = dashboard.post("actions/actions", action).await?;
    let path = format!("actions/actions/{}", action["id"].as_str().context("no id")?);
    dashboard.get(&path).await?;
    dashboard.post(&format!("{path}/deploy"), json!({})).await?;
    Ok(())
}

fn service(scene: &Scene) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": scene.env.namespace(), "name": "notes" },
        "spec": { "selector": { "app": "notes" }, "ports": [{ "port": 3001 }] },
    })
}

/// A gate with what the operator gave it, once that has the exchange in it.
async fn gate(scene: &Scene, upstream: &Upstream) -> anyhow::Result<GateProcess> {
    let env = &scene.env;
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    let policy = wait_for("the exchange in the policy", SOON, async || {
        let Some(map) = maps.get_opt("notes-gate").await? else {
            return Ok(Seen::NotYet("no policy".to_owned()));
        };
        let data = map.data.unwrap_or_default();
        let policy: Value = serde_json::from_str(data.get("policy.json").context("no policy.json")?)?;
        Ok(if policy["exchanges"].is_array() {
            Seen::Done(policy)
        } else {
            Seen::NotYet(policy.to_string())
        })
    })
    .await?;
    let by = &policy["authorizationServer"]["exchangeBy"];
    ensure!(by == "Audience", "{policy}");
    let secret = samples::secret(env, env.namespace(), "notes-gate").await?;
    let credentials: BTreeMap<&str, String> = secret
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let folder = env.world().folder().subfolder("auth0-gate")?;
    let at = format!("--upstream-address={}", upstream.address());
    let gate = GateProcess::start(&folder, process::faces()?, Some(&policy), &credentials, &[&at])?;
    gate.wait_until_ready().await?;
    Ok(gate)
}

async fn user_token(scene: &Scene, issuer: &Issuer) -> anyhow::Result<SecretString> {
    let permissions = [
        (NOTES, "notes:use"),
        (ORDERS, "orders-api:read"),
        (ORDERS, "orders-api:write"),
    ];
    scene.user("alice", &permissions).await?;
    let env = &scene.env;
    let desktop = samples::oauth_client(env, env.namespace(), "desktop-mcp-client").await?;
    let request = LoginRequest {
        redirect_uri: "http://127.0.0.1/callback".to_owned(),
        scope: "notes:use".to_owned(),
        resource: Some(NOTES.to_owned()),
        username: "alice".to_owned(),
        password: SecretString::from(PASSWORD),
    };
    let code = issuer.sign_in(&desktop, &request).await?.granted()?;
    Ok(issuer.redeem(&desktop, &code).await?.granted()?.access_token)
}
