//! The shipped samples, applied to a story's Keycloak: what the demo shows and the first story proves.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    oauth::OAuthClient,
    operator::OperatorOptions,
    story::{CA_CONFIG_MAP, CREDENTIALS_SECRET, StoryEnv},
    world::checkout,
};

/// The namespace of the sample AuthorizationServer, and so the name of the environment that the samples need.
pub const PLATFORM: &str = "mcp-platform";
/// The namespaces of the sample teams.
pub const TEAMS: [&str; 2] = ["team-a", "team-b"];

/// The files, in the order in which they are applied.
const FILES: [&str; 6] = [
    "namespaces.yaml",
    "authorization-server.yaml",
    "mcp-servers.yaml",
    "annotated-service.yaml",
    "mcp-clients.yaml",
    "token-exchange-policies.yaml",
];

/// All objects of ours that the samples make, with the kind, namespace and name of each.
pub const OBJECTS: [(&str, &str, &str); 10] = [
    ("AuthorizationServer", PLATFORM, "company"),
    ("McpServer", "team-a", "assistant"),
    ("McpServer", "team-b", "documents"),
    ("McpServer", "team-b", "tickets"),
    ("McpClient", "team-a", "reporter"),
    ("McpClient", "team-a", "scheduler"),
    ("McpClient", "team-a", "desktop"),
    ("McpClient", "team-b", "portal"),
    ("TokenExchangePolicy", "team-a", "assistant-orders"),
    ("TokenExchangePolicy", "team-a", "assistant-documents"),
];

/// Applies every sample as it is shipped, but for the address of the authorization server: that one is `env`'s.
pub async fn apply(env: &StoryEnv) -> anyhow::Result<()> {
    ensure!(env.namespace() == PLATFORM, "the samples live in {PLATFORM}");
    for file in FILES {
        let path = checkout().join("config/samples").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = if file == "authorization-server.yaml" {
            at_our_keycloak(env, &text)?
        } else {
            text
        };
        env.kubectl().apply(&text).await?;
    }
    Ok(())
}

/// The sample AuthorizationServer with everything that names an address taken from `env`.
fn at_our_keycloak(env: &StoryEnv, text: &str) -> anyhow::Result<String> {
    let mut sample: Value = serde_saphyr::from_str(text)?;
    let ours = env.authorization_server("company");
    for field in ["issuer", "keycloak", "credentials", "caBundleRef", "endpoints"] {
        sample["spec"][field] = ours["spec"][field].clone();
    }
    debug_assert_eq!(
        sample["spec"]["credentials"]["secretRef"]["name"],
        CREDENTIALS_SECRET
    );
    debug_assert_eq!(sample["spec"]["caBundleRef"]["name"], CA_CONFIG_MAP);
    Ok(sample.to_string())
}

/// The options of an operator that serves the samples.
pub fn operator_options(env: &StoryEnv) -> OperatorOptions {
    let mut options = env.operator_options();
    options.watch_namespaces.extend(TEAMS.map(str::to_owned));
    options
}

/// Waits until every object of the samples is Ready. Gives how long each took from now on.
pub async fn wait_until_ready(
    env: &StoryEnv,
    timeout: Duration,
    mut seen: impl FnMut(&str, Duration),
) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    for (kind, namespace, name) in OBJECTS {
        env.wait_condition((kind, namespace, name), ("Ready", "True"), timeout)
            .await?;
        seen(&format!("{kind} {namespace}/{name}"), began.elapsed());
    }
    Ok(())
}

/// The data of a Secret.
pub async fn secret(env: &StoryEnv, namespace: &str, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    use k8s_openapi::api::core::v1::Secret;
    let secret = kube::Api::<Secret>::namespaced(env.client(), namespace)
        .get(name)
        .await?;
    let data = secret.data.unwrap_or_default();
    data.into_iter()
        .map(|(key, value)| Ok((key, String::from_utf8(value.0)?)))
        .collect()
}

/// The OAuth client whose credential is in a Secret that the operator wrote.
pub async fn oauth_client(env: &StoryEnv, namespace: &str, name: &str) -> anyhow::Result<OAuthClient> {
    let data = secret(env, namespace, name).await?;
    let id = data
        .get("client-id")
        .with_context(|| format!("{name} has no client-id"))?;
    Ok(match data.get("client-secret") {
        Some(secret) => OAuthClient::confidential(id, secret.clone().into()),
        None => OAuthClient::public(id),
    })
}
