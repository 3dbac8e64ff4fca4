//! Manifests and waits that several stories share.

use std::time::Duration;

use mcp_auth_e2e::{
    story::StoryEnv,
    wait::{Seen, wait_for},
};
use serde_json::{Value, json};

/// Long enough for a busy machine: for steps whose duration is not what the story is about.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// One of our objects, named as [`StoryEnv::wait_condition`] wants it: kind, namespace, name.
pub(crate) type Named<'a> = (&'a str, &'a str, &'a str);

/// An McpServer of the story's AuthorizationServer `main`, with one scope, `<name>:use`.
pub(crate) fn server(env: &StoryEnv, name: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": { "namespace": env.namespace(), "name": name },
        "spec": {
            "authorizationServerRef": { "name": "main" },
            "resource": format!("https://{name}.example.com/mcp"),
            "enforcement": { "mode": "External" },
            "scopes": [{ "name": format!("{name}:use"), "description": format!("Use {name}") }],
        },
    })
}

/// The same, open to all clients of its namespace and to their servers for token exchange.
pub(crate) fn open_server(env: &StoryEnv, name: &str) -> Value {
    let mut object = server(env, name);
    object["spec"]["allowedClients"] = json!([
        { "namespaces": { "from": "Same" } },
        { "namespaces": { "from": "Same" }, "exchange": true },
    ]);
    object
}

/// An McpClient that gets tokens for itself (`client_credentials`), with access to these servers.
pub(crate) fn machine(env: &StoryEnv, name: &str, servers: &[&str]) -> Value {
    client(
        env,
        name,
        &json!({ "grantTypes": ["client_credentials"] }),
        servers,
    )
}

/// An McpClient that signs users in and has a secret.
pub(crate) fn web(env: &StoryEnv, name: &str, servers: &[&str]) -> Value {
    let managed = json!({
        "grantTypes": ["authorization_code", "refresh_token"],
        "applicationType": "web",
        "redirectUris": [format!("https://{name}.example.com/callback")],
    });
    client(env, name, &managed, servers)
}

/// An McpClient that signs users in and has no secret.
pub(crate) fn native(env: &StoryEnv, name: &str, servers: &[&str]) -> Value {
    let managed = json!({
        "grantTypes": ["authorization_code", "refresh_token"],
        "applicationType": "native",
        "redirectUris": ["http://127.0.0.1/callback"],
        "authentication": { "method": "None" },
    });
    client(env, name, &managed, servers)
}

fn client(env: &StoryEnv, name: &str, managed: &Value, servers: &[&str]) -> Value {
    let access: Vec<Value> = servers
        .iter()
        .map(|server| json!({ "server": { "name": server } }))
        .collect();
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": { "namespace": env.namespace(), "name": name },
        "spec": {
            "authorizationServerRef": { "name": "main" },
            "managed": managed,
            "access": access,
        },
    })
}

/// A TokenExchangePolicy by which `server` exchanges tokens for `target`, by itself.
pub(crate) fn policy(env: &StoryEnv, name: &str, server: &str, target: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": { "namespace": env.namespace(), "name": name },
        "spec": {
            "serverRef": { "name": server },
            "mcpServerRef": { "name": target },
            "scopes": [{ "name": format!("{target}:use") }],
            "delivery": "Secret",
        },
    })
}

/// `kubectl apply` of many objects at once.
pub(crate) async fn apply_all(env: &StoryEnv, objects: &[Value]) -> anyhow::Result<()> {
    env.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))
        .await
}

/// Puts an annotation on a client.
pub(crate) async fn annotate(
    env: &StoryEnv,
    name: &str,
    annotation: &str,
    value: &str,
) -> anyhow::Result<()> {
    let assignment = format!("{annotation}={value}");
    let here = ["-n", env.namespace()];
    let arguments = [
        &["annotate", "mcpclient", name, "--overwrite", &assignment][..],
        &here,
    ]
    .concat();
    env.kubectl().must(&arguments).await.map(drop)
}

/// Waits until one of our objects is Ready.
pub(crate) async fn ready(env: &StoryEnv, object: Named<'_>, timeout: Duration) -> anyhow::Result<()> {
    env.wait_condition(object, ("Ready", "True"), timeout)
        .await
        .map(drop)
}

/// Waits until a condition has this status for this reason: on the way there it may have it for another. Gives the
/// condition.
pub(crate) async fn because(
    env: &StoryEnv,
    (kind, namespace, name): Named<'_>,
    (type_, status, reason): (&str, &str, &str),
) -> anyhow::Result<Value> {
    let what = format!("{type_}={status} ({reason}) of {kind} {namespace}/{name}");
    wait_for(&what, SOON, async || {
        let object = env.get(kind, namespace, name).await?.unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|found| found["type"] == type_);
        Ok(match found {
            Some(found) if found["status"] == status && found["reason"] == reason => Seen::Done(found),
            Some(other) => Seen::NotYet(other.to_string()),
            None => Seen::NotYet("no such condition".to_owned()),
        })
    })
    .await
}
