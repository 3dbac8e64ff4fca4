//! The table of what a provider has to do, at the stand-in.

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

use super::scene::{ORDERS, REMEMBERED, SECRET, Scene, agent, mark, orders, set};

pub(super) fn secret() -> Credential {
    Credential::new(SECRET)
}

/// Everything comes to be, works, and is then left alone, whether the tenant is asked or the memory.
pub(super) async fn create() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    let made = scene.put_resource(&orders(), REMEMBERED).await?;
    ensure!(made <= 3, "{made} rounds");
    let made = scene.put_client(&agent(), REMEMBERED).await?;
    ensure!(made <= 3, "{made} rounds");
    ensure!(scene.id(&agent()).await?.starts_with("tpc_"), "it is not strict");
    scene.prove(&agent(), &secret()).await?;
    let wrong = scene.prove(&agent(), &Credential::new("wrong")).await;
    ensure!(matches!(wrong, Err(ProviderError::Unproved { .. })), "{wrong:?}");
    let code = Proof::AuthorizationCode {
        client_id: scene.id(&agent()).await?,
        secret: secret(),
        redirect_uri: "https://app.example.com/cb".to_owned(),
    };
    scene.tenant.prove(&code, SystemClock.now()).await?;
    for _ in 0..2 {
        for read in [REMEMBERED, Read::Fresh] {
            scene.proxy.clear();
            ensure!(scene.put_resource(&orders(), read).await? == 0);
            ensure!(scene.put_client(&agent(), read).await? == 0);
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
    scene.is_others_untouched()
}

/// Only who consented is taken over, as it is, with what others put there.
pub(super) async fn adopt() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let dashboard = scene.auth0.dashboard();
    let foreign = json!({"value": "legacy", "description": "Theirs"});
    let api = json!({"identifier": ORDERS, "name": "By hand", "scopes": [foreign]});
    let api = dashboard.post("resource-servers", api).await?;
    let conflict = scene.resource_plan(&orders(), Read::Fresh).await?;
    ensure!(
        conflict.calls.is_empty() && conflict.conflicts.len() == 1,
        "{conflict:?}"
    );
    let want = ResourceSpec {
        adopt: true,
        ..orders()
    };
    scene.put_resource(&want, Read::Fresh).await?;
    // Once it is marked, the consent may go.
    ensure!(scene.put_resource(&orders(), Read::Fresh).await? == 0);
    let now = dashboard
        .get(&format!("resource-servers/{}", text(&api, "id")))
        .await?;
    ensure!(
        now["scopes"][0] == foreign && now["scopes"].as_array().map(Vec::len) == Some(3),
        "{now}"
    );

    let client = json!({"name": "By hand", "is_first_party": false, "third_party_security_mode": "strict",
        "client_metadata": {"team": "x", "mcpauth_adopt": "McpClient/team/agent"}});
    let client = dashboard.post("clients", client).await?;
    scene.put_client(&agent(), Read::Fresh).await?;
    ensure!(scene.id(&agent()).await? == text(&client, "client_id"));
    let now = dashboard
        .get(&format!("clients/{}", text(&client, "client_id")))
        .await?;
    ensure!(now["client_metadata"]["team"] == "x", "{now}");
    scene.prove(&agent(), &secret()).await?;
    scene.is_others_untouched()
}

/// What others change is set right; what they add to an API stays, what they add to a client does not.
pub(super) async fn drift() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    let dashboard = scene.auth0.dashboard();
    let api = scene.remains("resource_servers").remove(0);
    let path = format!("resource-servers/{}", text(&api, "id"));
    let foreign = json!({"value": "foreign", "description": "Theirs"});
    let changed = json!({"name": "x", "enforce_policies": false, "token_lifetime": 86_400,
        "subject_type_authorization": {"user": {"policy": "allow_all"}}, "scopes": [foreign]});
    dashboard.patch(&path, changed).await?;
    let id = scene.id(&agent()).await?;
    let changed = json!({"callbacks": ["https://evil.example/cb"], "client_secret": "known to somebody else",
        "grant_types": ["client_credentials"]});
    dashboard.patch(&format!("clients/{id}"), changed).await?;
    let more = json!({"client_id": id, "audience": "https://foreign.example.com/", "scope": ["orders:read"],
        "subject_type": "user"});
    dashboard.post("client-grants", more).await?;
    scene.put_resource(&orders(), Read::Fresh).await?;
    scene.put_client(&agent(), Read::Fresh).await?;
    scene.prove(&agent(), &secret()).await?;
    let now = dashboard.get(&path).await?;
    ensure!(now["scopes"][0] == foreign && now["name"] == "orders", "{now}");
    ensure!(now["subject_type_authorization"]["user"]["policy"] == "require_client_grant");
    let now = dashboard.get(&format!("clients/{id}")).await?;
    ensure!(!now.to_string().contains("evil"), "{now}");
    ensure!(
        scene.remains("client_grants").len() == 2,
        "a user grant and one for itself"
    );
    // A scope that we made and want no more goes; the other's stays.
    let fewer = ResourceSpec {
        scopes: [("orders:read".to_owned(), String::new())].into(),
        ..orders()
    };
    scene.put_resource(&fewer, Read::Fresh).await?;
    let now = dashboard.get(&path).await?;
    ensure!(
        now["scopes"].as_array().map(Vec::len) == Some(2) && now["scopes"][0] == foreign,
        "{now}"
    );
    scene.is_others_untouched()
}

/// Access that is taken back is gone at once, also for one that is suspended.
pub(super) async fn revoke() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    let both = ClientSpec {
        scopes: set(&["orders:read", "orders:write"]),
        audiences: [(ORDERS.to_owned(), set(&["orders:read", "orders:write"]))].into(),
        ..agent()
    };
    scene.put_client(&both, REMEMBERED).await?;
    scene.prove(&both, &secret()).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.prove(&agent(), &secret()).await?;
    let more = scene.prove(&both, &secret()).await;
    ensure!(matches!(more, Err(ProviderError::Ungranted { .. })), "{more:?}");
    let suspended = ClientSpec {
        enabled: false,
        ..agent()
    };
    scene.put_client(&suspended, REMEMBERED).await?;
    let none = scene.prove(&agent(), &secret()).await;
    ensure!(matches!(none, Err(ProviderError::Ungranted { .. })), "{none:?}");
    ensure!(scene.remains("client_grants").is_empty());
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.prove(&agent(), &secret()).await?;
    scene.is_others_untouched()
}

/// Nothing of ours remains, not even grants that others gave for our API; what is another's stays.
pub(super) async fn delete() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    let other = scene
        .auth0
        .dashboard()
        .post("clients", json!({"name": "Theirs"}))
        .await?;
    let grant = json!({"client_id": other["client_id"], "audience": ORDERS, "scope": ["orders:read"],
        "subject_type": "user"});
    scene.auth0.dashboard().post("client-grants", grant).await?;
    let stranger = mark("McpClient", "stranger");
    let observed = scene.client(&agent()).await?;
    ensure!(scene.tenant.plan_client_removal(&stranger, &observed).is_empty());
    let plan = scene.tenant.plan_client_removal(&agent().mark, &observed);
    scene.tenant.execute(&plan).await?;
    let scopes = scene.tenant.observe_scopes(Read::Fresh).await?;
    let observed = scene.tenant.observe_resource(ORDERS, Read::Fresh).await?;
    let plan = scene
        .tenant
        .plan_resource_removal(&orders().mark, &observed, &scopes);
    scene.tenant.execute(&plan).await?;
    scene
        .auth0
        .dashboard()
        .delete(&format!("clients/{}", text(&other, "client_id")))
        .await?;
    for kind in ["clients", "resource_servers", "client_grants"] {
        ensure!(
            scene.remains(kind).is_empty(),
            "{kind}: {:?}",
            scene.remains(kind)
        );
    }
    scene.is_others_untouched()
}

/// What another installation or another object has is not taken, and neither is what registered itself with our mark.
pub(super) async fn conflict() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    let other = ResourceSpec {
        mark: mark("McpServer", "other"),
        adopt: true,
        ..orders()
    };
    let plan = scene.resource_plan(&other, Read::Fresh).await?;
    ensure!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");

    // What Auth0 keeps for itself is nobody's, also what is not there yet.
    for path in ["me/", "api/v2/", "userinfo", "mcp"] {
        let own = ResourceSpec {
            resource: format!("{}{path}", scene.auth0.issuer()),
            adopt: true,
            ..orders()
        };
        let plan = scene.resource_plan(&own, Read::Fresh).await?;
        ensure!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");
    }
    // An id that leads elsewhere is no client.
    for id in [".", "..", "?page=0", "%2e%2e/users"] {
        let found = scene.tenant.observe_client(id, Read::Fresh).await?;
        ensure!(found.presence == Presence::Absent, "{id}: {found:?}");
    }

    let dashboard = scene.auth0.dashboard();
    let open = json!({"flags": {"enable_dynamic_client_registration": true}});
    dashboard.patch("tenants/settings", open).await?;
    let http = scene.authority.http_client()?.build()?;
    let body = json!({"client_name": "Evil", "redirect_uris": ["https://evil.example/cb"]});
    let answer = http
        .post(format!("{}/oidc/register", scene.auth0.url()))
        .json(&body)
        .send()
        .await?;
    let evil: Value = answer.json().await?;
    let evil = format!("clients/{}", text(&evil, "client_id"));
    let metadata = json!({"client_metadata": {"mcpauth_installation": "prod",
        "mcpauth_object": "McpClient/team/agent", "mcpauth_uid": "uid-1"}});
    let before = dashboard.patch(&evil, metadata).await?;
    scene.put_client(&agent(), Read::Fresh).await?;
    let id = scene.id(&agent()).await?;
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
    scene.auth0.give_operator(&[
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
    let plan = scene.resource_plan(&orders(), Read::Fresh).await?;
    let refused = scene.tenant.execute(&plan).await;
    let expected = ProviderError::Forbidden {
        operation: "create_resource_server",
        permission: "create:resource_servers",
    };
    ensure!(refused == Err(expected), "{refused:?}");
    scene.auth0.give_operator(&[]);
    ensure!(scene.tenant.check_access().await?.missing.len() == 22);
    Ok(())
}

/// A server that exchanges by an action of the tenant has a profile for it, while it may; those of others stay.
pub(super) async fn actions() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    let dashboard = scene.auth0.dashboard();
    let action = json!({"name": "swap", "code": "exports.onExecuteCustomTokenExchange = async () => {};",
        "runtime": "node22", "supported_triggers": [{"id": "custom-token-exchange", "version": "v1"}]});
    let action = dashboard.post("actions/actions", action).await?;
    let path = format!("actions/actions/{}", text(&action, "id"));
    let mut want = orders();
    want.exchange_actions.names = set(&["swap"]);
    want.exchange_actions.only = true;
    scene.put_resource(&want, REMEMBERED).await?;
    let profiles = |scene: &Scene| scene.remains("token_exchange_profiles");
    ensure!(profiles(&scene).is_empty(), "nothing is deployed");

    dashboard.get(&path).await?;
    dashboard.post(&format!("{path}/deploy"), json!({})).await?;
    let foreign = json!({"name": "theirs", "subject_token_type": "urn:acme:legacy", "action_id": action["id"],
        "type": "custom_authentication"});
    dashboard.post("token-exchange-profiles", foreign).await?;
    scene.put_resource(&want, Read::Fresh).await?;
    let ours = |scene: &Scene| -> Vec<Value> {
        let mut all = profiles(scene);
        all.retain(|profile| text(profile, "name") != "theirs");
        all
    };
    let [profile] = &ours(&scene)[..] else {
        anyhow::bail!("{:?}", profiles(&scene));
    };
    let observed = scene.tenant.observe_resource(ORDERS, REMEMBERED).await?;
    let in_force = scene.tenant.exchange_actions(&want.mark, &observed);
    ensure!(in_force["swap"] == text(profile, "id"), "{in_force:?}");

    // Somebody takes it away: it is made again.
    dashboard
        .delete(&format!("token-exchange-profiles/{}", text(profile, "id")))
        .await?;
    scene.put_resource(&want, Read::Fresh).await?;
    ensure!(ours(&scene).len() == 1);
    // Nor is it forgotten over a restart.
    scene.restart().await?;
    scene.put_resource(&orders(), Read::Fresh).await?;
    ensure!(ours(&scene).is_empty(), "{:?}", profiles(&scene));
    scene.put_resource(&want, Read::Fresh).await?;
    let observed = scene.tenant.observe_resource(ORDERS, Read::Fresh).await?;
    let scopes = scene.tenant.observe_scopes(REMEMBERED).await?;
    let removal = scene.tenant.plan_resource_removal(&want.mark, &observed, &scopes);
    scene.tenant.execute(&removal).await?;
    ensure!(ours(&scene).is_empty() && profiles(&scene).len() == 1);
    scene.is_others_untouched()
}

/// A tenant that holds no more says so, which is no matter of permissions.
pub(super) async fn full() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.auth0.hold(mcp_auth_e2e::auth0::Entity::Apis, 1);
    let plan = scene.resource_plan(&orders(), Read::Fresh).await?;
    let refused = scene.tenant.execute(&plan).await;
    ensure!(
        matches!(&refused, Err(ProviderError::Rejected { code, .. }) if code == "entity_limit_reached"),
        "{refused:?}"
    );
    Ok(())
}

/// One of the house, a machine, and a public client; changing the kind is another client.
pub(super) async fn kinds() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    let machine = ClientSpec {
        grants: [Grant::ClientCredentials].into(),
        redirect_uris: set(&[]),
        consent: false,
        ..agent()
    };
    scene.put_client(&machine, REMEMBERED).await?;
    scene.prove(&machine, &secret()).await?;
    let before = scene.id(&machine).await?;
    ensure!(!before.starts_with("tpc_"));
    let public = ClientSpec {
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        authentication: Authentication::None,
        ..agent()
    };
    scene.put_client(&public, REMEMBERED).await?;
    let observed = scene.client(&public).await?;
    ensure!(observed.is_public && observed.client_id != Some(before));
    ensure!(scene.remains("clients").len() == 2, "the API's and this one");
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.prove(&agent(), &secret()).await?;
    ensure!(
        scene
            .proxy
            .calls()
            .iter()
            .any(|call| call.method == Method::DELETE)
    );
    scene.is_others_untouched()
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
