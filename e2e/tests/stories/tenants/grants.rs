//! Each grant, by what happens without it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{Case, Quiet, all_refused, claiming, named, of};
use crate::{
    fixtures::{SOON, apply_all, because, machine, native, policy, ready, server, web},
    inventory::Realm,
};

/// Three namespaces beside that of the AuthorizationServer: two with grants of their own, one with none.
struct Tenants {
    env: StoryEnv,
    ours: String,
    theirs: String,
    nobody: String,
}

impl Tenants {
    async fn new(world: &Arc<World>) -> anyhow::Result<Self> {
        let mut env = StoryEnv::new(world, "tenants-grants").await?;
        let mut labelled = Vec::new();
        for team in ["ours", "theirs", "nobody"] {
            let namespace = env.add_namespace(team).await?;
            label(&env, &namespace, team).await?;
            labelled.push(namespace);
        }
        let [ours, theirs, nobody] = labelled.try_into().ok().context("three namespaces")?;
        Ok(Self {
            env,
            ours,
            theirs,
            nobody,
        })
    }

    /// An object in one of the namespaces.
    fn of(&self, namespace: &str, object: Value) -> Value {
        of(namespace, (self.env.namespace(), "main"), object)
    }

    fn server(&self, namespace: &str, name: &str, resource: &str, scopes: &[&str]) -> Value {
        claiming(self.of(namespace, server(&self.env, name)), resource, scopes)
    }

    /// A client that signs users in and is sent back to these URIs.
    fn client(&self, name: &str, redirect_uris: &[&str]) -> Value {
        let mut client = self.of(&self.ours, native(&self.env, name, &[]));
        client["spec"]["managed"]["redirectUris"] = json!(redirect_uris);
        client
    }

    /// A policy by which the server `fine` of `ours` would exchange for an API.
    fn policy(&self, name: &str, api: &str) -> Value {
        let mut policy = self.of(&self.ours, policy(&self.env, name, "fine", "unused"));
        if let Some(spec) = policy["spec"].as_object_mut() {
            spec.remove("mcpServerRef");
            spec.insert("apiRef".to_owned(), json!({ "name": api }));
            spec.insert("scopes".to_owned(), json!([{ "name": format!("{api}:read") }]));
        }
        policy
    }

    fn authorization_server(&self) -> Value {
        let mut server = self.env.authorization_server("main");
        let team =
            |team: &str| json!({ "from": "Selector", "selector": { "matchLabels": { "team": team } } });
        let api = |name: &str| {
            json!({
                "name": name, "audience": format!("https://{name}.internal.example.com"), "manage": true,
                "scopes": [{ "name": format!("{name}:read") }],
            })
        };
        server["spec"]["apis"] = json!([api("open"), api("closed")]);
        server["spec"]["grants"] = json!([
            {
                "namespaces": team("ours"),
                "servers": { "hosts": ["ours.example.com", "*.wild.example.com"], "scopePrefixes": ["ours:"] },
                "tokenExchange": { "apis": ["open"] },
            },
            {
                "namespaces": team("ours"),
                "clients": { "redirectHosts": ["app.example.com", "*.apps.example.com", "com.example.app:"] },
            },
            {
                "namespaces": team("theirs"),
                "servers": { "hosts": ["theirs.example.com"], "scopePrefixes": ["theirs:"] },
                "tokenExchange": { "apis": ["closed"] },
            },
        ]);
        server
    }
}

async fn label(env: &StoryEnv, namespace: &str, team: &str) -> anyhow::Result<()> {
    let team = format!("team={team}");
    env.kubectl()
        .must(&["label", "namespace", namespace, &team, "--overwrite"])
        .await
        .map(drop)
}

pub(super) async fn refused(world: Arc<World>) -> anyhow::Result<()> {
    let tenants = Tenants::new(&world).await?;
    let env = &tenants.env;
    let operator = env.start_operator_with(&env.operator_options()).await?;
    everything_granted_is_ready(&tenants).await?;

    let quiet = Quiet::begin(env).await?;
    let mut cases = hosts(&tenants);
    cases.extend(scopes(&tenants));
    cases.extend(redirects(&tenants));
    cases.extend(apis(&tenants));
    cases.extend(nothing_granted(&tenants));
    let objects: Vec<_> = cases.iter().map(|case| case.object.clone()).collect();
    apply_all(env, &objects).await?;
    all_refused(env, &cases, &quiet).await?;

    a_label_is_enough(&tenants).await?;
    operator.stop().await
}

/// The same objects as those that are refused, but for what they lack: so nothing else stands in their way.
async fn everything_granted_is_ready(tenants: &Tenants) -> anyhow::Result<()> {
    let ours = &tenants.ours;
    let objects = [
        tenants.authorization_server(),
        tenants.server(ours, "fine", "https://ours.example.com/mcp", &["ours:read"]),
        tenants.server(ours, "below", "https://a.b.wild.example.com:8443/mcp", &[]),
        tenants.client(
            "fine",
            &[
                "https://app.example.com/callback",
                "https://one.apps.example.com/callback",
                "com.example.app:/callback",
            ],
        ),
        tenants.policy("fine", "open"),
    ];
    apply_all(&tenants.env, &objects).await?;
    for object in &objects {
        ready(&tenants.env, named(object), SOON).await?;
    }
    Ok(())
}

/// What messages call the AuthorizationServer.
fn home(tenants: &Tenants) -> String {
    format!("AuthorizationServer {}/main", tenants.env.namespace())
}

/// Hosts that differ from a granted one by as little as possible.
fn hosts(tenants: &Tenants) -> Vec<Case> {
    let ours = &tenants.ours;
    let cases = [
        ("host-of-others", "theirs.example.com"),
        ("host-below", "mcp.ours.example.com"),
        ("host-like", "notours.example.com"),
        ("host-continued", "ours.example.com.example.net"),
        ("host-bare", "wild.example.com"),
        ("host-like-bare", "notwild.example.com"),
        ("host-address", "192.0.2.7"),
    ];
    cases
        .into_iter()
        .map(|(name, host)| {
            let object = tenants.server(ours, name, &format!("https://{host}/mcp"), &["ours:read"]);
            let message = format!(
                "Namespace {ours} may not use the host {host}: ask for it in grants[].servers.hosts of {}",
                home(tenants)
            );
            Case::new(object, "HostNotGranted", message)
        })
        .collect()
}

/// Scopes beside a granted beginning. One that is not granted is one too many.
fn scopes(tenants: &Tenants) -> Vec<Case> {
    let ours = &tenants.ours;
    let cases: [(&str, &[&str], &str); 4] = [
        ("scope-of-others", &["theirs:read"], "theirs:read"),
        ("scope-one-of-two", &["ours:more", "your:more"], "your:more"),
        ("scope-too-short", &["ours"], "ours"),
        ("scope-spelling", &["Ours:read"], "Ours:read"),
    ];
    cases
        .into_iter()
        .map(|(name, scopes, refused)| {
            let object = tenants.server(ours, name, &format!("https://ours.example.com/{name}"), scopes);
            let message = format!(
                "Namespace {ours} may not claim the scope {refused}: ask for its beginning in \
                 grants[].servers.scopePrefixes of {}",
                home(tenants)
            );
            Case::new(object, "ScopeNotGranted", message)
        })
        .collect()
}

/// Redirect URIs beside a granted host or scheme. One that is not granted is one too many.
fn redirects(tenants: &Tenants) -> Vec<Case> {
    let cases: [(&str, &[&str], &str); 7] = [
        (
            "redirect-elsewhere",
            &["https://elsewhere.example.com/callback"],
            "elsewhere.example.com",
        ),
        (
            "redirect-one-of-two",
            &[
                "https://app.example.com/callback",
                "https://app.example.net/callback",
            ],
            "app.example.net",
        ),
        (
            "redirect-bare",
            &["https://apps.example.com/callback"],
            "apps.example.com",
        ),
        (
            "redirect-continued",
            &["https://app.example.com.example.net/callback"],
            "app.example.com.example.net",
        ),
        ("redirect-loopback", &["http://127.0.0.1/callback"], "127.0.0.1"),
        (
            "redirect-scheme",
            &["com.example.other:/callback"],
            "com.example.other:",
        ),
        (
            "redirect-scheme-like",
            &["com.example.app.evil:/callback"],
            "com.example.app.evil:",
        ),
    ];
    let ours = &tenants.ours;
    cases
        .into_iter()
        .map(|(name, uris, target)| {
            let message = format!(
                "Namespace {ours} may not redirect to {target}: ask for it in grants[].clients.redirectHosts of {}",
                home(tenants)
            );
            Case::new(tenants.client(name, uris), "RedirectHostNotGranted", message)
        })
        .collect()
}

/// An API of others, and one that does not exist: nobody learns from the answer which it is.
fn apis(tenants: &Tenants) -> Vec<Case> {
    let ours = &tenants.ours;
    ["closed", "missing"]
        .into_iter()
        .map(|api| {
            let message = format!(
                "Namespace {ours} may not exchange tokens for the API {api}: ask for it in \
                 grants[].tokenExchange.apis of {}",
                home(tenants)
            );
            Case::new(
                tenants.policy(&format!("api-{api}"), api),
                "ApiNotGranted",
                message,
            )
        })
        .collect()
}

/// Namespaces that no grant of the kind selects.
fn nothing_granted(tenants: &Tenants) -> Vec<Case> {
    let env = &tenants.env;
    let (theirs, nobody) = (&tenants.theirs, &tenants.nobody);
    let message = |namespace: &str, things: &str, grant: &str| {
        format!(
            "Namespace {namespace} may not register {things}: ask for a grant with {grant} in {}",
            home(tenants)
        )
    };
    let server = tenants.server(
        nobody,
        "later",
        "https://theirs.example.com/later",
        &["theirs:later"],
    );
    let client = tenants.of(nobody, machine(env, "never", &[]));
    let web = tenants.of(theirs, web(env, "app", &[]));
    vec![
        Case::new(
            server,
            "NamespaceNotGranted",
            message(nobody, "MCP servers", "servers"),
        ),
        Case::new(
            client,
            "NamespaceNotGranted",
            message(nobody, "clients", "clients"),
        ),
        Case::new(web, "NamespaceNotGranted", message(theirs, "clients", "clients")),
    ]
}

/// A label on the namespace lets in what a grant for it covers, by itself, and nothing more.
async fn a_label_is_enough(tenants: &Tenants) -> anyhow::Result<()> {
    let (env, nobody) = (&tenants.env, tenants.nobody.as_str());
    let realm = Realm::read(env).await?;
    label(env, nobody, "theirs").await?;
    ready(env, ("McpServer", nobody, "later"), SOON).await?;
    let mut now = Realm::read(env).await?;
    let (resource, scope) = ("https://theirs.example.com/later", "theirs:later");
    ensure!(
        now.clients.remove(resource).is_some() && now.scopes.remove(scope).is_some(),
        "{now:?}"
    );
    ensure!(now == realm, "{now:?}");
    let client = because(
        env,
        ("McpClient", nobody, "never"),
        ("Accepted", "False", "NamespaceNotGranted"),
    );
    client.await.map(drop)
}
