//! Credentials are replaced while workloads use them.

mod overlap;
mod revocation;
pub(crate) mod workload;

use std::time::Duration;

use mcp_auth_e2e::{
    oauth::{Issuer, OAuthClient},
    operator::Operator,
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
};
use secrecy::SecretString;
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

pub(crate) const ROTATE: &str = "mcpauth.dev/rotate-requested-at";
pub(crate) const REVOKE: &str = "mcpauth.dev/revoke-requested-at";

/// A client that gets tokens for itself, with this overlap.
pub(crate) fn reader(env: &StoryEnv, overlap: Duration) -> Value {
    let mut client = machine(env, "reader", &["notes"]);
    client["spec"]["rotation"] = json!({ "overlap": format!("{}s", overlap.as_secs()) });
    client
}

pub(crate) fn named(env: &StoryEnv) -> Named<'_> {
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

pub(crate) async fn annotate(env: &StoryEnv, annotation: &str, value: &str) -> anyhow::Result<()> {
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
pub(crate) async fn status(
    env: &StoryEnv,
    what: &str,
    right: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    status_within(env, SOON, what, right).await
}

/// Waits until only the new credential is valid, which it is after the overlap.
pub(crate) async fn settled(env: &StoryEnv, overlap: Duration) -> anyhow::Result<()> {
    let right = |status: &Value| status["rotation"]["phase"] == "Settled";
    let what = "one valid credential";
    status_within(env, overlap + SOON, what, right).await.map(drop)
}

async fn status_within(
    env: &StoryEnv,
    patience: Duration,
    what: &str,
    right: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    wait_for(what, patience, async || {
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
    value(env, "client-secret").await
}

/// What is under this key in the client's Secret.
pub(crate) async fn value(env: &StoryEnv, key: &str) -> anyhow::Result<String> {
    env.secret_value(env.namespace(), "reader-mcp-client", key).await
}

/// The client with this credential of it, a secret or a private key.
pub(crate) fn authenticated(
    issuer: &Issuer,
    client_id: &str,
    credential: String,
) -> anyhow::Result<OAuthClient> {
    let is_key = credential.starts_with("-----BEGIN PRIVATE KEY-----");
    let credential = SecretString::from(credential);
    if is_key {
        OAuthClient::signing(client_id, &credential, issuer.url())
    } else {
        Ok(OAuthClient::confidential(client_id, credential))
    }
}

/// Whether the authorization server refuses this credential of the client.
pub(crate) async fn refused(env: &StoryEnv, credential: &str) -> anyhow::Result<bool> {
    let issuer = env.issuer().await?;
    let client = authenticated(&issuer, &value(env, "client-id").await?, credential.to_owned())?;
    let answer = issuer.client_credentials(&client, None).await?;
    Ok(answer.granted().is_err())
}

/// Whether the client is ready with its credential, as the status says.
pub(crate) fn credentials_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let found = conditions.into_iter().flatten();
    found
        .into_iter()
        .any(|condition| condition["type"] == "CredentialsReady" && condition["status"] == "True")
}
