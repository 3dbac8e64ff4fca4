//! The rights of one story's operator: the shipped roles, bound the way `config/rbac` says for an operator that
//! serves some namespaces only.

use anyhow::Context;
use serde_json::{Value, json};

use super::OperatorOptions;
use crate::control_plane::ControlPlane;

/// The name of the operator's ServiceAccount, and of the roles that are shipped for it.
pub const SERVICE_ACCOUNT: &str = "mcp-auth-operator";

/// Where the shipped manifests put the operator.
const SHIPPED_NAMESPACE: &str = "mcp-auth-system";

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
