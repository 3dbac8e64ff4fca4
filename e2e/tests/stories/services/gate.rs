//! The gate that an annotated Service gets unless it says otherwise.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use mcp_auth_e2e::{
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::json;

use super::{ENFORCEMENT, annotate, annotations, mcp_server, prepare, service};
use crate::fixtures::{SOON, apply_all, policy};

/// What a gate is made of. There is no node here, so that its pods wait for one.
const PARTS: [(&str, &str, &str); 8] = [
    ("v1", "ConfigMap", "orders-gate"),
    ("v1", "Secret", "orders-gate"),
    ("apps/v1", "Deployment", "orders-gate"),
    ("v1", "Service", "orders-gate"),
    ("v1", "Service", "orders-gate-peers"),
    ("v1", "Service", "orders-gate-origin"),
    ("networking.k8s.io/v1", "NetworkPolicy", "orders-gate"),
    ("networking.k8s.io/v1", "NetworkPolicy", "orders-gate-origin"),
];

/// Between two looks at every object.
const RESYNC: Duration = Duration::from_secs(2);

/// An annotated Service without a word about enforcement gets a gate, which is kept as it is, follows the policies of its
/// server, and goes when it is not wanted any more.
pub(super) async fn is_the_default(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-gate").await?;
    let mut options = env.operator_options();
    options.resync_interval = format!("{}s", RESYNC.as_secs());
    options.extra = vec!["--gate-image=mcp-auth-gate:none".to_owned()];
    let operator = env.start_operator_with(&options).await?;
    prepare(&env).await?;
    let space = env.namespace();
    let mut said = annotations("orders");
    said.as_object_mut()
        .into_iter()
        .for_each(|said| drop(said.remove(ENFORCEMENT)));
    apply_all(&env, &[service(space, "orders", &said)]).await?;

    waits_for_nodes(&env).await?;
    let server = mcp_server(&env, "orders").await?;
    ensure!(
        server["spec"]["enforcement"] == json!({"mode": "Gate"}),
        "{}",
        server["spec"]
    );
    ensure!(server["status"]["enforcement"] == "Gate", "{}", server["status"]);
    let first = parts(&env).await?;
    ensure!(first.values().all(Option::is_some), "{first:#?}");

    // Whatever the API server made of it, it is as it was wanted: nothing is written again.
    tokio::time::sleep(RESYNC * 4).await;
    ensure!(
        parts(&env).await? == first,
        "{first:#?} became {:#?}",
        parts(&env).await?
    );

    let drift = "mcp_auth_operator_drift_repaired_total";
    let repaired = operator.metric(drift, &[]).await?;
    ensure!(
        repaired == 0.0,
        "{repaired} times something was taken for changed that nobody changed"
    );

    is_set_right(&env).await?;
    let repaired = operator
        .metric(drift, &[("kind", "McpServer"), ("what", "NetworkPolicy")])
        .await?;
    ensure!(
        repaired >= 2.0,
        "{repaired} repairs of NetworkPolicies are counted"
    );
    follows_its_target(&env).await?;
    exchanges(&env).await?;

    annotate(&env, "orders", &json!({ ENFORCEMENT: "External" })).await?;
    wait_for("the end of the gate", SOON, async || {
        let left: Vec<_> = parts(&env)
            .await?
            .into_iter()
            .filter(|(_, version)| version.is_some())
            .collect();
        Ok(if left.is_empty() {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{left:?}"))
        })
    })
    .await?;
    crate::fixtures::ready(&env, ("McpServer", space, "orders"), SOON).await?;
    operator.stop().await
}

/// Waits until all there is to do without a node is done.
async fn waits_for_nodes(env: &StoryEnv) -> anyhow::Result<()> {
    wait_for("a gate that waits for nodes", SOON, async || {
        let server = mcp_server(env, "orders").await;
        let status = server.map(|server| server["status"].clone()).unwrap_or_default();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let gate = conditions
            .iter()
            .find(|condition| condition["type"] == "GateReady");
        let waits = gate.is_some_and(|gate| {
            gate["reason"] == "RollingOut"
                && gate["message"] == "0 of 1 pods of the gate are up to date and ready"
        });
        Ok(if waits {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}

fn gvk(version: &str, kind: &str) -> GroupVersionKind {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    GroupVersionKind::gvk(group, version, kind)
}

/// UID and version of each part, without what its own controller writes.
async fn parts(env: &StoryEnv) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut parts = BTreeMap::new();
    for (version, kind, name) in PARTS {
        let resource = ApiResource::from_gvk(&gvk(version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(env.client(), env.namespace(), &resource);
        let version = api.get_opt(name).await?.map(|found| {
            let meta = found.metadata;
            let ours: Vec<_> = meta
                .managed_fields
                .into_iter()
                .flatten()
                .filter(|entry| entry.manager.as_deref() == Some("mcp-auth-operator"))
                .collect();
            format!("{:?} {:?} {}", meta.uid, meta.generation, json!(ours))
        });
        parts.insert(format!("{kind} {name}"), version);
    }
    Ok(parts)
}

/// What somebody changes or deletes comes back.
async fn is_set_right(env: &StoryEnv) -> anyhow::Result<()> {
    let space = env.namespace();
    let deployments: Api<Deployment> = Api::namespaced(env.client(), space);
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments
        .patch("orders-gate", &PatchParams::default(), &scale)
        .await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(env.client(), space);
    policies
        .delete("orders-gate-origin", &DeleteParams::default())
        .await?;
    let open = Patch::Json::<()>(serde_json::from_value(json!([
        {"op": "add", "path": "/spec/ingress/-", "value": {}},
        {"op": "add", "path": "/spec/ingress/1/from/0/namespaceSelector", "value": {}},
    ]))?);
    policies
        .patch("orders-gate", &PatchParams::default(), &open)
        .await?;
    wait_for("the gate as it was", SOON, async || {
        let replicas = deployments
            .get("orders-gate")
            .await?
            .spec
            .and_then(|spec| spec.replicas);
        let rules = policies
            .get("orders-gate")
            .await?
            .spec
            .and_then(|spec| spec.ingress)
            .unwrap_or_default();
        let around = policies.get_opt("orders-gate-origin").await?.is_some();
        let peers = rules.iter().flat_map(|rule| rule.from.iter().flatten());
        let far = peers.filter(|peer| peer.namespace_selector.is_some()).count();
        let right = replicas == Some(1) && rules.len() == 2 && far == 0 && around;
        Ok(if right {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{replicas:?} {} {around}", rules.len()))
        })
    })
    .await
}

/// A label that the selector of the target's Service gains and loses, what leads to its pods and what closes them gain and
/// lose as well.
async fn follows_its_target(env: &StoryEnv) -> anyhow::Result<()> {
    let space = env.namespace();
    let services: Api<Service> = Api::namespaced(env.client(), space);
    let policies: Api<NetworkPolicy> = Api::namespaced(env.client(), space);
    for (slot, expected) in [
        (json!("blue"), json!({ "app": "orders", "slot": "blue" })),
        (json!(null), json!({ "app": "orders" })),
    ] {
        let patch = Patch::Merge(json!({ "spec": { "selector": { "slot": slot } } }));
        services.patch("orders", &PatchParams::default(), &patch).await?;
        wait_for("the selector of the target's Service", SOON, async || {
            let service = services.get("orders-gate-origin").await?.spec;
            let policy = policies.get("orders-gate-origin").await?.spec;
            let seen = [
                json!(service.and_then(|spec| spec.selector)),
                json!(
                    policy
                        .and_then(|spec| spec.pod_selector)
                        .and_then(|pods| pods.match_labels)
                ),
            ];
            Ok(if seen.iter().all(|selector| *selector == expected) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{seen:?}"))
            })
        })
        .await?;
    }
    Ok(())
}

/// A policy by which the gate exchanges tokens gives it the server's credential, proved at the authorization server, and
/// the workload none; its end takes both back.
async fn exchanges(env: &StoryEnv) -> anyhow::Result<()> {
    let space = env.namespace();
    let mut target = crate::fixtures::open_server(env, "target");
    target["spec"]["scopes"] = json!([{ "name": "target:use" }]);
    let mut by_header = policy(env, "to-target", "orders", "target");
    by_header["spec"]["delivery"] = json!("Header");
    by_header["spec"]["scopes"][0]["requires"] = json!(["orders:read"]);
    apply_all(env, &[target, by_header]).await?;
    let (secrets, maps): (Api<Secret>, Api<ConfigMap>) = (
        Api::namespaced(env.client(), space),
        Api::namespaced(env.client(), space),
    );
    let holds = async |wanted: bool| {
        wait_for("the credential of the gate", SOON, async || {
            let keys: Vec<_> = secrets
                .get("orders-gate")
                .await?
                .data
                .unwrap_or_default()
                .into_keys()
                .collect();
            let policy = maps.get("orders-gate").await?.data.unwrap_or_default()["policy.json"].clone();
            let server = mcp_server(env, "orders").await?;
            let conditions = server["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let proved = conditions
                .iter()
                .any(|c| c["type"] == "CredentialsReady" && c["status"] == "True");
            let workload = secrets.get_opt("orders-mcp-auth").await?.is_some();
            let seen = (keys.len() == 3, policy.contains("\"Header\""), proved, workload);
            let done = seen == (wanted, wanted, wanted, false);
            Ok(if done {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{seen:?}"))
            })
        })
        .await
    };
    holds(true).await?;
    let deployments: Api<Deployment> = Api::namespaced(env.client(), space);
    let before = deployments.get("orders-gate").await?.spec;
    env.kubectl()
        .must(&["delete", "tokenexchangepolicy", "to-target", "-n", space])
        .await?;
    holds(false).await?;
    ensure!(
        deployments.get("orders-gate").await?.spec == before,
        "the pods were restarted"
    );
    Ok(())
}
