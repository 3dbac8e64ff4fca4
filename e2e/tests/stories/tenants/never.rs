//! What belongs to Keycloak itself or is the operator's own stays what it is, whoever consents.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{keycloak::OPERATOR_ROLES, story::StoryEnv, world::World};
use mcp_auth_operator::policy::names;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Case, Quiet, all_refused, claiming, looked_again, named, of, representation};
use crate::{
    fixtures::{SOON, apply_all, machine, ready, server},
    inventory::Realm,
};

/// A client id that an McpServer can ask for as its resource.
const OPERATORS_URL: &str = "https://operator.example.com/mcp";

/// A scope of Keycloak's own that the schema does not know. It is about SAML.
const UNKNOWN_TO_THE_SCHEMA: &str = "AuthnContextClassRef";

/// What must not be touched: the paths of the operator's clients and of the scope.
struct Untouchable {
    env: StoryEnv,
    robot_id: String,
    paths: Vec<String>,
}

impl Untouchable {
    /// A realm in which two operators' clients are called as our own objects would be, each the credential of an
    /// AuthorizationServer.
    async fn new(world: &Arc<World>) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, "tenants-never").await?;
        let robot_id = names::client_id(env.namespace(), env.namespace(), "robot");
        let mut paths = Vec::new();
        for (home, client_id) in [("main", OPERATORS_URL), ("derived", robot_id.as_str())] {
            let secret = env
                .realm()
                .add_operator_client(client_id, &OPERATOR_ROLES)
                .await?;
            let mut credentials = env.credentials_secret(env.namespace());
            credentials["metadata"]["name"] = json!(format!("credentials-of-{home}"));
            credentials["stringData"] = json!({
                "client-id": client_id, "client-secret": secret.expose_secret(),
            });
            env.apply(&credentials).await?;
            let client = env.realm().find_client(client_id).await?.context("no client")?;
            paths.push(format!("/clients/{}", client["id"].as_str().unwrap_or_default()));
        }
        let scopes = Realm::read(&env).await?.scopes;
        let scope = scopes
            .get(UNKNOWN_TO_THE_SCHEMA)
            .context("the realm has no such scope")?;
        paths.push(format!("/client-scopes/{scope}"));
        Ok(Self { env, robot_id, paths })
    }

    async fn look(&self) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        for path in &self.paths {
            all.push(representation(&self.env, path).await?);
        }
        Ok(all)
    }

    /// An AuthorizationServer with the credential that is named after it, and this consent.
    fn home(&self, name: &str, adoption: &Value) -> Value {
        let mut home = self.env.authorization_server(name);
        home["spec"]["credentials"]["secretRef"]["name"] = json!(format!("credentials-of-{name}"));
        home["spec"]["adoption"] = adoption.clone();
        home
    }

    fn cases(&self) -> [Case; 3] {
        let env = &self.env;
        let built_in = |object: Value, what: &str| {
            let message =
                format!("The {what} belongs to the authorization server itself: choose another name");
            Case::new(object, "BuiltIn", message)
        };
        let scope = claiming(
            server(env, "saml"),
            "https://saml.example.com/mcp",
            &[UNKNOWN_TO_THE_SCHEMA],
        );
        let robot = of(
            env.namespace(),
            (env.namespace(), "derived"),
            machine(env, "robot", &[]),
        );
        [
            built_in(server(env, "operator"), &format!("resource {OPERATORS_URL}")),
            built_in(robot, &format!("client {}", self.robot_id)),
            built_in(scope, &format!("scope {UNKNOWN_TO_THE_SCHEMA}")),
        ]
    }

    /// Consent from every side: of the AuthorizationServers, and of the things themselves.
    async fn consent(&self) -> anyhow::Result<()> {
        let space = self.env.namespace();
        let one = |kind: &str, id: &str, name: &str| json!({ "kind": kind, "id": id, "namespace": space, "name": name });
        let main = self.home(
            "main",
            &json!([
                one("Client", OPERATORS_URL, "operator"),
                one("Scope", UNKNOWN_TO_THE_SCHEMA, "saml"),
            ]),
        );
        let derived = self.home("derived", &json!([one("Client", &self.robot_id, "robot")]));
        let admin = self.env.realm().admin();
        let adopters = ["McpServer", "McpClient", "McpServer"]
            .into_iter()
            .zip(["operator", "robot", "saml"]);
        for (path, (kind, name)) in self.paths.iter().zip(adopters) {
            let mut thing = admin.get(path).await?;
            thing["attributes"]["mcpauth.adopt"] = json!(format!("{kind}/{space}/{name}"));
            admin.put(path, &thing).await?;
        }
        apply_all(&self.env, &[main, derived]).await
    }
}

pub(super) async fn never(world: Arc<World>) -> anyhow::Result<()> {
    let it = Untouchable::new(&world).await?;
    let env = &it.env;
    let mut options = env.operator_options();
    "1s".clone_into(&mut options.resync_interval);
    let operator = env.start_operator_with(&options).await?;
    let homes = [it.home("main", &json!([])), it.home("derived", &json!([]))];
    apply_all(env, &homes).await?;
    for home in &homes {
        ready(env, named(home), SOON).await?;
    }
    scopes_of_a_fresh_realm(env).await?;

    let (before, quiet) = (it.look().await?, Quiet::begin(env).await?);
    let cases = it.cases();
    let objects: Vec<_> = cases.iter().map(|case| case.object.clone()).collect();
    apply_all(env, &objects).await?;
    all_refused(env, &cases, &quiet).await?;
    ensure!(it.look().await? == before, "something was touched");

    it.consent().await?;
    let consented = it.look().await?;
    for home in &homes {
        ready(env, named(home), SOON).await?;
    }
    looked_again(
        env,
        &[OPERATORS_URL, &it.robot_id, "https://saml.example.com/mcp"],
    )
    .await?;
    all_refused(env, &cases, &quiet).await?;
    ensure!(it.look().await? == consented, "something was touched");
    // The operator can still sign in.
    for home in &homes {
        ready(env, named(home), SOON).await?;
    }
    operator.stop().await
}

/// The API server refuses every scope name that a new realm has, but for the one that the operator then refuses.
async fn scopes_of_a_fresh_realm(env: &StoryEnv) -> anyhow::Result<()> {
    let scopes = Realm::read(env).await?.scopes;
    ensure!(scopes.contains_key("microprofile-jwt"), "{scopes:?}");
    let servers: Vec<_> = scopes
        .keys()
        .filter(|scope| *scope != UNKNOWN_TO_THE_SCHEMA)
        .enumerate()
        .map(|(number, scope)| {
            let name = format!("built-in-{number}");
            let resource = format!("https://{name}.example.com/mcp");
            claiming(server(env, &name), &resource, &[scope])
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": servers }).to_string();
    let answer = env
        .kubectl()
        .run_stdin(&["create", "--filename", "-"], &list)
        .await?;
    for server in &servers {
        let (_, _, name) = named(server);
        let refused = answer.stderr.lines().any(|line| {
            line.contains(&format!("\"{name}\" is invalid"))
                && line.contains(
                    "this scope name belongs to the authorization server itself: choose another one",
                )
        });
        ensure!(refused, "{}: {answer:?}", server["spec"]["scopes"]);
    }
    ensure!(answer.stdout.is_empty(), "something was made: {}", answer.stdout);
    Ok(())
}
