//! What changes is in force at every pod of a gate within seconds, and no pod is started anew for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::try_join_all;
use http::StatusCode;
use mcp_auth_e2e::{
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::setup::{Cluster, GatePod, exactly};

/// What the gate promises.
const IN_FORCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
const TOOL: &str = "get-env";

pub(super) async fn in_force(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-policy").await?;
    cluster.env().apply(&cluster.everything(2)).await?;
    cluster.open("everything").await?;
    cluster
        .holds("everything", &["GateReady", "Enforced", "BypassClosed", "Ready"])
        .await?;
    tokio::try_join!(cluster.client("agent"), cluster.client("other"))?;
    let pods = exactly::<2>(cluster.gate_pods("everything").await?)?;

    for (number, needed) in ["everything:admin", "everything:use", "everything:admin"]
        .into_iter()
        .enumerate()
    {
        let took = a_rule_changes(&cluster, &pods, needed).await?;
        world.note(format!(
            "change {} of a policy was in force at both gates after {:.1} s, and known to be after {:.1} s",
            number + 1,
            took[0].max(took[1]).as_secs_f64(),
            took[2].as_secs_f64()
        ));
    }
    let took = a_client_is_suspended(&cluster, &pods).await?;
    world.note(format!(
        "the token of a suspended client was refused at both gates after {:.1} s",
        took.as_secs_f64()
    ));
    keys_of_sessions_change(&cluster, &pods).await?;
    ensure!(
        exactly::<2>(cluster.gate_pods("everything").await?)? == pods,
        "pods were started anew"
    );
    cluster.end().await
}

/// Lets a tool need this scope. Gives when each pod decided so, and when the status said that all do.
async fn a_rule_changes(
    cluster: &Cluster,
    pods: &[GatePod; 2],
    needed: &str,
) -> anyhow::Result<[Duration; 3]> {
    let token = cluster.token("agent", "everything:use").await?;
    let refused = needed == "everything:admin";
    let mut wanted = cluster.everything(2);
    wanted["spec"]["rules"] = json!([
        { "kind": "Tool", "match": "*", "scopes": ["everything:use"] },
        { "kind": "Tool", "match": TOOL, "scopes": [needed] },
    ]);
    for pod in pods {
        let reply = cluster.at(pod, &token, TOOL).await?;
        ensure!(is_refused(reply.status) != refused, "{reply}");
    }
    let began = Instant::now();
    cluster.env().apply(&wanted).await?;
    let generation = generation(cluster).await?;
    let (first, second, known) = tokio::try_join!(
        decides(cluster, &pods[0], &token, refused, began),
        decides(cluster, &pods[1], &token, refused, began),
        async {
            is_known(cluster, generation).await?;
            let known = began.elapsed();
            // From here on nobody decides otherwise.
            for pod in pods {
                let reply = cluster.at(pod, &token, TOOL).await?;
                ensure!(
                    is_refused(reply.status) == refused,
                    "the status was ahead of {}: {reply}",
                    pod.name
                );
            }
            Ok(known)
        },
    )?;
    ensure!(
        first.max(second).max(known) < IN_FORCE,
        "{first:?} {second:?} {known:?}"
    );
    Ok([first, second, known])
}

fn is_refused(status: StatusCode) -> bool {
    status == StatusCode::FORBIDDEN
}

async fn generation(cluster: &Cluster) -> anyhow::Result<Value> {
    let space = cluster.env().namespace();
    let server = cluster.env().get("McpServer", space, "everything").await?;
    Ok(server.context("no server")?["metadata"]["generation"].clone())
}

/// Asks a pod again and again until it decides so. Gives when the first such question was put.
async fn decides(
    cluster: &Cluster,
    pod: &GatePod,
    token: &SecretString,
    refused: bool,
    began: Instant,
) -> anyhow::Result<Duration> {
    while began.elapsed() < IN_FORCE {
        let asked = began.elapsed();
        let status = cluster.at(pod, token, TOOL).await?.status;
        if is_refused(status) == refused {
            return Ok(asked);
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("{} still decides by the old policy", pod.name)
}

/// Waits until the status says of this generation that every gate has its policy.
async fn is_known(cluster: &Cluster, generation: Value) -> anyhow::Result<()> {
    let ready = cluster
        .env()
        .wait_condition(cluster.server("everything"), ("GateReady", "True"), IN_FORCE)
        .await?;
    ensure!(ready["observedGeneration"] == generation, "{ready}");
    Ok(())
}

/// A token that is good until then is refused everywhere at once; those of others are not, and it is good again after.
async fn a_client_is_suspended(cluster: &Cluster, pods: &[GatePod; 2]) -> anyhow::Result<Duration> {
    let (agent, other) = tokio::try_join!(
        cluster.token("agent", "everything:use"),
        cluster.token("other", "everything:use"),
    )?;
    let mut caller = cluster.caller().with_token(&other);
    caller.begin().await?;
    let began = Instant::now();
    suspend(cluster, true).await?;
    let refused = pods.iter().map(async |pod| {
        wait_for("the token to be refused", IN_FORCE, async || {
            let reply = cluster.at(pod, &agent, "echo").await?;
            caller.tools().await.context("another client's token")?;
            Ok(match reply.status {
                StatusCode::UNAUTHORIZED => Seen::Done(began.elapsed()),
                other => Seen::NotYet(other.to_string()),
            })
        })
        .await
    });
    let took = try_join_all(refused).await?;
    suspend(cluster, false).await?;
    for pod in pods {
        wait_for("the token to be good again", IN_FORCE, async || {
            let reply = cluster.at(pod, &agent, "echo").await?;
            Ok(match reply.status {
                StatusCode::UNAUTHORIZED => Seen::NotYet(reply.to_string()),
                _ => Seen::Done(()),
            })
        })
        .await?;
    }
    caller.tools().await?;
    Ok(took.into_iter().max().unwrap_or_default())
}

async fn suspend(cluster: &Cluster, suspended: bool) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "suspended": suspended } }).to_string();
    let space = cluster.env().namespace();
    let arguments = [
        "patch",
        "mcpclient",
        "agent",
        "--type=merge",
        "--namespace",
        space,
        "--patch",
        &patch,
    ];
    cluster.env().kubectl().must(&arguments).await.map(drop)
}

/// A session outlives a new key as long as the old one is there, and no longer.
async fn keys_of_sessions_change(cluster: &Cluster, pods: &[GatePod; 2]) -> anyhow::Result<()> {
    let space = cluster.env().namespace();
    let token = cluster.token("other", "everything:use").await?;
    let mut caller = cluster.caller().with_token(&token);
    caller.begin().await?;
    let old = cluster
        .env()
        .secret_value(space, "everything-gate", "session-keys")
        .await?;
    let new = STANDARD.encode([7; 32]);
    for (keys, status) in [
        (format!("{new}\n{}", old.trim()), StatusCode::OK),
        (new, StatusCode::NOT_FOUND),
    ] {
        let patch = json!({ "data": { "session-keys": STANDARD.encode(&keys) } }).to_string();
        let arguments = [
            "patch",
            "secret",
            "everything-gate",
            "--namespace",
            space,
            "--patch",
            &patch,
        ];
        let before = try_join_all(pods.iter().map(|pod| credentials(cluster, pod))).await?;
        cluster.env().kubectl().must(&arguments).await?;
        for (pod, before) in pods.iter().zip(before) {
            wait_for("the new keys", IN_FORCE, async || {
                let now = credentials(cluster, pod).await?;
                Ok(if now == before {
                    Seen::NotYet(now.to_string())
                } else {
                    Seen::Done(())
                })
            })
            .await?;
            let there = caller.clone().at(pod.url(8080, "/mcp"));
            let reply = there.call("tools/list", json!({})).await?;
            ensure!(reply.status == status, "{}: {reply}", pod.name);
        }
    }
    Ok(())
}

/// By what a pod tells its credentials from others.
async fn credentials(cluster: &Cluster, pod: &GatePod) -> anyhow::Result<Value> {
    let answer = cluster.http.get(pod.url(8081, "/policy")).send().await?;
    let said: Value = answer.error_for_status()?.json().await?;
    Ok(said["credentials"].clone())
}
