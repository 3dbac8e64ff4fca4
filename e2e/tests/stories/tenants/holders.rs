//! Whoever the mark at Keycloak names holds a resource and a scope name: for all AuthorizationServers that mean the
//! realm, and for all installations that share it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{operator::OperatorOptions, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{Case, Quiet, all_refused, claiming, named, of};
use crate::{
    fixtures::{SOON, apply_all, because, ready, server},
    inventory::Realm,
};

const RESOURCE: &str = "https://held.example.com/mcp";
const SCOPE: &str = "held:use";
/// For longer than this nobody relies on what the realm was.
const A_MOMENT: Duration = Duration::from_millis(1100);

/// An AuthorizationServer of the story's realm, open to everybody, with what it refers to.
fn home(env: &StoryEnv, namespace: &str, name: &str) -> Vec<Value> {
    let mut server = env.authorization_server(name);
    server["metadata"]["namespace"] = json!(namespace);
    server["spec"]["grants"] = json!([{
        "namespaces": { "from": "All" },
        "servers": { "hosts": ["*"], "scopePrefixes": [""] },
    }]);
    vec![
        env.credentials_secret(namespace),
        env.ca_config_map(namespace),
        server,
    ]
}

/// The two ways to want what is held: its resource, or its scope for another resource. Gives both, named after `name`.
fn wanting(env: &StoryEnv, namespace: &str, home: (&str, &str), name: &str) -> [Value; 2] {
    let resource = format!("{name}-resource");
    let scope = format!("{name}-scope");
    let at = |name: &str| of(namespace, home, server(env, name));
    [
        claiming(at(&resource), RESOURCE, &[&format!("{name}:use")]),
        claiming(at(&scope), &format!("https://{name}.example.com/mcp"), &[SCOPE]),
    ]
}

/// Both ways, and the answers.
fn cases(wanting: [Value; 2], reason: &'static str, answer: &str) -> [Case; 2] {
    let [resource, scope] = wanting;
    [
        Case::new(resource, reason, format!("The resource {RESOURCE} {answer}")),
        Case::new(scope, reason, format!("The scope {SCOPE} {answer}")),
    ]
}

pub(super) async fn held(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "tenants-holders").await?;
    let holder = env.add_namespace("holder").await?;
    let second = env.add_namespace("second").await?;
    let curious = env.add_namespace("curious").await?;
    let operator = env.start_operator_with(&env.operator_options()).await?;
    let other = Neighbour::of_another_installation(&mut env).await?;
    let stranger = env.start_operator_with(&other.options).await?;

    let platform = env.namespace().to_owned();
    let homes = [
        (platform.as_str(), "main"),
        (second.as_str(), "also"),
        (other.namespace.as_str(), "theirs"),
    ];
    let objects: Vec<_> = homes.iter().flat_map(|(at, name)| home(&env, at, name)).collect();
    apply_all(&env, &objects).await?;
    // All are connected and have looked at the realm before there is anything to hold.
    for (at, name) in homes {
        ready(&env, ("AuthorizationServer", at, name), SOON).await?;
    }
    let [main, also, theirs] = homes;
    let held = claiming(of(&holder, main, server(&env, "held")), RESOURCE, &[SCOPE]);
    env.apply(&held).await?;
    ready(&env, named(&held), SOON).await?;
    // What is new may rest on a list of scopes that is a second old, and the other installation has a list of its own.
    tokio::time::sleep(A_MOMENT).await;

    let quiet = Quiet::begin(&env).await?;
    let by_name = format!("is held by McpServer {holder}/held: choose another name, or delete that one");
    refused_to_an_api(&env, also, &by_name, &quiet).await?;
    let nameless = "is held by another namespace: choose another name";
    let foreign = "is held by another installation of the operator: choose another name";
    let mut refused = Vec::new();
    for (namespace, home, name, reason, answer) in [
        // Who has a credential for the realm, or the thing itself, may know who holds it.
        (
            platform.as_str(),
            main,
            "platform",
            "AlreadyHeld",
            by_name.as_str(),
        ),
        (second.as_str(), also, "second", "AlreadyHeld", &by_name),
        (holder.as_str(), also, "again", "AlreadyHeld", &by_name),
        (curious.as_str(), main, "tenant", "AlreadyHeld", nameless),
        (curious.as_str(), also, "tenant-also", "AlreadyHeld", nameless),
        (
            other.namespace.as_str(),
            theirs,
            "foreign",
            "HeldByAnotherInstallation",
            foreign,
        ),
    ] {
        refused.extend(cases(wanting(&env, namespace, home, name), reason, answer));
    }
    let objects: Vec<_> = refused.iter().map(|case| case.object.clone()).collect();
    apply_all(&env, &objects).await?;
    all_refused(&env, &refused, &quiet).await?;

    nothing_goes_with_those_who_were_refused(&env, &objects).await?;
    ready(&env, named(&held), SOON).await?;
    stranger.stop().await?;
    operator.stop().await
}

/// An AuthorizationServer does not get the scope for an API of its own, nor any other before that one.
async fn refused_to_an_api(
    env: &StoryEnv,
    (namespace, name): (&str, &str),
    answer: &str,
    quiet: &Quiet,
) -> anyhow::Result<()> {
    let home = home(env, namespace, name)
        .pop()
        .context("no AuthorizationServer")?;
    let mut with_api = home.clone();
    with_api["spec"]["apis"] = json!([{
        "name": "orders", "audience": "https://orders.internal.example.com", "manage": true,
        "scopes": [{ "name": "orders-api:read" }, { "name": SCOPE }],
    }]);
    env.apply(&with_api).await?;
    let condition = because(env, named(&home), ("Registered", "False", "AlreadyHeld")).await?;
    ensure!(
        condition["message"] == format!("The scope {SCOPE} {answer}"),
        "{condition}"
    );
    quiet.is_kept(env, "the API").await?;
    env.apply(&home).await?;
    ready(env, named(&home), SOON).await
}

/// Their deletion changes nothing at Keycloak either.
async fn nothing_goes_with_those_who_were_refused(env: &StoryEnv, objects: &[Value]) -> anyhow::Result<()> {
    let realm = Realm::read(env).await?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
    let arguments = ["delete", "--filename", "-", "--timeout=30s"];
    env.kubectl()
        .run_stdin(&arguments, &list)
        .await?
        .or_fail(&arguments)?;
    ensure!(env.proxy().writes().is_empty(), "{:?}", env.proxy().writes());
    ensure!(Realm::read(env).await? == realm, "the realm changed");
    Ok(())
}

/// A second operator beside the story's own, as another cluster would have it.
struct Neighbour {
    namespace: String,
    options: OperatorOptions,
}

impl Neighbour {
    async fn of_another_installation(env: &mut StoryEnv) -> anyhow::Result<Self> {
        let own = env.add_namespace("other-operator").await?;
        let namespace = env.add_namespace("other").await?;
        let mut options = OperatorOptions::new(own, vec![namespace.clone()]);
        options.installation = Some("another-cluster".to_owned());
        Ok(Self { namespace, options })
    }
}
