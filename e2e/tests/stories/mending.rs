//! What a person mends turns Ready by itself.
//!
//! The operators of these stories have a back-off of minutes: only a watch can be what wakes an object in time.
//! Where the mending happens at Keycloak, where no watch looks, the back-off is short and is the bound.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mcp_auth_e2e::{
    lengths,
    operator::Operator,
    runner::Story,
    story::{CA_CONFIG_MAP, CREDENTIALS_SECRET, StoryEnv},
    world::World,
};
use serde_json::{Value, json};

use crate::fixtures::{Named, SOON, apply_all, because, machine, open_server, policy, ready, server};

/// How long after a change in the cluster everything that it mends is Ready.
const MENDED: Duration = Duration::from_secs(5);

/// The longest pause between two attempts, in the stories where something is mended at Keycloak.
fn backoff_cap() -> Duration {
    Duration::from_secs(lengths::of(4, 60))
}

/// What a pass may take, on a machine that is busy with other stories.
const PASS: Duration = Duration::from_secs(3);

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "mending::a_missing_authorization_server_is_created",
            missing_authorization_server,
        ),
        Story::new("mending::missing_credentials_are_created", missing_credentials),
        Story::new("mending::wrong_credentials_are_corrected", wrong_credentials),
        Story::new("mending::a_missing_ca_bundle_is_created", missing_ca_bundle),
        Story::new("mending::a_missing_server_is_created", missing_server),
        Story::new("mending::foreign_objects_in_the_way_are_deleted", foreign_objects),
        Story::new("mending::a_missing_role_is_named_and_granted", missing_role),
        Story::new("mending::a_role_that_is_taken_away_is_given_back", lost_role),
    ]
}

/// Starts an operator that would not try again within the time of the story.
async fn patient_operator(env: &StoryEnv) -> anyhow::Result<Operator> {
    let mut options = env.operator_options();
    "10m".clone_into(&mut options.max_backoff);
    env.start_operator_with(&options).await
}

/// Waits until `object` says what is wrong with it. Gives the message for people.
async fn says(env: &StoryEnv, object: Named<'_>, status: &str, reason: &str) -> anyhow::Result<String> {
    let condition = because(env, object, ("Ready", status, reason)).await?;
    let progress = if status == "Unknown" {
        "Reconciling"
    } else {
        "Stalled"
    };
    env.wait_condition(object, (progress, "True"), Duration::from_secs(1))
        .await?;
    Ok(condition["message"].as_str().unwrap_or_default().to_owned())
}

/// Applies `change` and expects all of `objects` to be Ready in time.
async fn mend(env: &StoryEnv, change: &Value, objects: &[Named<'_>]) -> anyhow::Result<()> {
    env.apply(change).await?;
    all_ready_within(env, objects, MENDED).await
}

async fn all_ready_within(env: &StoryEnv, objects: &[Named<'_>], limit: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    for object in objects {
        ready(env, *object, limit.saturating_sub(began.elapsed())).await?;
    }
    Ok(())
}

/// One object of each kind that depends on an AuthorizationServer, directly or not.
fn dependents(env: &StoryEnv) -> Vec<Value> {
    vec![
        server(env, "notes"),
        open_server(env, "archive"),
        machine(env, "reader", &["notes"]),
        policy(env, "notes-to-archive", "notes", "archive"),
    ]
}

fn everything(env: &StoryEnv) -> [Named<'_>; 5] {
    let namespace = env.namespace();
    [
        ("AuthorizationServer", namespace, "main"),
        ("McpServer", namespace, "notes"),
        ("McpServer", namespace, "archive"),
        ("McpClient", namespace, "reader"),
        ("TokenExchangePolicy", namespace, "notes-to-archive"),
    ]
}

async fn missing_authorization_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-home").await?;
    let operator = patient_operator(&env).await?;
    apply_all(&env, &dependents(&env)).await?;
    let (server, client) = (
        ("McpServer", env.namespace(), "notes"),
        ("McpClient", env.namespace(), "reader"),
    );
    for object in [server, client] {
        let message = says(&env, object, "Unknown", "AuthorizationServerNotFound").await?;
        ensure!(
            message.contains(&format!("{}/main", env.namespace())),
            "{message}"
        );
    }
    mend(&env, &env.authorization_server("main"), &everything(&env)).await?;
    operator.stop().await
}

async fn missing_credentials(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-secret").await?;
    env.kubectl()
        .must(&["delete", "secret", CREDENTIALS_SECRET, "-n", env.namespace()])
        .await?;
    let operator = patient_operator(&env).await?;
    apply_all(&env, &dependents(&env)).await?;
    env.apply(&env.authorization_server("main")).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    let message = says(&env, home, "Unknown", "SecretNotFound").await?;
    ensure!(message.contains(CREDENTIALS_SECRET), "{message}");
    says(
        &env,
        ("McpServer", env.namespace(), "notes"),
        "Unknown",
        "AuthorizationServerNotReady",
    )
    .await?;

    let mut incomplete = env.credentials_secret(env.namespace());
    if let Some(data) = incomplete["stringData"].as_object_mut() {
        data.remove("client-secret");
    }
    env.apply(&incomplete).await?;
    let message = says(&env, home, "False", "SecretIncomplete").await?;
    ensure!(message.contains("client-secret"), "{message}");

    mend(&env, &env.credentials_secret(env.namespace()), &everything(&env)).await?;
    operator.stop().await
}

async fn wrong_credentials(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-credentials").await?;
    let mut wrong = env.credentials_secret(env.namespace());
    wrong["stringData"]["client-secret"] = json!("mistyped");
    env.apply(&wrong).await?;
    let operator = patient_operator(&env).await?;
    apply_all(&env, &dependents(&env)).await?;
    env.apply(&env.authorization_server("main")).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    says(&env, home, "False", "CredentialsRefused").await?;
    env.wait_condition(home, ("CredentialsValid", "False"), SOON)
        .await?;
    mend(&env, &env.credentials_secret(env.namespace()), &everything(&env)).await?;

    // And again while it is in use: a Secret that somebody breaks, and then sets right.
    env.apply(&wrong).await?;
    says(&env, home, "False", "CredentialsRefused").await?;
    mend(&env, &env.credentials_secret(env.namespace()), &everything(&env)).await?;
    operator.stop().await
}

async fn missing_ca_bundle(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-ca").await?;
    env.kubectl()
        .must(&["delete", "configmap", CA_CONFIG_MAP, "-n", env.namespace()])
        .await?;
    let operator = patient_operator(&env).await?;
    apply_all(&env, &dependents(&env)).await?;
    env.apply(&env.authorization_server("main")).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    let message = says(&env, home, "Unknown", "CaBundleNotFound").await?;
    ensure!(message.contains(CA_CONFIG_MAP), "{message}");

    // Another authority's certificate in it.
    let mut foreign = env.ca_config_map(env.namespace());
    foreign["data"]["ca.crt"] = json!(mcp_auth_e2e::pki::Authority::new()?.pem());
    env.apply(&foreign).await?;
    let message = says(&env, home, "False", "CertificateNotTrusted").await?;
    ensure!(message.contains("no trusted authority"), "{message}");

    mend(&env, &env.ca_config_map(env.namespace()), &everything(&env)).await?;
    operator.stop().await
}

async fn missing_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-server").await?;
    let operator = patient_operator(&env).await?;
    let namespace = env.namespace();
    apply_all(
        &env,
        &[
            env.authorization_server("main"),
            server(&env, "notes"),
            machine(&env, "reader", &["archive"]),
            policy(&env, "notes-to-archive", "notes", "archive"),
        ],
    )
    .await?;
    let waiting = [
        ("McpClient", namespace, "reader"),
        ("TokenExchangePolicy", namespace, "notes-to-archive"),
    ];
    ready(&env, ("McpServer", namespace, "notes"), SOON).await?;
    for (object, reason) in waiting.into_iter().zip(["ServerNotFound", "TargetNotFound"]) {
        let message = says(&env, object, "Unknown", reason).await?;
        ensure!(message.contains(&format!("{namespace}/archive")), "{message}");
    }
    mend(&env, &open_server(&env, "archive"), &waiting).await?;

    // The server that exchanges is missing.
    let other = policy(&env, "drafts-to-archive", "drafts", "archive");
    env.apply(&other).await?;
    let other = ("TokenExchangePolicy", namespace, "drafts-to-archive");
    says(&env, other, "Unknown", "ServerNotFound").await?;
    mend(&env, &server(&env, "drafts"), &[other]).await?;
    operator.stop().await
}

async fn foreign_objects(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "mending-foreign").await?;
    let operator = patient_operator(&env).await?;
    let namespace = env.namespace();
    let stranger = |kind: &str, name: &str| {
        json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": { "namespace": namespace, "name": name },
            "data": { "theirs": "dmFsdWU=" },
        })
    };
    let strangers = [
        ("secret", "reader-mcp-client"),
        ("secret", "notes-mcp-auth"),
        ("configmap", "archive-mcp-metadata"),
    ];
    apply_all(
        &env,
        &[
            stranger("Secret", strangers[0].1),
            stranger("Secret", strangers[1].1),
            stranger("ConfigMap", strangers[2].1),
            env.authorization_server("main"),
        ],
    )
    .await?;
    apply_all(&env, &dependents(&env)).await?;
    let (client, notes, archive) = (
        ("McpClient", namespace, "reader"),
        ("McpServer", namespace, "notes"),
        ("McpServer", namespace, "archive"),
    );
    says(&env, client, "False", "SecretNotOwned").await?;
    says(&env, notes, "False", "SecretNotOwned").await?;
    says(&env, archive, "False", "ConfigMapNotOwned").await?;
    for ((kind, name), object) in strangers.into_iter().zip([client, notes, archive]) {
        let theirs: Value = env.kubectl().json(&["get", kind, name, "-n", namespace]).await?;
        ensure!(
            theirs["data"] == json!({ "theirs": "dmFsdWU=" }),
            "{kind} {name} was changed"
        );
        env.kubectl()
            .must(&["delete", kind, name, "-n", namespace])
            .await?;
        all_ready_within(&env, &[object], MENDED).await?;
    }
    operator.stop().await
}

/// An operator that tries again soon, where nothing can wake it.
async fn eager_operator(env: &StoryEnv) -> anyhow::Result<Operator> {
    let mut options = env.operator_options();
    options.max_backoff = format!("{}s", backoff_cap().as_secs());
    "4s".clone_into(&mut options.resync_interval);
    env.start_operator_with(&options).await
}

async fn missing_role(world: Arc<World>) -> anyhow::Result<()> {
    // None at all, one that shows empty lists, and one that shows everything and changes nothing.
    for (suffix, roles) in [
        ("none", &[][..]),
        ("query", &["query-clients"]),
        ("view", &["view-clients"]),
    ] {
        let env = StoryEnv::with_operator_roles(&world, &format!("mending-role-{suffix}"), roles).await?;
        let operator = eager_operator(&env).await?;
        apply_all(&env, &dependents(&env)).await?;
        env.apply(&env.authorization_server("main")).await?;
        let home = ("AuthorizationServer", env.namespace(), "main");
        let message = says(&env, home, "False", "PermissionMissing").await?;
        ensure!(message.contains("manage-clients"), "{suffix}: {message}");
        ensure!(
            env.proxy().writes().is_empty(),
            "{suffix}: {:?}",
            env.proxy().writes()
        );
        env.realm().grant_operator_role("manage-clients").await?;
        all_ready_within(&env, &everything(&env), backoff_cap() + PASS).await?;
        operator.stop().await?;
    }
    Ok(())
}

async fn lost_role(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "mending-role-lost", &["manage-clients"]).await?;
    let operator = eager_operator(&env).await?;
    apply_all(&env, &dependents(&env)).await?;
    env.apply(&env.authorization_server("main")).await?;
    for object in everything(&env) {
        ready(&env, object, SOON).await?;
    }
    env.realm().revoke_operator_role("manage-clients").await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    let message = says(&env, home, "False", "PermissionMissing").await?;
    ensure!(message.contains("manage-clients"), "{message}");

    env.realm().grant_operator_role("manage-clients").await?;
    all_ready_within(&env, &everything(&env), backoff_cap() + PASS).await?;
    // With the new token things can be made again.
    env.apply(&machine(&env, "another", &["archive"])).await?;
    ready(&env, ("McpClient", env.namespace(), "another"), SOON).await?;
    operator.stop().await
}
