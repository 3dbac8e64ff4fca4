//! Answers that are lost, and servers that let nobody manage anything.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{oidc_provider::Options, proxy::Fault, runner::Story, world::World};
use serde_json::json;

use super::scene::{READER, Scene, condition};
use crate::{
    fixtures::{SOON, because, ready},
    rotation::ROTATE,
};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "dynamic::a_lost_answer_to_a_registration_leaves_one_that_is_counted_and_named",
            lost_create,
        ),
        Story::new(
            "dynamic::a_lost_answer_to_a_change_is_tried_again_and_then_registered_anew",
            lost_update,
        ),
        Story::new("dynamic::a_server_that_was_not_reached_has_nothing", not_reached),
        Story::new(
            "dynamic::what_cannot_be_managed_is_replaced_and_counted",
            unmanaged,
        ),
    ]
}

/// The one that was lost works, and nobody knows its secret.
async fn lost_create(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::lost_create", &Options::default()).await?;
    let lost = Fault::lose_reply()
        .on(|call| call.method == Method::POST && call.path() == "/reg")
        .at(1);
    scene.proxy.inject(lost);
    let id = scene.registered(&scene.reader()).await?;
    let note = scene.event("RegistrationUnreachable").await?;
    let software = format!("{0}.{0}.reader", scene.env.namespace());
    ensure!(
        note.contains("Registration 1 ") && note.contains(&software),
        "{note}"
    );
    let clients = scene.clients(2).await?;
    let left = clients.iter().find(|client| client["client_id"] != *id);
    ensure!(
        left.is_some_and(|left| left["software_version"] == "1" && left["software_id"] == *software),
        "{clients:?}"
    );
    let status = scene
        .status("the count", |status| status["registration"]["unreachable"] == 1)
        .await?;
    ensure!(status["registration"]["number"] == 2, "{status}");
    scene.must_work().await?;
    let counted = scene
        .operator
        .metric(
            "mcp_auth_operator_registrations_unreachable_total",
            &[("reason", "ReplyLost")],
        )
        .await?;
    ensure!((counted - 1.0).abs() < 0.1, "{counted}");
    // The next one is not lost.
    scene.annotate(ROTATE, "1").await?;
    scene
        .status("the request handled", |status| {
            status["lastHandledRotateRequest"] == "1" && status["rotation"]["phase"] == "Settled"
        })
        .await?;
    scene.clients(2).await?;
    scene.finish().await
}

/// The server has replaced the token by which the registration is managed, and nobody was told.
async fn lost_update(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::lost_update", &Options::default()).await?;
    let id = scene.registered(&scene.reader()).await?;
    let old = scene.credential().await?;
    // A change that never arrived is made with the token that there is.
    scene
        .proxy
        .inject(Fault::disconnect().on(|call| call.method == Method::PUT).at(1));
    let mut reader = scene.reader();
    reader["spec"]["managed"]["displayName"] = json!("One");
    scene.registered(&reader).await?;
    let clients = scene.clients(1).await?;
    ensure!(
        clients[0]["client_id"] == *id && clients[0]["client_name"] == "One",
        "{clients:?}"
    );

    scene
        .proxy
        .inject(Fault::lose_reply().on(|call| call.method == Method::PUT).at(1));
    reader["spec"]["managed"]["displayName"] = json!("Two");
    scene.env.apply(&reader).await?;
    let note = scene.event("RegistrationUnreachable").await?;
    ensure!(
        note.contains("registration access token is not accepted any more"),
        "{note}"
    );
    scene
        .status("another client", |status| {
            status["clientId"] != *id && condition(status, "Ready")["status"] == "True"
        })
        .await?;
    scene.must_work().await?;
    ensure!(
        scene.works(&old).await?,
        "nobody can end the old one, which workloads may still have"
    );
    let clients = scene.clients(2).await?;
    ensure!(
        clients.iter().all(|client| client["client_name"] == "Two"),
        "{clients:?}"
    );
    let status = scene
        .status("the count", |status| status["registration"]["unreachable"] == 1)
        .await?;
    ensure!(status["registration"]["number"] == 2, "{status}");
    scene.finish().await
}

/// What was not sent left nothing, however often it was tried.
async fn not_reached(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::not_reached", &Options::default()).await?;
    let namespace = scene.env.namespace();
    ready(&scene.env, ("AuthorizationServer", namespace, "main"), SOON).await?;
    scene.proxy.refuse_connections().await?;
    scene.env.apply(&scene.reader()).await?;
    let unreachable = ("Registered", "Unknown", "AuthorizationServerUnreachable");
    because(&scene.env, ("McpClient", namespace, READER), unreachable).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.proxy.heal()?;
    scene.registered(&scene.reader()).await?;
    scene.clients(1).await?;
    let status = scene
        .status("ready", |status| condition(status, "Ready")["status"] == "True")
        .await?;
    ensure!(status["registration"]["unreachable"].is_null(), "{status}");
    scene.finish().await
}

/// No registration access token was given.
async fn unmanaged(world: Arc<World>) -> anyhow::Result<()> {
    let options = Options {
        manages: false,
        ..Options::default()
    };
    let scene = Scene::start(&world, "dynamic::unmanaged", &options).await?;
    let first = scene.registered(&scene.reader()).await?;
    let status = scene
        .status("unmanaged", |status| status["registration"]["managed"] == false)
        .await?;
    ensure!(status["registration"]["unreachable"].is_null(), "{status}");
    // A change is another registration.
    let mut reader = scene.reader();
    reader["spec"]["managed"]["displayName"] = json!("The reader");
    scene.env.apply(&reader).await?;
    scene
        .status("another client", |status| {
            status["clientId"] != *first && status["registration"]["unreachable"] == 1
        })
        .await?;
    scene.must_work().await?;
    let note = scene.event("RegistrationUnreachable").await?;
    ensure!(
        note.contains("Registration 1 ") && note.contains("lets nobody remove it"),
        "{note}"
    );
    // So is what others removed.
    let second = scene.value("client-id").await?;
    scene.server.remove(&second).await?;
    scene
        .status("a third client", |status| {
            status["registration"]["number"] == 3 && condition(status, "Ready")["status"] == "True"
        })
        .await?;
    scene.must_work().await?;
    let clients = scene.clients(2).await?;
    scene.deleted("mcpclient", READER).await?;
    ensure!(
        scene.server.clients().await?.len() == clients.len(),
        "nobody can remove them"
    );
    scene.finish().await
}
