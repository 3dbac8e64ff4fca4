//! Credentials are replaced while workloads use them.

mod overlap;
mod revocation;
pub(crate) mod workload;

use std::time::Duration;

use mcp_auth_e2e::{
    operator::Operator,
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
};
use serde_json::{Value, json};

use crate::fixtures::{Named, SOON, apply_all, machine, ready, server};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "rotation::nobody_is_refused_through_ten_rotations",
            overlap::nobody_is_refused,
        ),
        Story::new("rotation::a_gap_where_secrets_cannot_overlap", overlap::gap),
        Story::new("rotation::the_realm_is_left_as_it_was", overlap::realm_as_before),
        Story::new("rotation::revoked_is_refused_at_once", revocation::revoked),
    ]
}

const ROTATE: &str = "mcpauth.dev/rotate-requested-at";
const REVOKE: &str = "mcpauth.dev/revoke-requested-at";

/// A client that gets tokens for itself, with this overlap.
fn reader(env: &StoryEnv, overlap: Duration) -> Value {
    let mut client = machine(env, "reader", &["notes"]);
    client["spec"]["rotation"] = json!({ "overlap": format!("{}s", overlap.as_secs()) });
    client
}

fn named(env: &StoryEnv) -> Named<'_> {
    ("McpClient", env.namespace(), "reader")
}

/// An operator with a server and the client `reader`, which is Ready.
async fn at_work(env: &StoryEnv, overlap: Duration) -> anyhow::Result<Operator> {
    let operator = env.start_operator().await?;
    let objects = [
        env.authorization_server("main"),
        server(env, "notes"),
        reader(env, overlap),
    ];
    apply_all(env, &objects).await?;
    ready(env, named(env), SOON).await?;
    Ok(operator)
}

async fn annotate(env: &StoryEnv, annotation: &str, value: &str) -> anyhow::Result<()> {
    let assignment = format!("{annotation}={value}");
    let arguments = [
        "annotate",
        "mcpclient",
        "reader",
        "--overwrite",
        &assignment,
        "-n",
        env.namespace(),
    ];
    env.kubectl().must(&arguments).await.map(drop)
}

/// Waits until the status of the client is as it should be. Gives it.
async fn status(env: &StoryEnv, what: &str, right: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    wait_for(what, SOON, async || {
        let (kind, namespace, name) = named(env);
        let object = env.get(kind, namespace, name).await?.unwrap_or_default();
        let status = &object["status"];
        Ok(if right(status) {
            Seen::Done(status.clone())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}

async fn secret(env: &StoryEnv) -> anyhow::Result<String> {
    env.secret_value(env.namespace(), "reader-mcp-client", "client-secret")
        .await
}

/// Whether the client is ready with its credential, as the status says.
fn credentials_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let found = conditions.into_iter().flatten();
    found
        .into_iter()
        .any(|condition| condition["type"] == "CredentialsReady" && condition["status"] == "True")
}
