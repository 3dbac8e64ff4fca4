//! What others change is set right with the same ids and secrets, and what a backup brings back finds its own again.

mod restore;

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    operator::Operator,
    runner::Story,
    samples,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, machine, open_server, policy, ready, server},
    inventory::{Realm, becomes, credential, token_for},
};

const NOTES: &str = "https://notes.example.com/mcp";
const DRIFT: &str = "mcp_auth_operator_drift_repaired_total";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("drift::secrets_and_config_maps_are_set_right", in_the_cluster),
        Story::new("drift::clients_and_scopes_at_keycloak_are_set_right", at_keycloak),
        Story::new("drift::restored_objects_find_their_own_again", |world| {
            restore::restore(world, "restore", false)
        }),
        Story::new(
            "drift::restored_objects_find_their_own_again_without_journals",
            |world| restore::restore(world, "restore-bare", true),
        ),
    ]
}

/// A client that gets tokens for itself and signs users in, so that it has both a proof and redirect URIs.
fn worker(env: &StoryEnv) -> Value {
    let mut worker = machine(env, "worker", &["notes"]);
    worker["spec"]["managed"] = json!({
        "grantTypes": ["client_credentials", "authorization_code"],
        "redirectUris": ["https://worker.example.com/callback"],
    });
    worker
}

fn objects(env: &StoryEnv) -> Vec<Value> {
    vec![
        env.authorization_server("main"),
        server(env, "notes"),
        open_server(env, "archive"),
        worker(env),
        policy(env, "notes-to-archive", "notes", "archive"),
    ]
}

async fn all_ready(env: &StoryEnv) -> anyhow::Result<()> {
    for (kind, name) in OBJECTS {
        ready(env, (kind, env.namespace(), name), SOON).await?;
    }
    Ok(())
}

/// What [`objects`] declares.
const OBJECTS: [(&str, &str); 5] = [
    ("AuthorizationServer", "main"),
    ("McpServer", "notes"),
    ("McpServer", "archive"),
    ("McpClient", "worker"),
    ("TokenExchangePolicy", "notes-to-archive"),
];

/// Waits until more repairs of `what` of a kind are counted than before.
async fn counted(operator: &Operator, kind: &str, what: &str, before: f64) -> anyhow::Result<()> {
    let labels = [("kind", kind), ("what", what)];
    wait_for(&format!("a repaired {what} of {kind}"), SOON, async || {
        let now = operator.metric(DRIFT, &labels).await?;
        Ok(if now > before {
            Seen::Done(())
        } else {
            Seen::NotYet(now.to_string())
        })
    })
    .await
}

async fn in_the_cluster(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "drift-cluster").await?;
    let space = env.namespace();
    let operator = env.start_operator().await?;
    apply_all(&env, &objects(&env)).await?;
    all_ready(&env).await?;
    let realm = Realm::read(&env).await?;

    for (name, kind) in [
        ("worker-mcp-client", "McpClient"),
        ("notes-mcp-auth", "McpServer"),
    ] {
        let secret = samples::secret(&env, space, name).await?;
        for arguments in [
            vec!["delete", "secret", name, "-n", space],
            vec![
                "patch",
                "secret",
                name,
                "-n",
                space,
                "-p",
                r#"{"stringData":{"client-secret":"wrong"}}"#,
            ],
            vec![
                "patch",
                "secret",
                name,
                "-n",
                space,
                "-p",
                r#"{"data":{"client-id":null}}"#,
            ],
        ] {
            let before = operator
                .metric(DRIFT, &[("kind", kind), ("what", "Secret")])
                .await?;
            env.kubectl().must(&arguments).await?;
            becomes(&format!("{name} as it was"), &secret, SOON, async || {
                samples::secret(&env, space, name).await
            })
            .await?;
            counted(&operator, kind, "Secret", before).await?;
        }
    }
    for name in ["notes-mcp-auth", "notes-mcp-metadata"] {
        let data = config_map(&env, name).await?;
        let key = data
            .as_object()
            .and_then(|data| data.keys().next())
            .context("it is empty")?;
        let edit = json!({ "data": { key: "wrong" } }).to_string();
        for arguments in [
            vec![
                "patch",
                "configmap",
                name,
                "-n",
                space,
                "--type=merge",
                "-p",
                &edit,
            ],
            vec!["delete", "configmap", name, "-n", space],
        ] {
            let before = operator
                .metric(DRIFT, &[("kind", "McpServer"), ("what", "ConfigMap")])
                .await?;
            env.kubectl().must(&arguments).await?;
            becomes(&format!("{name} as it was"), &data, SOON, async || {
                config_map(&env, name).await
            })
            .await?;
            counted(&operator, "McpServer", "ConfigMap", before).await?;
        }
    }
    token_for(&env, &credential(&env, "worker").await?, "notes:use", NOTES).await?;
    ensure!(Realm::read(&env).await? == realm, "Keycloak was not to change");
    operator.stop().await
}

async fn config_map(env: &StoryEnv, name: &str) -> anyhow::Result<Value> {
    let arguments = ["get", "configmap", name, "-n", env.namespace()];
    let map: Value = env.kubectl().json(&arguments).await?;
    Ok(map["data"].clone())
}

/// Everything of a client or scope that is declared, in an order that does not depend on Keycloak.
fn essence(thing: &Value) -> Value {
    let sorted = |field: &str| {
        let mut list = thing[field].as_array().cloned().unwrap_or_default();
        list.sort_by_key(Value::to_string);
        list
    };
    let mappers = sorted("protocolMappers")
        .into_iter()
        .map(|mapper| mapper["config"].clone());
    json!({
        "id": thing["id"], "clientId": thing["clientId"], "name": thing["name"], "secret": thing["secret"],
        "enabled": thing["enabled"], "fullScopeAllowed": thing["fullScopeAllowed"],
        "implicitFlowEnabled": thing["implicitFlowEnabled"],
        "redirectUris": sorted("redirectUris"),
        "defaultClientScopes": sorted("defaultClientScopes"),
        "optionalClientScopes": sorted("optionalClientScopes"),
        "mappers": mappers.collect::<Vec<_>>(),
        "installation": thing["attributes"]["mcpauth.installation"],
        "object": thing["attributes"]["mcpauth.object"],
    })
}

/// The client `worker`, the client of `notes`, and the scope of `notes` as they are at Keycloak.
async fn registered(env: &StoryEnv, worker: &OAuthClient) -> anyhow::Result<[Value; 3]> {
    let scopes = env.realm().admin().get("/client-scopes").await?;
    let scope = scopes
        .as_array()
        .into_iter()
        .flatten()
        .find(|scope| scope["name"] == "notes:use");
    Ok([
        essence(&env.realm().find_client(worker.id()).await?.unwrap_or_default()),
        essence(&env.realm().find_client(NOTES).await?.unwrap_or_default()),
        essence(scope.unwrap_or(&Value::Null)),
    ])
}

/// Something that an administrator does to what is ours.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    DeleteClient,
    DetachScope,
    DeleteScope,
    AddRedirectUri,
    AddMapper,
    ChangeSecret,
    AddMapperToScope,
    DisableClient,
    DeleteServersClient,
}

impl Meddling {
    const ALL: [Self; 9] = [
        Self::DeleteClient,
        Self::DetachScope,
        Self::DeleteScope,
        Self::AddRedirectUri,
        Self::AddMapper,
        Self::ChangeSecret,
        Self::AddMapperToScope,
        Self::DisableClient,
        Self::DeleteServersClient,
    ];

    /// The kind of the object whose registration this changes.
    fn kind(self) -> &'static str {
        match self {
            Self::DeleteScope | Self::AddMapperToScope | Self::DeleteServersClient => "McpServer",
            _ => "McpClient",
        }
    }

    async fn happen(self, env: &StoryEnv, [worker, notes, scope]: &[Value; 3]) -> anyhow::Result<()> {
        let admin = env.realm().admin();
        let id = |thing: &Value| thing["id"].as_str().unwrap_or_default().to_owned();
        let (client, scope) = (
            format!("/clients/{}", id(worker)),
            format!("/client-scopes/{}", id(scope)),
        );
        let scope_of_client = format!(
            "{client}/optional-client-scopes/{}",
            scope.rsplit('/').next().unwrap_or_default()
        );
        let mapper = json!({
            "name": "foreign", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": "https://elsewhere.example.com/", "access.token.claim": "true" },
        });
        match self {
            Self::DeleteClient => admin.delete(&client).await,
            Self::DeleteServersClient => admin.delete(&format!("/clients/{}", id(notes))).await,
            Self::DetachScope => admin.delete(&scope_of_client).await,
            Self::DeleteScope => admin.delete(&scope).await,
            Self::ChangeSecret => admin
                .post(&format!("{client}/client-secret"), &json!({}))
                .await
                .map(drop),
            Self::AddMapper => admin
                .create(&format!("{client}/protocol-mappers/models"), &mapper)
                .await
                .map(drop),
            Self::AddMapperToScope => admin
                .create(&format!("{scope}/protocol-mappers/models"), &mapper)
                .await
                .map(drop),
            Self::AddRedirectUri => {
                let uris = json!([
                    "https://worker.example.com/callback",
                    "https://elsewhere.example.com/callback"
                ]);
                change(env, &client, "redirectUris", uris).await
            }
            Self::DisableClient => change(env, &client, "enabled", json!(false)).await,
        }
    }
}

async fn change(env: &StoryEnv, path: &str, field: &str, value: Value) -> anyhow::Result<()> {
    let mut thing = env.realm().admin().get(path).await?;
    thing[field] = value;
    env.realm().admin().put(path, &thing).await.map(drop)
}

async fn at_keycloak(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "drift-keycloak").await?;
    let mut options = env.operator_options();
    // Where no watch looks, a resync finds it.
    "2s".clone_into(&mut options.resync_interval);
    let operator = env.start_operator_with(&options).await?;
    apply_all(&env, &objects(&env)).await?;
    all_ready(&env).await?;
    let worker = credential(&env, "worker").await?;
    let before = registered(&env, &worker).await?;
    ensure!(
        before.iter().all(|thing| thing["id"].is_string()),
        "something is not registered"
    );
    let (realm, secrets) = (Realm::read(&env).await?, held(&env).await?);

    for meddling in Meddling::ALL {
        let labels = [("kind", meddling.kind()), ("what", "AuthorizationServer")];
        let repaired = operator.metric(DRIFT, &labels).await?;
        meddling.happen(&env, &before).await?;
        ensure!(
            registered(&env, &worker).await? != before,
            "{meddling:?} changed nothing"
        );
        becomes(&format!("{meddling:?} to be undone"), &before, SOON, async || {
            registered(&env, &worker).await
        })
        .await?;
        counted(&operator, meddling.kind(), "AuthorizationServer", repaired).await?;
        token_for(&env, &worker, "notes:use", NOTES)
            .await
            .with_context(|| format!("after {meddling:?}"))?;
    }
    ensure!(
        Realm::read(&env).await? == realm,
        "something was made anew or left"
    );
    ensure!(
        held(&env).await? == secrets,
        "a credential or a client id changed"
    );
    all_ready(&env).await?;
    operator.stop().await
}

/// What workloads hold: the contents of the two Secrets.
async fn held(env: &StoryEnv) -> anyhow::Result<[Value; 2]> {
    let space = env.namespace();
    Ok([
        json!(samples::secret(env, space, "worker-mcp-client").await?),
        json!(samples::secret(env, space, "notes-mcp-auth").await?),
    ])
}
