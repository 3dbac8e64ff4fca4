//! Annotated Services: what becomes of them, how changes are followed, and what is said about bad ones.

mod changes;
mod foreign;
mod gate;
mod refused;

use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Service},
    events::v1::Event,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use mcp_auth_e2e::{
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{Named, SOON, apply_all, ready},
    inventory::{Realm, becomes, published},
};

const AUTHORIZATION_SERVER: &str = "mcpauth.dev/authorization-server";
const RESOURCE: &str = "mcpauth.dev/resource";
const SCOPES: &str = "mcpauth.dev/scopes";
const PORT: &str = "mcpauth.dev/port";
const PATH: &str = "mcpauth.dev/path";
const ENFORCEMENT: &str = "mcpauth.dev/enforcement";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "services::an_annotated_service_becomes_a_server_and_takes_it_along",
            becomes_a_server,
        ),
        Story::new(
            "services::changed_annotations_are_followed",
            changes::are_followed,
        ),
        Story::new(
            "services::what_cannot_be_followed_leaves_the_server_as_it_was",
            changes::cannot_be_followed,
        ),
        Story::new(
            "services::bad_annotations_are_told_once_and_make_nothing",
            refused::told_once,
        ),
        Story::new(
            "services::servers_of_others_stay_untouched",
            foreign::stay_untouched,
        ),
        Story::new("services::an_annotation_grants_nothing", foreign::grants_nothing),
        Story::new("services::a_gate_is_what_absence_means", gate::is_the_default),
    ]
}

/// Annotations that use everything there is, for a Service of this name.
fn annotations(name: &str) -> Value {
    json!({
        AUTHORIZATION_SERVER: "main",
        RESOURCE: format!("https://{name}.example.com/mcp"),
        SCOPES: format!("{name}:read {name}:write"),
        PORT: "mcp",
        PATH: "/endpoint",
        ENFORCEMENT: "External",
        "example.com/other": "not for us",
    })
}

/// A Service with two ports.
fn service(namespace: &str, name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": namespace, "name": name,
            "labels": { "example.com/team": "payments" },
            "annotations": annotations,
        },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "mcp", "port": 80 }, { "name": "metrics", "port": 9090 }],
        },
    })
}

fn services(env: &StoryEnv) -> Api<Service> {
    Api::namespaced(env.client(), env.namespace())
}

/// A Service as it is now, with everything that a write would change.
async fn stored(env: &StoryEnv, name: &str) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(services(env).get(name).await?)?)
}

/// Merges this into the annotations of a Service; null removes one. Gives the Service as it is then.
async fn annotate(env: &StoryEnv, name: &str, annotations: &Value) -> anyhow::Result<Value> {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    let service = services(env).patch(name, &PatchParams::default(), &patch).await?;
    Ok(serde_json::to_value(service)?)
}

/// The McpServer of a Service, as the wait functions want it.
fn server_of<'a>(env: &'a StoryEnv, name: &'a str) -> Named<'a> {
    ("McpServer", env.namespace(), name)
}

/// The McpServer of this name.
async fn mcp_server(env: &StoryEnv, name: &str) -> anyhow::Result<Value> {
    let server = env.get("McpServer", env.namespace(), name).await?;
    server.with_context(|| format!("there is no McpServer {name}"))
}

/// Waits until the McpServer of a Service is Ready, and gives it.
async fn ready_server(env: &StoryEnv, name: &str) -> anyhow::Result<Value> {
    ready(env, server_of(env, name), SOON).await?;
    mcp_server(env, name).await
}

/// What was said about a Service: type, reason, note, and how often, oldest first.
type Told = (String, String, String, i32);

/// One Warning that was said once.
fn warning(reason: &str, note: &str) -> Told {
    ("Warning".to_owned(), reason.to_owned(), note.to_owned(), 1)
}

/// Checks that a Warning hands on these words of the API server, and no more than fits.
fn is_refusal((kind, reason, note, count): &Told, words: &str) -> anyhow::Result<()> {
    let begins = "change the Service: the API server refuses its McpServer: ";
    let fits = note.starts_with(begins) && note.contains(words) && note.len() <= 1000;
    ensure!(
        fits && (kind.as_str(), reason.as_str(), *count) == ("Warning", "ServerRefused", 1),
        "{kind} {reason} ({count}): {note}"
    );
    Ok(())
}

/// Every Event of the operator about this Service in its present incarnation.
async fn told(env: &StoryEnv, service: &Value) -> anyhow::Result<Vec<Told>> {
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let events = Api::<Event>::namespaced(env.client(), namespace)
        .list(&ListParams::default())
        .await?;
    let uid = service["metadata"]["uid"].as_str();
    let mut about: Vec<Event> = events
        .items
        .into_iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("mcp-auth-operator"))
        .filter(|event| event.regarding.as_ref().and_then(|about| about.uid.as_deref()) == uid)
        .collect();
    about.sort_by_key(|event| event.event_time.clone());
    Ok(about.into_iter().map(as_told).collect())
}

fn as_told(event: Event) -> Told {
    (
        event.type_.unwrap_or_default(),
        event.reason.unwrap_or_default(),
        event.note.unwrap_or_default(),
        event.series.map_or(1, |series| series.count),
    )
}

/// Waits until exactly this was said about a Service.
async fn is_told(env: &StoryEnv, service: &Value, expected: &[Told]) -> anyhow::Result<()> {
    let name = &service["metadata"]["name"];
    let what = format!("the Events of Service {name}");
    becomes(&what, &expected.to_vec(), SOON, async || told(env, service).await).await
}

/// Waits until the realm and the namespace are as they were before any McpServer.
async fn is_clean(env: &StoryEnv, before: &Realm) -> anyhow::Result<()> {
    becomes("the realm", before, SOON, async || Realm::read(env).await).await?;
    let nothing = std::collections::BTreeSet::new();
    becomes("the namespace", &nothing, SOON, async || {
        published(env, env.namespace()).await
    })
    .await
}

/// Starts with a Ready AuthorizationServer. Gives what the realm holds then.
async fn prepare(env: &StoryEnv) -> anyhow::Result<Realm> {
    let before = Realm::read(env).await?;
    env.apply(&env.authorization_server("main")).await?;
    ready(env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;
    Ok(before)
}

async fn becomes_a_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-lifecycle").await?;
    let operator = env.start_operator().await?;
    let before = prepare(&env).await?;
    let space = env.namespace();
    let orders = service(space, "orders", &annotations("orders"));
    // The least that works without a gate: a Service with one port, and three annotations.
    let least = json!({
        AUTHORIZATION_SERVER: format!("{space}/main"), RESOURCE: "https://least.example.com/", ENFORCEMENT: "External",
    });
    let mut least = service(space, "least", &least);
    least["spec"]["ports"] = json!([{ "port": 80 }]);
    apply_all(&env, &[orders, least]).await?;
    let (orders, least) = (stored(&env, "orders").await?, stored(&env, "least").await?);

    let server = ready_server(&env, "orders").await?;
    is_made_of_the_service_alone(&server, &orders)?;
    has_its_config_maps(&env).await?;
    let small = ready_server(&env, "least").await?;
    let spec = json!({
        "authorizationServerRef": { "namespace": space, "name": "main" },
        "resource": "https://least.example.com/",
        "target": { "service": "least" },
        "enforcement": { "mode": "External" },
    });
    ensure!(small["spec"] == spec, "{}", small["spec"]);
    let realm = Realm::read(&env).await?;
    for client in ["https://orders.example.com/mcp", "https://least.example.com/"] {
        ensure!(realm.clients.contains_key(client), "no client {client}");
    }
    for scope in ["orders:read", "orders:write", &format!("mcp.{space}.least")] {
        ensure!(realm.scopes.contains_key(scope), "no scope {scope}");
    }
    for (name, then) in [("orders", &orders), ("least", &least)] {
        let now = stored(&env, name).await?;
        ensure!(now == *then, "the operator wrote to the Service: {now}");
        ensure!(told(&env, then).await?.is_empty(), "nothing is to be said");
    }

    // Without annotations there is no McpServer, and the Service is as the user left it.
    let nulls = json!({ AUTHORIZATION_SERVER: null, RESOURCE: null, SCOPES: null, PORT: null, PATH: null, ENFORCEMENT: null });
    let orders = annotate(&env, "orders", &nulls).await?;
    env.wait_gone("mcpserver", space, "orders", SOON).await?;
    ensure!(
        stored(&env, "orders").await? == orders,
        "the Service was written to"
    );
    ensure!(told(&env, &orders).await?.is_empty(), "nothing is to be said");

    comes_back(&env, &small).await?;
    // Without the Service, the garbage collector takes the McpServer along.
    env.kubectl()
        .must(&["delete", "service", "least", "-n", space])
        .await?;
    env.wait_gone("mcpserver", space, "least", SOON).await?;
    is_clean(&env, &before).await?;
    operator.stop().await
}

/// A Service that is deleted and made again at once gets an McpServer of its own: the old one goes with its owner.
async fn comes_back(env: &StoryEnv, before: &Value) -> anyhow::Result<()> {
    let mut least = stored(env, "least").await?;
    if let Some(meta) = least["metadata"].as_object_mut() {
        meta.retain(|field, _| ["name", "namespace", "annotations", "labels"].contains(&field.as_str()));
    }
    least["apiVersion"] = json!("v1");
    least["kind"] = json!("Service");
    let arguments = ["replace", "--force", "--filename", "-"];
    let replaced = env.kubectl().run_stdin(&arguments, &least.to_string()).await?;
    replaced.or_fail(&arguments)?;
    let least = stored(env, "least").await?;
    wait_for("an McpServer of the new Service", SOON, async || {
        let owner = mcp_server(env, "least").await?["metadata"]["ownerReferences"][0]["uid"].clone();
        Ok(if owner == least["metadata"]["uid"] {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("one of {owner}"))
        })
    })
    .await?;
    let after = ready_server(env, "least").await?;
    ensure!(
        after["metadata"]["uid"] != before["metadata"]["uid"],
        "the old one was taken over"
    );
    let said = told(env, &least).await?;
    ensure!(said.is_empty(), "{said:?}");
    Ok(())
}

/// Everything of the McpServer follows from the Service's annotations; nothing else of the Service is in it.
fn is_made_of_the_service_alone(server: &Value, service: &Value) -> anyhow::Result<()> {
    let spec = json!({
        "authorizationServerRef": { "name": "main" },
        "resource": "https://orders.example.com/mcp",
        "scopes": [{ "name": "orders:read" }, { "name": "orders:write" }],
        "target": { "service": "orders", "port": "mcp", "path": "/endpoint" },
        "enforcement": { "mode": "External" },
    });
    ensure!(server["spec"] == spec, "{}", server["spec"]);
    let meta = &server["metadata"];
    let owners = json!([{
        "apiVersion": "v1", "kind": "Service", "name": "orders",
        "uid": service["metadata"]["uid"], "controller": true,
    }]);
    ensure!(meta["ownerReferences"] == owners, "{}", meta["ownerReferences"]);
    let labels = json!({ "app.kubernetes.io/managed-by": "mcp-auth-operator" });
    ensure!(meta["labels"] == labels, "{}", meta["labels"]);
    ensure!(meta["annotations"].is_null(), "{}", meta["annotations"]);
    Ok(())
}

/// The ConfigMaps of `orders`, whole.
async fn has_its_config_maps(env: &StoryEnv) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    let issuer = env.realm().issuer();
    let variables = serde_json::to_value(maps.get("orders-mcp-auth").await?.data)?;
    let expected = json!({
        "MCP_AUTH_ISSUER": issuer,
        "MCP_AUTH_JWKS_URI": format!("{issuer}/protocol/openid-connect/certs"),
        "MCP_AUTH_AUDIENCE": "https://orders.example.com/mcp",
        "MCP_AUTH_RESOURCE": "https://orders.example.com/mcp",
        "MCP_AUTH_METADATA_URL": "https://orders.example.com/.well-known/oauth-protected-resource/mcp",
        "MCP_AUTH_SCOPES": "orders:read orders:write",
    });
    ensure!(variables == expected, "{variables}");
    let data = maps
        .get("orders-mcp-metadata")
        .await?
        .data
        .context("an empty ConfigMap")?;
    ensure!(data.len() == 1, "{data:?}");
    let document = data
        .get("oauth-protected-resource")
        .context("no metadata document")?;
    let document: Value = serde_json::from_str(document)?;
    let expected = json!({
        "resource": "https://orders.example.com/mcp",
        "authorization_servers": [issuer],
        "scopes_supported": ["orders:read", "orders:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "orders",
    });
    ensure!(document == expected, "{document}");
    Ok(())
}

/// Waits until a value of the ConfigMap of variables is this.
async fn variable_becomes(env: &StoryEnv, server: &str, name: &str, value: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    wait_for(&format!("{name} of {server}"), SOON, async || {
        let map = maps.get(&format!("{server}-mcp-auth")).await?;
        let is = map.data.unwrap_or_default().remove(name).unwrap_or_default();
        Ok(if is == value {
            Seen::Done(())
        } else {
            Seen::NotYet(is)
        })
    })
    .await
}
