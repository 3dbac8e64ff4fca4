//! The shipped samples, applied to a story's authorization server: what the demo shows and the first story proves.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{oauth::OAuthClient, operator::OperatorOptions, stand::Stand, story::StoryEnv, world::checkout};

/// The namespace of the sample AuthorizationServer, and so the name of the environment that the samples need.
pub const PLATFORM: &str = "mcp-platform";
/// The namespaces of the sample teams.
pub const TEAMS: [&str; 2] = ["team-a", "team-b"];

const AUTHORIZATION_SERVER: &str = "authorization-server.yaml";
/// What takes its place at Auth0.
const AUTH0: &str = "auth0.yaml";
/// What takes its place at a server that offers registration only.
const REGISTRATION_ONLY: &str = "registration-only.yaml";
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

/// A namespace of the samples as it is called in `env`: as it is shipped, unless `env` has another name, and then like
/// that, so that two can be in one cluster.
pub fn placed(env: &StoryEnv, namespace: &str) -> String {
    match (env.namespace(), namespace) {
        (PLATFORM, _) => namespace.to_owned(),
        (own, PLATFORM) => own.to_owned(),
        (own, team) => format!("{own}{}", team.trim_start_matches("team")),
    }
}

fn all_placed(env: &StoryEnv, text: &str) -> String {
    [PLATFORM, TEAMS[0], TEAMS[1]]
        .iter()
        .fold(text.to_owned(), |text, name| {
            text.replace(name, &placed(env, name))
        })
}

/// Applies every sample as it is shipped, but for addresses, which are those of `home` and of `stand`, for the image of the
/// server behind the gate where the node has another, and for [namespaces](placed). `home` is an AuthorizationServer.
pub async fn apply(env: &StoryEnv, stand: &Stand, home: &Value) -> anyhow::Result<()> {
    for file in FILES {
        let shipped = match file {
            AUTHORIZATION_SERVER if home["spec"]["auth0"].is_object() => AUTH0,
            AUTHORIZATION_SERVER if home["spec"]["dynamicRegistration"].is_object() => REGISTRATION_ONLY,
            other => other,
        };
        let text = all_placed(env, &read(shipped)?);
        let text = match file {
            AUTHORIZATION_SERVER => at_our_server(home, stand, &text)?,
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

/// The sample AuthorizationServer with everything that says which one it is taken from `home`. It lets the second team have
/// the address of `stand` too.
fn at_our_server(home: &Value, stand: &Stand, text: &str) -> anyhow::Result<String> {
    let mut sample: Value = serde_saphyr::from_str(text)?;
    for field in [
        "issuer",
        "keycloak",
        "auth0",
        "dynamicRegistration",
        "credentials",
        "caBundleRef",
        "endpoints",
    ] {
        sample["spec"][field] = home["spec"][field].clone();
    }
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
    options
        .watch_namespaces
        .extend(TEAMS.map(|team| placed(env, team)));
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
            let (kind, namespace, name) = object;
            let namespace = &*placed(env, namespace);
            env.wait_condition((kind, namespace, name), ("Ready", "True"), timeout)
                .await?;
            seen(&format!("{kind} {namespace}/{name}"), began.elapsed());
        }
        anyhow::Ok(())
    };
    tokio::try_join!(open, ready).map(drop)
}

/// Deletes every object of the samples, and waits until all are gone.
pub async fn remove(env: &StoryEnv, timeout: Duration) -> anyhow::Result<()> {
    let kinds = [
        "TokenExchangePolicy",
        "McpClient",
        "McpServer",
        "AuthorizationServer",
    ];
    for (kind, namespace, name) in kinds
        .iter()
        .flat_map(|kind| OBJECTS.iter().filter(move |object| object.0 == *kind))
    {
        let namespace = placed(env, namespace);
        // The Service would make it anew.
        if (*kind, *name) == ("McpServer", "tickets") {
            let arguments = ["delete", "service", name, "-n", &namespace];
            env.kubectl().must(&arguments).await?;
            continue;
        }
        let arguments = ["delete", kind, name, "-n", &namespace, "--wait=false"];
        env.kubectl().must(&arguments).await?;
    }
    for (kind, namespace, name) in OBJECTS {
        env.wait_gone(kind, &placed(env, namespace), name, timeout)
            .await?;
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
