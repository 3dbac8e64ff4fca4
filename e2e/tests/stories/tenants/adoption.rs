//! What exists at Keycloak without our mark.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::ensure;
use mcp_auth_e2e::{samples, secrets, story::StoryEnv, world::World};
use mcp_auth_operator::policy::names;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Case, Quiet, all_refused, claiming, looked_again, named, representation, told};
use crate::{
    fixtures::{SOON, apply_all, machine, ready, server},
    inventory::{Realm, credential, token_for},
};

/// What an administrator made before the operator came: for each of two servers a client and a scope, a scope for a
/// third, and a client that has the id of an McpClient.
struct Legacy {
    env: StoryEnv,
    app_id: String,
    /// What the application already uses.
    secret: SecretString,
    /// Paths of all of them.
    clients: Vec<String>,
    scopes: Vec<String>,
}

impl Legacy {
    async fn new(world: &Arc<World>) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, "tenants-adoption").await?;
        let admin = env.realm().admin();
        let app_id = names::client_id(env.namespace(), env.namespace(), "app");
        let secret = secrets::random();
        let mut clients = Vec::new();
        for client_id in [resource("listed"), resource("marked"), app_id.clone()] {
            let client = json!({
                "clientId": client_id, "protocol": "openid-connect", "publicClient": false,
                "secret": secret.expose_secret(), "redirectUris": ["https://legacy.example.com/callback"],
                "description": "Made by hand",
            });
            clients.push(format!("/clients/{}", admin.create("/clients", &client).await?));
        }
        let mut scopes = Vec::new();
        for name in ["listed:use", "marked:use", "scope:use"] {
            let scope = json!({ "name": name, "protocol": "openid-connect", "description": "Made by hand" });
            scopes.push(format!(
                "/client-scopes/{}",
                admin.create("/client-scopes", &scope).await?
            ));
        }
        Ok(Self {
            env,
            app_id,
            secret,
            clients,
            scopes,
        })
    }

    /// Everything that Keycloak says of them.
    async fn look(&self) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        for path in self.clients.iter().chain(&self.scopes) {
            all.push(representation(&self.env, path).await?);
        }
        Ok(all)
    }

    /// The AuthorizationServer with this consent.
    async fn consent(&self, adoption: &Value) -> anyhow::Result<()> {
        let mut home = self.env.authorization_server("main");
        home["spec"]["adoption"] = adoption.clone();
        self.env.apply(&home).await
    }

    /// Writes at Keycloak who may take the thing over.
    async fn mark(&self, path: &str, adopter: &str) -> anyhow::Result<()> {
        let admin = self.env.realm().admin();
        let mut thing = admin.get(path).await?;
        thing["attributes"]["mcpauth.adopt"] = json!(adopter);
        admin.put(path, &thing).await.map(drop)
    }

    /// What is refused as long as nobody consents.
    fn cases(&self) -> [Case; 4] {
        let env = &self.env;
        let refused = |object: Value, what: &str| Case::new(object, "NotAdopted", not_adopted(env, what));
        [
            refused(server(env, "listed"), &format!("resource {}", resource("listed"))),
            refused(server(env, "marked"), &format!("resource {}", resource("marked"))),
            refused(
                claiming(server(env, "scope"), &resource("scope"), &["scope:use"]),
                "scope scope:use",
            ),
            refused(
                machine(env, "app", &["listed"]),
                &format!("client {}", self.app_id),
            ),
        ]
    }
}

/// The resource of a server of this name.
fn resource(name: &str) -> String {
    format!("https://{name}.example.com/mcp")
}

/// What whoever wants it is told.
fn not_adopted(env: &StoryEnv, what: &str) -> String {
    format!(
        "The {what} exists at the authorization server and was not made by the operator: choose another name, or ask \
         for it in adoption of AuthorizationServer {}/main",
        env.namespace()
    )
}

pub(super) async fn consent(world: Arc<World>) -> anyhow::Result<()> {
    let legacy = Legacy::new(&world).await?;
    let env = &legacy.env;
    let mut options = env.operator_options();
    // Where no watch looks, a resync finds it.
    "1s".clone_into(&mut options.resync_interval);
    let operator = env.start_operator_with(&options).await?;
    legacy.consent(&json!([])).await?;
    ready(env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;

    let (before, quiet) = (legacy.look().await?, Quiet::begin(env).await?);
    let cases = legacy.cases();
    let objects: Vec<_> = cases.iter().map(|case| case.object.clone()).collect();
    apply_all(env, &objects).await?;
    all_refused(env, &cases, &quiet).await?;
    consent_to_others(&legacy, &cases, &quiet).await?;
    ensure!(legacy.look().await? == before, "something was touched");

    let ids = Realm::read(env).await?;
    by_list(&legacy).await?;
    by_attribute(&legacy).await?;
    for object in &objects {
        ready(env, named(object), SOON).await?;
    }
    let now = Realm::read(env).await?;
    ensure!(
        is_left(&ids.clients, &now.clients) && is_left(&ids.scopes, &now.scopes),
        "something was made anew"
    );
    taken_over(&legacy).await?;
    operator.stop().await
}

/// Whether everything is there under the id that it had before.
fn is_left(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> bool {
    before.iter().all(|(name, id)| now.get(name) == Some(id))
}

/// Consent to somebody else, to the same name in another namespace or of another kind, and to something else, is none.
async fn consent_to_others(legacy: &Legacy, cases: &[Case], quiet: &Quiet) -> anyhow::Result<()> {
    let env = &legacy.env;
    let space = env.namespace();
    legacy
        .consent(&json!([
            { "kind": "Client", "id": resource("listed"), "namespace": space, "name": "somebody" },
            { "kind": "Scope", "id": resource("marked"), "namespace": space, "name": "marked" },
            { "kind": "Scope", "id": "scope:use", "namespace": "elsewhere", "name": "scope" },
            { "kind": "Client", "id": format!("{}.x", legacy.app_id), "namespace": space, "name": "app" },
        ]))
        .await?;
    ready(env, ("AuthorizationServer", space, "main"), SOON).await?;
    looked_again(
        env,
        &[
            &resource("listed"),
            &resource("marked"),
            &resource("scope"),
            &legacy.app_id,
        ],
    )
    .await?;
    all_refused(env, cases, quiet).await
}

/// The AuthorizationServer consents. A client is not consent to the scope of the same server.
async fn by_list(legacy: &Legacy) -> anyhow::Result<()> {
    let env = &legacy.env;
    let space = env.namespace();
    let one = |kind: &str, id: &str, name: &str| json!({ "kind": kind, "id": id, "namespace": space, "name": name });
    let client = one("Client", &resource("listed"), "listed");
    legacy.consent(&json!([client])).await?;
    let still = not_adopted(env, "scope listed:use");
    told(env, ("McpServer", space, "listed"), ("NotAdopted", &still)).await?;
    ensure!(env.proxy().writes().is_empty(), "half of it was taken over");
    legacy
        .consent(&json!([
            client,
            one("Scope", "listed:use", "listed"),
            one("Scope", "scope:use", "scope"),
            one("Client", &legacy.app_id, "app"),
        ]))
        .await?;
    for (kind, name) in [
        ("McpServer", "listed"),
        ("McpServer", "scope"),
        ("McpClient", "app"),
    ] {
        ready(env, (kind, space, name), SOON).await?;
    }
    Ok(())
}

/// The things themselves consent, each by its attribute: no watch shows that, a resync finds it.
async fn by_attribute(legacy: &Legacy) -> anyhow::Result<()> {
    let env = &legacy.env;
    let space = env.namespace();
    let (client, scope) = (&legacy.clients[1], &legacy.scopes[1]);
    let before = representation(env, client).await?;
    for adopter in ["listed", "marked"] {
        legacy
            .mark(client, &format!("McpServer/{space}/{adopter}"))
            .await?;
        let marked = representation(env, client).await?;
        ensure!(marked != before, "no attribute was written");
        looked_again(env, &[&resource("marked")]).await?;
        ensure!(
            representation(env, client).await? == marked,
            "it was taken over by consent to {adopter}"
        );
    }
    legacy.mark(scope, &format!("McpServer/{space}/marked")).await?;
    ready(env, ("McpServer", space, "marked"), SOON).await
}

/// It is ours now: as declared, with the credential that the application already uses, and without consent any more.
async fn taken_over(legacy: &Legacy) -> anyhow::Result<()> {
    let env = &legacy.env;
    let space = env.namespace();
    for path in legacy.clients.iter().chain(&legacy.scopes) {
        let thing = representation(env, path).await?;
        ensure!(
            thing["attributes"]["mcpauth.installation"] == space,
            "{path} has no mark"
        );
        ensure!(thing["description"] != "Made by hand", "{path} is as it was");
        ensure!(
            thing["redirectUris"].as_array().is_none_or(Vec::is_empty),
            "{path} is still redirected to"
        );
    }
    let secret = samples::secret(env, space, "app-mcp-client").await?;
    ensure!(
        secret["client-secret"] == legacy.secret.expose_secret(),
        "the application has to be told another secret"
    );
    let app = credential(env, "app").await?;
    token_for(env, &app, "listed:use", &resource("listed")).await?;

    legacy.consent(&json!([])).await?;
    looked_again(env, &[&resource("listed")]).await?;
    ready(env, ("McpServer", space, "listed"), SOON).await?;
    token_for(env, &app, "listed:use", &resource("listed")).await
}
