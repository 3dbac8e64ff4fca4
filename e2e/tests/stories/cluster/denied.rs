//! A gate in a namespace where nothing may come in or go out, but what somebody allowed.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::setup::{Cluster, PODS, exactly};
use crate::fixtures::{SOON, because, open_server, policy, ready};

const GATES: (&str, &str) = ("app.kubernetes.io/name", "mcp-auth-gate");

pub(super) async fn serves(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-denied").await?;
    let (env, host) = (cluster.env(), world.host());
    let outside = json!([{ "ipBlock": { "cidr": format!("{host}/32") } }]);
    let ports =
        |numbers: &[u16]| -> Value { numbers.iter().map(|number| json!({ "port": number })).collect() };
    let names = json!([{ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] }]);
    // The public address leads to 8080. The operator, which runs outside of the cluster here, asks at 8081.
    let inward = json!([{ "from": outside, "ports": ports(&[8080, 8081]) }]);
    for (name, pods, spec) in [
        (
            "deny-all",
            json!({}),
            json!({ "policyTypes": ["Ingress", "Egress"] }),
        ),
        (
            "names",
            json!({}),
            json!({ "policyTypes": ["Egress"], "egress": names }),
        ),
        (
            "to-gates",
            gates(),
            json!({ "policyTypes": ["Ingress"], "ingress": inward }),
        ),
    ] {
        allow(&cluster, name, pods, spec).await?;
    }
    env.apply(&cluster.everything(2)).await?;
    cluster.open("everything").await?;

    // Where the authorization server is, only the owner of the namespace can say.
    let server = cluster.server("everything");
    shut_in(&cluster).await?;
    let found = because(env, server, ("GateReady", "Unknown", "KeysNotFetched")).await?;
    let keys = format!("{}/protocol/openid-connect/certs", env.realm().name());
    ensure!(
        found["message"]
            .as_str()
            .is_some_and(|message| message.contains(&keys)),
        "{found}"
    );
    because(env, server, ("Ready", "Unknown", "KeysNotFetched")).await?;
    let outward = json!({ "policyTypes": ["Egress"], "egress": [{ "to": outside }] });
    allow(&cluster, "to-the-authorization-server", gates(), outward).await?;
    cluster
        .holds("everything", &["GateReady", "Enforced", "BypassClosed", "Ready"])
        .await?;

    cluster.client("agent").await?;
    let token = cluster.token("agent", "everything:use").await?;
    let mut caller = cluster.caller().with_token(&token);
    caller.begin().await?;
    let reply = caller.tool("echo", json!({ "message": "hello" })).await?;
    let text = &reply.message["result"]["content"][0]["text"];
    ensure!(text == "Echo: hello", "{reply}");
    buys(&cluster).await?;
    cluster.end().await
}

/// Waits until the gates get nothing out, and lets them need to. A network takes a moment to know of a new pod, in which
/// a gate may have fetched its keys: it has to do so again from another address.
async fn shut_in(cluster: &Cluster) -> anyhow::Result<()> {
    let env = cluster.env();
    wait_for("the gates to run", PODS, async || {
        let pods = cluster.gate_pods("everything").await?;
        Ok(if pods.len() == 2 {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{} pods", pods.len()))
        })
    })
    .await?;
    // What holds for a pod that came later holds for the gates.
    let keys = format!("{}/protocol/openid-connect/certs", env.realm().issuer());
    cluster.scene.start_client("latecomer", json!({})).await?;
    let refused = |seen: &Value| seen["error"].is_string();
    cluster
        .scene
        .fetch_until("latecomer", &keys, &Value::Null, refused)
        .await?;
    let mut moved = env.authorization_server("main");
    moved["spec"]["endpoints"]["jwks"] = json!(keys);
    env.apply(&moved).await
}

/// The pods of all gates.
fn gates() -> Value {
    json!({ "matchLabels": { GATES.0: GATES.1 } })
}

async fn allow(cluster: &Cluster, name: &str, pods: Value, mut spec: Value) -> anyhow::Result<()> {
    spec["podSelector"] = pods;
    cluster
        .env()
        .apply(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": cluster.env().namespace() }, "spec": spec,
        }))
        .await
}

/// The server reaches where tokens are bought, and nothing else gets out of its pods.
async fn buys(cluster: &Cluster) -> anyhow::Result<()> {
    let env = cluster.env();
    let mut bought = policy(env, "to-target", "everything", "target");
    bought["spec"]["delivery"] = json!("Endpoint");
    env.apply(&open_server(env, "target")).await?;
    env.apply(&bought).await?;
    ready(env, ("TokenExchangePolicy", env.namespace(), "to-target"), SOON).await?;
    cluster.holds("everything", &["GateReady", "Ready"]).await?;
    // One of the server's pods, as far as labels tell; it takes no requests.
    cluster
        .scene
        .start_client("buyer", json!({ "app": "everything" }))
        .await?;
    for gate in exactly::<2>(cluster.gate_pods("everything").await?)? {
        let seen = cluster
            .scene
            .reach("buyer", &gate.url(8082, "/token/to-target"), &json!({}))
            .await?;
        ensure!(seen["status"] == 401, "it has no handle: {seen}");
        let seen = cluster
            .scene
            .fetch("buyer", &gate.url(8080, "/mcp"), &json!({}))
            .await?;
        ensure!(seen["error"].is_string(), "{seen}");
    }
    Ok(())
}
