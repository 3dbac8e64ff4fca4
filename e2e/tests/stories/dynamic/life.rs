//! What becomes of a client from its beginning to its end, where nothing goes wrong.

use std::{fs, sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    oidc_provider::Options,
    runner::Story,
    wait::{Seen, wait_for},
    world::{World, checkout},
};
use serde_json::{Value, json};

use super::scene::{READER, Scene, condition};
use crate::{
    fixtures::{SOON, apply_all, because, ready},
    rotation::{REVOKE, ROTATE},
};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "dynamic::a_client_is_registered_with_an_initial_access_token_and_removed",
            begun_and_ended,
        ),
        Story::new(
            "dynamic::what_others_change_is_set_right_and_what_they_remove_comes_back",
            drift,
        ),
        Story::new(
            "dynamic::a_rotation_is_a_second_registration_until_the_overlap_is_over",
            rotated,
        ),
        Story::new("dynamic::the_sample_works", sample),
        Story::new("dynamic::a_secret_is_replaced_before_it_expires", expiring),
        Story::new("dynamic::a_suspended_client_is_none_at_the_server", suspended),
    ]
}

/// Nothing without the token; ready with it; nothing left at the end.
async fn begun_and_ended(world: Arc<World>) -> anyhow::Result<()> {
    let options = Options {
        initial_access_token: Some("first".to_owned()),
        ..Options::default()
    };
    let reference = json!({ "initialAccessTokenRef": { "name": "registration" } });
    let scene = Scene::start_with(&world, "dynamic::begun", &options, &reference).await?;
    let namespace = scene.env.namespace();
    let main = ("AuthorizationServer", namespace, "main");
    because(
        &scene.env,
        main,
        ("MetadataDiscovered", "Unknown", "SecretNotFound"),
    )
    .await?;
    let token = |value: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret",
                "metadata": { "namespace": namespace, "name": "registration" },
                "stringData": { "initial-access-token": value } })
    };
    scene.env.apply(&token("wrong")).await?;
    scene.env.apply(&scene.reader()).await?;
    let reader = ("McpClient", namespace, READER);
    because(&scene.env, reader, ("Registered", "False", "CredentialsRefused")).await?;
    ensure!(scene.server.clients().await?.is_empty());
    scene.env.apply(&token("first")).await?;
    scene.registered(&scene.reader()).await?;
    scene.must_work().await?;

    let clients = scene.clients(1).await?;
    let client = &clients[0];
    ensure!(client["client_name"] == READER, "{client}");
    ensure!(client["grant_types"] == json!(["client_credentials"]), "{client}");
    ensure!(client["application_type"] == "web", "{client}");
    ensure!(
        client["software_id"] == format!("{namespace}.{namespace}.reader"),
        "{client}"
    );
    let status = scene
        .status("a registration", |status| {
            status["registration"]["number"].is_i64()
        })
        .await?;
    let registration = &status["registration"];
    ensure!(
        client["software_version"].as_str() == Some(&*registration["number"].to_string()),
        "{client} {status}"
    );
    ensure!(status["clientId"] == client["client_id"], "{status}");
    ensure!(registration["managed"] == true, "{status}");
    ensure!(registration["altered"].is_null(), "{status}");
    ensure!(registration["unreachable"].is_null(), "{status}");

    // What is private is not the workload's business.
    let arguments = [
        "get",
        "secret",
        "reader-mcp-client",
        "-n",
        namespace,
        "-o",
        "jsonpath={.data}",
    ];
    let secret = scene.env.kubectl().must(&arguments).await?;
    ensure!(!secret.contains("registration"), "{secret}");

    scene.deleted("mcpclient", READER).await?;
    ensure!(scene.server.clients().await?.is_empty());
    scene.deleted("authorizationserver", "main").await?;
    scene.finish().await
}

/// As it is shipped, with the address of this server.
async fn sample(world: Arc<World>) -> anyhow::Result<()> {
    let options = Options {
        initial_access_token: Some("first".to_owned()),
        ..Options::default()
    };
    let scene = Scene::start_with(&world, "dynamic::sample", &options, &json!({})).await?;
    let namespace = scene.env.namespace();
    let text = fs::read_to_string(checkout().join("config/samples/dynamic-registration.yaml"))?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(namespace);
        if object["kind"] == "AuthorizationServer" {
            let own = scene.authorization_server(&json!({}));
            for field in ["issuer", "endpoints", "caBundleRef"] {
                object["spec"][field] = own["spec"][field].clone();
            }
        } else {
            object["spec"]["authorizationServerRef"]["namespace"] = json!(namespace);
        }
    }
    objects.push(json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": namespace, "name": "partner-registration" },
        "stringData": { "initial-access-token": "first" } }));
    apply_all(&scene.env, &objects).await?;
    let named = ("McpClient", namespace, "partner-reports");
    ready(&scene.env, named, SOON).await?;
    scene.clients(1).await?;
    scene.finish().await
}

/// A change and a removal behind the operator's back.
async fn drift(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::drift", &Options::default()).await?;
    let id = scene.registered(&scene.reader()).await?;
    let evil = json!({
        "client_name": "evil", "grant_types": ["client_credentials", "authorization_code"],
        "redirect_uris": ["https://evil.example/"], "response_types": ["code"],
    });
    scene.server.change(&id, &evil).await?;
    wait_for("the client as declared", SOON, async || {
        let clients = scene.server.clients().await?;
        let client = clients.first().cloned().unwrap_or_default();
        let right = client["client_name"] == READER
            && client["redirect_uris"] == json!([])
            && client["grant_types"] == json!(["client_credentials"]);
        Ok(if right {
            Seen::Done(())
        } else {
            Seen::NotYet(client.to_string())
        })
    })
    .await?;
    scene.event("DriftRepaired").await?;
    ensure!(scene.value("client-id").await? == id, "it is the same client");
    scene.must_work().await?;

    // A change of what is wanted makes no other client either.
    let mut renamed = scene.reader();
    renamed["spec"]["managed"]["displayName"] = json!("The reader");
    scene.registered(&renamed).await?;
    let clients = scene.clients(1).await?;
    ensure!(
        clients[0]["client_name"] == "The reader" && clients[0]["client_id"] == *id,
        "{clients:?}"
    );

    scene.server.remove(&id).await?;
    scene.event("RegistrationGone").await?;
    let status = scene
        .status("another client", |status| {
            status["clientId"] != *id && condition(status, "Ready")["status"] == "True"
        })
        .await?;
    ensure!(
        status["registration"]["unreachable"].is_null(),
        "nothing was left: {status}"
    );
    scene.clients(1).await?;
    scene.must_work().await?;

    // Unchanged, it is read now and then, and nothing is written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.proxy.clear();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let calls = scene.calls();
    ensure!(
        !calls.is_empty() && calls.iter().all(|call| !call.is_write()),
        "{calls:?}"
    );
    scene.finish().await
}

/// Both work until the overlap is over; a revocation waits for nothing.
async fn rotated(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::rotated", &Options::default()).await?;
    let mut reader = scene.reader();
    reader["spec"]["rotation"]["overlap"] = json!("4s");
    let first = scene.registered(&reader).await?;
    let old = scene.credential().await?;
    scene.annotate(ROTATE, "1").await?;
    let status = scene
        .status("an overlap", |status| {
            status["rotation"]["phase"] == "Overlapping"
        })
        .await?;
    ensure!(status["clientId"] != *first, "{status}");
    ensure!(
        condition(&status, "CredentialsReady")["status"] == "True",
        "{status}"
    );
    ensure!(scene.works(&old).await?, "the old one works during the overlap");
    scene.must_work().await?;
    scene.clients(1).await?;
    ensure!(!scene.works(&old).await?, "and not after it");
    scene.must_work().await?;
    scene
        .status("the request handled", |status| {
            status["lastHandledRotateRequest"] == "1" && status["rotation"]["phase"] == "Settled"
        })
        .await?;

    let stolen = scene.credential().await?;
    scene.annotate(REVOKE, "1").await?;
    scene
        .status("the revocation handled", |status| {
            status["lastHandledRevokeRequest"] == "1"
        })
        .await?;
    scene.clients(1).await?;
    ensure!(!scene.works(&stolen).await?, "what was revoked is refused");
    scene.must_work().await?;
    let status = scene
        .status("ready", |status| condition(status, "Ready")["status"] == "True")
        .await?;
    ensure!(status["registration"]["number"] == 3, "{status}");
    ensure!(status["registration"]["unreachable"].is_null(), "{status}");
    scene.finish().await
}

/// The server says when a secret ends.
async fn expiring(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::expiring", &Options::default()).await?;
    scene.server.behave(&json!({ "secretLifetime": 12 })).await?;
    let first = scene.registered(&scene.reader()).await?;
    scene
        .status("an end", |status| {
            status["registration"]["secretExpires"].is_string()
        })
        .await?;
    let old = scene.credential().await?;
    let started = std::time::Instant::now();
    while scene.value("client-id").await? == first {
        ensure!(scene.works(&old).await?, "it ended before it was replaced");
        ensure!(started.elapsed() < SOON, "it is not replaced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.must_work().await?;
    scene.finish().await
}

/// Nothing there can be switched off, only removed.
async fn suspended(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::suspended", &Options::default()).await?;
    let first = scene.registered(&scene.reader()).await?;
    let old = scene.credential().await?;
    let mut reader = scene.reader();
    reader["spec"]["suspended"] = json!(true);
    scene.env.apply(&reader).await?;
    scene.clients(0).await?;
    ensure!(!scene.works(&old).await?);
    let named = ("McpClient", scene.env.namespace(), READER);
    because(&scene.env, named, ("Registered", "False", "Suspended")).await?;
    reader["spec"]["suspended"] = json!(false);
    let second = scene.registered(&reader).await?;
    ensure!(first != second);
    scene.must_work().await?;
    scene.finish().await
}
