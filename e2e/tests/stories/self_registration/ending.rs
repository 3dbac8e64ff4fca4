//! The doors when they are shut: because nobody wants them open, or because nothing shows that closed scopes are refused.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::StatusCode;
use mcp_auth_e2e::{runner::Story, world::World};
use serde_json::{Value, json};

use super::setup::{ALLOWED, Scene, both_ways};
use crate::{
    clients::setup::READ,
    fixtures::{SOON, because, ready},
    shared_realm::{Contents, others},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "self_registration::switched_off_nobody_gets_in_and_the_realm_is_as_before",
            off,
        ),
        Story::new("self_registration::what_is_not_proved_is_shut", unproved),
    ]
}

/// What the AuthorizationServer says of registration from now on.
pub(super) async fn registration(scene: &Scene, registration: &Value) -> anyhow::Result<()> {
    let env = scene.env();
    let patch = json!({ "spec": { "clientRegistration": registration } }).to_string();
    env.kubectl()
        .must(&[
            "patch",
            "authorizationserver",
            "main",
            "--namespace",
            env.namespace(),
            "--type=merge",
            "--patch",
            &patch,
        ])
        .await
        .map(drop)
}

async fn off(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-off", &json!([])).await?;
    let (env, main) = (
        scene.env(),
        ("AuthorizationServer", scene.env().namespace(), "main"),
    );
    registration(&scene, &Value::Null).await?;
    ready(env, main, SOON).await?;
    others(env).await?;
    let before = Contents::read(env).await?.of_others();

    registration(&scene, &both_ways()).await?;
    because(env, main, ("Accepted", "True", "Proved")).await?;
    before.kept_but_doors(&Contents::read(env).await?)?;
    let document = scene.documents.publish(
        ALLOWED,
        "client",
        &scene.callback,
        &json!({ "scope": format!("{READ} payroll:read") }),
    );
    scene.must_get(&document, READ).await?;
    let (status, registered) = scene.register("openid-connect", &scene.native()).await?;
    ensure!(status == StatusCode::CREATED, "{status} {registered}");
    let registered = registered["client_id"].as_str().context("no id")?.to_owned();
    scene.must_get(&registered, READ).await?;

    registration(&scene, &Value::Null).await?;
    closed(&scene, &document, &registered).await?;
    let left = env
        .realm()
        .find_client(&registered)
        .await?
        .context("it is gone")?;
    let path = format!("/clients/{}", left["id"].as_str().context("no id")?);
    env.realm().admin().delete(&path).await?;
    before.same(&Contents::read(env).await?.of_others())?;

    // The same when the AuthorizationServer goes while they are open.
    registration(&scene, &both_ways()).await?;
    because(env, main, ("Accepted", "True", "Proved")).await?;
    let namespace = ["--namespace", env.namespace()];
    for kind in ["mcpclient", "mcpserver", "authorizationserver"] {
        let all = [&["delete", kind, "--all"][..], &namespace].concat();
        env.kubectl().must(&all).await?;
    }
    before.same(&Contents::read(env).await?.of_others())?;
    scene.lab.operator.stop().await
}

/// Waits until the status says that nobody gets in.
pub(super) async fn is_over(scene: &Scene) -> anyhow::Result<()> {
    use mcp_auth_e2e::wait::{Seen, wait_for};
    let env = scene.env();
    wait_for("registration to be over", SOON, async || {
        let main = env
            .get("AuthorizationServer", env.namespace(), "main")
            .await?
            .unwrap_or_default();
        let status = &main["status"]["clientRegistration"];
        Ok(if status.is_null() {
            Seen::Done(())
        } else {
            Seen::NotYet(main["status"].to_string())
        })
    })
    .await
}

/// Waits until nobody gets in, and looks whether those who did have anything.
async fn closed(scene: &Scene, document: &str, registered: &str) -> anyhow::Result<()> {
    is_over(scene).await?;
    let (env, realm) = (scene.env(), scene.env().realm());
    ensure!(
        realm.find_client(document).await?.is_none(),
        "the client of the document is there"
    );
    let page = scene
        .tokens(document, READ)
        .await
        .err()
        .context("the document is read")?;
    ensure!(page.to_string().contains("the login ends at a page"), "{page:#}");
    scene.must_not_get(registered, READ).await?;
    let (status, answer) = scene.register("openid-connect", &scene.native()).await?;
    ensure!(status == StatusCode::FORBIDDEN, "{status} {answer}");
    // What opens a server now is said to be impossible.
    because(
        env,
        ("McpServer", env.namespace(), "lab"),
        ("Accepted", "False", "SelfRegistrationOff"),
    )
    .await
    .map(drop)
}

/// Somebody marks the client by which it is shown that closed scopes are refused: as far as anybody can tell they are not.
async fn unproved(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-unproved", &json!([])).await?;
    let (env, main) = (
        scene.env(),
        ("AuthorizationServer", scene.env().namespace(), "main"),
    );
    because(env, main, ("Accepted", "True", "Proved")).await?;
    let name = format!("mcpauth.{}.registration", env.namespace());
    let keeper = env
        .realm()
        .find_client(&name)
        .await?
        .context("there is no such client")?;
    let path = format!("/clients/{}", keeper["id"].as_str().context("no id")?);
    env.realm()
        .admin()
        .put(&path, &json!({ "attributes": { "mcpauth.managed": "true" } }))
        .await?;
    // Any change of what refuses makes it be shown again.
    let mut other = both_ways();
    other["metadataDocuments"]["redirectHosts"] = json!(["127.0.0.1"]);
    registration(&scene, &other).await?;
    super::setup::foreign_scope(env, "more:read").await?;
    scene.lab.operator.stop().await?;
    let operator = env.start_operator().await?;
    because(env, main, ("Accepted", "False", "ClosedScopesUnproved")).await?;
    let (status, answer) = scene.register("openid-connect", &scene.native()).await?;
    ensure!(status == StatusCode::FORBIDDEN, "{status} {answer}");
    let document = scene
        .documents
        .publish(ALLOWED, "client", &scene.callback, &json!({}));
    let page = scene
        .tokens(&document, READ)
        .await
        .err()
        .context("the document is read")?;
    ensure!(page.to_string().contains("the login ends at a page"), "{page:#}");

    env.realm()
        .admin()
        .put(&path, &json!({ "attributes": { "mcpauth.managed": "" } }))
        .await?;
    registration(&scene, &both_ways()).await?;
    because(env, main, ("Accepted", "True", "Proved")).await?;
    scene.must_get(&document, READ).await?;
    operator.stop().await
}
