use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::support::{Bench, MCP, Reply, credentials, encoded, tokens};
use crate::{auth0::Verdict, oauth::Issuer};

const API: &str = "https://api.example.com";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// alice signed in at a stranger, an MCP server with its client, and an API behind it; everything that the reference lists
/// among the prerequisites of an on-behalf-of exchange is there.
struct Scene {
    bench: Bench,
    issuer: Issuer,
    server: (String, String),
    stranger: String,
    subject: SecretString,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::new().await;
        bench.for_mcp().await;
        bench.alice();
        bench
            .api(MCP, &["tools"], json!({"token_dialect": "rfc9068_profile"}))
            .await;
        let skip = json!({"skip_consent_for_verifiable_first_party_clients": true});
        bench.api(API, &["read", "write"], skip).await;
        let stranger = bench.stranger(json!({})).await;
        bench.grant(&stranger, MCP, "user", &["tools"]).await;
        let server = linked(&bench, MCP).await;
        bench.grant(&server.0, API, "user", &["read"]).await;
        let issuer = bench.issuer().await;
        let subject = tokens(&issuer, &stranger, "tools").await.access_token;
        Self {
            bench,
            issuer,
            server,
            stranger,
            subject,
        }
    }

    async fn ask(&self, more: &[(&str, &str)]) -> Reply {
        on_behalf_of(&self.bench, &self.server, &self.subject, more).await
    }
}

async fn linked(bench: &Bench, identifier: &str) -> (String, String) {
    let body = json!({
        "name": "server", "app_type": "resource_server", "oidc_conformant": true,
        "resource_server_identifier": identifier, "token_endpoint_auth_method": "client_secret_post",
        "token_exchange": {"allow_any_profile_of_type": ["on_behalf_of_token_exchange"]},
    });
    credentials(&bench.post("clients", body).await.ok(201))
}

async fn on_behalf_of(
    bench: &Bench,
    client: &(String, String),
    subject: &SecretString,
    more: &[(&str, &str)],
) -> Reply {
    let mut form = vec![
        ("grant_type", EXCHANGE),
        ("client_id", client.0.as_str()),
        ("client_secret", client.1.as_str()),
        ("subject_token", subject.expose_secret()),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", API),
        ("scope", "read write"),
    ];
    form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    bench.token(&form).await
}

/// "On-Behalf-Of Token Exchange": same user, other audience, the chain of actors, no refresh token, no more scopes than
/// the grant.
#[tokio::test]
async fn a_server_calls_an_api_on_behalf_of_a_user() {
    let scene = Scene::new().await;
    let answer = scene.ask(&[]).await.ok(200);
    assert_eq!(answer["issued_token_type"], ACCESS_TOKEN);
    assert_eq!(answer["token_type"], "Bearer");
    assert!(answer.get("refresh_token").is_none());
    let token = SecretString::from(answer["access_token"].as_str().unwrap());
    let (before, after) = (
        scene.issuer.verify(&scene.subject).await.unwrap(),
        scene.issuer.verify(&token).await.unwrap(),
    );
    assert_eq!(after.claims["aud"], API);
    assert_eq!(after.text("sub"), before.text("sub"));
    assert_eq!(after.text("scope"), "read");
    assert_eq!(after.text("azp"), scene.server.0);
    let chain = json!({"sub": scene.server.0, "act": {"sub": scene.stranger}});
    assert_eq!(after.claims["act"], chain);
}

/// The prerequisites, each taken away. Choice: which error it is.
#[tokio::test]
async fn each_prerequisite_is_needed() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    let api = format!("resource-servers/{}", encoded(API));
    let server = format!("clients/{}", scene.server.0);

    let skip = |yes: bool| json!({"skip_consent_for_verifiable_first_party_clients": yes});
    bench.patch(&api, skip(false)).await.ok(200);
    scene.ask(&[]).await.no(403, "consent_required");
    bench.patch(&api, skip(true)).await.ok(200);

    bench
        .patch(&server, json!({"token_exchange": null}))
        .await
        .ok(200);
    scene.ask(&[]).await.no(403, "unauthorized_client");
    let custom = json!({"token_exchange": {"allow_any_profile_of_type": ["custom_authentication"]}});
    bench.patch(&server, custom).await.ok(200);
    scene.ask(&[]).await.no(403, "unauthorized_client");
    let own = json!({"token_exchange": {"allow_any_profile_of_type": ["on_behalf_of_token_exchange"]}});
    bench.patch(&server, own).await.ok(200);

    let grants = bench
        .get(&format!("client-grants?client_id={}", scene.server.0))
        .await
        .ok(200);
    bench
        .delete(&format!("client-grants/{}", grants[0]["id"].as_str().unwrap()))
        .await
        .ok(204);
    // The API's policy is that all may: a grant is needed all the same.
    scene
        .ask(&[])
        .await
        .no(403, "is not authorized to access resource server");
    bench.grant(&scene.server.0, API, "client", &["read"]).await;
    scene
        .ask(&[])
        .await
        .no(403, "is not authorized to access resource server");
    bench.grant(&scene.server.0, API, "user", &["read"]).await;
    scene.ask(&[]).await.ok(200);
}

/// What is asked for must be named, and must be there.
#[tokio::test]
async fn an_exchange_names_what_it_wants() {
    let scene = Scene::new().await;
    scene.ask(&[("audience", "")]).await.no(400, "audience");
    scene
        .ask(&[("audience", "https://api.example.com/")])
        .await
        .no(403, "Service not found");
    assert!(scene.ask(&[("scope", "")]).await.ok(200).get("scope").is_none());
    assert!(
        scene
            .ask(&[("scope", "write")])
            .await
            .ok(200)
            .get("scope")
            .is_none()
    );
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    scene
        .ask(&[("requested_token_type", refresh)])
        .await
        .no(400, "requested_token_type");
    scene
        .ask(&[("client_secret", "wrong")])
        .await
        .no(401, "access_denied");
}

/// Only a user's token, of this tenant, that is valid, and for the API of the very client that asks.
#[tokio::test]
async fn a_subject_token_is_for_the_one_who_exchanges_it() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    scene
        .ask(&[("subject_token", "x.y.z")])
        .await
        .no(403, "invalid_grant");
    // Another server cannot use a token that was sent to this one.
    bench.api("https://other.example.com/", &["x"], json!({})).await;
    let other = linked(bench, "https://other.example.com/").await;
    bench.grant(&other.0, API, "user", &["read"]).await;
    on_behalf_of(bench, &other, &scene.subject, &[])
        .await
        .no(403, "invalid_grant");
    // Nor is a token of a machine anybody's.
    let machine = bench.machine().await;
    bench.grant(&machine.0, MCP, "client", &["tools"]).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", machine.0.as_str()),
        ("client_secret", machine.1.as_str()),
        ("audience", MCP),
    ];
    let token = bench.token(&form).await.ok(200);
    let token = SecretString::from(token["access_token"].as_str().unwrap());
    on_behalf_of(bench, &scene.server, &token, &[])
        .await
        .no(403, "invalid_grant");

    bench.auth0.advance(std::time::Duration::from_hours(1));
    scene.ask(&[]).await.no(403, "invalid_grant");
}

/// "The delegation chain is limited": a subject token with five actors goes no further.
#[tokio::test]
async fn a_chain_of_actors_ends() {
    let scene = Scene::new().await;
    let bench = &scene.bench;
    let (mut client, mut subject) = (scene.server.clone(), scene.subject.clone());
    let skip = || json!({"skip_consent_for_verifiable_first_party_clients": true});
    for hop in 0.. {
        let next = format!("https://hop{hop}.example.com/");
        bench.api(&next, &["read"], skip()).await;
        bench.grant(&client.0, &next, "user", &["read"]).await;
        let reply = on_behalf_of(bench, &client, &subject, &[("audience", &next)]).await;
        if hop == 4 {
            reply.no(400, "depth exceeds the maximum allowed limit of 4");
            break;
        }
        let answer = reply.ok(200);
        subject = SecretString::from(answer["access_token"].as_str().unwrap());
        client = linked(bench, &next).await;
    }
}

const LEGACY: &str = "urn:example:legacy-session";

/// A deployed action, its profile, and a client that may use profiles; the client.
async fn custom(bench: &Bench) -> (String, String) {
    let action = json!({
        "name": "legacy", "supported_triggers": [{"id": "custom-token-exchange", "version": "v1"}],
        "code": "exports.onExecuteCustomTokenExchange = async () => {}", "runtime": "node22",
        "secrets": [{"name": "KEY", "value": "hidden"}],
    });
    let action = bench.post("actions/actions", action).await.ok(201);
    assert!(!action.to_string().contains("hidden"));
    assert_eq!(action["status"], "pending");
    let path = format!("actions/actions/{}", action["id"].as_str().unwrap());
    bench
        .post(&format!("{path}/deploy"), json!({}))
        .await
        .no(400, "not built");
    let profile = json!({
        "name": "legacy", "subject_token_type": LEGACY, "action_id": action["id"], "type": "custom_authentication",
    });
    bench
        .post("token-exchange-profiles", profile.clone())
        .await
        .no(400, "deployed");
    assert_eq!(bench.get(&path).await.ok(200)["status"], "built");
    let deployed = bench.post(&format!("{path}/deploy"), json!({})).await.ok(200);
    assert_eq!(deployed["all_changes_deployed"], true);
    let profile = bench.post("token-exchange-profiles", profile).await.ok(201);
    assert!(profile["id"].as_str().unwrap().starts_with("tep_"));
    bench.delete(&path).await.no(409, "bound");
    let found = bench.get("actions/actions?actionName=legacy").await.ok(200);
    assert_eq!(
        (&found["total"], &found["actions"][0]["id"]),
        (&json!(1), &action["id"])
    );
    let body = json!({
        "name": "exchanger", "app_type": "regular_web", "oidc_conformant": true, "grant_types": [],
        "token_endpoint_auth_method": "client_secret_post",
        "token_exchange": {"allow_any_profile_of_type": ["custom_authentication"]},
    });
    credentials(&bench.post("clients", body).await.ok(201))
}

/// "Custom Token Exchange": the action says whose the token is; the rest is as in a login.
#[tokio::test]
async fn an_action_decides_about_a_subject_token() {
    let bench = Bench::new().await;
    let alice = bench.alice();
    let skip = json!({"skip_consent_for_verifiable_first_party_clients": true});
    bench.api(API, &["read", "write"], skip).await;
    let client = custom(&bench).await;
    let ask = async |subject: &str, more: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("client_id", client.0.as_str()),
            ("client_secret", client.1.as_str()),
            ("subject_token", subject),
            ("subject_token_type", LEGACY),
            ("audience", API),
            ("scope", "read"),
        ];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        bench.token(&form).await
    };
    ask("session of alice", &[]).await.no(400, "no user");
    let (user, only) = (alice.clone(), client.0.clone());
    bench
        .auth0
        .set_action("legacy", move |event| match event.subject_token.as_str() {
            _ if event.client_id != only => Verdict::Deny("other".to_owned(), "not yours".to_owned()),
            "session of alice" => Verdict::User(user.clone()),
            "session of nobody" => Verdict::User("auth0|nobody".to_owned()),
            "locked" => Verdict::Deny("locked".to_owned(), "the account is locked".to_owned()),
            _ => Verdict::RejectSubjectToken("unknown session".to_owned()),
        });
    let answer = ask("session of alice", &[]).await.ok(200);
    let token = SecretString::from(answer["access_token"].as_str().unwrap());
    let token = bench.issuer().await.verify(&token).await.unwrap();
    assert_eq!((token.text("sub"), token.text("scope")), (alice.as_str(), "read"));
    assert!(token.claims.get("act").is_none());
    ask("session of nobody", &[]).await.no(400, "does not exist");
    ask("locked", &[]).await.no(403, "the account is locked");
    ask("made up", &[]).await.no(400, "Invalid subject token");
    ask("session of alice", &[("subject_token_type", "urn:example:other")])
        .await
        .no(400, "profile");
    // `resource` names the API only with the compatibility profile.
    let by_resource = [("audience", ""), ("resource", API)];
    ask("session of alice", &by_resource).await.no(400, "audience");
    bench.for_mcp().await;
    ask("session of alice", &by_resource).await.ok(200);

    let api = format!("resource-servers/{}", encoded(API));
    let ask_first = json!({"skip_consent_for_verifiable_first_party_clients": false});
    bench.patch(&api, ask_first).await.ok(200);
    ask("session of alice", &[]).await.no(403, "consent_required");
    let path = format!("clients/{}", client.0);
    bench.patch(&path, json!({"token_exchange": null})).await.ok(200);
    ask("session of alice", &[]).await.no(403, "unauthorized_client");
}

/// "Create a token exchange profile": its type is unique and not reserved; what it runs cannot be changed.
#[tokio::test]
async fn a_profile_claims_one_type() {
    let bench = Bench::new().await;
    custom(&bench).await;
    let profiles = bench.get("token-exchange-profiles").await.ok(200);
    let profile = profiles["token_exchange_profiles"][0].clone();
    let path = format!("token-exchange-profiles/{}", profile["id"].as_str().unwrap());
    let body = |kind: &str| {
        json!({
            "name": "other", "subject_token_type": kind, "action_id": profile["action_id"], "type": "custom_authentication",
        })
    };
    bench
        .post("token-exchange-profiles", body(LEGACY))
        .await
        .no(409, "already exists");
    for kind in [
        "urn:ietf:params:oauth:token-type:jwt",
        "urn:auth0:x:yyyy",
        "urn:okta:x:yyyy",
        "https://auth0.com/x",
        "https://okta.com/x",
        "http://example.com/x",
        "no-such-form",
        "urn:x",
    ] {
        bench
            .post("token-exchange-profiles", body(kind))
            .await
            .no(400, "invalid_body");
    }
    for (field, value) in [
        ("action_id", profile["action_id"].clone()),
        ("type", json!("custom_authentication")),
    ] {
        bench
            .patch(&path, json!({field: value}))
            .await
            .no(400, "Additional properties not allowed");
    }
    let changed = bench
        .patch(&path, json!({"name": "renamed", "subject_token_type": LEGACY}))
        .await
        .ok(200);
    assert_eq!(changed["name"], "renamed");
    let reply = bench.post("token-exchange-profiles", json!({"name": "x"})).await;
    assert_eq!(reply.status, 400);
    bench.delete(&path).await.ok(204);
    let again: Value = bench.delete(&path).await.no(404, "Not Found");
    assert!(again.get("errorCode").is_none());
}
