//! Two MCP servers in the same pods, each behind a gate of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    caller::Caller,
    edge::Edge,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::setup::{Cluster, PODS};
use crate::fixtures::{SOON, machine, ready};

/// The other server; the first is `everything`.
const SECOND: &str = "second";
/// The ports of the pods: of the first server, of the second, and one that no gate is for.
const PORTS: [u16; 3] = [3001, 3002, 3003];
const CONDITIONS: [&str; 4] = ["GateReady", "Enforced", "BypassClosed", "Ready"];

pub(super) async fn kept_apart(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-shared").await?;
    let edge = Edge::start(world.host(), world.authority()).await?;
    let env = cluster.env();
    start(&cluster, &edge).await?;
    lead(&cluster, &edge).await?;
    cluster.open("everything").await?;
    for server in ["everything", SECOND] {
        cluster.holds(server, &CONDITIONS).await?;
    }
    calls(&cluster, &edge).await?;

    let address = pod(&cluster).await?;
    let gate =
        |server: &str| json!({ "app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": server });
    // With the labels of gates, these are let in where gates are.
    tokio::try_join!(
        cluster.scene.start_client("stranger", json!({})),
        cluster.scene.start_client("as-first", gate("everything")),
        cluster.scene.start_client("as-second", gate(SECOND)),
    )?;
    for (from, expected) in [
        ("stranger", [false, false, true]),
        ("as-first", [true, false, true]),
        ("as-second", [false, true, true]),
    ] {
        reaches(&cluster, from, address, expected).await?;
    }

    // With its McpServer gone nobody closes the port of the second; that of the first stays closed.
    let delete = ["delete", "mcpserver", SECOND, "--namespace", env.namespace()];
    env.kubectl().must(&delete).await?;
    reaches(&cluster, "stranger", address, [false, true, true]).await?;
    cluster.end().await
}

/// Pods with a server at each of three ports, of which two get a gate.
async fn start(cluster: &Cluster, edge: &Edge) -> anyhow::Result<()> {
    let (env, space) = (cluster.env(), cluster.env().namespace());
    let mut patch = Vec::new();
    for (at, port) in PORTS.into_iter().enumerate().skip(1) {
        let path = |rest: &str| format!("/spec/template/spec/containers/{at}{rest}");
        patch.extend([
            json!({ "op": "copy", "from": "/spec/template/spec/containers/0", "path": path("") }),
            json!({ "op": "replace", "path": path("/name"), "value": format!("server-{at}") }),
            json!({ "op": "add", "path": path("/env"), "value": [{ "name": "PORT", "value": port.to_string() }] }),
            json!({ "op": "replace", "path": path("/ports/0/containerPort"), "value": port }),
            json!({ "op": "replace", "path": path("/readinessProbe/tcpSocket/port"), "value": port }),
        ]);
    }
    let patch = json!(patch).to_string();
    let arguments = [
        "patch",
        "deployment",
        "everything",
        "--type=json",
        "--patch",
        &patch,
    ];
    let kubectl = env.kubectl();
    kubectl
        .must(&[&arguments[..], &["--namespace", space]].concat())
        .await?;
    let rollout = [
        "rollout",
        "status",
        "deployment/everything",
        "--timeout=90s",
        "--namespace",
        space,
    ];
    kubectl.must(&rollout).await?;
    env.apply(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": SECOND, "namespace": space },
        "spec": { "selector": { "app": "everything" }, "ports": [{ "port": PORTS[1] }] },
    }))
    .await?;
    let mut second = cluster.everything(1);
    second["metadata"]["name"] = json!(SECOND);
    second["spec"]["resource"] = json!(edge.resource());
    second["spec"]["target"]["service"] = json!(SECOND);
    second["spec"]["scopes"] = json!([{ "name": "second:use", "challenge": true }]);
    second["spec"]["rules"] = json!([{ "kind": "Tool", "match": "*", "scopes": ["second:use"] }]);
    env.apply(&cluster.everything(1)).await?;
    env.apply(&second).await
}

/// Leads the public address of the second server to its gate.
async fn lead(cluster: &Cluster, edge: &Edge) -> anyhow::Result<()> {
    let address = wait_for("the Service of the second gate", SOON, async || {
        let address = cluster.scene.service_address(&format!("{SECOND}-gate")).await?;
        Ok(Seen::Done(address.parse::<Ipv4Addr>()?))
    });
    edge.lead_to(SocketAddr::from((address.await?, 80)));
    Ok(())
}

/// A token for one of the servers is good there, and nowhere else.
async fn calls(cluster: &Cluster, edge: &Edge) -> anyhow::Result<()> {
    let (env, space) = (cluster.env(), cluster.env().namespace());
    env.apply(&machine(env, "agent", &["everything", SECOND])).await?;
    ready(env, ("McpClient", space, "agent"), SOON).await?;
    for (scope, good, other) in [
        ("everything:use", cluster.edge.resource(), edge.resource()),
        ("second:use", edge.resource(), cluster.edge.resource()),
    ] {
        let token = cluster.token("agent", scope).await?;
        let mut caller = Caller::new(cluster.http.clone(), &good).with_token(&token);
        caller.begin().await?;
        let reply = caller.tool("echo", json!({ "message": scope })).await?;
        let text = &reply.message["result"]["content"][0]["text"];
        ensure!(*text == format!("Echo: {scope}"), "{scope}: {reply}");
        let caller = Caller::new(cluster.http.clone(), &other).with_token(&token);
        let reply = caller.tool("echo", json!({})).await?;
        ensure!(reply.status == StatusCode::UNAUTHORIZED, "{scope}: {reply}");
        ensure!(
            reply.challenged("error") == Some("invalid_token"),
            "{scope}: {reply}"
        );
    }
    Ok(())
}

/// The address of the pod of both servers.
async fn pod(cluster: &Cluster) -> anyhow::Result<Ipv4Addr> {
    let get = [
        "get",
        "pods",
        "--selector=app=everything",
        "--namespace",
        cluster.env().namespace(),
    ];
    let pods: Value = cluster.env().kubectl().json(&get).await?;
    let mut pods = pods["items"].as_array().cloned().unwrap_or_default();
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let [pod] = &pods[..] else {
        anyhow::bail!("{} pods", pods.len());
    };
    let address = pod["status"]["podIP"].as_str().context("no address")?;
    Ok(address.parse()?)
}

/// Waits until a pod reaches exactly those of the ports.
async fn reaches(cluster: &Cluster, from: &str, to: Ipv4Addr, expected: [bool; 3]) -> anyhow::Result<()> {
    let what = format!("{from} to reach {expected:?} of {PORTS:?}");
    wait_for(&what, PODS, async || {
        let mut seen = [false; 3];
        for (reached, port) in seen.iter_mut().zip(PORTS) {
            let url = format!("http://{to}:{port}/mcp");
            let answer = cluster.scene.fetch(from, &url, &json!({})).await?;
            *reached = answer["status"].is_number();
        }
        Ok(if seen == expected {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{seen:?}"))
        })
    })
    .await
}
