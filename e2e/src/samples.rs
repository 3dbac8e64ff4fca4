//! The shipped samples, applied to a story's Keycloak: what the demo shows and the first story proves.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    oauth::OAuthClient,
    operator::OperatorOptions,
    stand::Stand,
    story::{CA_CONFIG_MAP, CREDENTIALS_SECRET, StoryEnv},
    world::checkout,
};

/// The namespace of the sample AuthorizationServer, and so the name of the environment that the samples need.
pub const PLATFORM: &str = "mcp-platform";
/// The namespaces of the sample teams.
pub const TEAMS: [&str; 2] = ["team-a", "team-b"];

const AUTHORIZATION_SERVER: &str = "authorization-server.yaml";
const GATE: &str = "gate.yaml";

/// The files, in the order in which they are applied.
const FILES: [&str; 7] = [
    "namespaces.yaml",
    AUTHORIZATION_SERVER,
    "mcp-servers.yaml",
    GATE,
    "annotated-service.yaml",
    "mcp-clients.yaml",
    "token-exchange-policies.yaml",
];

/// Added to the others by those who want it.
const SELF_REGISTRATION: &str = "self-registration.yaml";

/// The server with a gate, which is Ready only where pods run.
pub const GATED: (&str, &str, &str) = ("McpServer", "team-b", "everything");

/// All objects of ours that the samples make, with the kind, namespace and name of each.
pub const OBJECTS: [(&str, &str, &str); 13] = [
    ("AuthorizationServer", PLATFORM, "company"),
    ("McpServer", "team-a", "assistant"),
    ("McpServer", "team-b", "documents"),
    ("McpServer", "team-b", "tickets"),
    GATED,
    ("McpClient", "team-a", "reporter"),
    ("McpClient", "team-a", "scheduler"),
    ("McpClient", "team-a", "archiver"),
    ("McpClient", "team-a", "desktop"),
    ("McpClient", "team-b", "portal"),
    ("McpClient", "team-b", "agent"),
    ("TokenExchangePolicy", "team-a", "assistant-orders"),
    ("TokenExchangePolicy", "team-a", "assistant-documents"),
];

/// Applies every sample as it is shipped, but for addresses, which are those of `env` and of `stand`, and for the image of
/// the server behind the gate where the node has another.
pub async fn apply(env: &StoryEnv, stand: &Stand) -> anyhow::Result<()> {
    ensure!(env.namespace() == PLATFORM, "the samples live in {PLATFORM}");
    for file in FILES {
        let text = read(file)?;
        let text = match file {
            AUTHORIZATION_SERVER => at_our_keycloak(env, stand, &text)?,
            GATE => at_our_stand(stand, &text)?,
            _ => text,
        };
        env.kubectl().apply(&text).await?;
    }
    Ok(())
}

fn read(file: &str) -> anyhow::Result<String> {
    let path = checkout().join("config/samples").join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Applies the sample of clients that register themselves: what it says of the AuthorizationServer is added to what is
/// there, as the sample itself says.
pub async fn apply_self_registration(env: &StoryEnv) -> anyhow::Result<()> {
    let samples: Vec<Value> = serde_saphyr::from_multiple(&read(SELF_REGISTRATION)?)?;
    for sample in &samples {
        if sample["kind"] != "AuthorizationServer" {
            env.apply(sample).await?;
            continue;
        }
        let added = json!({ "spec": { "clientRegistration": sample["spec"]["clientRegistration"] } });
        let name = sample["metadata"]["name"].as_str().context("no name")?;
        let patch = added.to_string();
        let arguments = [
            "patch",
            "authorizationserver",
            name,
            "-n",
            PLATFORM,
            "--type=merge",
            "--patch",
            &patch,
        ];
        env.kubectl().must(&arguments).await?;
    }
    Ok(())
}

/// The sample AuthorizationServer with everything that names an address taken from `env`, which lets the second team have
/// the address of `stand` too.
fn at_our_keycloak(env: &StoryEnv, stand: &Stand, text: &str) -> anyhow::Result<String> {
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
    let hosts = sample["spec"]["grants"]
        .as_array_mut()
        .and_then(|grants| grants.last_mut()?["servers"]["hosts"].as_array_mut());
    let hosts = hosts.context("no grant of hosts to the second team")?;
    hosts.push(stand.edge().address().ip().to_string().into());
    Ok(sample.to_string())
}

/// The sample with a gate at the address of `stand`, with the image of the server that the node has.
fn at_our_stand(stand: &Stand, text: &str) -> anyhow::Result<String> {
    let mut samples: Vec<Value> = serde_saphyr::from_multiple(text)?;
    for sample in &mut samples {
        match (sample["kind"].as_str(), stand.server_image()) {
            (Some("McpServer"), _) => sample["spec"]["resource"] = stand.edge().resource().into(),
            (Some("Deployment"), Some(image)) => {
                let container = &mut sample["spec"]["template"]["spec"]["containers"][0];
                container["image"] = image.into();
                container["imagePullPolicy"] = "Never".into();
                // That image knows what to run.
                container["command"] = Value::Null;
            }
            _ => {}
        }
    }
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": samples }).to_string())
}

/// The options of an operator that serves the samples.
pub fn operator_options(env: &StoryEnv) -> OperatorOptions {
    let mut options = env.operator_options();
    options.watch_namespaces.extend(TEAMS.map(str::to_owned));
    options
}

/// Waits until every object of the samples is Ready, and without pods until the policy of the gate is there. Gives how
/// long each took from now on.
pub async fn wait_until_ready(
    env: &StoryEnv,
    stand: &Stand,
    timeout: Duration,
    mut seen: impl FnMut(&str, Duration),
) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    let open = stand.open(env);
    let ready = async {
        for object in OBJECTS {
            if object == GATED && !stand.has_pods() {
                continue;
            }
            env.wait_condition(object, ("Ready", "True"), timeout).await?;
            let (kind, namespace, name) = object;
            seen(&format!("{kind} {namespace}/{name}"), began.elapsed());
        }
        anyhow::Ok(())
    };
    tokio::try_join!(open, ready).map(drop)
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
