//! `Ready=True` is proved and not assumed, and secrets stay where they belong.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use mcp_auth_e2e::{
    leaks::{Known, Search},
    operator::Operator,
    proxy::{Call, Fault},
    runner::Story,
    samples, secrets,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixtures::{
    Named, SOON, apply_all, because, machine, native, open_server, policy, ready, server, web,
};

/// The libraries that carry what the operator sends and receives, and the one module that is silent unless it is named.
const LIBRARIES: [&str; 18] = [
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "kube",
    "kube_client",
    "kube_client::client",
    "kube_core",
    "kube_runtime",
    "mio",
    "reqwest",
    "rustls",
    "tokio",
    "tokio_rustls",
    "tokio_util",
    "tower",
    "tower_http",
    "want",
];

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("leaks::ready_comes_only_after_the_proof", proof),
        Story::new("leaks::secrets_are_in_no_log_at_trace", |world| {
            secrets_stay_secret(world, "leaks-own", "trace".to_owned())
        }),
        Story::new("leaks::secrets_are_in_no_log_of_libraries_at_trace", |world| {
            let directives = LIBRARIES.map(|library| format!("{library}=trace")).join(",");
            secrets_stay_secret(world, "leaks-libraries", format!("trace,{directives}"))
        }),
    ]
}

/// One AuthorizationServer, two servers of which one exchanges, and a client of each kind.
fn objects(env: &StoryEnv) -> Vec<Value> {
    vec![
        env.authorization_server("main"),
        server(env, "notes"),
        open_server(env, "archive"),
        machine(env, "reporter", &["notes"]),
        web(env, "portal", &["notes"]),
        native(env, "desktop", &["notes"]),
        policy(env, "notes-to-archive", "notes", "archive"),
    ]
}

/// The client id at Keycloak of a client of the story.
fn client_id(env: &StoryEnv, name: &str) -> String {
    format!("{0}.{0}.{name}", env.namespace())
}

/// Whether it asks the token endpoint as this client.
fn is_proof(call: &Call, client_id: &str) -> bool {
    call.path().ends_with("/token") && call.form("client_id").as_deref() == Some(client_id)
}

/// As long as the proof of a credential fails, nothing that rests on it is Ready, and it says so.
async fn proof(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "leaks-proof").await?;
    let operator = env.start_operator().await?;
    let resource = "https://notes.example.com/mcp".to_owned();
    let proved = [client_id(&env, "reporter"), client_id(&env, "portal"), resource];
    for id in proved.clone() {
        env.proxy()
            .inject(Fault::status(StatusCode::UNAUTHORIZED).on(move |call| is_proof(call, &id)));
    }
    // A public client has nothing to prove; it is read back, so what must not work is reading it once it is there.
    let (desktop, made) = (client_id(&env, "desktop"), AtomicBool::new(false));
    env.proxy()
        .inject(Fault::status(StatusCode::NOT_FOUND).on(move |call| {
            if call.method == Method::POST
                && call.json::<Value>().is_ok_and(|body| body["clientId"] == desktop)
            {
                made.store(true, Ordering::Relaxed);
            }
            let reads = call.method == Method::GET && call.query("clientId").as_deref() == Some(&desktop);
            reads && made.load(Ordering::Relaxed)
        }));
    apply_all(&env, &objects(&env)).await?;

    let namespace = env.namespace();
    let unproved: [Named<'_>; 3] = [
        ("McpClient", namespace, "reporter"),
        ("McpClient", namespace, "portal"),
        ("McpServer", namespace, "notes"),
    ];
    for object in unproved {
        let condition = because(&env, object, ("CredentialsReady", "Unknown", "ProofFailed")).await?;
        let message = condition["message"].as_str().unwrap_or_default();
        ensure!(message.contains("HTTP 401"), "{object:?}: {message}");
        because(&env, object, ("Ready", "Unknown", "ProofFailed")).await?;
    }
    because(
        &env,
        ("McpClient", namespace, "desktop"),
        ("Ready", "False", "Rejected"),
    )
    .await?;
    let waiting = ("TokenExchangePolicy", namespace, "notes-to-archive");
    because(&env, waiting, ("Ready", "Unknown", "CredentialsNotReady")).await?;

    // Nor was one of them Ready in between: that would have been told by an Event. The server was, while it needed no
    // credentials, because no policy was there yet.
    for name in ["reporter", "portal", "desktop"] {
        never_ready(&env, ("McpClient", namespace, name)).await?;
    }
    never_ready(&env, waiting).await?;

    env.proxy().heal()?;
    for object in objects(&env) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        ready(&env, (&kind, namespace, &name), SOON).await?;
    }
    // Each was asked for at the token endpoint, and the answer was the one that proves the secret.
    for (id, status) in proved.iter().zip([200, 400, 400]) {
        let calls = env.proxy().calls();
        let last = calls.iter().rfind(|call| is_proof(call, id));
        let answered = last.and_then(|call| call.status).map(|status| status.as_u16());
        ensure!(answered == Some(status), "{id}: {answered:?}");
    }
    operator.stop().await
}

/// Whether an Event says that this object was Ready.
async fn never_ready(env: &StoryEnv, (kind, namespace, name): Named<'_>) -> anyhow::Result<()> {
    let selector = format!("involvedObject.kind={kind},involvedObject.name={name},reason=Ready");
    let events: Value = env
        .kubectl()
        .json(&["get", "events", "-n", namespace, "--field-selector", &selector])
        .await?;
    ensure!(
        events["items"].as_array().is_some_and(Vec::is_empty),
        "{kind} {name}: {events}"
    );
    Ok(())
}

/// A life with everything that handles secrets, and things that go wrong on the way; then nothing of what it knew is in
/// anything that it left.
async fn secrets_stay_secret(world: Arc<World>, name: &str, log_level: String) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, name).await?;
    let mut known = Known::default();
    let own = env.realm().operator_client_secret().expose_secret();
    known.add("the operator's credential", own);
    let mut options = env.operator_options();
    options.log_level = log_level.clone();
    "3s".clone_into(&mut options.resync_interval);
    "1s".clone_into(&mut options.max_backoff);
    let operator = env.start_operator_with(&options).await?;

    wrong_credential(&env, &mut known).await?;
    ready_with_everything(&env, &mut known).await?;
    rotation(&env, &mut known).await?;
    drift(&env, &mut known).await?;
    outage(&env).await?;
    end(&env, &mut known).await?;

    let metrics = operator.metrics().await?;
    operator.stop().await?;
    for token in env.proxy().tokens() {
        known.add("a token that Keycloak issued", token.expose_secret());
    }
    known.add_kubeconfigs(&world.folder().path().join("control-plane"))?;
    // Seven forms of each: the operator's credential and a wrong one, two that others made, and those of two clients and
    // a server before and after.
    ensure!(
        known.len() > 60,
        "only {} forms of secrets are known",
        known.len()
    );
    let search = known.search()?;
    it_finds_what_is_there(&env, &search).await?;
    logged_as_told(&operator, &log_level)?;
    search.must_miss("the operator's log", operator.log()?)?;
    search.must_miss("its metrics", metrics)?;
    for namespace in [env.namespace(), env.operator_namespace()] {
        search.must_miss_cluster(&env.client(), Some(namespace)).await?;
    }
    Ok(())
}

/// The operator is given a credential that Keycloak refuses, then the right one.
async fn wrong_credential(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    let (mut wrong, made_up) = (env.credentials_secret(env.namespace()), secrets::random());
    known.add("a wrong credential", made_up.expose_secret());
    wrong["stringData"]["client-secret"] = json!(made_up.expose_secret());
    env.apply(&wrong).await?;
    env.apply(&env.authorization_server("main")).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    because(env, home, ("Ready", "False", "CredentialsRefused")).await?;
    env.apply(&env.credentials_secret(env.namespace())).await
}

async fn ready_with_everything(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    apply_all(env, &objects(env)).await?;
    for (kind, name) in [
        ("AuthorizationServer", "main"),
        ("McpServer", "notes"),
        ("McpServer", "archive"),
        ("McpClient", "reporter"),
        ("McpClient", "portal"),
        ("McpClient", "desktop"),
        ("TokenExchangePolicy", "notes-to-archive"),
    ] {
        ready(env, (kind, env.namespace(), name), SOON).await?;
    }
    remember(env, known).await
}

/// Adds what the Secrets hold at this moment.
async fn remember(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    for namespace in [env.namespace(), env.operator_namespace()] {
        known.add_secrets(env.client(), Some(namespace)).await?;
    }
    Ok(())
}

async fn rotation(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    let before = env
        .secret_value(env.namespace(), "reporter-mcp-client", "client-secret")
        .await?;
    let mut rotated = machine(env, "reporter", &["notes"]);
    rotated["metadata"]["annotations"] = json!({ "mcpauth.dev/rotate-requested-at": "now" });
    env.apply(&rotated).await?;
    wait_for("the rotation", SOON, async || {
        let client = env.get("McpClient", env.namespace(), "reporter").await?;
        let handled = client.unwrap_or_default()["status"]["lastHandledRotateRequest"] == "now";
        Ok(if handled {
            Seen::Done(())
        } else {
            Seen::NotYet("not handled".to_owned())
        })
    })
    .await?;
    let after = env
        .secret_value(env.namespace(), "reporter-mcp-client", "client-secret")
        .await?;
    ensure!(before != after, "the secret is the old one");
    remember(env, known).await
}

/// Somebody changes a secret at Keycloak, and another in the cluster; both are set right.
async fn drift(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    let portal = client_id(env, "portal");
    let found = env.realm().find_client(&portal).await?.context("no client")?;
    let id = found["id"].as_str().unwrap_or_default();
    let path = format!("/clients/{id}/client-secret");
    let foreign = env.realm().admin().post(&path, &json!({})).await?;
    let foreign = foreign["value"].as_str().context("no new secret")?.to_owned();
    known.add("a secret that an administrator made", &foreign);

    let edited = secrets::random();
    known.add("a secret that somebody wrote over ours", edited.expose_secret());
    let patch = json!({ "stringData": { "client-secret": edited.expose_secret() } }).to_string();
    let secret = [
        "patch",
        "secret",
        "reporter-mcp-client",
        "-n",
        env.namespace(),
        "--type=merge",
        "-p",
        &patch,
    ];
    env.kubectl().must(&secret).await?;

    wait_for("both secrets to be set right", SOON, async || {
        let at_keycloak = env.realm().find_client(&portal).await?.unwrap_or_default();
        let in_cluster = samples::secret(env, env.namespace(), "reporter-mcp-client").await?;
        let (portal, reporter) = (
            at_keycloak["secret"] != foreign.as_str(),
            in_cluster.get("client-secret").map(String::as_str) != Some(edited.expose_secret()),
        );
        Ok(match (portal, reporter) {
            (true, true) => Seen::Done(()),
            which => Seen::NotYet(format!("{which:?}")),
        })
    })
    .await?;
    remember(env, known).await
}

/// Keycloak fails in several ways, one after another.
async fn outage(env: &StoryEnv) -> anyhow::Result<()> {
    let home = ("AuthorizationServer", env.namespace(), "main");
    for fault in [
        Fault::status(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::status(StatusCode::FORBIDDEN),
        Fault::disconnect(),
        Fault::lose_reply(),
    ] {
        env.proxy().inject(fault);
        wait_for("an AuthorizationServer that is not Ready", SOON, async || {
            let object = env.get(home.0, home.1, home.2).await?.unwrap_or_default();
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            Ok(if ready {
                Seen::NotYet("Ready".to_owned())
            } else {
                Seen::Done(())
            })
        })
        .await?;
        env.proxy().heal()?;
        ready(env, home, SOON).await?;
    }
    Ok(())
}

/// Everything is deleted, and the credentials with it.
async fn end(env: &StoryEnv, known: &mut Known) -> anyhow::Result<()> {
    ready(env, ("McpClient", env.namespace(), "reporter"), SOON).await?;
    remember(env, known).await?;
    for kind in ["tokenexchangepolicy", "mcpclient"] {
        let delete = ["delete", kind, "--all", "-n", env.namespace(), "--timeout=60s"];
        env.kubectl().must(&delete).await?;
    }
    Ok(())
}

/// The search is not blind: it finds the operator's credential in the JSON of the very Secret.
async fn it_finds_what_is_there(env: &StoryEnv, search: &Search) -> anyhow::Result<()> {
    let secret = [
        "get",
        "secret",
        mcp_auth_e2e::story::CREDENTIALS_SECRET,
        "-n",
        env.namespace(),
        "-o",
        "json",
    ];
    let json = env.kubectl().must(&secret).await?;
    ensure!(
        !search.found_in(json).is_empty(),
        "the search finds nothing at all"
    );
    Ok(())
}

/// The log is as chatty as it was told to be, so that what it lacks it could have had.
fn logged_as_told(operator: &Operator, log_level: &str) -> anyhow::Result<()> {
    let log = operator.log()?;
    let logs = |target: &str| log.contains(&format!("\"target\":\"{target}"));
    ensure!(logs("mcp_auth_operator"), "nothing of its own");
    for library in ["hyper_util", "rustls", "kube_client", "tower"] {
        let asked = log_level.contains(library);
        ensure!(
            logs(library) == asked,
            "{library} is logged: {}, asked for: {asked}",
            logs(library)
        );
    }
    Ok(())
}
