//! Clients that others have made, and scopes that the operator lacks.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::{Scene, for_itself};
use crate::fixtures::{SOON, apply_all, because, machine, ready, server, web};

const NOTES: &str = "https://notes.example.com/mcp";

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("auth0::operator_lacks_scopes", lacks_scopes),
        Story::new("auth0::operator_adopts_by_the_id_of_auth0", adopts),
        Story::new("auth0::operator_proves_an_existing_client", existing),
        Story::new(
            "auth0::operator_makes_another_client_for_another_party",
            another_party,
        ),
    ]
}

/// Each scope is named with what it blocks, and a grant is noticed.
async fn lacks_scopes(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-lacks").await?;
    let env = &scene.env;
    let audience = scene.auth0.management_audience();
    let grants = scene.auth0.dashboard().get("client-grants").await?;
    let own = grants.as_array().into_iter().flatten().find(|grant| {
        grant["audience"] == *audience && grant["client_id"] == scene.auth0.operator().client_id
    });
    let all: Vec<&str> = own
        .and_then(|grant| grant["scope"].as_array())
        .context("the operator has no grant")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let lacking = ["create:client_grants", "read:client_keys"];
    let few: Vec<&str> = all
        .iter()
        .copied()
        .filter(|scope| !lacking.contains(scope))
        .collect();
    scene.auth0.give_operator(&few);
    let operator = env.start_operator().await?;
    env.apply(&scene.authorization_server("main")).await?;
    let main = ("AuthorizationServer", env.namespace(), "main");
    let told = because(env, main, ("CredentialsValid", "False", "PermissionMissing")).await?;
    let message = told["message"].as_str().unwrap_or_default();
    for (scope, feature) in [
        ("create:client_grants", "access to MCP servers"),
        ("read:client_keys", "MCP servers and clients"),
    ] {
        ensure!(message.contains(&format!("{scope} (for {feature})")), "{told}");
    }
    ensure!(!message.contains("read:clients"), "{told}");
    scene.auth0.give_operator(&all);
    ready(env, main, SOON).await?;
    operator.stop().await
}

/// What the platform team names is taken over, with all that its McpClient says, and by no other McpClient.
async fn adopts(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-adopts").await?;
    let (env, dashboard) = (&scene.env, scene.auth0.dashboard());
    let legacy = json!({
        "name": "Legacy", "app_type": "non_interactive", "is_first_party": true, "oidc_conformant": true,
        "grant_types": ["client_credentials", "authorization_code"], "callbacks": ["https://evil.example/cb"],
    });
    let legacy = dashboard.post("clients", legacy).await?;
    let id = legacy["client_id"].as_str().context("no id")?;
    let mut main = scene.authorization_server("main");
    main["spec"]["adoption"] = json!([
        { "kind": "Client", "id": id, "namespace": env.namespace(), "name": "legacy" },
    ]);
    let operator = env.start_operator().await?;
    apply_all(
        env,
        &[
            main,
            server(env, "notes"),
            machine(env, "other", &["notes"]),
            machine(env, "legacy", &["notes"]),
        ],
    )
    .await?;
    for name in ["other", "legacy"] {
        ready(env, ("McpClient", env.namespace(), name), SOON).await?;
    }
    let of = async |name: &str| env.secret_value(env.namespace(), name, "client-id").await;
    ensure!(of("legacy-mcp-client").await? == id);
    ensure!(of("other-mcp-client").await? != id);
    let now = scene.client(id)?;
    ensure!(now["callbacks"] == json!([]), "{now}");
    ensure!(now["grant_types"] == json!(["client_credentials"]), "{now}");

    // From then on it is the McpClient's, and goes with it.
    let arguments = ["delete", "mcpclient", "legacy", "-n", env.namespace()];
    env.kubectl().must(&arguments).await?;
    env.wait_gone("McpClient", env.namespace(), "legacy", SOON)
        .await?;
    ensure!(scene.client(id).is_err(), "it is still there");
    scene.is_others_untouched()?;
    operator.stop().await
}

/// One that somebody else registers is proved as it is; one of ours is not to be had by naming its id.
async fn existing(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-existing").await?;
    let (env, dashboard) = (&scene.env, scene.auth0.dashboard());
    let operator = env.start_operator().await?;
    let ours = machine(env, "reader", &["notes"]);
    apply_all(
        env,
        &[scene.authorization_server("main"), server(env, "notes"), ours],
    )
    .await?;
    ready(env, ("McpClient", env.namespace(), "reader"), SOON).await?;

    let theirs = json!({
        "name": "Warehouse", "app_type": "non_interactive", "is_first_party": true,
        "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post",
    });
    let theirs = dashboard.post("clients", theirs).await?;
    let id = theirs["client_id"].as_str().context("no id")?;
    let secret = theirs["client_secret"].as_str().context("no secret")?;
    let grant = json!({
        "client_id": id, "audience": NOTES, "scope": ["notes:use"], "subject_type": "client",
    });
    dashboard.post("client-grants", grant).await?;
    let before = scene.auth0.dashboard().everything();
    let mut warehouse = machine(env, "warehouse", &["notes"]);
    warehouse["spec"]["managed"] = Value::Null;
    warehouse["spec"]["existing"] =
        json!({ "secretRef": { "name": "warehouse" }, "grantTypes": ["client_credentials"] });
    let fill = |id: &str, secret: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "namespace": env.namespace(), "name": "warehouse" },
            "stringData": { "client-id": id, "client-secret": secret },
        })
    };
    apply_all(env, &[warehouse, fill(id, secret)]).await?;
    let named = ("McpClient", env.namespace(), "warehouse");
    ready(env, named, SOON).await?;
    let object = env
        .get("McpClient", env.namespace(), "warehouse")
        .await?
        .unwrap_or_default();
    ensure!(object["status"]["clientId"] == id, "{}", object["status"]);
    ensure!(
        scene.auth0.dashboard().everything() == before,
        "something was written"
    );

    let reader = env
        .secret_value(env.namespace(), "reader-mcp-client", "client-id")
        .await?;
    let known = env
        .secret_value(env.namespace(), "reader-mcp-client", "client-secret")
        .await?;
    env.apply(&fill(&reader, &known)).await?;
    because(env, named, ("Accepted", "False", "AlreadyHeld")).await?;
    env.apply(&fill(&scene.auth0.operator().client_id, "x")).await?;
    because(env, named, ("Accepted", "False", "BuiltIn")).await?;

    let issuer = scene.issuer().await?;
    let client = mcp_auth_e2e::oauth::OAuthClient::confidential(&reader, known.into());
    let tokens = issuer.token(&client, for_itself(None, NOTES)).await?.granted()?;
    ensure!(issuer.verify(&tokens.access_token).await?.audiences() == [NOTES]);
    operator.stop().await
}

/// Auth0 does not make a third party one of the house: it takes another client, whose id everybody is told.
async fn another_party(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "auth0-party").await?;
    let env = &scene.env;
    let operator = env.start_operator().await?;
    let mut portal = web(env, "portal", &["notes"]);
    apply_all(
        env,
        &[
            scene.authorization_server("main"),
            server(env, "notes"),
            portal.clone(),
        ],
    )
    .await?;
    let named = ("McpClient", env.namespace(), "portal");
    let id = async || {
        env.secret_value(env.namespace(), "portal-mcp-client", "client-id")
            .await
    };
    ready(env, named, SOON).await?;
    let third = id().await?;
    ensure!(scene.client(&third)?["is_first_party"] == false);
    portal["spec"]["managed"]["consent"] = json!("Skip");
    env.apply(&portal).await?;
    ready(env, named, SOON).await?;
    let first = id().await?;
    ensure!(first != third && scene.client(&third).is_err(), "{third} {first}");
    ensure!(scene.client(&first)?["is_first_party"] == true);
    let object = env.get("McpClient", env.namespace(), "portal").await?;
    let status = &object.unwrap_or_default()["status"];
    ensure!(status["clientId"] == *first, "{status}");
    ensure!(
        !operator.log()?.contains("does not keep"),
        "it took more than one pass"
    );
    scene.is_others_untouched()?;
    operator.stop().await
}
