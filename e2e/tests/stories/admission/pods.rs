//! What the operator may do to pods, judged by the real API server.

use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use mcp_auth_e2e::world::World;
use serde_json::{Value, json};

use super::user;

/// The namespace of the story.
const NAMESPACE: &str = "admission-pods";

/// Who acts: the operator as it is shipped, one that is installed elsewhere, and others.
const OPERATOR: &str = "system:serviceaccount:mcp-auth-system:mcp-auth-operator";
const ELSEWHERE: &str = "system:serviceaccount:platform:mcp-auth-operator";
const SIMILAR: &str = "system:serviceaccount:platform:not-mcp-auth-operator";
const DEVELOPER: &str = "pods-only";

/// What they may do; the right of the shipped operator is the one that is shipped.
const RIGHTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: admission-pods}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: pods, namespace: admission-pods}
rules: [{apiGroups: [""], resources: [pods], verbs: [patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: pods, namespace: admission-pods}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pods}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: pods-only}
- {kind: ServiceAccount, namespace: platform, name: mcp-auth-operator}
- {kind: ServiceAccount, namespace: platform, name: not-mcp-auth-operator}
"#;

/// The words of the refusals.
const NOT_OF_A_GATE: &str = "may only touch the pods of its gates";
const NOT_OURS: &str = "those that begin with mcpauth.dev/";
const METADATA: &str = "of the metadata of a pod the operator may only change annotations";
const THE_REST: &str = "of a pod the operator may only change annotations";

/// One line of the table: the labels of the pod, who merges what into it, and the words of the refusal.
struct Case {
    labels: Value,
    who: &'static str,
    patch: Value,
    refusal: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let gate = || json!({ "app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes" });
    let case = |labels, who, patch, refusal| Case {
        labels,
        who,
        patch,
        refusal,
    };
    let annotate = |annotations: Value| json!({ "metadata": { "annotations": annotations } });
    let version = || annotate(json!({ "mcpauth.dev/gate-version": "2" }));
    let label = |key: &str, value: Value| json!({ "metadata": { "labels": { key: value } } });
    let image = || json!({ "spec": { "containers": [{ "name": "gate", "image": "other:1" }] } });
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u" }]);
    let of_operator = |patch, refusal| case(gate(), OPERATOR, patch, refusal);
    let mut cases = vec![
        of_operator(version(), None),
        of_operator(annotate(json!({ "mcpauth.dev/gate-version": null })), None),
        of_operator(annotate(json!({ "mcpauth.dev/new": "x" })), None),
        of_operator(annotate(json!({ "example.com/a": "theirs" })), None),
        of_operator(annotate(json!({ "example.com/a": "ours" })), Some(NOT_OURS)),
        of_operator(annotate(json!({ "example.com/a": null })), Some(NOT_OURS)),
        of_operator(annotate(json!({ "example.com/b": "ours" })), Some(NOT_OURS)),
        of_operator(
            annotate(json!({ "mcpauth.dev.example.com/a": "x" })),
            Some(NOT_OURS),
        ),
        of_operator(
            annotate(json!({ "mcpauth.dev/gate-version": "2", "example.com/b": "ours" })),
            Some(NOT_OURS),
        ),
        of_operator(label("example.com/a", json!("b")), Some(METADATA)),
        of_operator(label("mcpauth.dev/server", json!("other")), Some(METADATA)),
        of_operator(label("mcpauth.dev/server", Value::Null), Some(METADATA)),
        of_operator(
            json!({ "metadata": { "finalizers": ["example.com/a"] } }),
            Some(METADATA),
        ),
        of_operator(
            json!({ "metadata": { "ownerReferences": owner } }),
            Some(METADATA),
        ),
        of_operator(image(), Some(THE_REST)),
        of_operator(json!({ "spec": { "activeDeadlineSeconds": 1 } }), Some(THE_REST)),
    ];
    for labels in [
        json!({}),
        json!({ "app.kubernetes.io/name": "mcp-auth-gate" }),
        json!({ "mcpauth.dev/server": "notes" }),
        json!({ "app.kubernetes.io/name": "notes", "mcpauth.dev/server": "notes" }),
    ] {
        cases.push(case(labels.clone(), OPERATOR, version(), Some(NOT_OF_A_GATE)));
        let mut becomes_one = version();
        becomes_one["metadata"]["labels"] = gate();
        cases.push(case(labels, OPERATOR, becomes_one, Some(NOT_OF_A_GATE)));
    }
    cases.extend([
        case(gate(), ELSEWHERE, version(), None),
        case(gate(), ELSEWHERE, image(), Some(THE_REST)),
    ]);
    for who in [DEVELOPER, SIMILAR] {
        for labels in [gate(), json!({ "app": "notes" })] {
            cases.extend([
                case(labels.clone(), who, image(), None),
                case(labels.clone(), who, label("example.com/a", json!("b")), None),
                case(labels, who, annotate(json!({ "example.com/b": "c" })), None),
            ]);
        }
    }
    cases
}

pub(super) async fn only_annotations_of_gates(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = world.control_plane();
    cluster.kubectl().apply(RIGHTS).await?;
    let admin: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let mut table = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        let name = format!("pod-{number}");
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": case.labels,
                "annotations": { "mcpauth.dev/gate-version": "1", "example.com/a": "theirs" },
            },
            // Nobody runs it: a node would try for minutes to get the images.
            "spec": {
                "schedulerName": "nobody",
                "automountServiceAccountToken": false,
                "containers": [{ "name": "gate", "image": "gate:1" }],
            },
        }))?;
        let made = admin.create(&PostParams::default(), &pod).await?;
        let mut patch = case.patch.clone();
        // As the operator does, so that it is never another pod of the same name.
        patch["metadata"]["uid"] = json!(made.metadata.uid);
        let api: Api<Pod> = Api::namespaced(user(cluster, case.who).await?, NAMESPACE);
        let patch = Patch::Strategic(patch);
        let said = match api.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.message),
            Err(error) => return Err(error).context("no answer"),
        };
        let as_intended = match (case.refusal, &said) {
            (None, None) => true,
            (Some(words), Some(said)) => said.contains(words),
            _ => false,
        };
        if !as_intended {
            table.push(format!(
                "case {number}, {} with {} at {}: expected {}, got {}",
                case.who,
                case.patch,
                case.labels,
                case.refusal.unwrap_or("success"),
                said.as_deref().unwrap_or("success")
            ));
        }
    }
    ensure!(table.is_empty(), "not as intended:\n{}", table.join("\n"));
    Ok(())
}
