//! From an annotated Service to a call that is refused for want of one scope.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use mcp_auth_e2e::world::World;
use serde_json::{Value, json};

use super::setup::{Cluster, exactly};

pub(super) async fn protected(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-annotated").await?;
    tokio::try_join!(
        cluster.scene.start_client("stranger", json!({})),
        cluster
            .scene
            .start_client("next-door", json!({ "app": "next-door" })),
    )?;
    let env = cluster.env();
    // From here on only pods start that meet the strictest of the Pod Security Standards.
    let strictest = "pod-security.kubernetes.io/enforce=restricted";
    env.kubectl()
        .must(&["label", "namespace", env.namespace(), strictest])
        .await?;
    let began = Instant::now();
    let resource = cluster.edge.resource();
    let annotate = [
        "annotate",
        "service",
        "everything",
        "--namespace",
        env.namespace(),
        "mcpauth.dev/authorization-server=main",
        &format!("mcpauth.dev/resource={resource}"),
        "mcpauth.dev/scopes=everything:use everything:admin",
    ];
    env.kubectl().must(&annotate).await?;
    cluster.open("everything").await?;
    let conditions = ["GateReady", "Enforced", "BypassClosed", "Ready"];
    cluster.holds("everything", &conditions).await?;
    world.note(format!(
        "an annotated Service was found protected after {:.1} s",
        began.elapsed().as_secs_f64()
    ));

    leads_to_the_metadata(&cluster).await?;
    rules(&cluster).await?;
    cluster.client("agent").await?;
    calls_as_the_rules_say(&cluster).await?;
    is_restricted(&cluster).await?;
    keeps_strangers_out(&cluster).await?;

    // With the gate goes all that belongs to it; the server is there as before.
    let external = "mcpauth.dev/enforcement=External";
    let annotate = [
        "annotate",
        "service",
        "everything",
        "--namespace",
        env.namespace(),
        external,
    ];
    env.kubectl().must(&annotate).await?;
    cluster.is_bare().await?;
    let service = cluster.scene.service_address("everything").await?;
    cluster
        .scene
        .reach("stranger", &format!("http://{service}:3001/mcp"), &json!({}))
        .await?;
    cluster.end().await
}

/// Whoever has no token is told where to get one.
async fn leads_to_the_metadata(cluster: &Cluster) -> anyhow::Result<()> {
    let reply = cluster.caller().call("tools/list", json!({})).await?;
    ensure!(reply.status == StatusCode::UNAUTHORIZED, "{reply}");
    let resource = cluster.edge.resource();
    let expected = resource.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let url = reply.challenged("resource_metadata").context("no metadata")?;
    ensure!(url == expected, "{reply}");
    let scopes = reply.challenged("scope").unwrap_or_default();
    ensure!(scopes.contains("everything:use"), "{reply}");
    let document: Value = cluster.http.get(url).send().await?.json().await?;
    ensure!(document["resource"] == resource, "{document}");
    let issuer = cluster.env().realm().issuer();
    ensure!(document["authorization_servers"] == json!([issuer]), "{document}");
    Ok(())
}

/// What annotations do not say is added to the McpServer that they made, and stays.
async fn rules(cluster: &Cluster) -> anyhow::Result<()> {
    let rule = |tool: &str, scope: &str| json!({ "kind": "Tool", "match": tool, "scopes": [scope] });
    let more = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": { "namespace": cluster.env().namespace(), "name": "everything" },
        "spec": {
            "scopes": [{ "name": "everything:use", "challenge": true }],
            "rules": [rule("*", "everything:use"), rule("get-env", "everything:admin")],
        },
    });
    cluster.env().apply(&more).await?;
    cluster.holds("everything", &["GateReady", "Ready"]).await
}

async fn calls_as_the_rules_say(cluster: &Cluster) -> anyhow::Result<()> {
    let token = cluster.token("agent", "everything:use").await?;
    let mut caller = cluster.caller().with_token(&token);
    caller.begin().await?;
    let tools = caller.tools().await?;
    ensure!(tools.contains(&"echo".to_owned()), "{tools:?}");
    ensure!(
        !tools.contains(&"get-env".to_owned()),
        "what may not be called is not listed: {tools:?}"
    );
    let reply = caller.tool("echo", json!({ "message": "hello" })).await?;
    let text = &reply.message["result"]["content"][0]["text"];
    ensure!(text == "Echo: hello", "{reply}");

    let reply = caller.tool("get-env", json!({})).await?;
    ensure!(reply.status == StatusCode::FORBIDDEN, "{reply}");
    ensure!(reply.challenged("error") == Some("insufficient_scope"), "{reply}");
    let wanted = reply.challenged("scope").context("no scopes")?;
    let token = cluster.token("agent", wanted).await?;
    let reply = caller.with_token(&token).tool("get-env", json!({})).await?;
    let text = reply.message["result"]["content"][0]["text"].as_str();
    let variables = text.with_context(|| reply.to_string())?;
    ensure!(variables.contains("PORT"), "{variables}");
    ensure!(
        !variables.contains("MCP_AUTH"),
        "the server knows nothing of tokens: {variables}"
    );
    Ok(())
}

/// What the gate's pod may do, as it runs.
async fn is_restricted(cluster: &Cluster) -> anyhow::Result<()> {
    let [gate] = exactly(cluster.gate_pods("everything").await?)?;
    let api: Api<Pod> = Api::namespaced(cluster.env().client(), cluster.env().namespace());
    let pod = serde_json::to_value(api.get(&gate.name).await?)?;
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    ensure!(
        spec["securityContext"]["runAsNonRoot"] == true
            && container["securityContext"]["readOnlyRootFilesystem"] == true,
        "{spec}"
    );
    let mounts = container["volumeMounts"].to_string();
    ensure!(!mounts.contains("serviceaccount"), "{mounts}");
    Ok(())
}

/// Pods next door reach the gate, and neither the server nor where it would buy tokens.
async fn keeps_strangers_out(cluster: &Cluster) -> anyhow::Result<()> {
    let [gate] = exactly(cluster.gate_pods("everything").await?)?;
    let server = cluster.scene.service_address("everything").await?;
    let out = |seen: &Value| seen["error"].is_string();
    for pod in ["stranger", "next-door"] {
        let seen = cluster
            .scene
            .reach(pod, &gate.url(8080, "/mcp"), &json!({}))
            .await?;
        ensure!(seen["status"] == 401, "{pod}: {seen}");
        for url in [format!("http://{server}:3001/mcp"), gate.url(8082, "/token/any")] {
            let seen = cluster.scene.fetch(pod, &url, &json!({})).await?;
            ensure!(out(&seen), "{pod} at {url}: {seen}");
        }
    }
    Ok(())
}
