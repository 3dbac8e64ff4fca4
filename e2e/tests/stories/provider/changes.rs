//! What is wanted comes about, is proved, changes and goes.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    oauth::{LoginRequest, OAuthClient},
    runner::Story,
    world::World,
};
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    provider::{
        Authentication, Change, ClientSpec, Credential, Grant, Plan, Presence, Proof, Provider as _,
        ProviderError, Read, ResourceSpec, ScopeSpec,
    },
};
use secrecy::SecretString;
use serde_json::json;

use super::{REMEMBERED, SECRET, Scene, agent, credentials_proof, exchanging, mark, orders, set};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "provider::what_is_wanted_comes_about_in_the_fewest_calls",
            creation,
        ),
        Story::new("provider::proofs_fail_for_every_reason_they_should", proofs),
        Story::new("provider::every_kind_of_client_is_kept_as_it_was_written", kinds),
        Story::new("provider::scopes_and_exchange_come_and_go", scopes),
        Story::new("provider::suspension_ends_sessions_for_good", suspension),
        Story::new(
            "provider::suspension_goes_through_where_secrets_expire",
            suspension_where_secrets_expire,
        ),
        Story::new("provider::what_is_ours_is_removed_even_twice", removal),
        Story::new(
            "provider::what_is_not_ours_is_neither_changed_nor_removed",
            strangers,
        ),
    ]
}

fn changes(plan: &Plan) -> Vec<Change> {
    plan.calls.iter().map(|call| call.change).collect()
}

async fn creation(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-creation").await?;
    let (server, client) = (orders(), agent());
    let plan = scene.put_resource(&server, REMEMBERED).await?;
    ensure!(changes(&plan) == [Change::Create; 3], "{plan:?}");
    scene.env.proxy().clear();
    let plan = scene.put_client(&client, REMEMBERED).await?;
    ensure!(changes(&plan) == [Change::Create], "{plan:?}");
    // The first client of the realm also pays for the list of ours and for the scopes that were just written.
    let calls = scene.env.proxy().calls();
    ensure!(calls.len() <= 6, "{calls:?}");
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await?;

    let second = ClientSpec {
        mark: mark("McpClient", "second"),
        client_id: "prod.team.second".to_owned(),
        ..agent()
    };
    scene.env.proxy().clear();
    scene.put_client(&second, REMEMBERED).await?;
    scene.prove(&second, &server.resource).await?;
    let calls = scene.env.proxy().calls();
    ensure!(calls.len() <= 4, "looked for, seen, made and proved: {calls:?}");

    scene.env.proxy().clear();
    for _ in 0..5 {
        ensure!(scene.put_resource(&server, REMEMBERED).await?.is_empty());
        ensure!(scene.put_client(&client, REMEMBERED).await?.is_empty());
    }
    let calls = scene.env.proxy().calls();
    ensure!(calls.is_empty(), "nothing to do costs nothing: {calls:?}");
    Ok(())
}

async fn proofs(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-proofs").await?;
    let mut server = orders();
    let client = agent();
    scene.put_resource(&server, REMEMBERED).await?;
    scene.put_client(&client, REMEMBERED).await?;
    let code = |secret: &str| Proof::AuthorizationCode {
        client_id: client.client_id.clone(),
        secret: Credential::new(secret),
        redirect_uri: "https://app.example.com/cb".to_owned(),
    };
    let exchange = |secret: &str| Proof::TokenExchange {
        client_id: server.resource.clone(),
        secret: Credential::new(secret),
        by_actions: false,
    };
    let resource = "https://mcp.example.com/orders";
    let of = |secret: &str, scopes: &[&str], audiences: &[&str]| {
        credentials_proof(&client, secret, scopes, audiences)
    };
    for (proof, expected) in [
        (of(SECRET, &["orders:read"], &[resource]), None),
        (of(SECRET, &[], &[]), None),
        (
            of("wrong", &["orders:read"], &[resource]),
            Some("refuses the client or its credential"),
        ),
        (of(SECRET, &["orders:write"], &[resource]), Some("invalid_scope")),
        (
            of(SECRET, &["orders:read"], &["https://other.example.com/"]),
            Some("not exactly"),
        ),
        (of(SECRET, &["orders:read"], &[]), Some("not exactly")),
        (code(SECRET), None),
        (code("wrong"), Some("refuses the client or its credential")),
        (exchange(SECRET), Some("not switched on")),
    ] {
        expect(
            &proof,
            &scene.keycloak.prove(&proof, SystemClock.now()).await,
            expected,
        )?;
    }
    let proofs = [exchange(SECRET), exchange("wrong")];
    server.exchange_scopes = exchanging(&["orders:write"]);
    scene.put_resource(&server, REMEMBERED).await?;
    expect(
        &proofs[0],
        &scene.keycloak.prove(&proofs[0], SystemClock.now()).await,
        None,
    )?;
    let refused = Some("refuses the client or its credential");
    expect(
        &proofs[1],
        &scene.keycloak.prove(&proofs[1], SystemClock.now()).await,
        refused,
    )
}

/// What is said of a token that is another than it should be, or refused for its scopes.
const WITH_A_SECRET_THAT_WORKS: [&str; 2] = ["invalid_scope", "not exactly"];

fn expect(proof: &Proof, result: &Result<(), ProviderError>, why: Option<&str>) -> anyhow::Result<()> {
    let as_expected = match (result, why) {
        (Ok(()), None) => true,
        (Err(ProviderError::Unproved { why: said }), Some(why)) => {
            said.contains(why) && !WITH_A_SECRET_THAT_WORKS.contains(&why)
        }
        (Err(ProviderError::Ungranted { why: said }), Some(why)) => {
            said.contains(why) && WITH_A_SECRET_THAT_WORKS.contains(&why)
        }
        _ => false,
    };
    ensure!(as_expected, "{proof:?}: {result:?}");
    Ok(())
}

/// Each kind of client is read back as it was written, also after it became another kind.
async fn kinds(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-kinds").await?;
    let server = orders();
    scene.put_resource(&server, REMEMBERED).await?;
    let machine = ClientSpec {
        grants: [Grant::ClientCredentials].into(),
        redirect_uris: set(&[]),
        consent: false,
        ..agent()
    };
    let public = ClientSpec {
        grants: [Grant::AuthorizationCode].into(),
        authentication: Authentication::None,
        redirect_uris: set(&["com.example.app:/cb", "http://localhost/cb"]),
        scopes: set(&["orders:read", "orders:write"]),
        ..agent()
    };
    let missing = ClientSpec {
        scopes: set(&["orders:read", "not:there"]),
        ..agent()
    };
    let odd = ClientSpec {
        enabled: false,
        display_name: String::new(),
        scopes: set(&[]),
        ..agent()
    };
    for want in [agent(), machine, public, missing, odd, agent()] {
        scene.put_client(&want, REMEMBERED).await?;
        scene.settled(&server, &want).await?;
    }
    scene.prove(&agent(), &server.resource).await?;
    Ok(())
}

/// A server's scopes and its exchange come and go.
async fn scopes(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-scopes").await?;
    let mut server = orders();
    scene.put_resource(&server, REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    let api = [ScopeSpec {
        name: "billing:read".to_owned(),
        description: String::new(),
        audience: "billing".to_owned(),
    }];
    let platform = mark("AuthorizationServer", "main");
    let scopes = scene.keycloak.observe_scopes(REMEMBERED).await?;
    let plan = scene.keycloak.plan_scopes(&platform, &api, &scopes, &|_| false);
    scene.keycloak.execute(&plan).await?;
    server.scopes.remove("orders:write");
    server.scopes.insert("orders:list".to_owned(), "List".to_owned());
    for exchange in [exchanging(&["billing:read"]), exchanging(&[])] {
        server.exchange_scopes = exchange;
        scene.put_resource(&server, REMEMBERED).await?;
        scene.settled(&server, &agent()).await?;
    }
    let scopes = scene.keycloak.observe_scopes(REMEMBERED).await?;
    ensure!(
        scene
            .keycloak
            .plan_scopes(&platform, &api, &scopes, &|_| false)
            .is_empty()
    );
    ensure!(
        !scopes.contains_key("orders:write"),
        "a scope that is not declared any more"
    );
    Ok(())
}

async fn suspension(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-suspension").await?;
    let (server, client) = (orders(), agent());
    scene.put_resource(&server, REMEMBERED).await?;
    scene.put_client(&client, REMEMBERED).await?;
    scene
        .env
        .realm()
        .create_user("alice", "correct horse battery staple")
        .await?;
    let issuer = scene.env.issuer().await?;
    let oauth = OAuthClient::confidential(client.client_id.clone(), SecretString::from(SECRET));
    let login = LoginRequest {
        redirect_uri: "http://127.0.0.1:41234/cb".to_owned(),
        scope: "orders:read".to_owned(),
        resource: Some(server.resource.clone()),
        username: "alice".to_owned(),
        password: SecretString::from("correct horse battery staple"),
    };
    let code = issuer.sign_in(&oauth, &login).await?.granted()?;
    let asked = code
        .consent
        .clone()
        .context("consent was not asked for")?
        .join(" ");
    ensure!(asked.contains("Read <orders> & ${more}, bitte schön"), "{asked}");
    let tokens = issuer.redeem(&oauth, &code).await?.granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    ensure!(
        token.typ.as_deref() == Some("at+jwt") && token.lifetime()? == 120,
        "{}",
        token.claims
    );
    ensure!(token.audiences() == [server.resource.clone()], "{}", token.claims);
    let refresh = tokens.refresh_token.context("no refresh token")?;
    let tokens = issuer.refresh(&oauth, &refresh, None).await?.granted()?;
    let refresh = tokens.refresh_token.context("no refresh token")?;

    let suspended = ClientSpec {
        enabled: false,
        ..agent()
    };
    let plan = scene.put_client(&suspended, REMEMBERED).await?;
    ensure!(changes(&plan) == [Change::Revoke], "{plan:?}");
    scene.settled(&server, &suspended).await?;
    let refused = issuer.refresh(&oauth, &refresh, None).await?.refused()?;
    ensure!(refused.error == "invalid_client", "{refused}");
    scene.put_client(&client, REMEMBERED).await?;
    scene.settled(&server, &client).await?;
    scene.prove(&client, &server.resource).await?;
    let refused = issuer.refresh(&oauth, &refresh, None).await?.refused()?;
    ensure!(
        refused.error == "invalid_grant",
        "a session from before is back: {refused}"
    );
    Ok(())
}

/// Of a client from before the policy by which they do: Keycloak fails at a change of it that has no attributes.
async fn suspension_where_secrets_expire(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-expiring").await?;
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    let admin = scene.env.realm().admin();
    let expiring = json!({ "executor": "secret-rotation", "configuration": {
        "expiration-period": 86_400, "rotated-expiration-period": 3600, "remaining-rotation-period": 3600,
    } });
    let profile = json!({ "name": "theirs", "description": "", "executors": [expiring] });
    let policy = json!({ "name": "theirs", "description": "", "enabled": true, "profiles": ["theirs"],
        "conditions": [{ "condition": "any-client", "configuration": {} }] });
    admin
        .put("/client-policies/profiles", &json!({ "profiles": [profile] }))
        .await?;
    admin
        .put("/client-policies/policies", &json!({ "policies": [policy] }))
        .await?;
    for enabled in [false, true, false] {
        let wanted = ClientSpec { enabled, ..agent() };
        scene.put_client(&wanted, REMEMBERED).await?;
        scene.settled(&orders(), &wanted).await?;
        let found = scene.env.realm().find_client(&wanted.client_id).await?;
        ensure!(found.is_some_and(|client| client["enabled"] == json!(enabled)));
    }
    Ok(())
}

async fn removal(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-removal").await?;
    let (server, client) = (orders(), agent());
    scene.put_resource(&server, REMEMBERED).await?;
    scene.put_client(&client, REMEMBERED).await?;
    let keycloak = &scene.keycloak;
    let observe = async || -> anyhow::Result<_> {
        let resource = keycloak.observe_resource(&server.resource, Read::Fresh).await?;
        Ok((resource, keycloak.observe_scopes(Read::Fresh).await?))
    };
    let (resource, scopes) = observe().await?;
    // A scope that clients have can be deleted; it goes from them too.
    let plan = keycloak.plan_resource_removal(&server.mark, &resource, &scopes);
    ensure!(changes(&plan) == [Change::Delete; 3], "{plan:?}");
    keycloak.execute(&plan).await?;
    keycloak.execute(&plan).await.context("again, as after a crash")?;
    let (resource, scopes) = observe().await?;
    ensure!(resource.presence == Presence::Absent && !scopes.contains_key("orders:read"));
    let left = scene
        .env
        .realm()
        .find_client(&client.client_id)
        .await?
        .context("the client")?;
    ensure!(
        left["optionalClientScopes"] == json!(["offline_access"]),
        "{left}"
    );

    let observed = keycloak.observe_client(&client.client_id, Read::Fresh).await?;
    keycloak
        .execute(&keycloak.plan_client_removal(&client.mark, &observed))
        .await?;
    let gone = keycloak.observe_client(&client.client_id, REMEMBERED).await?;
    ensure!(gone.presence == Presence::Absent);
    Ok(())
}

async fn strangers(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-strangers").await?;
    let server = orders();
    scene.put_resource(&server, REMEMBERED).await?;
    let foreign = json!({"clientId": "prod.team.foreign", "protocol": "openid-connect"});
    scene.env.realm().admin().create("/clients", &foreign).await?;
    let keycloak = &scene.keycloak;
    let resource = keycloak.observe_resource(&server.resource, Read::Fresh).await?;
    let scopes = keycloak.observe_scopes(Read::Fresh).await?;
    let thief = ResourceSpec {
        mark: mark("McpServer", "stranger"),
        ..orders()
    };
    let plan = keycloak.plan_resource(&thief, &resource, &scopes, None);
    ensure!(plan.calls.is_empty() && plan.conflicts.len() == 3, "{plan:?}");
    let removal = keycloak.plan_resource_removal(&thief.mark, &resource, &scopes);
    ensure!(removal.is_empty(), "{removal:?}");
    let unmarked = keycloak.observe_client("prod.team.foreign", Read::Fresh).await?;
    let removal = keycloak.plan_client_removal(&mark("McpClient", "foreign"), &unmarked);
    ensure!(removal.is_empty(), "{removal:?}");
    Ok(())
}
