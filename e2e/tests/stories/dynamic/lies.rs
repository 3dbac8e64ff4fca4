//! An authorization server that answers what no client can want.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{oidc_provider::Options, runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::fixtures::{SOON, because, ready};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("dynamic::answers_that_lie_are_refused_and_told", lies),
        Story::new("dynamic::a_client_id_that_another_client_has_is_refused", taken),
    ]
}

/// A lie: its name, how the server errs, what is said of it, and whether a client is left that nobody can reach.
type Lie = (&'static str, Value, &'static str, bool);

/// Each lie is told, nothing comes of it, and once the server says the truth the client is registered.
async fn lies(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::lies", &Options::default()).await?;
    let namespace = scene.env.namespace();
    let lies: [Lie; 4] = [
        (
            "elsewhere",
            json!({ "registrationClientUri": "https://evil.example/reg/1" }),
            "registration_client_uri is not at the registration endpoint's",
            true,
        ),
        (
            "redirects",
            json!({ "redirectUris": ["https://evil.example/"] }),
            "other redirect_uris",
            false,
        ),
        ("huge", json!({ "huge": true }), "too long", true),
        (
            "unprintable",
            json!({ "clientId": "a b\n" }),
            "no client_id that can be used",
            true,
        ),
    ];
    for (name, behaviour, words, is_left) in lies {
        scene.server.behave(&behaviour).await?;
        let before = scene.server.clients().await?.len();
        let mut client = scene.machine(name);
        client["spec"]["managed"] = json!({
            "grantTypes": ["authorization_code"], "redirectUris": ["https://app.example.com/callback"],
        });
        scene.env.apply(&client).await?;
        let named = ("McpClient", namespace, name);
        let refused = ("Registered", "False", "RegistrationRefused");
        let told = because(&scene.env, named, refused).await?;
        let message = told["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains(words) && !message.contains("evil"),
            "{name}: {message}"
        );
        let secret = format!("{name}-mcp-client");
        let arguments = ["get", "secret", &secret, "-n", namespace];
        let found = scene.env.kubectl().run(&arguments).await?;
        ensure!(!found.success, "{name}: nothing of it gets to the workload");
        scene.server.behave(&json!({})).await?;
        ready(&scene.env, named, SOON).await?;
        // What could be reached was removed again.
        let after = scene.server.clients().await?.len();
        ensure!(is_left || after == before + 1, "{name}: {before} {after}");
        let object = scene
            .env
            .get("McpClient", namespace, name)
            .await?
            .unwrap_or_default();
        let unreachable = &object["status"]["registration"]["unreachable"];
        ensure!(unreachable.is_null() != is_left, "{name}: {object}");
    }
    scene.finish().await
}

/// Whoever has it keeps it, and is not touched.
async fn taken(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::start(&world, "dynamic::taken", &Options::default()).await?;
    let id = scene.registered(&scene.reader()).await?;
    scene.server.behave(&json!({ "clientId": id })).await?;
    scene.proxy.clear();
    scene.env.apply(&scene.machine("thief")).await?;
    let named = ("McpClient", scene.env.namespace(), "thief");
    let refused = ("Registered", "False", "RegistrationRefused");
    let told = because(&scene.env, named, refused).await?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("a client_id that another client has"),
        "{message}"
    );
    let touched: Vec<_> = scene
        .calls()
        .into_iter()
        .filter(|call| call.path().ends_with(&id) && call.is_write())
        .collect();
    ensure!(touched.is_empty(), "{touched:?}");
    scene.must_work().await?;
    scene.finish().await
}
