//! What happens to an McpServer when the annotations of its Service change.

use std::sync::Arc;

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{
    AUTHORIZATION_SERVER, PATH, PORT, RESOURCE, SCOPES, Told, annotate, annotations, is_refusal, is_told,
    mcp_server, prepare, ready_server, server_of, service, stored, told, variable_becomes, warning,
};
use crate::{
    fixtures::{SOON, ready},
    inventory::{Realm, becomes},
};

/// What is said when the McpServer has to be replaced because `what` changed.
fn replacing(what: &str) -> Told {
    let note = format!("{what} changed, which an McpServer cannot follow: it is deleted and created anew");
    ("Normal".to_owned(), "ReplacingServer".to_owned(), note, 1)
}

/// Waits until the McpServer `orders` is another one than before and Ready. Gives it.
async fn replaced(env: &StoryEnv, before: &Value) -> anyhow::Result<Value> {
    wait_for("another McpServer", SOON, async || {
        let uid = mcp_server(env, "orders").await?["metadata"]["uid"].clone();
        Ok(if uid == before["metadata"]["uid"] {
            Seen::NotYet("the same".to_owned())
        } else {
            Seen::Done(())
        })
    })
    .await?;
    ready_server(env, "orders").await
}

/// The names of what the realm has more than `empty`.
fn more(realm: &Realm, empty: &Realm) -> (Vec<String>, Vec<String>) {
    let clients = realm
        .clients
        .keys()
        .filter(|name| !empty.clients.contains_key(*name));
    let scopes = realm
        .scopes
        .keys()
        .filter(|name| !empty.scopes.contains_key(*name));
    (clients.cloned().collect(), scopes.cloned().collect())
}

/// Waits until the realm holds this client and these scopes beside what it held before.
async fn realm_becomes(env: &StoryEnv, empty: &Realm, client: &str, scopes: &[&str]) -> anyhow::Result<()> {
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let expected = (vec![client.to_owned()], scopes);
    becomes("what is at Keycloak", &expected, SOON, async || {
        Ok(more(&Realm::read(env).await?, empty))
    })
    .await
}

pub(super) async fn are_followed(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-changes").await?;
    let operator = env.start_operator().await?;
    let empty = prepare(&env).await?;
    env.apply(&env.authorization_server("other")).await?;
    env.apply(&service(env.namespace(), "orders", &annotations("orders")))
        .await?;
    let first = ready_server(&env, "orders").await?;
    patched(&env, &first, &empty).await?;

    // A resource is for ever: another one is another McpServer.
    let v2 = "https://orders.example.com/v2";
    annotate(&env, "orders", &json!({ RESOURCE: v2 })).await?;
    let second = replaced(&env, &first).await?;
    ensure!(second["spec"]["resource"] == v2, "{}", second["spec"]);
    realm_becomes(&env, &empty, v2, &["orders:admin", "orders:read"]).await?;
    variable_becomes(&env, "orders", "MCP_AUTH_AUDIENCE", v2).await?;
    let service = stored(&env, "orders").await?;
    is_told(&env, &service, &[replacing("The resource")]).await?;

    // So it is with the AuthorizationServer.
    ready(&env, ("AuthorizationServer", env.namespace(), "other"), SOON).await?;
    env.proxy().clear();
    annotate(&env, "orders", &json!({ AUTHORIZATION_SERVER: "other" })).await?;
    let third = replaced(&env, &second).await?;
    ensure!(
        third["spec"]["authorizationServerRef"] == json!({ "name": "other" }),
        "{}",
        third["spec"]
    );
    realm_becomes(&env, &empty, v2, &["orders:admin", "orders:read"]).await?;
    let of_the_client = |method: Method| {
        let writes = env.proxy().writes().into_iter();
        let mut paths = writes
            .filter(|call| call.method == method)
            .map(|call| call.target);
        match method {
            Method::POST => paths.any(|path| path.ends_with("/clients")),
            _ => paths.any(|path| path.rsplit('/').nth(1) == Some("clients")),
        }
    };
    ensure!(
        of_the_client(Method::DELETE) && of_the_client(Method::POST),
        "the client was not made anew: {:#?}",
        env.proxy().writes()
    );
    let twice = [replacing("The resource"), replacing("The AuthorizationServer")];
    is_told(&env, &service, &twice).await?;
    operator.stop().await
}

/// What an McpServer can follow is changed on the McpServer that is there.
async fn patched(env: &StoryEnv, first: &Value, empty: &Realm) -> anyhow::Result<()> {
    let changes = json!({ SCOPES: "orders:read orders:admin", PORT: "9090", PATH: "/v2" });
    annotate(env, "orders", &changes).await?;
    let scopes = ["orders:admin", "orders:read"];
    realm_becomes(env, empty, "https://orders.example.com/mcp", &scopes).await?;
    variable_becomes(env, "orders", "MCP_AUTH_SCOPES", "orders:admin orders:read").await?;
    let server = ready_server(env, "orders").await?;
    ensure!(
        server["metadata"]["uid"] == first["metadata"]["uid"],
        "it was replaced"
    );
    let target = json!({ "service": "orders", "port": 9090, "path": "/v2" });
    ensure!(server["spec"]["target"] == target, "{}", server["spec"]);

    // What annotations cannot say, its user may say on the McpServer.
    let described = json!({ "spec": { "scopes": [
        { "name": "orders:read", "description": "Read orders" }, { "name": "orders:admin" },
    ] } });
    let (space, patch) = (env.namespace(), described.to_string());
    let arguments = [
        "patch",
        "mcpserver",
        "orders",
        "-n",
        space,
        "--type=merge",
        "--patch",
        &patch,
    ];
    env.kubectl().must(&arguments).await?;

    // What is no longer said is taken back, and a name on two ways is the same name.
    let own = format!("{space}/main");
    let changes = json!({ PATH: null, AUTHORIZATION_SERVER: own });
    let service = annotate(env, "orders", &changes).await?;
    wait_for("the McpServer without path", SOON, async || {
        let server = mcp_server(env, "orders").await?;
        Ok(if server["spec"]["target"]["path"].is_null() {
            Seen::Done(())
        } else {
            Seen::NotYet(server["spec"].to_string())
        })
    })
    .await?;
    let server = ready_server(env, "orders").await?;
    ensure!(
        server["metadata"]["uid"] == first["metadata"]["uid"],
        "it was replaced"
    );
    let scopes = server["spec"]["scopes"].to_string();
    ensure!(scopes.contains("Read orders"), "{scopes}");
    is_told(env, &service, &[]).await
}

/// Changes for the worse, and what is to be said about each; None: what the API server says.
fn changes_for_the_worse() -> [(Value, Option<&'static str>); 4] {
    [
        (
            json!({ RESOURCE: "https://orders.example.com/v2", SCOPES: "orders:read, orders:write" }),
            Some(
                "set mcpauth.dev/scopes to at most 64 scope names separated by single spaces, each once and of at most 128 characters",
            ),
        ),
        // A URL parser takes it, the schema of McpServers does not.
        (json!({ RESOURCE: "https://orders_v2.example.com/mcp" }), None),
        (
            json!({ PORT: "gone" }),
            Some("set mcpauth.dev/port to a port of the Service, one of mcp, 80, metrics, 9090"),
        ),
        (
            json!({ AUTHORIZATION_SERVER: null }),
            Some("set mcpauth.dev/authorization-server to [namespace/]name of an AuthorizationServer"),
        ),
    ]
}

pub(super) async fn cannot_be_followed(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-worse").await?;
    let operator = env.start_operator().await?;
    prepare(&env).await?;
    let good = annotations("orders");
    env.apply(&service(env.namespace(), "orders", &good)).await?;
    let before = ready_server(&env, "orders").await?;
    let service = stored(&env, "orders").await?;
    let realm = Realm::read(&env).await?;
    env.proxy().clear();

    let mut expected = Vec::new();
    for (worse, note) in changes_for_the_worse() {
        annotate(&env, "orders", &worse).await?;
        expected.push(match note {
            Some(note) => warning("BadAnnotation", note),
            None => refused_by_the_api_server(&env, &service, expected.len()).await?,
        });
        is_told(&env, &service, &expected).await?;
        annotate(&env, "orders", &good).await?;
    }
    // The good annotations are seen again before anything is compared.
    annotate(&env, "orders", &json!({ PATH: "/last" })).await?;
    wait_for("the last change", SOON, async || {
        let path = mcp_server(&env, "orders").await?["spec"]["target"]["path"].clone();
        Ok(if path == "/last" {
            Seen::Done(())
        } else {
            Seen::NotYet(path.to_string())
        })
    })
    .await?;
    ready(&env, server_of(&env, "orders"), SOON).await?;
    let after = mcp_server(&env, "orders").await?;
    ensure!(
        after["metadata"]["uid"] == before["metadata"]["uid"],
        "it was replaced"
    );
    ensure!(
        after["metadata"]["generation"] == json!(before["metadata"]["generation"].as_i64().unwrap_or(0) + 1),
        "more than the last change was made: {}",
        after["metadata"]
    );
    ensure!(Realm::read(&env).await? == realm, "something changed at Keycloak");
    let writes = env.proxy().writes();
    ensure!(writes.is_empty(), "{writes:#?}");
    is_told(&env, &service, &expected).await?;
    operator.stop().await
}

/// Waits for a Warning that hands on what the API server says, and checks that it says what to do.
async fn refused_by_the_api_server(env: &StoryEnv, service: &Value, number: usize) -> anyhow::Result<Told> {
    let said = wait_for("the words of the API server", SOON, async || {
        let told = told(env, service).await?;
        Ok(match told.get(number) {
            Some(said) => Seen::Done(said.clone()),
            None => Seen::NotYet(format!("{told:?}")),
        })
    })
    .await?;
    is_refusal(&said, "resource is written as URL parsers return it")?;
    Ok(said)
}
