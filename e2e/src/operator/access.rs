//! The rights of one story's operator: the shipped roles, bound the way `config/rbac` says for an operator that
//! serves some namespaces only.

use anyhow::Context;
use serde_json::{Value, json};

use super::OperatorOptions;
use crate::{control_plane::ControlPlane, world::SHIPPED_NAMESPACE};

/// The name of the operator's ServiceAccount, and of the roles that are shipped for it.
pub const SERVICE_ACCOUNT: &str = "mcp-auth-operator";

/// Gives the ServiceAccount of the operator's namespace what the shipped manifests give the shipped one.
pub(super) async fn grant(cluster: &ControlPlane, options: &OperatorOptions) -> anyhow::Result<()> {
    let own = options.namespace.as_str();
    let get_role = ["get", "role", SERVICE_ACCOUNT, "--namespace", SHIPPED_NAMESPACE];
    let shipped: Value = cluster
        .kubectl()
        .json(&get_role)
        .await
        .context("config/rbac is not installed")?;
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": SERVICE_ACCOUNT, "namespace": own },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": SERVICE_ACCOUNT, "namespace": own },
            "rules": shipped["rules"],
        }),
        binding(own, Some(own), SERVICE_ACCOUNT, "Role", SERVICE_ACCOUNT),
        binding(
            own,
            None,
            &format!("{own}-cluster"),
            "ClusterRole",
            "mcp-auth-operator-cluster",
        ),
        binding(own, Some("default"), own, "Role", "mcp-auth-operator-api-server"),
    ];
    if options.watch_namespaces.is_empty() {
        objects.push(binding(own, None, own, "ClusterRole", SERVICE_ACCOUNT));
    }
    for served in &options.watch_namespaces {
        let name = format!("served-by-{own}");
        objects.push(binding(own, Some(served), &name, "ClusterRole", SERVICE_ACCOUNT));
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    cluster.kubectl().apply(&list.to_string()).await.map(drop)
}

/// Takes away what [`grant`] gave outside the namespace `own` and the namespaces that are served.
pub async fn revoke(cluster: &ControlPlane, own: &str) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    let everywhere = format!("{own}-cluster");
    for (kind, name, namespace) in [
        ("clusterrolebinding", everywhere.as_str(), None),
        ("clusterrolebinding", own, None),
        ("rolebinding", own, Some("default")),
    ] {
        let mut delete = vec!["delete", kind, name, "--ignore-not-found"];
        delete.extend(namespace.map(|_| "--namespace=default"));
        kubectl.must(&delete).await?;
    }
    Ok(())
}

/// Binds a role to the ServiceAccount of the namespace `own`: in one namespace, or everywhere.
fn binding(own: &str, namespace: Option<&str>, name: &str, role_kind: &str, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": { "name": name, "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": own }],
    })
}
