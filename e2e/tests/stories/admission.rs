//! The shipped admission policies: who may annotate Services, judged by the real API server.

mod pods;

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use http::Request;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mcp_auth_e2e::{
    control_plane::{self, ControlPlane},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

/// The namespace of the story.
const NAMESPACE: &str = "admission";
/// The one Service whose annotations change.
const SERVICE: &str = "orders";

const AUTHORIZATION_SERVER: &str = "mcpauth.dev/authorization-server";
const RESOURCE: &str = "mcpauth.dev/resource";
const SCOPES: &str = "mcpauth.dev/scopes";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "admission::only_who_may_write_servers_may_annotate_services",
            only_who_may_write_servers,
        ),
        Story::new(
            "admission::the_operator_may_only_annotate_pods_of_gates",
            pods::only_annotations_of_gates,
        ),
    ]
}

/// Who acts.
const DEVELOPER: &str = "services-only";
const CREATOR: &str = "services-and-creation";
const EDITOR: &str = "services-by-edit";
const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACE_CONTROLLER: &str = "system:serviceaccount:kube-system:namespace-controller";

/// What they may do: Services in every way; to create McpServers; what the role `edit` of every cluster allows.
const RIGHTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: admission}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: services, namespace: admission}
rules: [{apiGroups: [""], resources: [services, services/status], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: services, namespace: admission}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: services}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: services-only}, {apiGroup: rbac.authorization.k8s.io, kind: User, name: services-and-creation}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: servers, namespace: admission}
rules: [{apiGroups: [mcpauth.dev], resources: [mcpservers], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: servers, namespace: admission}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: servers}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: services-and-creation}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit, namespace: admission}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: services-by-edit}]
"#;

/// What somebody does with the Service.
enum Act {
    /// Creates it with these annotations.
    Create(Value),
    /// Merges this into its annotations; null removes one.
    Annotate(Value),
    /// The same, through the status subresource.
    AnnotateStatus(Value),
    /// Applies it with these annotations, server-side.
    Apply(Value),
    /// Puts it in its place without annotations.
    Strip,
    /// Changes labels and spec.
    ChangeTheRest,
    /// Deletes it.
    Delete,
    /// Deletes it with all others of the namespace.
    DeleteAll,
}

/// One line of the table: the annotations before (none: no Service), who does what, and the words of the refusal.
struct Case {
    before: Option<Value>,
    who: &'static str,
    act: Act,
    refusal: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |before, who, act, refusal| Case {
        before,
        who,
        act,
        refusal,
    };
    let both = || json!({ AUTHORIZATION_SERVER: "mcp-platform/company", RESOURCE: "https://orders.example.com/mcp" });
    let (none, annotated) = (|| Some(json!({})), || Some(both()));
    let other = || json!({ RESOURCE: "https://orders.example.com/v2" });
    let without = || json!({ RESOURCE: null });
    let create = Some("you may not create mcpservers.mcpauth.dev in namespace admission");
    let delete = Some("you may not delete mcpservers.mcpauth.dev in namespace admission");
    vec![
        // What has nothing to do with us is nobody's business.
        case(None, DEVELOPER, Act::Create(json!({})), None),
        case(
            None,
            DEVELOPER,
            Act::Create(json!({ "mcpauth.dev/unknown": "a", "example.com/b": "c" })),
            None,
        ),
        case(none(), DEVELOPER, Act::Delete, None),
        case(annotated(), DEVELOPER, Act::ChangeTheRest, None),
        case(
            annotated(),
            DEVELOPER,
            Act::Annotate(json!({ "example.com/b": "c" })),
            None,
        ),
        case(annotated(), DEVELOPER, Act::Annotate(both()), None),
        // Adding and changing needs the right to create.
        case(None, DEVELOPER, Act::Create(both()), create),
        case(None, DEVELOPER, Act::Create(other()), create),
        case(none(), DEVELOPER, Act::Annotate(both()), create),
        case(none(), DEVELOPER, Act::AnnotateStatus(both()), create),
        case(none(), DEVELOPER, Act::Apply(both()), create),
        case(annotated(), DEVELOPER, Act::Annotate(other()), create),
        case(
            annotated(),
            DEVELOPER,
            Act::Annotate(json!({ SCOPES: "a b" })),
            create,
        ),
        case(None, CREATOR, Act::Create(both()), None),
        case(annotated(), CREATOR, Act::Annotate(other()), None),
        case(None, EDITOR, Act::Create(both()), None),
        case(none(), EDITOR, Act::Annotate(both()), None),
        // Removing needs the right to delete, and so does what comes to the same.
        case(annotated(), DEVELOPER, Act::Annotate(without()), delete),
        case(annotated(), DEVELOPER, Act::Strip, delete),
        case(annotated(), DEVELOPER, Act::Delete, delete),
        case(annotated(), DEVELOPER, Act::DeleteAll, delete),
        case(annotated(), CREATOR, Act::Annotate(without()), delete),
        case(annotated(), CREATOR, Act::Delete, delete),
        case(annotated(), EDITOR, Act::Annotate(without()), None),
        case(annotated(), EDITOR, Act::Delete, None),
        // The cluster's own controllers are not held up.
        case(annotated(), GARBAGE_COLLECTOR, Act::Delete, None),
        case(annotated(), NAMESPACE_CONTROLLER, Act::DeleteAll, None),
    ]
}

async fn only_who_may_write_servers(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = world.control_plane();
    cluster.kubectl().apply(RIGHTS).await?;
    let admin = services(cluster.client());
    let mut table = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        prepare(&admin, case.before.as_ref()).await?;
        let client = user(cluster, case.who).await?;
        let said = perform(&client, &admin, &case.act).await?;
        let as_intended = match (case.refusal, &said) {
            (None, None) => true,
            (Some(words), Some(said)) => said.contains(words),
            _ => false,
        };
        if !as_intended {
            let (expected, got) = (
                case.refusal.unwrap_or("success"),
                said.as_deref().unwrap_or("success"),
            );
            table.push(format!(
                "case {number}, {}: expected {expected}, got {got}",
                case.who
            ));
        }
    }
    ensure!(table.is_empty(), "not as intended:\n{}", table.join("\n"));
    Ok(())
}

fn services(client: Client) -> Api<Service> {
    Api::namespaced(client, NAMESPACE)
}

async fn user(cluster: &ControlPlane, name: &str) -> anyhow::Result<Client> {
    control_plane::client(&cluster.user_kubeconfig(name, &[])?).await
}

fn service(annotations: &Value) -> anyhow::Result<Service> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": SERVICE, "annotations": annotations },
        "spec": { "ports": [{ "port": 80 }] },
    }))?)
}

/// Makes the Service what it is before somebody acts.
async fn prepare(admin: &Api<Service>, annotations: Option<&Value>) -> anyhow::Result<()> {
    match admin.delete(SERVICE, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if !status.is_not_found() => bail!("{}", status.message),
        _ => {}
    }
    if let Some(annotations) = annotations {
        admin
            .create(&PostParams::default(), &service(annotations)?)
            .await?;
    }
    Ok(())
}

/// Does it. Gives what the API server says against it.
async fn perform(client: &Client, admin: &Api<Service>, act: &Act) -> anyhow::Result<Option<String>> {
    let api = services(client.clone());
    let merge = |body: Value| Patch::Merge(body);
    let parameters = PatchParams::default();
    let annotations = |annotations: &Value| merge(json!({ "metadata": { "annotations": annotations } }));
    let outcome = match act {
        Act::Create(with) => api
            .create(&PostParams::default(), &service(with)?)
            .await
            .map(drop),
        Act::Annotate(with) => api
            .patch(SERVICE, &parameters, &annotations(with))
            .await
            .map(drop),
        Act::AnnotateStatus(with) => api
            .patch_status(SERVICE, &parameters, &annotations(with))
            .await
            .map(drop),
        Act::Apply(with) => {
            let parameters = PatchParams::apply("stories");
            api.patch(SERVICE, &parameters, &Patch::Apply(service(with)?))
                .await
                .map(drop)
        }
        Act::Strip => {
            let mut stripped = admin.get(SERVICE).await?;
            stripped.metadata.annotations = None;
            api.replace(SERVICE, &PostParams::default(), &stripped)
                .await
                .map(drop)
        }
        Act::ChangeTheRest => {
            let body =
                json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "sessionAffinity": "ClientIP" } });
            api.patch(SERVICE, &parameters, &merge(body)).await.map(drop)
        }
        Act::Delete => api.delete(SERVICE, &DeleteParams::default()).await.map(drop),
        Act::DeleteAll => {
            let url = format!("/api/v1/namespaces/{NAMESPACE}/services");
            client
                .request::<Value>(Request::delete(url).body(Vec::new())?)
                .await
                .map(drop)
        }
    };
    match outcome {
        Ok(()) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(error) => Err(error).context("no answer"),
    }
}
