//! What others have in a tenant, and whether it is as it was.

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::auth0::Auth0;
use serde_json::{Value, json};

/// Whether everything of a tenant that was there before is byte for byte what it was.
pub(crate) fn is_untouched(auth0: &Auth0, before: &Value) -> anyhow::Result<()> {
    is_same(auth0.dashboard().everything(), before)
}

pub(super) fn is_same(mut now: Value, before: &Value) -> anyhow::Result<()> {
    // A tenant lets every new client of its own use every connection, unless a flag says otherwise.
    let connections = now.get_mut("connections").and_then(Value::as_object_mut);
    for connection in connections.into_iter().flatten() {
        if let Some(enabled) = connection.1["enabled_clients"].as_array_mut() {
            enabled.retain(|id| before["clients"][id.as_str().unwrap_or_default()].is_object());
        }
    }
    for (kind, before) in before.as_object().context("no tenant")? {
        for (id, thing) in before.as_object().into_iter().flatten() {
            ensure!(
                now[kind][id] == *thing,
                "{kind} {id}: {} was {thing}",
                now[kind][id]
            );
        }
    }
    Ok(())
}

/// What is in a tenant and was not before.
pub(crate) fn remains(auth0: &Auth0, before: &Value, kind: &str) -> Vec<Value> {
    added(&auth0.dashboard().everything(), before, kind)
}

pub(super) fn added(now: &Value, before: &Value, kind: &str) -> Vec<Value> {
    let things = now[kind].as_object().cloned().unwrap_or_default();
    let made = things
        .into_iter()
        .filter(|(id, _)| before[kind].get(id).is_none());
    made.map(|(_, thing)| thing).collect()
}

/// What others have in a tenant: applications, APIs and grants.
pub(super) async fn occupy(auth0: &Auth0) -> anyhow::Result<()> {
    let dashboard = auth0.dashboard();
    occupy_with("foreign", async |path, body| dashboard.post(path, body).await).await
}

pub(super) async fn occupy_with(
    name: &str,
    post: impl AsyncFn(&'static str, Value) -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    let foreign = foreign(name);
    let api = json!({"identifier": foreign, "name": "Foreign",
        "scopes": [{"value": "orders:read", "description": "Another one of that name"}]});
    post("resource-servers", api).await?;
    let client = json!({"name": format!("Foreign {name}"), "callbacks": [format!("{foreign}cb")],
        "client_metadata": {"team": "billing"}});
    let client = post("clients", client).await?;
    let grant = json!({"client_id": client["client_id"], "audience": foreign, "scope": ["orders:read"],
        "subject_type": "client"});
    post("client-grants", grant).await?;
    Ok(())
}

/// The API of others.
pub(super) fn foreign(name: &str) -> String {
    format!("https://{name}.example.com/")
}
