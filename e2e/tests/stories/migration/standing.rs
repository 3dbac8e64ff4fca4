//! Moves that do not come to their end.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::ensure;
use http::StatusCode;
use mcp_auth_e2e::{proxy::Fault, world::World};
use serde_json::json;

use super::{
    scene::{READER, Scene},
    workload,
};
use crate::fixtures::{SOON, because, ready};

/// While its new credential cannot be proved, it is changed back: it has what it had, and nothing of the other is left.
pub(super) async fn changed_back(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-back", "ClientSecret").await?;
    let (env, before) = (&scene.env, workload::read(&scene.env).await?);
    let issuers = [env.realm().issuer(), scene.next.issuer()];
    let change = async {
        let id = scene.id();
        let is_proof = move |call: &mcp_auth_e2e::proxy::Call| {
            call.path().ends_with("/openid-connect/token")
                && String::from_utf8_lossy(&call.body).contains(id.as_str())
        };
        let hits = scene
            .proxy
            .inject(Fault::status(StatusCode::SERVICE_UNAVAILABLE).on(is_proof));
        env.apply(&scene.reader("next", "ClientSecret")).await?;
        tokio::time::timeout(SOON, hits.first()).await?;
        because(
            env,
            ("McpClient", env.namespace(), READER),
            ("Migrated", "Unknown", "Moving"),
        )
        .await?;
        ensure!(scene.places().await? == BTreeSet::from(["main", "next"]));
        env.apply(&scene.reader("main", "ClientSecret")).await?;
        scene
            .status("it is back", |status| {
                status["registeredAt"]["authorizationServerRef"]["name"] == "main"
                    && status["previous"][0]["validUntil"].is_string()
            })
            .await?;
        scene.proxy.heal()?;
        scene.only_at("main").await
    };
    let (outcome, ()) = workload::during(env, &issuers, change).await?;
    outcome.unbroken()?;
    ensure!(
        workload::read(env).await? == before,
        "another credential than before"
    );
    scene.told_apart(&[workload::credential(&before)])?;
    operator.stop().await
}

/// Nothing of it happens, and the client works where it is. What is taken back there ends at once all the same.
pub(super) async fn away(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-away", "ClientSecret").await?;
    let (env, before) = (&scene.env, workload::read(&scene.env).await?);
    let namespace = env.namespace();
    let named = ("McpClient", namespace, READER);
    let change = async {
        // A server of another AuthorizationServer, and one that does not exist.
        let mut wrong = scene.reader("next", "ClientSecret");
        wrong["spec"]["access"] = json!([{ "server": { "name": "notes" } }]);
        env.apply(&wrong).await?;
        because(env, named, ("Ready", "False", "DifferentAuthorizationServer")).await?;
        because(env, named, ("Migrated", "Unknown", "NotMoved")).await?;
        env.apply(&scene.reader("nowhere", "ClientSecret")).await?;
        because(env, named, ("Ready", "Unknown", "AuthorizationServerNotFound")).await?;
        ensure!(scene.places().await? == BTreeSet::from(["main"]));

        // One that is away.
        scene.proxy.refuse_connections().await?;
        env.apply(&scene.reader("next", "ClientSecret")).await?;
        scene
            .status("that it has not come to it", |status| {
                let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                let is = |type_: &str, values: &[&str]| {
                    let found = conditions.iter().find(|condition| condition["type"] == type_);
                    found.is_some_and(|found| values.iter().any(|value| found["reason"] == *value))
                };
                // Whether it is known by now that the other one is away.
                is("Migrated", &["NotMoved", "Moving"])
                    && is(
                        "Ready",
                        &["AuthorizationServerUnreachable", "AuthorizationServerNotReady"],
                    )
            })
            .await?;
        ensure!(scene.places().await? == BTreeSet::from(["main"]));
        Ok(())
    };
    let (outcome, ()) = workload::during(env, &[env.realm().issuer()], change).await?;
    outcome.unbroken()?;
    ensure!(workload::read(env).await? == before);

    // Its server does not allow it any more: it does not matter that the new one is away.
    let mut closed = crate::fixtures::server(env, "notes");
    closed["spec"]["allowedClients"] = json!([]);
    env.apply(&closed).await?;
    scene
        .status("the end of the old one", |status| {
            status["previous"][0]["tokensUntil"].is_string()
        })
        .await?;
    ensure!(scene.places().await?.is_empty());
    ensure!(workload::token(env, &before).await.is_err());

    scene.proxy.heal()?;
    scene.only_at("next").await?;
    workload::token(env, &workload::read(env).await?).await?;
    scene.told_apart(&[workload::credential(&before)])?;
    operator.stop().await
}

/// The client is deleted while it has something at both, and so is the AuthorizationServer that it left.
pub(super) async fn deleted(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-deleted", "ClientSecret").await?;
    let (env, namespace) = (&scene.env, scene.env.namespace());
    let mut moved = scene.reader("next", "ClientSecret");
    moved["spec"]["rotation"]["overlap"] = json!("1h");
    env.apply(&moved).await?;
    scene.moved().await?;
    for (kind, name) in [("mcpserver", "notes"), ("authorizationserver", "main")] {
        let arguments = ["delete", kind, name, "-n", namespace, "--wait=false"];
        env.kubectl().must(&arguments).await?;
    }
    env.wait_gone("mcpserver", namespace, "notes", SOON).await?;
    let home = ("AuthorizationServer", namespace, "main");
    let said = because(env, home, ("Ready", "Unknown", "InUse")).await?;
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(message.contains("1 McpClients"), "{said}");
    ensure!(scene.places().await? == BTreeSet::from(["main", "next"]));

    env.kubectl()
        .must(&["delete", "mcpclient", READER, "-n", namespace, "--wait=false"])
        .await?;
    env.wait_gone("mcpclient", namespace, READER, SOON).await?;
    ensure!(scene.places().await?.is_empty(), "it left something behind");
    scene.forgotten().await?;
    env.wait_gone("authorizationserver", namespace, "main", SOON)
        .await?;
    ready(env, ("AuthorizationServer", namespace, "next"), SOON).await?;
    operator.stop().await
}
