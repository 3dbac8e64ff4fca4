//! Exchanged tokens come to a server in a header, and for handles from whichever pod of the gate it asks.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::setup::{Cluster, GatePod, exactly};
use crate::{
    fixtures::{SOON, apply_all, native, open_server, policy, ready},
    users::{App, alice, resource},
};

const SERVER: &str = include_str!("seller.js");
/// The policies, by how their tokens are delivered.
const BY_HEADER: &str = "to-target";
const FOR_HANDLES: &str = "to-archive";

pub(super) async fn sold(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-selling").await?;
    let env = cluster.env();
    start(&cluster).await?;
    let sub = alice(env).await?;
    cluster
        .holds("notes", &["GateReady", "Enforced", "BypassClosed", "Ready"])
        .await?;
    let pods = exactly::<2>(cluster.gate_pods("notes").await?)?;

    // The credential with which tokens are exchanged comes to gates that run already.
    let (mut header, mut handles) = (
        policy(env, BY_HEADER, "notes", "target"),
        policy(env, FOR_HANDLES, "notes", "archive"),
    );
    header["spec"]["delivery"] = json!("Header");
    handles["spec"]["delivery"] = json!("Endpoint");
    apply_all(env, &[header, handles]).await?;
    for name in [BY_HEADER, FOR_HANDLES] {
        ready(env, ("TokenExchangePolicy", env.namespace(), name), SOON).await?;
    }
    cluster
        .holds("notes", &["CredentialsReady", "GateReady", "Ready"])
        .await?;

    let mut app = App::native(env, "desktop", "notes").await?;
    app.resource = cluster.edge.resource();
    let token = app.tokens("notes:use").await?.access_token;
    for pod in &pods {
        let told = told(&cluster, pod, &token).await?;
        let by_header = told["authorization"].as_str().context("no token")?;
        let by_header = by_header.strip_prefix("Bearer ").context("no bearer token")?;
        is_for(&app, &sub, by_header, "target").await?;
        let bought = told["bought"].as_array().context("nothing was bought")?;
        ensure!(bought.len() == 2, "{}", addresses(bought));
        for one in bought {
            ensure!(one["status"] == 200, "{}", one["status"]);
            let token = one["body"]["access_token"].as_str().context("no token")?;
            is_for(&app, &sub, token, "archive").await?;
        }
        // The request before is over, and its handle with it.
        for late in told["late"].as_array().into_iter().flatten() {
            ensure!(late["status"] == 401, "{}: {}", pod.name, late["status"]);
        }
    }
    nobody_else_buys(&cluster, &pods).await?;
    ensure!(
        exactly::<2>(cluster.gate_pods("notes").await?)? == pods,
        "pods were started anew"
    );
    cluster.end().await
}

/// The server with its Service, its targets and a client of users.
async fn start(cluster: &Cluster) -> anyhow::Result<()> {
    let (env, space) = (cluster.env(), cluster.env().namespace());
    let mut notes = cluster.everything(2);
    notes["metadata"]["name"] = json!("notes");
    notes["spec"]["target"]["service"] = json!("notes");
    notes["spec"]["scopes"] = json!([{ "name": "notes:use" }]);
    notes["spec"]["rules"] = json!([{ "kind": "Tool", "match": "*", "scopes": ["notes:use"] }]);
    let objects = [
        notes,
        open_server(env, "target"),
        open_server(env, "archive"),
        native(env, "desktop", &["notes"]),
    ];
    apply_all(env, &objects).await?;
    let setting = [
        ("PEERS", format!("notes-gate-peers.{space}.svc")),
        ("POLICY", FOR_HANDLES.to_owned()),
    ];
    let setting = setting.map(|(name, value)| format!("process.env.{name} = {};\n", json!(value)));
    let script = format!("{}{SERVER}", setting.concat());
    let probe = json!({ "tcpSocket": { "port": 3000 }, "periodSeconds": 1 });
    tokio::try_join!(
        cluster.scene.service("notes", 3000),
        cluster
            .scene
            .start_script("notes", json!({ "app": "notes" }), &script, probe),
        cluster.scene.start_client("stranger", json!({})),
        cluster.open("notes"),
    )?;
    ready(env, ("McpClient", space, "desktop"), SOON).await
}

/// What the server says that came with a call by this pod.
async fn told(cluster: &Cluster, pod: &GatePod, token: &SecretString) -> anyhow::Result<Value> {
    let reply = cluster.at(pod, token, "tell").await?;
    let told = reply.message["result"].clone();
    ensure!(
        told.is_object() && told["error"].is_null(),
        "{}: {told}",
        reply.status
    );
    Ok(told)
}

/// A token for alice and this server alone, that the server `notes` got.
async fn is_for(app: &App, sub: &str, token: &str, server: &str) -> anyhow::Result<()> {
    let token = app.issuer.verify(&SecretString::from(token)).await?;
    ensure!(token.audiences() == [resource(server)], "{}", token.claims);
    ensure!(token.text("sub") == sub, "{}", token.claims);
    ensure!(token.text("azp") == app.resource, "{}", token.claims);
    Ok(())
}

fn addresses(bought: &[Value]) -> String {
    let all = bought.iter().map(|one| one["address"].to_string());
    all.collect::<Vec<_>>().join(" ")
}

/// A pod that is not the server's does not even come to show a handle.
async fn nobody_else_buys(cluster: &Cluster, pods: &[GatePod; 2]) -> anyhow::Result<()> {
    let path = format!("/token/{FOR_HANDLES}");
    let scene = &cluster.scene;
    for pod in pods {
        let seen = scene.fetch("stranger", &pod.url(8082, &path), &json!({})).await?;
        ensure!(seen["error"].is_string(), "{seen}");
        let seen = scene.fetch("notes", &pod.url(8082, &path), &json!({})).await?;
        ensure!(
            seen["status"] == 401,
            "the server reaches it, and has no handle: {seen}"
        );
    }
    let service = scene.service_address("notes-gate").await?;
    let url = format!("http://{service}:8082{path}");
    wait_for("the Service to lead to where tokens are sold", SOON, async || {
        let seen = scene.fetch("notes", &url, &json!({})).await?;
        Ok(match seen["status"].as_u64() {
            Some(401) => Seen::Done(()),
            _ => Seen::NotYet(seen.to_string()),
        })
    })
    .await?;
    let seen = scene.fetch("stranger", &url, &json!({})).await?;
    ensure!(seen["error"].is_string(), "{seen}");
    Ok(())
}
