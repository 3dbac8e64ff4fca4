//! Others change what is ours, and it is set right. What is not ours is left alone, unless it says otherwise itself.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{keycloak::Admin, runner::Story, world::World};
use mcp_auth_operator::provider::{
    Change, ClientSpec, Holder, Mark, Provider as _, ProviderError, Read, ResourceSpec,
};
use serde_json::{Value, json};

use super::{REMEMBERED, Scene, agent, mark, orders};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("provider::whatever_others_write_into_a_client_is_undone", fields),
        Story::new("provider::whatever_others_attach_to_a_client_is_undone", attached),
        Story::new("provider::whatever_others_do_to_a_scope_is_undone", scopes),
        Story::new("provider::a_renamed_client_is_found_again", renamed),
        Story::new("provider::only_what_consents_is_adopted", adoption),
        Story::new("provider::some_clients_are_never_adopted", never),
    ]
}

/// An audience for every token, as somebody might smuggle it in.
fn smuggled() -> Value {
    json!({
        "name": "evil", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": "https://other.example.com", "access.token.claim": "true"},
    })
}

async fn id_of_client(scene: &Scene, client_id: &str) -> anyhow::Result<String> {
    let client = scene
        .env
        .realm()
        .find_client(client_id)
        .await?
        .context("no such client")?;
    Ok(client["id"].as_str().context("a client without id")?.to_owned())
}

async fn scope(admin: &Admin, name: &str) -> anyhow::Result<Value> {
    let scopes = admin.get("/client-scopes").await?;
    let found = scopes
        .as_array()
        .and_then(|scopes| scopes.iter().find(|scope| scope["name"] == name));
    found.cloned().with_context(|| format!("no scope {name}"))
}

async fn id_of_scope(admin: &Admin, name: &str) -> anyhow::Result<String> {
    Ok(scope(admin, name).await?["id"]
        .as_str()
        .context("a scope without id")?
        .to_owned())
}

/// A realm in which both samples are in force.
async fn in_force(world: &Arc<World>, name: &str) -> anyhow::Result<Scene> {
    let scene = Scene::new(world, name).await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    Ok(scene)
}

async fn fields(world: Arc<World>) -> anyhow::Result<()> {
    let scene = in_force(&world, "provider-drift-client").await?;
    let (server, client) = (orders(), agent());
    let admin = scene.env.realm().admin();
    let id = id_of_client(&scene, &client.client_id).await?;
    let path = format!("/clients/{id}");
    let puts = [
        json!({"redirectUris": ["https://evil.example/cb", "https://app.example.com/cb"]}),
        json!({"webOrigins": ["*"]}),
        json!({"directAccessGrantsEnabled": true, "implicitFlowEnabled": true, "fullScopeAllowed": true}),
        json!({"enabled": false}),
        json!({"serviceAccountsEnabled": false}),
        json!({"standardFlowEnabled": false, "consentRequired": false, "name": "x", "description": "y"}),
        json!({"publicClient": true}),
        json!({"publicClient": true, "implicitFlowEnabled": true}),
        json!({"secret": "another"}),
        json!({"bearerOnly": true}),
        json!({"attributes": {"pkce.code.challenge.method": "plain", "access.token.lifespan": "86400"}}),
        json!({"attributes": {"use.refresh.tokens": "false", "oidc.ciba.grant.enabled": "true",
                              "oauth2.device.authorization.grant.enabled": "true"}}),
        json!({"attributes": {"mcpauth.uid": "", "foreign": "stays"}}),
        json!({"attributes": {"mcpauth.managed": "", "mcpauth.object": "", "mcpauth.kind": "", "mcpauth.installation": ""}}),
    ];
    for put in puts {
        admin.put(&path, &put).await?;
        let plan = scene.put_client(&client, Read::Fresh).await?;
        ensure!(!plan.is_empty(), "not noticed: {put}");
        scene
            .settled(&server, &client)
            .await
            .with_context(|| put.to_string())?;
        scene
            .prove(&client, &server.resource)
            .await
            .with_context(|| put.to_string())?;
    }
    let now = scene
        .env
        .realm()
        .find_client(&client.client_id)
        .await?
        .context("the client")?;
    ensure!(now["attributes"]["foreign"] == "stays", "{now}");
    Ok(())
}

async fn attached(world: Arc<World>) -> anyhow::Result<()> {
    let scene = in_force(&world, "provider-drift-attached").await?;
    let (server, client) = (orders(), agent());
    let admin = scene.env.realm().admin();
    let id = id_of_client(&scene, &client.client_id).await?;
    let path = format!("/clients/{id}");
    admin
        .create(&format!("{path}/protocol-mappers/models"), &smuggled())
        .await?;
    for (list, name) in [
        ("default", "roles"),
        ("default", "orders:write"),
        ("optional", "profile"),
    ] {
        let scope = id_of_scope(admin, name).await?;
        admin
            .put(&format!("{path}/{list}-client-scopes/{scope}"), &json!({}))
            .await?;
    }
    let basic = id_of_scope(admin, "basic").await?;
    admin
        .delete(&format!("{path}/default-client-scopes/{basic}"))
        .await?;
    let ours = id_of_scope(admin, "orders:read").await?;
    admin
        .delete(&format!("{path}/optional-client-scopes/{ours}"))
        .await?;
    let plan = scene.put_client(&client, Read::Fresh).await?;
    let revoked = plan
        .calls
        .iter()
        .filter(|call| call.change == Change::Revoke)
        .count();
    ensure!(revoked == 4 && plan.calls.len() == 6, "{plan:?}");
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await
}

async fn scopes(world: Arc<World>) -> anyhow::Result<()> {
    let scene = in_force(&world, "provider-drift-scope").await?;
    let (server, client) = (orders(), agent());
    let admin = scene.env.realm().admin();
    let ours = scope(admin, "orders:read").await?;
    let path = format!("/client-scopes/{}", ours["id"].as_str().unwrap_or_default());
    let mappers = format!("{path}/protocol-mappers/models");
    let mapper = ours["protocolMappers"][0].clone();
    let mapper_path = format!("{mappers}/{}", mapper["id"].as_str().unwrap_or_default());
    let mut foreign = mapper.clone();
    foreign["config"]["included.client.audience"] = json!("https://evil.example");

    admin.put(&mapper_path, &foreign).await?;
    let plan = scene.put_resource(&server, Read::Fresh).await?;
    ensure!(
        plan.calls.len() == 1 && plan.calls[0].change == Change::Revoke,
        "{plan:?}"
    );
    scene.settled(&server, &client).await?;

    admin.create(&mappers, &smuggled()).await?;
    scene.put_resource(&server, Read::Fresh).await?;
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await?;

    admin.delete(&mapper_path).await?;
    scene.put_resource(&server, Read::Fresh).await?;
    scene.settled(&server, &client).await?;

    for put in [
        json!({"name": "orders:renamed", "protocol": "openid-connect"}),
        json!({"name": "orders:read", "protocol": "openid-connect", "description": "x"}),
        json!({"name": "orders:read", "attributes": {"include.in.token.scope": "false", "consent.screen.text": "x"}}),
        json!({"name": "orders:read", "attributes": {"mcpauth.managed": "", "mcpauth.uid": "x"}}),
    ] {
        admin.put(&path, &put).await?;
        let plan = scene.put_resource(&server, Read::Fresh).await?;
        ensure!(!plan.is_empty(), "not noticed: {put}");
        scene
            .settled(&server, &client)
            .await
            .with_context(|| put.to_string())?;
        scene
            .prove(&client, &server.resource)
            .await
            .with_context(|| put.to_string())?;
    }
    admin.delete(&path).await?;
    scene.put_resource(&server, Read::Fresh).await?;
    scene.put_client(&client, Read::Fresh).await?;
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await
}

async fn renamed(world: Arc<World>) -> anyhow::Result<()> {
    let scene = in_force(&world, "provider-renamed").await?;
    let (server, client) = (orders(), agent());
    let id = id_of_client(&scene, &client.client_id).await?;
    let path = format!("/clients/{id}");
    scene
        .env
        .realm()
        .admin()
        .put(&path, &json!({"clientId": "somebody.elses"}))
        .await?;
    // The first pass cannot know; its creation meets the old id, and the second looks there.
    let first = scene.put_client(&client, Read::Fresh).await;
    let conflict = first.err().context("the id is taken")?;
    ensure!(
        matches!(conflict.downcast_ref(), Some(ProviderError::Conflict { .. })),
        "{conflict}"
    );
    scene.put_client(&client, Read::Fresh).await?;
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await?;
    ensure!(
        id_of_client(&scene, &client.client_id).await? == id,
        "there are two of it"
    );
    Ok(())
}

async fn adoption(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-adoption").await?;
    let admin = scene.env.realm().admin();
    let (mut server, client) = (orders(), agent());
    let theirs = json!({"clientId": client.client_id, "protocol": "openid-connect", "publicClient": true});
    let id = admin.create("/clients", &theirs).await?;
    let resource = json!({"clientId": server.resource, "protocol": "openid-connect", "attributes": {
        "mcpauth.adopt": "McpServer/team/other"}});
    let resource_id = admin.create("/clients", &resource).await?;
    admin
        .create(
            "/client-scopes",
            &json!({"name": "orders:read", "protocol": "openid-connect"}),
        )
        .await?;

    let plan = scene.put_resource(&server, REMEMBERED).await?;
    ensure!(plan.calls.is_empty() && plan.conflicts.len() == 2, "{plan:?}");
    let plan = scene.put_client(&client, REMEMBERED).await?;
    ensure!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");

    let consent = json!({"attributes": {"mcpauth.adopt": "McpServer/team/orders"}});
    admin.put(&format!("/clients/{resource_id}"), &consent).await?;
    server.adopt_scopes.insert("orders:read".to_owned());
    scene.put_resource(&server, Read::Fresh).await?;
    scene
        .put_client(
            &ClientSpec {
                adopt: true,
                ..agent()
            },
            Read::Fresh,
        )
        .await?;
    // Once taken over it is ours, with no consent any more.
    let server = ResourceSpec {
        adopt_scopes: [].into(),
        ..server
    };
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await?;
    ensure!(
        id_of_client(&scene, &client.client_id).await? == id,
        "another client instead of theirs"
    );
    Ok(())
}

async fn never(world: Arc<World>) -> anyhow::Result<()> {
    let scene = in_force(&world, "provider-never").await?;
    let client = agent();
    for (client_id, holder) in [
        ("account", Holder::BuiltIn),
        ("realm-management", Holder::BuiltIn),
        (scene.keycloak.own_client_id(), Holder::BuiltIn),
        (client.client_id.as_str(), Holder::Marked(client.mark.clone())),
    ] {
        let thief = ClientSpec {
            mark: Mark {
                installation: "another".to_owned(),
                ..mark("McpClient", "agent")
            },
            client_id: client_id.to_owned(),
            adopt: true,
            ..agent()
        };
        let plan = scene.put_client(&thief, Read::Fresh).await?;
        ensure!(
            plan.calls.is_empty() && plan.conflicts[0].holder == holder,
            "{plan:?}"
        );
    }
    Ok(())
}
