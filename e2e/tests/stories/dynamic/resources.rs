//! McpServers at a server that lets nobody make resources.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{oauth::Issuer, oidc_provider::Options, runner::Story, world::World};
use serde_json::json;

use super::scene::{READER, Scene};
use crate::fixtures::{apply_all, because, policy, server};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "dynamic::without_resources_servers_access_and_exchange_are_refused",
            refused,
        ),
        Story::new("dynamic::resources_that_somebody_else_made_are_used", external),
    ]
}

async fn refused(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::refused", &Options::default()).await?;
    let namespace = scene.env.namespace();
    let mut asking = scene.machine("asking");
    asking["spec"]["access"] = json!([{ "server": { "name": "notes" } }]);
    let mut keyed = scene.machine("keyed");
    keyed["spec"]["managed"]["authentication"] = json!({ "method": "PrivateKeyJwt" });
    let mut lasting = scene.machine("lasting");
    lasting["spec"]["accessTokenLifetime"] = json!("5m");
    let objects = [
        server(&scene.env, "notes"),
        server(&scene.env, "other"),
        policy(&scene.env, "exchange", "notes", "other"),
        asking,
        keyed,
        lasting,
    ];
    apply_all(&scene.env, &objects).await?;
    for (kind, name, reason) in [
        ("McpServer", "notes", "ResourcesUnsupported"),
        ("TokenExchangePolicy", "exchange", "ExchangeUnsupported"),
        ("McpClient", "asking", "AccessUnsupported"),
        ("McpClient", "keyed", "AuthenticationUnsupported"),
        ("McpClient", "lasting", "TokenLifetimeUnsupported"),
    ] {
        because(&scene.env, (kind, namespace, name), ("Accepted", "False", reason)).await?;
    }
    ensure!(scene.calls().is_empty(), "{:?}", scene.calls());
    for (kind, name) in [
        ("tokenexchangepolicy", "exchange"),
        ("mcpserver", "notes"),
        ("mcpclient", "asking"),
    ] {
        scene.deleted(kind, name).await?;
    }
    scene.finish().await
}

/// A token for the resource, checked as a server would.
async fn external(world: Arc<World>) -> anyhow::Result<()> {
    let resource = "https://notes.example.com/mcp";
    let options = Options {
        resources: BTreeMap::from([(resource.to_owned(), "notes:use".to_owned())]),
        ..Options::default()
    };
    let registration = json!({ "resourceManagement": "External" });
    let scene = Scene::start_with(&world, "dynamic::external", &options, &registration).await?;
    let namespace = scene.env.namespace();
    let registered = ("Registered", "True", "RegisteredExternally");
    scene.env.apply(&server(&scene.env, "notes")).await?;
    because(&scene.env, ("McpServer", namespace, "notes"), registered).await?;
    // Of two the older has it, and times of creation are whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut thief = server(&scene.env, "thief");
    thief["spec"]["resource"] = json!(resource);
    scene.env.apply(&thief).await?;
    let held = ("Accepted", "False", "AlreadyHeld");
    because(&scene.env, ("McpServer", namespace, "thief"), held).await?;
    let mut reader = scene.reader();
    reader["spec"]["access"] = json!([{ "server": { "name": "notes" } }]);
    scene.registered(&reader).await?;

    let issuer = Issuer::discover(scene.server.issuer(), world.authority()).await?;
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "notes:use"),
        ("resource", resource),
    ];
    let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let client = scene.credential().await?;
    let token = issuer.token(&client, form.to_vec()).await?.granted()?;
    let verified = issuer.verify(&token.access_token).await?;
    ensure!(verified.audiences() == [resource], "{:?}", verified.audiences());
    ensure!(verified.scopes().contains("notes:use"), "{:?}", verified.scopes());
    ensure!(scene.value("scope").await? == "notes:use");
    ensure!(scene.clients(1).await?[0]["scope"] == "notes:use");

    // Nobody has made what this one declares.
    let mut other = server(&scene.env, "other");
    other["spec"]["scopes"] = json!([{ "name": "notes:use", "description": "Not made there" }]);
    scene.env.apply(&other).await?;
    because(&scene.env, ("McpServer", namespace, "other"), registered).await?;
    reader["spec"]["access"] = json!([{ "server": { "name": "other" } }]);
    scene.env.apply(&reader).await?;
    let named = ("McpClient", namespace, READER);
    because(&scene.env, named, ("AccessGranted", "False", "AccessNotGiven")).await?;
    // A server that holds nothing lends no scope.
    reader["spec"]["access"] = json!([{ "server": { "name": "thief" } }]);
    scene.env.apply(&reader).await?;
    because(&scene.env, named, ("AccessGranted", "Unknown", "ServerNotReady")).await?;
    scene.finish().await
}
