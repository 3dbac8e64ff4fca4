//! The node: real pods with Services, names, probes and policies.

mod ending;
mod policies;
mod probes;
pub(crate) mod scene;

use std::{process::Command, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    process::capture,
    runner::Story,
    tools::{EngineTools, NpmTools},
    world::World,
};
use serde_json::{Value, json};

use scene::Scene;

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = vec![
        Story::new("node::programs_from_npm_and_pip_run", programs_run),
        Story::on_node("node::a_pod_is_reached_through_its_service", services_work),
        Story::on_node("node::a_pod_reaches_the_api_server_and_keycloak", pods_reach_out),
    ];
    stories.extend(ending::stories());
    stories.extend(policies::stories());
    stories.extend(probes::stories());
    stories
}

/// Each program says its version: it is there, complete, and right for this machine.
async fn programs_run(world: Arc<World>) -> anyhow::Result<()> {
    let npm = NpmTools::prepare(world.folder().path()).await?;
    let engines = EngineTools::prepare(world.folder().path()).await?;
    let with = |mut command: Command, arguments: &[&str]| {
        command.args(arguments);
        command
    };
    for (command, version) in [
        (with(npm.inspector(), &["--cli", "--version"]), "2.12.0"),
        (with(npm.conformance(), &["--version"]), "0.2.0-alpha.12"),
        (with(Command::new(engines.envoy()), &["--version"]), "1.40.0"),
        (with(Command::new(engines.traefik()), &["version"]), "3.7.15"),
    ] {
        let output = capture(&command, "", Duration::from_secs(30)).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && text.contains(version),
            "{command:?}: {text}"
        );
    }
    Ok(())
}

/// The reference MCP server, unmodified, from the machine by address and from another pod by each of its names.
async fn services_work(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "node-services").await?;
    tokio::try_join!(scene.start_everything(), scene.start_client("client", json!({})))?;
    let namespace = scene.env.namespace();
    for name in [
        "everything".to_owned(),
        format!("everything.{namespace}.svc"),
        format!("everything.{namespace}.svc.cluster.local"),
    ] {
        let answer = scene
            .reach("client", &format!("http://{name}:3001/mcp"), &initialize())
            .await?;
        ensure!(answer["status"] == 200, "{name}: {answer}");
        ensure!(
            answer["body"]
                .as_str()
                .is_some_and(|body| body.contains("serverInfo")),
            "{name}: {answer}"
        );
    }
    let answer = scene
        .fetch("client", "http://nobody:3001/mcp", &initialize())
        .await?;
    ensure!(answer["error"] == "ENOTFOUND", "{answer}");

    let address = scene.service_address("everything").await?;
    let answer = reqwest::Client::new()
        .post(format!("http://{address}:3001/mcp"))
        .header("accept", "application/json, text/event-stream")
        .json(&initialize())
        .send()
        .await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    let text = answer.text().await?;
    ensure!(text.contains("serverInfo"), "{text}");

    let logs = scene
        .env
        .kubectl()
        .must(&["logs", "--namespace", namespace, "deployment/everything"])
        .await?;
    ensure!(logs.contains("3001"), "the server's own words: {logs}");
    Ok(())
}

fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "stories", "version": "1" },
        },
    })
}

/// With nothing but what Kubernetes gives every pod, and the certificate of the run's authority.
async fn pods_reach_out(world: Arc<World>) -> anyhow::Result<()> {
    const SCRIPT: &str = r#"
        const token = require("fs").readFileSync("/var/run/secrets/kubernetes.io/serviceaccount/token", "utf8");
        const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
        fetch("https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews", {
            method: "POST",
            headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
            body: JSON.stringify(review),
        }).then(answer => answer.json()).then(answer => console.log(JSON.stringify(answer)));
    "#;
    let scene = Scene::new(&world, "node-reach").await?;
    scene.start_client("client", json!({})).await?;
    let answer = scene.run("client", SCRIPT).await?;
    let account = format!("system:serviceaccount:{}:default", scene.env.namespace());
    ensure!(answer["status"]["userInfo"]["username"] == account, "{answer}");

    let issuer = scene.env.realm().issuer();
    let url = format!("{issuer}/.well-known/openid-configuration");
    let answer = scene.fetch("client", &url, &Value::Null).await?;
    let body = answer["body"].as_str().context("no body")?;
    let metadata: Value = serde_json::from_str(body)?;
    ensure!(metadata["issuer"] == issuer, "{metadata}");
    let seen = world.authority().http_client()?.build()?.get(&url).send().await?;
    ensure!(
        seen.json::<Value>().await? == metadata,
        "the machine sees the same document"
    );
    Ok(())
}
