//! A realm that is shared with others: what they have there stays as it is, byte for byte, whatever the operator does.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    keycloak::OPERATOR_CLIENT, operator::Operator, runner::Story, story::StoryEnv, world::World,
};
use serde_json::{Value, json};

use crate::{
    dynamic::registrar::{Registrar, Which},
    fixtures::{
        SOON, annotate, apply_all, because, machine, native, open_server, policy, ready, server, web,
    },
    keys::account,
    rotation::{REVOKE, ROTATE},
};

const COMPONENTS: &str = "/components";
const PROFILES: &str = "/client-policies/profiles";
const POLICIES: &str = "/client-policies/policies";
/// The settings of the realm.
const SETTINGS: &str = "";

/// Where all of it is, and by what entries are told apart there.
const PLACES: [(&str, &str); 13] = [
    ("/clients?max=1000", "id"),
    ("/client-scopes", "id"),
    ("/default-default-client-scopes", "id"),
    ("/default-optional-client-scopes", "id"),
    (COMPONENTS, "id"),
    ("/identity-provider/instances", "alias"),
    ("/roles?briefRepresentation=false", "id"),
    ("/groups?briefRepresentation=false", "id"),
    ("/users?max=1000", "id"),
    ("/authentication/flows", "id"),
    ("/authentication/required-actions", "alias"),
    (PROFILES, "name"),
    (POLICIES, "name"),
];

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "shared_realm::what_others_have_stays_as_it_is_byte_for_byte",
        everything,
    )]
}

/// All that there is in a realm: the text of each thing, by its place and what it is called there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<(&'static str, String), String>);

impl Contents {
    /// Reads all of it.
    pub(crate) async fn read(env: &StoryEnv) -> anyhow::Result<Self> {
        let admin = env.realm().admin();
        let mut contents = BTreeMap::new();
        for (place, called) in PLACES {
            let answer = admin.get(place).await?;
            let field = place.rsplit('/').next().unwrap_or_default();
            let list = answer.as_array().or_else(|| answer[field].as_array());
            for thing in list.with_context(|| format!("no list at {place}"))? {
                let name = thing[called].as_str().context("it has no name")?.to_owned();
                contents.insert((place, name), text(thing));
            }
        }
        let settings = admin.get(SETTINGS).await?;
        for (name, value) in settings.as_object().context("no settings")? {
            // These two are documents of their own.
            if !matches!(name.as_str(), "clientProfiles" | "clientPolicies") {
                contents.insert((SETTINGS, name.clone()), text(value));
            }
        }
        Ok(Self(contents))
    }

    /// The same without what is marked as an operator's.
    pub(crate) fn of_others(self) -> Self {
        let is_theirs = |text: &String| !text.contains("mcpauth.managed");
        Self(self.0.into_iter().filter(|(_, text)| is_theirs(text)).collect())
    }

    /// Fails unless all of this is still there and as it was.
    pub(crate) fn kept(&self, now: &Self) -> anyhow::Result<()> {
        for ((place, name), text) in &self.0 {
            let is = now.0.get(&(*place, name.clone()));
            ensure!(is == Some(text), "{place} {name} was {text}\nand is {is:?}");
        }
        Ok(())
    }

    /// The same, but for what says who may register.
    pub(crate) fn kept_but_doors(&self, now: &Self) -> anyhow::Result<()> {
        let is_door =
            |place: &str, text: &str| place == COMPONENTS && text.contains("ClientRegistrationPolicy");
        let others = self.0.iter().filter(|((place, _), text)| !is_door(place, text));
        let others = others.map(|(thing, text)| (thing.clone(), text.clone()));
        Self(others.collect()).kept(now)
    }

    /// Fails unless this is what there is, and nothing more.
    pub(crate) fn same(&self, now: &Self) -> anyhow::Result<()> {
        self.kept(now)?;
        let more = now.0.keys().find(|thing| !self.0.contains_key(*thing));
        ensure!(more.is_none(), "{more:?} was not there before");
        Ok(())
    }
}

/// What is compared. Keycloak lists some things in any order.
fn text(thing: &Value) -> String {
    let mut thing = thing.clone();
    if thing.get("clientId").is_some_and(|id| id == OPERATOR_CLIENT)
        && let Some(own) = thing.as_object_mut()
    {
        // Its own client is where it shuts out who led before.
        own.remove("notBefore");
    }
    if let Some(config) = thing.get_mut("config") {
        sort(config);
    }
    for list in [
        "protocolMappers",
        "defaultClientScopes",
        "optionalClientScopes",
        "composites",
        "requiredCredentials",
    ] {
        if let Some(list) = thing.get_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    thing.to_string()
}

fn sort(config: &mut Value) {
    let values = config
        .as_object_mut()
        .into_iter()
        .flat_map(|config| config.values_mut());
    for list in values.filter_map(Value::as_array_mut) {
        list.sort_by_key(Value::to_string);
    }
}

/// Somebody else keeps client policies in the realm, and has restricted registration in his own way.
pub(crate) async fn others(env: &StoryEnv) -> anyhow::Result<()> {
    let admin = env.realm().admin();
    let profile = json!({ "name": "theirs", "description": "not the operator's", "executors": [
        { "executor": "secure-session", "configuration": {} },
    ]});
    let policy = json!({ "name": "their policy", "description": "", "enabled": true, "profiles": ["theirs"], "conditions": [
        { "condition": "client-roles", "configuration": { "roles": ["special"] } },
    ]});
    admin.put(PROFILES, &json!({ "profiles": [profile] })).await?;
    admin.put(POLICIES, &json!({ "policies": [policy] })).await?;
    let components = admin.get(COMPONENTS).await?;
    let hosts = components
        .as_array()
        .into_iter()
        .flatten()
        .find(|component| component["providerId"] == "trusted-hosts");
    let mut hosts = hosts.context("no policy of hosts")?.clone();
    hosts["config"]["trusted-hosts"] = json!(["build.example.com", "*.corp.example.com"]);
    let path = format!("/components/{}", hosts["id"].as_str().context("no id")?);
    admin.put(&path, &hosts).await.map(drop)
}

/// Somebody else has one of everything, and settings that are not Keycloak's own.
async fn one_of_everything(env: &StoryEnv) -> anyhow::Result<()> {
    let admin = env.realm().admin();
    let settings = json!({
        "displayName": "Everybody's", "accessTokenLifespan": 123, "ssoSessionIdleTimeout": 4567,
        "attributes": { "acme.custom": "theirs" }, "bruteForceProtected": true,
    });
    admin.put(SETTINGS, &settings).await?;
    crate::self_registration::setup::foreign_scope(env, "theirs:read").await?;
    let client = json!({
        "clientId": "their-app", "name": "Theirs", "secret": "s3cret-of-theirs", "serviceAccountsEnabled": true,
        "redirectUris": ["https://theirs.example.com/*"], "fullScopeAllowed": true,
        "attributes": { "acme.team": "payments", "client.secret.creation.time": "1700000000" },
        "optionalClientScopes": ["theirs:read"],
    });
    admin.create("/clients", &client).await?;
    admin
        .create(
            "/clients",
            &json!({ "clientId": "their-page", "publicClient": true }),
        )
        .await?;
    admin.create("/roles", &json!({ "name": "special" })).await?;
    admin.create("/groups", &json!({ "name": "their group" })).await?;
    let provider = json!({ "alias": "their-idp", "providerId": "oidc", "config": {
        "authorizationUrl": "https://idp.example.com/a", "tokenUrl": "https://idp.example.com/t", "clientId": "c",
        "clientSecret": "s", "issuer": "https://idp.example.com" } });
    admin.create("/identity-provider/instances", &provider).await?;
    env.realm().create_user("somebody", "correct horse").await?;
    others(env).await
}

/// Everything that the operator does in a realm, one after the other.
async fn everything(world: Arc<World>) -> anyhow::Result<()> {
    const ROLES: [&str; 3] = ["manage-clients", "manage-realm", "manage-identity-providers"];
    let env = StoryEnv::with_operator_roles(&world, "shared-realm", &ROLES).await?;
    one_of_everything(&env).await?;
    let before = Contents::read(&env).await?;
    let operator = env.start_operator().await?;

    administered(&env).await?;
    before.kept(&Contents::read(&env).await?)?;
    credentials(&env).await?;
    before.kept(&Contents::read(&env).await?)?;
    registered(&env).await?;
    before.kept(&Contents::read(&env).await?)?;
    // Who may register is a setting that is changed while it is open to strangers, and set back.
    strangers(&env, &before).await?;
    gone(&env, operator).await?;
    before.same(&Contents::read(&env).await?)
}

/// Servers, clients of every kind, an exchange that is limited to some, and an API that the operator manages.
async fn administered(env: &StoryEnv) -> anyhow::Result<()> {
    let mut main = env.authorization_server("main");
    main["spec"]["keycloak"]["serviceAccountIssuer"] = json!({});
    main["spec"]["apis"] = json!([
        { "name": "orders", "audience": "orders-api", "scopes": [{ "name": "orders:read" }], "manage": true },
    ]);
    let mut limited = policy(env, "notes-to-archive", "notes", "archive");
    limited["spec"]["subjectClients"] = json!([{ "name": "desktop" }]);
    let mut notes = server(env, "notes");
    notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "Same" } }]);
    let mut keyed = machine(env, "keyed", &["notes"]);
    keyed["spec"]["managed"]["authentication"] = json!({ "method": "PrivateKeyJwt" });
    let mut pod = machine(env, "pod", &["notes"]);
    pod["spec"]["managed"]["authentication"] =
        json!({ "method": "ServiceAccountToken", "serviceAccount": { "name": "pod" } });
    let mut worker = machine(env, "worker", &["notes"]);
    worker["spec"]["rotation"] = json!({ "overlap": "1h" });
    let objects = [
        main,
        account(env.namespace(), "pod"),
        notes,
        open_server(env, "archive"),
        native(env, "desktop", &["notes"]),
        web(env, "portal", &["notes"]),
        worker,
        keyed,
        pod,
        limited,
    ];
    apply_all(env, &objects).await?;
    for client in ["desktop", "portal", "worker", "keyed", "pod"] {
        ready(env, ("McpClient", env.namespace(), client), SOON).await?;
    }
    let policy = ("TokenExchangePolicy", env.namespace(), "notes-to-archive");
    ready(env, policy, SOON).await
}

/// A rotation with overlap, a revocation, and a suspension.
async fn credentials(env: &StoryEnv) -> anyhow::Result<()> {
    let worker = ("McpClient", env.namespace(), "worker");
    for annotation in [ROTATE, REVOKE] {
        annotate(env, "worker", annotation, "please").await?;
        ready(env, worker, SOON).await?;
    }
    let patch = json!({ "spec": { "suspended": true } });
    patched(env, "mcpclient", "portal", &patch).await?;
    let portal = ("McpClient", env.namespace(), "portal");
    because(env, portal, ("Ready", "False", "Suspended"))
        .await
        .map(drop)
}

/// A client by Keycloak's own registration endpoint.
async fn registered(env: &StoryEnv) -> anyhow::Result<()> {
    let (_, mut objects) = Registrar::start(env, Which::Keycloak, 10).await?;
    for object in &mut objects {
        if object["kind"] == "AuthorizationServer" {
            object["metadata"]["name"] = json!("registrar");
        }
    }
    let mut guest = machine(env, "guest", &[]);
    guest["spec"]["authorizationServerRef"]["name"] = json!("registrar");
    objects.push(guest);
    apply_all(env, &objects).await?;
    let guest = ("McpClient", env.namespace(), "guest");
    ready(env, guest, SOON).await?;
    annotate(env, "guest", ROTATE, "please").await?;
    ready(env, guest, SOON).await?;
    deleted(env, "mcpclient").await?;
    let arguments = [
        "delete",
        "authorizationserver",
        "registrar",
        "-n",
        env.namespace(),
    ];
    env.kubectl().must(&arguments).await.map(drop)
}

/// Registration is opened to strangers, one registers, and it is shut again.
async fn strangers(env: &StoryEnv, before: &Contents) -> anyhow::Result<()> {
    let main = ("AuthorizationServer", env.namespace(), "main");
    let opened = json!({ "spec": { "clientRegistration": {
        "dynamic": { "trustedRedirectHosts": ["127.0.0.1"] },
        "metadataDocuments": { "allowedDomains": ["agents.example.com"] },
    } } });
    patched(env, "authorizationserver", "main", &opened).await?;
    because(env, main, ("Accepted", "True", "Proved")).await?;
    let url = format!("{}/clients-registrations/openid-connect", env.realm().issuer());
    let stranger = json!({ "client_name": "Somebody", "redirect_uris": ["http://127.0.0.1:7777/callback"],
        "token_endpoint_auth_method": "none" });
    let http = env.world().authority().http_client()?.build()?;
    let answer = http.post(&url).json(&stranger).send().await?;
    ensure!(answer.status() == StatusCode::CREATED, "{}", answer.status());
    let stranger: Value = answer.json().await?;
    before.kept_but_doors(&Contents::read(env).await?)?;
    patched(
        env,
        "authorizationserver",
        "main",
        &json!({ "spec": { "clientRegistration": null } }),
    )
    .await?;
    ready(env, main, SOON).await?;
    let id = stranger["client_id"].as_str().context("no client id")?;
    let left = env
        .realm()
        .find_client(id)
        .await?
        .context("the stranger is gone")?;
    let path = format!("/clients/{}", left["id"].as_str().context("no id")?);
    env.realm().admin().delete(&path).await
}

/// Everything is deleted, the AuthorizationServer last.
async fn gone(env: &StoryEnv, operator: Operator) -> anyhow::Result<()> {
    for kind in [
        "tokenexchangepolicy",
        "mcpclient",
        "mcpserver",
        "authorizationserver",
    ] {
        deleted(env, kind).await?;
    }
    operator.stop().await
}

async fn deleted(env: &StoryEnv, kind: &str) -> anyhow::Result<()> {
    let arguments = ["delete", kind, "--all", "-n", env.namespace()];
    env.kubectl().must(&arguments).await.map(drop)
}

async fn patched(env: &StoryEnv, kind: &str, name: &str, patch: &Value) -> anyhow::Result<()> {
    let patch = patch.to_string();
    let arguments = [
        "patch",
        kind,
        name,
        "-n",
        env.namespace(),
        "--type=merge",
        "--patch",
        &patch,
    ];
    env.kubectl().must(&arguments).await.map(drop)
}
