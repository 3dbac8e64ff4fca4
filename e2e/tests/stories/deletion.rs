//! Deletion neither hangs nor leaves anything behind that is not named.

mod giving_up;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    operator::{Operator, OperatorOptions},
    runner::Story,
    story::{CREDENTIALS_SECRET, StoryEnv},
    world::World,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, because, machine, open_server, policy, ready, server},
    inventory::{Realm, becomes, credential, kept, published, token_for},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "deletion::each_kind_takes_along_what_it_made_and_no_more",
            each_kind,
        ),
        Story::new(
            "deletion::one_that_is_not_ready_stays_while_it_is_used",
            not_ready,
        ),
        Story::new("deletion::a_namespace_goes_as_a_whole", |world| {
            whole_namespace(world, "namespace", false)
        }),
        Story::new(
            "deletion::a_namespace_goes_with_the_kept_credential_alone",
            |world| whole_namespace(world, "kept", true),
        ),
        Story::new("deletion::an_outage_is_given_up_at_the_timeout", |world| {
            giving_up::outage(world, "outage", false)
        }),
        Story::new(
            "deletion::an_outage_is_given_up_at_the_timeout_by_an_operator_that_never_connected",
            |world| giving_up::outage(world, "unconnected", true),
        ),
        Story::new("deletion::abandon_gives_up_at_once", giving_up::abandon),
        Story::new("deletion::a_retained_client_keeps_working", retain),
    ]
}

/// An AuthorizationServer whose internal API the operator manages, so that it has something of its own to clean up.
fn home(env: &StoryEnv) -> Value {
    let mut home = env.authorization_server("main");
    home["spec"]["apis"] = json!([
        { "name": "orders", "audience": "orders-api", "scopes": [{ "name": "orders:read" }], "manage": true },
    ]);
    home
}

/// One object of each kind and one more server: `notes` exchanges tokens for `archive`, `worker` uses `notes`.
async fn one_of_each(env: &StoryEnv) -> anyhow::Result<()> {
    let objects = [
        home(env),
        server(env, "notes"),
        open_server(env, "archive"),
        machine(env, "worker", &["notes"]),
        policy(env, "notes-to-archive", "notes", "archive"),
    ];
    apply_all(env, &objects).await?;
    for (kind, name) in [
        ("AuthorizationServer", "main"),
        ("TokenExchangePolicy", "notes-to-archive"),
        ("McpServer", "archive"),
        ("McpClient", "worker"),
    ] {
        ready(env, (kind, env.namespace(), name), SOON).await?;
    }
    Ok(())
}

/// Asks for the deletion and returns at once.
async fn ask(env: &StoryEnv, kind: &str, name: &str) -> anyhow::Result<()> {
    let arguments = ["delete", kind, name, "-n", env.namespace(), "--wait=false"];
    env.kubectl().must(&arguments).await.map(drop)
}

/// Deletes an object and waits for its end.
async fn delete(env: &StoryEnv, kind: &str, name: &str) -> anyhow::Result<()> {
    ask(env, kind, name).await?;
    env.wait_gone(kind, env.namespace(), name, SOON).await
}

/// What is in `before` and not in `after`.
fn lost(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<String> {
    let kept = |name: &&String| !after.contains_key(*name);
    before.keys().filter(kept).cloned().collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What the end of one object takes along: at Keycloak, in its namespace, in the operator's.
#[derive(Default)]
struct Takes<'a> {
    clients: &'a [&'a str],
    scopes: &'a [&'a str],
    published: &'a [&'a str],
    kept: &'a [&'a str],
}

/// Deletes an object and compares what is there after its end with what was there before.
async fn delete_and_compare(
    env: &StoryEnv,
    (kind, name): (&str, &str),
    takes: Takes<'_>,
) -> anyhow::Result<()> {
    let before = (
        Realm::read(env).await?,
        published(env, env.namespace()).await?,
        kept(env).await?,
    );
    delete(env, kind, name).await?;
    let realm = Realm::read(env).await?;
    let (clients, scopes) = (&before.0.clients, &before.0.scopes);
    let gone = lost(clients, &realm.clients);
    ensure!(gone == names(takes.clients), "{kind}: clients {gone:?}");
    let gone = lost(scopes, &realm.scopes);
    ensure!(gone == names(takes.scopes), "{kind}: scopes {gone:?}");
    let journals: BTreeSet<String> = kept(env).await?.into_keys().collect();
    let gone: BTreeSet<String> = before
        .2
        .into_keys()
        .filter(|name| !journals.contains(name))
        .collect();
    ensure!(
        gone == names(takes.kept),
        "{kind}: in the operator's namespace {gone:?}"
    );
    // The garbage collector takes these, a moment later.
    let left = &before.1 - &names(takes.published);
    becomes(&format!("what {kind} published"), &left, SOON, async || {
        published(env, env.namespace()).await
    })
    .await
}

async fn each_kind(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "delete-each").await?;
    let stranger = env.add_namespace("stranger").await?;
    let empty = Realm::read(&env).await?;
    let operator = env.start_operator().await?;
    one_of_each(&env).await?;
    name_it_from(&env, &stranger).await?;
    let space = env.namespace();
    let worker = credential(&env, "worker").await?;

    let takes = Takes {
        published: &["secret/notes-mcp-auth"],
        kept: &[&format!("mcpserver.{space}.notes")],
        ..Takes::default()
    };
    delete_and_compare(&env, ("tokenexchangepolicy", "notes-to-archive"), takes).await?;
    let notes = env.realm().find_client("https://notes.example.com/mcp").await?;
    let notes = notes.context("the server went with the policy")?;
    ensure!(
        !notes["optionalClientScopes"].to_string().contains("archive:use"),
        "{notes}"
    );

    let takes = Takes {
        clients: &[worker.id()],
        published: &["secret/worker-mcp-client"],
        kept: &[&format!("mcpclient.{space}.worker")],
        ..Takes::default()
    };
    delete_and_compare(&env, ("mcpclient", "worker"), takes).await?;

    let takes = Takes {
        clients: &["https://notes.example.com/mcp"],
        scopes: &["notes:use"],
        published: &["configmap/notes-mcp-auth", "configmap/notes-mcp-metadata"],
        ..Takes::default()
    };
    delete_and_compare(&env, ("mcpserver", "notes"), takes).await?;

    // While `archive` refers to it, the AuthorizationServer stays; it goes by itself with the last one. Who has no grant
    // of it cannot hold it.
    ask(&env, "authorizationserver", "main").await?;
    let home = ("AuthorizationServer", space, "main");
    let said = because(&env, home, ("Ready", "Unknown", "InUse")).await?;
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(message.contains("1 McpServers"), "{said}");
    ensure!(
        Realm::read(&env).await?.scopes.contains_key("orders:read"),
        "cleaned up too early"
    );
    delete(&env, "mcpserver", "archive").await?;
    env.wait_gone("authorizationserver", space, "main", SOON).await?;
    nothing_is_left(&env, &empty).await?;
    ensure!(
        operator.metric(GIVEN_UP_TOTAL, &[]).await? < 1.0,
        "something was given up"
    );
    operator.stop().await
}

/// An McpServer of a namespace without a grant that names the AuthorizationServer.
async fn name_it_from(env: &StoryEnv, stranger: &str) -> anyhow::Result<()> {
    let mut object = server(env, "stranger");
    object["metadata"]["namespace"] = json!(stranger);
    object["spec"]["authorizationServerRef"]["namespace"] = json!(env.namespace());
    env.apply(&object).await?;
    let refused = ("Accepted", "False", "NamespaceNotGranted");
    because(env, ("McpServer", stranger, "stranger"), refused)
        .await
        .map(drop)
}

/// One that is connected but not Ready serves others, and so must not go before they do.
async fn not_ready(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "delete-not-ready").await?;
    let scope = json!({ "name": "orders:read", "protocol": "openid-connect" });
    env.realm().admin().create("/client-scopes", &scope).await?;
    let before = Realm::read(&env).await?;
    let operator = env.start_operator().await?;
    let mut main = env.authorization_server("main");
    main["spec"]["apis"] = json!([{
        "name": "orders", "audience": "https://orders.example.com", "manage": true,
        "scopes": [{ "name": "orders:read" }],
    }]);
    apply_all(&env, &[main, server(&env, "notes")]).await?;
    let space = env.namespace();
    let home = ("AuthorizationServer", space, "main");
    because(&env, home, ("Ready", "False", "NotAdopted")).await?;
    ready(&env, ("McpServer", space, "notes"), SOON).await?;

    ask(&env, "authorizationserver", "main").await?;
    because(&env, home, ("Ready", "Unknown", "InUse")).await?;
    delete(&env, "mcpserver", "notes").await?;
    env.wait_gone("authorizationserver", space, "main", SOON).await?;
    nothing_is_left(&env, &before).await?;
    operator.stop().await
}

const GIVEN_UP_TOTAL: &str = "mcp_auth_operator_deletions_given_up_total";

/// The realm is as it was before the operator came, and the operator has kept nothing to itself.
async fn nothing_is_left(env: &StoryEnv, empty: &Realm) -> anyhow::Result<()> {
    let realm = Realm::read(env).await?;
    ensure!(realm == *empty, "left at Keycloak: {realm:?}");
    let kept = kept(env).await?;
    ensure!(kept.is_empty(), "left in the operator's namespace: {kept:?}");
    Ok(())
}

/// The namespace with everything in it is deleted at once: with the operator running; or while it is down, so that
/// the next one finds neither a connection nor the Secret to make one with.
async fn whole_namespace(world: Arc<World>, name: &str, while_down: bool) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, &format!("delete-{name}")).await?;
    let empty = Realm::read(&env).await?;
    let mut operator = env.start_operator().await?;
    one_of_each(&env).await?;
    let space = env.namespace();
    if while_down {
        operator.stop().await?;
    }
    env.kubectl()
        .must(&["delete", "namespace", space, "--wait=false"])
        .await?;
    if while_down {
        env.wait_gone("secret", space, CREDENTIALS_SECRET, SOON).await?;
        operator = launch(&env, &env.operator_options()).await?;
    }
    let gone = env.wait_gone("namespace", space, space, SOON).await;
    gone.with_context(|| {
        operator
            .log()
            .unwrap_or_default()
            .lines()
            .rev()
            .take(5)
            .collect::<String>()
    })?;
    nothing_is_left(&env, &empty).await?;
    ensure!(
        operator.metric(GIVEN_UP_TOTAL, &[]).await? < 1.0,
        "something was given up"
    );
    operator.stop().await
}

/// Starts an operator with the rights that its ServiceAccount has already: in a namespace that is being deleted none
/// can be given.
async fn launch(env: &StoryEnv, options: &OperatorOptions) -> anyhow::Result<Operator> {
    let folder = env
        .world()
        .folder()
        .subfolder(&format!("{}-again", env.namespace()))?;
    let operator = Operator::launch(&folder, env.cluster(), options).await?;
    operator.wait_until_ready().await?;
    Ok(operator)
}

async fn retain(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "delete-retain").await?;
    let space = env.namespace();
    let operator = env.start_operator().await?;
    let mut worker = machine(&env, "worker", &["notes"]);
    worker["spec"]["deletionPolicy"] = json!("Retain");
    apply_all(&env, &[home(&env), server(&env, "notes"), worker.clone()]).await?;
    ready(&env, ("McpClient", space, "worker"), SOON).await?;
    let (before, client) = (Realm::read(&env).await?, credential(&env, "worker").await?);
    let secret = env
        .secret_value(space, "worker-mcp-client", "client-secret")
        .await?;

    delete(&env, "mcpclient", "worker").await?;
    env.wait_gone("secret", space, "worker-mcp-client", SOON).await?;
    ensure!(Realm::read(&env).await? == before, "the client was to stay");
    let journal = format!("mcpclient.{space}.worker");
    ensure!(!kept(&env).await?.contains_key(&journal), "its journal is left");
    token_for(&env, &client, "notes:use", "https://notes.example.com/mcp").await?;

    // Who comes back finds the same client with the same credential.
    env.apply(&worker).await?;
    ready(&env, ("McpClient", space, "worker"), SOON).await?;
    let again = env
        .secret_value(space, "worker-mcp-client", "client-secret")
        .await?;
    ensure!(again == secret, "another credential");
    ensure!(Realm::read(&env).await? == before, "another client");
    operator.stop().await
}
