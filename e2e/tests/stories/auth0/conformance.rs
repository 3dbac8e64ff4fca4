//! The table of what a provider has to do, at a tenant: the stand-in or, where nothing needs to be injected, a live one.

use anyhow::ensure;
use http::Method;
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    provider::{
        Authentication, ClientSpec, Credential, Grant, Presence, Proof, Provider as _, ProviderError, Read,
        ResourceSpec,
    },
};
use serde_json::{Value, json};

use super::{
    others::foreign,
    scene::{REMEMBERED, SECRET, Scene, set},
};

pub(super) fn secret() -> Credential {
    Credential::new(SECRET)
}

/// Everything comes to be, works, and is then left alone, whether the tenant is asked or the memory.
pub(super) async fn create(scene: &mut Scene) -> anyhow::Result<()> {
    let made = scene.put_resource(&scene.orders(), REMEMBERED).await?;
    ensure!(made <= 3, "{made} rounds");
    let made = scene.put_client(&scene.agent(), REMEMBERED).await?;
    ensure!(made <= 3, "{made} rounds");
    ensure!(
        scene.id(&scene.agent()).await?.starts_with("tpc_"),
        "it is not strict"
    );
    scene.prove(&scene.agent(), &secret()).await?;
    let wrong = scene.is_refused(&scene.agent(), &Credential::new("wrong")).await;
    ensure!(matches!(wrong, Err(ProviderError::Unproved { .. })), "{wrong:?}");
    let code = Proof::AuthorizationCode {
        client_id: scene.id(&scene.agent()).await?,
        secret: secret(),
        redirect_uri: "https://app.example.com/cb".to_owned(),
    };
    scene.tenant.prove(&code, SystemClock.now()).await?;
    for _ in 0..2 {
        for read in [REMEMBERED, Read::Fresh] {
            scene.proxy.clear();
            ensure!(scene.put_resource(&scene.orders(), read).await? == 0);
            ensure!(scene.put_client(&scene.agent(), read).await? == 0);
            ensure!(
                scene
                    .proxy
                    .writes()
                    .iter()
                    .all(|call| call.path() == "/oauth/token")
            );
        }
        scene.restart().await?;
    }
    scene.is_others_untouched().await
}

/// Only who consented is taken over, as it is, with what others put there.
pub(super) async fn adopt(scene: &mut Scene) -> anyhow::Result<()> {
    let dashboard = &scene.desk;
    let foreign = json!({"value": "legacy", "description": "Theirs"});
    let api = json!({"identifier": scene.orders().resource, "name": "By hand", "scopes": [foreign]});
    let api = dashboard.post("resource-servers", api).await?;
    let conflict = scene.resource_plan(&scene.orders(), Read::Fresh).await?;
    ensure!(
        conflict.calls.is_empty() && conflict.conflicts.len() == 1,
        "{conflict:?}"
    );
    let want = ResourceSpec {
        adopt: true,
        ..scene.orders()
    };
    scene.put_resource(&want, Read::Fresh).await?;
    // Once it is marked, the consent may go.
    ensure!(scene.put_resource(&scene.orders(), Read::Fresh).await? == 0);
    let now = dashboard
        .get(&format!("resource-servers/{}", text(&api, "id")))
        .await?;
    ensure!(
        now["scopes"][0] == foreign && now["scopes"].as_array().map(Vec::len) == Some(3),
        "{now}"
    );

    let consent = format!("McpClient/{}/agent", scene.name);
    let client = json!({"name": format!("By hand {}", scene.name), "is_first_party": false,
        "third_party_security_mode": "strict", "client_metadata": {"team": "x", "mcpauth_adopt": consent}});
    let client = dashboard.post("clients", client).await?;
    scene.put_client(&scene.agent(), Read::Fresh).await?;
    ensure!(scene.id(&scene.agent()).await? == text(&client, "client_id"));
    let now = dashboard
        .get(&format!("clients/{}", text(&client, "client_id")))
        .await?;
    ensure!(now["client_metadata"]["team"] == "x", "{now}");
    scene.prove(&scene.agent(), &secret()).await?;
    scene.is_others_untouched().await
}

/// What others change is set right; what they add to an API stays, what they add to a client does not.
pub(super) async fn drift(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    let dashboard = &scene.desk;
    let api = scene.remains("resource_servers").await?.remove(0);
    let path = format!("resource-servers/{}", text(&api, "id"));
    let theirs = json!({"value": "foreign", "description": "Theirs"});
    let changed = json!({"name": "x", "enforce_policies": false, "token_lifetime": 86_400,
        "subject_type_authorization": {"user": {"policy": "allow_all"}}, "scopes": [theirs]});
    dashboard.patch(&path, changed).await?;
    let id = scene.id(&scene.agent()).await?;
    let changed = json!({"callbacks": ["https://evil.example/cb"], "client_secret": "known to somebody else",
        "grant_types": ["client_credentials"]});
    dashboard.patch(&format!("clients/{id}"), changed).await?;
    let more = json!({"client_id": id, "audience": foreign(&scene.name), "scope": ["orders:read"],
        "subject_type": "user"});
    dashboard.post("client-grants", more).await?;
    scene.put_resource(&scene.orders(), Read::Fresh).await?;
    scene.put_client(&scene.agent(), Read::Fresh).await?;
    scene.prove(&scene.agent(), &secret()).await?;
    let now = dashboard.get(&path).await?;
    ensure!(
        now["scopes"][0] == theirs && now["name"] == scene.orders().display_name,
        "{now}"
    );
    ensure!(now["subject_type_authorization"]["user"]["policy"] == "require_client_grant");
    let now = dashboard.get(&format!("clients/{id}")).await?;
    ensure!(!now.to_string().contains("evil"), "{now}");
    ensure!(
        scene.remains("client_grants").await?.len() == 2,
        "a user grant and one for itself"
    );
    // A scope that we made and want no more goes; the other's stays.
    let fewer = ResourceSpec {
        scopes: [("orders:read".to_owned(), String::new())].into(),
        ..scene.orders()
    };
    scene.put_resource(&fewer, Read::Fresh).await?;
    let now = dashboard.get(&path).await?;
    ensure!(
        now["scopes"].as_array().map(Vec::len) == Some(2) && now["scopes"][0] == theirs,
        "{now}"
    );
    scene.is_others_untouched().await
}

/// Access that is taken back is gone at once, also for one that is suspended.
pub(super) async fn revoke(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    let both = ClientSpec {
        scopes: set(&["orders:read", "orders:write"]),
        audiences: [(scene.orders().resource, set(&["orders:read", "orders:write"]))].into(),
        ..scene.agent()
    };
    scene.put_client(&both, REMEMBERED).await?;
    scene.prove(&both, &secret()).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    scene.prove(&scene.agent(), &secret()).await?;
    let more = scene.is_refused(&both, &secret()).await;
    ensure!(matches!(more, Err(ProviderError::Ungranted { .. })), "{more:?}");
    let suspended = ClientSpec {
        enabled: false,
        ..scene.agent()
    };
    scene.put_client(&suspended, REMEMBERED).await?;
    let none = scene.is_refused(&scene.agent(), &secret()).await;
    ensure!(matches!(none, Err(ProviderError::Ungranted { .. })), "{none:?}");
    ensure!(scene.remains("client_grants").await?.is_empty());
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    scene.prove(&scene.agent(), &secret()).await?;
    scene.is_others_untouched().await
}

/// Nothing of ours remains, not even grants that others gave for our API; what is another's stays.
pub(super) async fn delete(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    let dashboard = &scene.desk;
    let other = json!({"name": format!("Theirs {}", scene.name)});
    let other = dashboard.post("clients", other).await?;
    let grant = json!({"client_id": other["client_id"], "audience": scene.orders().resource,
        "scope": ["orders:read"], "subject_type": "user"});
    dashboard.post("client-grants", grant).await?;
    let stranger = scene.mark("McpClient", "stranger");
    let observed = scene.client(&scene.agent()).await?;
    ensure!(scene.tenant.plan_client_removal(&stranger, &observed).is_empty());
    let plan = scene.tenant.plan_client_removal(&scene.agent().mark, &observed);
    scene.tenant.execute(&plan).await?;
    let scopes = scene.tenant.observe_scopes(Read::Fresh).await?;
    let observed = scene
        .tenant
        .observe_resource(&scene.orders().resource, Read::Fresh)
        .await?;
    let plan = scene
        .tenant
        .plan_resource_removal(&scene.orders().mark, &observed, &scopes);
    scene.tenant.execute(&plan).await?;
    dashboard
        .delete(&format!("clients/{}", text(&other, "client_id")))
        .await?;
    for kind in ["clients", "resource_servers", "client_grants"] {
        let left = scene.remains(kind).await?;
        ensure!(left.is_empty(), "{kind}: {left:?}");
    }
    scene.is_others_untouched().await
}

/// What another object has is not taken, nor what Auth0 keeps for itself.
pub(super) async fn conflict(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    let other = ResourceSpec {
        mark: scene.mark("McpServer", "other"),
        adopt: true,
        ..scene.orders()
    };
    let plan = scene.resource_plan(&other, Read::Fresh).await?;
    ensure!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");

    // What Auth0 keeps for itself is nobody's, also what is not there yet.
    for path in ["me/", "api/v2/", "userinfo", "mcp"] {
        let own = ResourceSpec {
            resource: format!("{}{path}", scene.desk.issuer()),
            adopt: true,
            ..scene.orders()
        };
        let plan = scene.resource_plan(&own, Read::Fresh).await?;
        ensure!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");
    }
    // An id that leads elsewhere is no client.
    for id in [".", "..", "?page=0", "%2e%2e/users"] {
        let found = scene.tenant.observe_client(id, Read::Fresh).await?;
        ensure!(found.presence == Presence::Absent, "{id}: {found:?}");
    }
    scene.is_others_untouched().await
}

/// What registered itself is not taken for ours, also with our mark.
pub(super) async fn self_registered() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let auth0 = scene.stand_in()?;
    let dashboard = auth0.dashboard();
    let open = json!({"flags": {"enable_dynamic_client_registration": true}});
    dashboard.patch("tenants/settings", open).await?;
    let http = scene.desk.authority().http_client()?.build()?;
    let body = json!({"client_name": "Evil", "redirect_uris": ["https://evil.example/cb"]});
    let answer = http
        .post(format!("{}/oidc/register", auth0.url()))
        .json(&body)
        .send()
        .await?;
    let evil: Value = answer.json().await?;
    let evil = format!("clients/{}", text(&evil, "client_id"));
    let object = format!("McpClient/{}/agent", scene.name);
    let metadata = json!({"client_metadata": {"mcpauth_installation": scene.name,
        "mcpauth_object": object, "mcpauth_uid": "uid-1"}});
    let before = dashboard.patch(&evil, metadata).await?;
    scene.put_client(&scene.agent(), Read::Fresh).await?;
    let id = scene.id(&scene.agent()).await?;
    ensure!(
        before["client_id"] != id,
        "a client that registered itself passes for ours"
    );
    let after = dashboard.get(&evil).await?;
    ensure!(after["callbacks"] == before["callbacks"] && after["grant_types"] == before["grant_types"]);
    Ok(())
}

/// Each scope that is missing is named, with what it blocks; a call without its scope says which.
pub(super) async fn permissions() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    ensure!(scene.tenant.check_access().await?.missing.is_empty());
    scene.stand_in()?.give_operator(&[
        "read:clients",
        "read:client_keys",
        "read:resource_servers",
        "read:client_grants",
    ]);
    let missing = scene.tenant.check_access().await?.missing;
    ensure!(
        missing.contains(&"create:resource_servers (for MCP servers)".to_owned()) && missing.len() == 18,
        "{missing:?}"
    );
    let plan = scene.resource_plan(&scene.orders(), Read::Fresh).await?;
    let refused = scene.tenant.execute(&plan).await;
    let expected = ProviderError::Forbidden {
        operation: "create_resource_server",
        permission: "create:resource_servers",
    };
    ensure!(refused == Err(expected), "{refused:?}");
    scene.stand_in()?.give_operator(&[]);
    ensure!(scene.tenant.check_access().await?.missing.len() == 22);
    Ok(())
}

/// A tenant that holds no more says so, which is no matter of permissions.
pub(super) async fn full() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.stand_in()?.hold(mcp_auth_e2e::auth0::Entity::Apis, 1);
    let plan = scene.resource_plan(&scene.orders(), Read::Fresh).await?;
    let refused = scene.tenant.execute(&plan).await;
    ensure!(
        matches!(&refused, Err(ProviderError::Rejected { code, .. }) if code == "entity_limit_reached"),
        "{refused:?}"
    );
    Ok(())
}

/// One of the house, a machine, and a public client; changing the kind is another client.
pub(super) async fn kinds(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    let machine = ClientSpec {
        grants: [Grant::ClientCredentials].into(),
        redirect_uris: set(&[]),
        consent: false,
        ..scene.agent()
    };
    scene.put_client(&machine, REMEMBERED).await?;
    scene.prove(&machine, &secret()).await?;
    let before = scene.id(&machine).await?;
    ensure!(!before.starts_with("tpc_"));
    let public = ClientSpec {
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        authentication: Authentication::None,
        ..scene.agent()
    };
    scene.put_client(&public, REMEMBERED).await?;
    let observed = scene.client(&public).await?;
    ensure!(observed.is_public && observed.client_id != Some(before));
    ensure!(
        scene.remains("clients").await?.len() == 2,
        "the API's and this one"
    );
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    scene.prove(&scene.agent(), &secret()).await?;
    ensure!(
        scene
            .proxy
            .calls()
            .iter()
            .any(|call| call.method == Method::DELETE)
    );
    scene.is_others_untouched().await
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
