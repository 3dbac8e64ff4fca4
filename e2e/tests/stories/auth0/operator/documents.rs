//! Clients whose metadata is a document of their own: registered for an McpClient, and held to what its namespace may have.

mod lab;
mod tries;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    caller::Caller,
    gate::{
        process::{self, GateProcess},
        upstream::Upstream,
    },
    oauth::{Issuer, LoginRequest, OAuthClient},
    runner::Story,
    samples,
    wait::{Seen, wait_for},
    world::World,
};
use mcp_auth_operator::provider::{Credential, key};
use secrecy::SecretString;
use serde_json::{Value, json};

use self::lab::{Lab, callbacks, grant_types, open_notes};
use super::scene::{PASSWORD, Scene};
use crate::fixtures::{SOON, apply_all};

const NOTES: &str = "https://notes.example.com/mcp";
/// The setting by which a tenant says that it takes documents.
const DOCUMENTS: &str = "client_id_metadata_document_supported";
const HOST: &str = "client.example";
const CALLBACK: &str = "https://app.example.com/callback";
const OTHER: &str = "https://app.example.com/other";
const EVIL: &str = "https://evil.example/callback";

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("auth0::operator_registers_a_document", lives),
        Story::new("auth0::operator_holds_a_document_to_its_grant", tries::leaves),
        Story::new("auth0::operator_leaves_documents_of_others", tries::others),
        Story::new(
            "auth0::operator_is_killed_as_it_registers_a_document",
            tries::killed,
        ),
        Story::new("auth0::operator_waits_for_no_slow_document", tries::slow),
        Story::new("auth0::operator_lets_documents_in", tries::lets_in),
        Story::new("auth0::operator_follows_the_keys_of_a_document", keys),
    ]
}

/// Registered, used at a gate, brought up to date, out of reach, suspended, deleted.
async fn lives(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::start(&world, "auth0-document").await?;
    let (scene, env) = (&lab.scene, &lab.scene.env);
    let mut notes = open_notes(scene);
    notes["spec"]["enforcement"] = json!({ "mode": "Gate" });
    notes["spec"]["target"] = json!({ "service": "notes" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": env.namespace(), "name": "notes" },
        "spec": { "selector": { "app": "notes" }, "ports": [{ "port": 3001 }] },
    });
    let code = json!({ "grant_types": ["authorization_code"] });
    let url = lab.publish("app", &[CALLBACK], &code);
    let mut client = lab.client("app", &url)?;
    apply_all(env, &[service, notes, client.clone()]).await?;
    lab.ready("app").await?;
    let status = lab.status("app").await?;
    ensure!(status["clientId"] == url, "{status}");
    let at_auth0 = lab.registered(&url).context("it is not registered")?;
    ensure!(*callbacks(&at_auth0) == json!([CALLBACK]), "{at_auth0}");
    let mark = &at_auth0["fields"]["client_metadata"]["mcpauth_object"];
    ensure!(*mark == format!("McpClient/{}/app", lab.team), "{at_auth0}");

    scene.user("alice", &[(NOTES, "notes:use")]).await?;
    let issuer = scene.issuer().await?;
    let token = sign_in(&issuer, &url).await?;
    let claims = issuer.verify(&token).await?;
    ensure!(claims.text("client_id") == url, "{}", claims.claims);
    ensure!(claims.audiences() == [NOTES], "{}", claims.claims);
    let (upstream, gate) = gate(scene, None).await?;
    ensure!(answer(&gate, &token).await? == StatusCode::OK, "{}", gate.log()?);
    ensure!(upstream.requests().len() == 1);

    // Whatever it says of itself now, it does so within what it may.
    let both = json!({ "grant_types": ["authorization_code", "refresh_token"] });
    lab.publish("app", &[CALLBACK, OTHER], &both);
    lab.until("another callback", &url, |client| {
        callbacks(client).as_array().is_some_and(|all| all.len() == 2)
            && grant_types(client).as_array().is_some_and(|all| all.len() == 2)
    })
    .await?;
    client["spec"]["metadataDocument"]["grantTypes"] = json!(["authorization_code"]);
    env.apply(&client).await?;
    let one = json!(["authorization_code"]);
    lab.until("no refresh tokens", &url, |client| *grant_types(client) == one)
        .await?;
    lab.ready("app").await?;

    ensure!(lab.drift().await? == 0, "what a document changes is no drift");
    let id = lab.registered(&url).unwrap_or_default()["fields"]["client_id"].clone();
    let path = format!("clients/{}", id.as_str().context("no id")?);
    let more = json!({ "grant_types": ["authorization_code", "refresh_token"] });
    scene.auth0.dashboard().patch(&path, more).await?;
    lab.until("no refresh tokens again", &url, |client| {
        *grant_types(client) == one
    })
    .await?;
    wait_for("an Event", SOON, async || {
        Ok(match lab.drift().await? {
            1 => Seen::Done(()),
            others => Seen::NotYet(format!("{others}")),
        })
    })
    .await?;

    lab.documents.withdraw(&url);
    lab.because("app", ("Registered", "True", "DocumentUnreachable"))
        .await?;
    lab.ready("app").await?;
    ensure!(lab.grants(&url).len() == 1, "{:?}", lab.grants(&url));
    sign_in(&issuer, &url).await?;
    lab.publish("app", &[CALLBACK], &both);
    lab.until("one callback", &url, |client| {
        *callbacks(client) == json!([CALLBACK])
    })
    .await?;

    suspended(&lab, &mut client, &url, &issuer, &token).await?;
    lab.delete("app").await?;
    ensure!(lab.registered(&url).is_none());
    scene.is_others_untouched()?;
    lab.operator.stop().await
}

/// New keys come into force although the document is as it was, and the old ones end.
async fn keys(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::start(&world, "auth0-document-keys").await?;
    let [first, second] = [key::make(), key::make()].map(|key| key.context("no key"));
    let (first, second) = (first?, second?);
    let set = |keys: &[&Credential]| -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&key::public_set(keys.iter().copied()))?)
    };
    let at = lab.documents.show(HOST, "keys", set(&[&first])?);
    let signs = json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": at });
    let url = lab.publish("app", &[CALLBACK], &signs);
    lab.scene.env.apply(&lab.client("app", &url)?).await?;
    lab.ready("app").await?;
    lab.scene.user("alice", &[(NOTES, "notes:use")]).await?;
    let issuer = lab.scene.issuer().await?;
    let by = |key: &Credential| {
        OAuthClient::signing(&url, &SecretString::from(key.expose()), &lab.scene.auth0.issuer())
    };
    let (old, new) = (by(&first)?, by(&second)?);
    sign_in_as(&issuer, &old).await?;
    ensure!(
        sign_in_as(&issuer, &new).await.is_err(),
        "a key that nobody has published"
    );
    lab.documents.show(HOST, "keys", set(&[&second])?);
    wait_for("the new key", SOON, async || {
        Ok(match sign_in_as(&issuer, &new).await {
            Ok(_) => Seen::Done(()),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    ensure!(sign_in_as(&issuer, &old).await.is_err(), "the old key goes on");
    lab.ready("app").await?;
    ensure!(lab.drift().await? == 0, "to look for keys is no drift");
    lab.operator.stop().await
}

/// It gets no token, also not when its document changes, and gates refuse those that it has.
async fn suspended(
    lab: &Lab,
    client: &mut Value,
    url: &str,
    issuer: &Issuer,
    token: &SecretString,
) -> anyhow::Result<()> {
    let env = &lab.scene.env;
    client["spec"]["suspended"] = json!(true);
    env.apply(client).await?;
    lab.because("app", ("Ready", "False", "Suspended")).await?;
    lab.publish("app", &[CALLBACK, OTHER], &json!({}));
    let (_upstream, gate) = gate(&lab.scene, Some(url)).await?;
    ensure!(
        answer(&gate, token).await? == StatusCode::UNAUTHORIZED,
        "{}",
        gate.log()?
    );
    ensure!(sign_in(issuer, url).await.is_err(), "it gets tokens");
    let now = lab.registered(url).context("it is gone")?;
    ensure!(*callbacks(&now) == json!([CALLBACK]), "{now}");
    ensure!(
        *grant_types(&now) == json!([]) && lab.grants(url).is_empty(),
        "{now}"
    );
    client["spec"]["suspended"] = json!(false);
    env.apply(client).await?;
    lab.ready("app").await?;
    sign_in(issuer, url).await.map(drop)
}

async fn sign_in(issuer: &Issuer, url: &str) -> anyhow::Result<SecretString> {
    sign_in_as(issuer, &OAuthClient::public(url)).await
}

async fn sign_in_as(issuer: &Issuer, app: &OAuthClient) -> anyhow::Result<SecretString> {
    let request = LoginRequest {
        redirect_uri: CALLBACK.to_owned(),
        scope: "notes:use".to_owned(),
        resource: Some(NOTES.to_owned()),
        username: "alice".to_owned(),
        password: SecretString::from(PASSWORD),
    };
    let code = issuer.sign_in(app, &request).await?.granted()?;
    Ok(issuer.redeem(app, &code).await?.granted()?.access_token)
}

/// A gate with what the operator gave it, once that denies this client.
async fn gate(scene: &Scene, denied: Option<&str>) -> anyhow::Result<(Upstream, GateProcess)> {
    let env = &scene.env;
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    let policy = wait_for("the policy", SOON, async || {
        let Some(map) = maps.get_opt("notes-gate").await? else {
            return Ok(Seen::NotYet("no policy".to_owned()));
        };
        let data = map.data.unwrap_or_default();
        let policy: Value = serde_json::from_str(data.get("policy.json").context("no policy.json")?)?;
        let all = policy["deniedClients"].as_array().cloned().unwrap_or_default();
        Ok(if denied.is_none_or(|denied| all.contains(&json!(denied))) {
            Seen::Done(policy)
        } else {
            Seen::NotYet(policy.to_string())
        })
    })
    .await?;
    let secret = samples::secret(env, env.namespace(), "notes-gate").await?;
    let credentials: BTreeMap<&str, String> = secret
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let upstream = Upstream::start().await?;
    let name = format!("document-gate-{}", u8::from(denied.is_some()));
    let folder = env.world().folder().subfolder(&name)?;
    let at = format!("--upstream-address={}", upstream.address());
    let gate = GateProcess::start(&folder, process::faces()?, Some(&policy), &credentials, &[&at])?;
    gate.wait_until_ready().await?;
    Ok((upstream, gate))
}

async fn answer(gate: &GateProcess, token: &SecretString) -> anyhow::Result<StatusCode> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let caller = Caller::new(http, format!("http://{}/mcp", gate.faces().proxy)).with_token(token);
    Ok(caller.call("tools/list", json!({})).await?.status)
}
