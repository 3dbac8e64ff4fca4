//! What annotations have no power over: McpServers of others, and AuthorizationServers that grant nothing.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{
    AUTHORIZATION_SERVER, annotate, annotations, is_told, mcp_server, prepare, ready_server, service, stored,
    told, warning,
};
use crate::{
    fixtures::{SOON, because, ready, server},
    inventory::Realm,
};

/// An object without what the operator says and does to every McpServer: its status, and who wrote what when.
fn plain(server: &Value) -> Value {
    let mut server = server.clone();
    if let Some(fields) = server.as_object_mut() {
        fields.remove("status");
    }
    for field in ["resourceVersion", "managedFields"] {
        if let Some(meta) = server["metadata"].as_object_mut() {
            meta.remove(field);
        }
    }
    server
}

pub(super) async fn stay_untouched(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-foreign").await?;
    let operator = env.start_operator().await?;
    prepare(&env).await?;
    let space = env.namespace();
    // One that nobody owns, and one that its user lets go with a Service, which does not make it the Service's.
    let plain_service = service(space, "linked", &json!({}));
    env.apply(&plain_service).await?;
    let linked_service = stored(&env, "linked").await?;
    let mut linked = server(&env, "linked");
    linked["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Service", "name": "linked", "uid": linked_service["metadata"]["uid"],
    }]);
    env.apply(&server(&env, "free")).await?;
    env.apply(&linked).await?;
    let before = [
        ready_server(&env, "free").await?,
        ready_server(&env, "linked").await?,
    ];
    let realm = Realm::read(&env).await?;
    env.proxy().clear();

    env.apply(&service(space, "free", &annotations("other"))).await?;
    annotate(&env, "linked", &annotations("another")).await?;
    for name in ["free", "linked"] {
        let note = format!(
            "McpServer {name} exists and does not belong to this Service: remove the annotations, or delete it"
        );
        is_told(
            &env,
            &stored(&env, name).await?,
            &[warning("ServerNotOwned", &note)],
        )
        .await?;
    }
    // Nor does it go with the annotations.
    let mut nulls = annotations("another");
    for value in nulls
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        *value = Value::Null;
    }
    annotate(&env, "linked", &nulls).await?;
    // A Service that is looked at after these two shows that they had their turn.
    env.apply(&service(space, "last", &annotations("last"))).await?;
    ready_server(&env, "last").await?;
    for server in &before {
        let name = server["metadata"]["name"].as_str().unwrap_or_default();
        let now = mcp_server(&env, name).await?;
        ensure!(plain(&now) == plain(server), "{name} was changed: {now}");
    }
    let now = Realm::read(&env).await?;
    ensure!(
        realm
            .clients
            .iter()
            .all(|client| now.clients.get(client.0) == Some(client.1)),
        "clients were changed"
    );
    let others = ["https://other.example.com/mcp", "https://another.example.com/mcp"];
    ensure!(
        !others.iter().any(|client| now.clients.contains_key(*client)),
        "{:?}",
        now.clients
    );

    // When its owner deletes it, the Service gets one of its own.
    env.kubectl()
        .must(&["delete", "mcpserver", "free", "-n", space])
        .await?;
    ready(&env, ("McpServer", space, "free"), SOON).await?;
    let own = mcp_server(&env, "free").await?;
    ensure!(
        own["spec"]["resource"] == "https://other.example.com/mcp",
        "{own}"
    );
    operator.stop().await
}

/// Another namespace's AuthorizationServer may be named, but that gives no right to use it.
pub(super) async fn grants_nothing(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "service-grants").await?;
    let tenant = env.add_namespace("tenant").await?;
    let operator = env.start_operator().await?;
    let empty = prepare(&env).await?;
    env.proxy().clear();
    let platform = env.namespace();
    let mut wanted = annotations("orders");
    wanted[AUTHORIZATION_SERVER] = json!(format!("{platform}/main"));
    env.apply(&service(&tenant, "orders", &wanted)).await?;
    let orders = ("McpServer", tenant.as_str(), "orders");
    let said = because(&env, orders, ("Accepted", "False", "NamespaceNotGranted")).await?;
    let message = format!(
        "Namespace {tenant} may not register MCP servers: ask for a grant with servers in AuthorizationServer {platform}/main"
    );
    ensure!(said["message"] == message, "{said}");
    ensure!(
        Realm::read(&env).await? == empty,
        "something was made at Keycloak"
    );
    ensure!(env.proxy().writes().is_empty(), "{:#?}", env.proxy().writes());

    let mut home = env.authorization_server("main");
    home["spec"]["grants"] = json!([{
        "namespaces": { "from": "All" },
        "servers": { "hosts": ["orders.example.com"], "scopePrefixes": ["orders:"] },
    }]);
    env.apply(&home).await?;
    ready(&env, orders, SOON).await?;
    let service = env
        .kubectl()
        .json::<Value>(&["get", "service", "orders", "-n", &tenant])
        .await
        .context("the Service is gone")?;
    ensure!(
        told(&env, &service).await?.is_empty(),
        "the McpServer says it, not the Service"
    );
    operator.stop().await
}
