//! Plans for clients, case by case.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{
    super::plan, NOW, agent, body, changes, client_mut, ids, mark, orders, plan_client, plan_resource,
    realm::Realm, set, settled,
};
use crate::provider::{Authentication, Change, ClientSpec, Grant};

#[test]
fn a_new_client_is_one_call_that_says_every_flag() {
    let mut realm = Realm::new();
    realm.apply(&plan_resource(&realm, &orders()).calls);
    let plan = plan_client(&realm, &agent());
    assert_eq!(changes(&plan), [(Change::Create, "client prod.team.agent")]);
    let body = body(&plan.calls[0]);
    for (field, value) in [
        ("protocol", json!("openid-connect")),
        ("enabled", json!(true)),
        ("publicClient", json!(false)),
        ("bearerOnly", json!(false)),
        ("standardFlowEnabled", json!(true)),
        ("implicitFlowEnabled", json!(false)),
        ("directAccessGrantsEnabled", json!(false)),
        ("serviceAccountsEnabled", json!(false)),
        ("authorizationServicesEnabled", json!(false)),
        ("consentRequired", json!(true)),
        ("fullScopeAllowed", json!(false)),
        ("redirectUris", json!(["https://app.example.com/cb"])),
        ("webOrigins", json!([])),
        ("protocolMappers", json!([])),
        ("defaultClientScopes", json!(["basic"])),
        ("optionalClientScopes", json!(["offline_access", "orders:read"])),
        ("secret", json!("s3cret")),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    for (attribute, value) in [
        ("pkce.code.challenge.method", "S256"),
        ("access.token.lifespan", "300"),
        ("access.token.header.type.rfc9068", "true"),
        ("use.refresh.tokens", "true"),
        ("client_credentials.use_refresh_token", "false"),
        ("standard.token.exchange.enabled", "false"),
        ("mcpauth.object", "team/agent"),
    ] {
        assert_eq!(body["attributes"][attribute], value, "{attribute}");
    }
}

#[test]
fn a_public_client_has_no_secret_and_the_origins_of_its_redirect_uris() {
    let mut want = agent();
    want.authentication = Authentication::None;
    let mut realm = Realm::new();
    let plan = plan_client(&realm, &want);
    let created = body(&plan.calls[0]);
    assert_eq!(
        (&created["publicClient"], &created["webOrigins"]),
        (&json!(true), &json!(["+"]))
    );
    assert_eq!(created.get("secret"), None);
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &want).is_empty());
}

#[test]
fn what_is_in_force_costs_nothing() {
    let realm = settled();
    assert!(plan_client(&realm, &agent()).is_empty());
    assert!(plan_resource(&realm, &orders()).is_empty());
}

#[test]
fn what_others_gave_is_taken_away_first() {
    let mut realm = settled();
    let client = client_mut(&mut realm, "prod.team.agent");
    client["redirectUris"] = json!(["https://app.example.com/cb", "https://evil.example/cb"]);
    client["directAccessGrantsEnabled"] = json!(true);
    client["protocolMappers"] =
        json!([{"id": "m", "name": "evil", "protocolMapper": "oidc-audience-mapper"}]);
    client["defaultClientScopes"] = json!(["basic", "roles"]);
    client["optionalClientScopes"] = json!(["orders:read", "offline_access", "orders:write"]);
    client["attributes"]["oidc.ciba.grant.enabled"] = json!("true");
    client["attributes"]["foreign"] = json!("stays");
    let plan = plan_client(&realm, &agent());
    assert_eq!(
        changes(&plan),
        [
            (
                Change::Revoke,
                "client prod.team.agent: directAccessGrantsEnabled, protocolMappers, redirectUris, oidc.ciba.grant.enabled"
            ),
            (Change::Revoke, "scope roles from client prod.team.agent"),
            (Change::Revoke, "scope orders:write from client prod.team.agent"),
        ]
    );
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &agent()).is_empty());
    assert_eq!(
        client_mut(&mut realm, "prod.team.agent")["attributes"]["foreign"],
        "stays"
    );
}

#[test]
fn what_others_took_is_given_back() {
    let mut realm = settled();
    let client = client_mut(&mut realm, "prod.team.agent");
    client["defaultClientScopes"] = json!([]);
    client["optionalClientScopes"] = json!(["offline_access"]);
    client["consentRequired"] = json!(false);
    client["attributes"]["pkce.code.challenge.method"] = json!("plain");
    client["attributes"]["mcpauth.uid"] = json!("dead");
    let plan = plan_client(&realm, &agent());
    assert_eq!(
        changes(&plan),
        [
            (
                Change::Update,
                "client prod.team.agent: consentRequired, mcpauth.uid, pkce.code.challenge.method"
            ),
            (Change::Update, "scope basic for client prod.team.agent"),
            (Change::Update, "scope orders:read for client prod.team.agent"),
        ]
    );
    assert_eq!(
        body(&plan.calls[0]).get("secret"),
        None,
        "a secret that is right does not travel"
    );
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &agent()).is_empty());
}

#[test]
fn a_secret_that_differs_is_set_and_none_leaves_it_alone() {
    let mut realm = settled();
    client_mut(&mut realm, "prod.team.agent")["secret"] = json!("foreign");
    let plan = plan_client(&realm, &agent());
    assert_eq!(
        changes(&plan),
        [(Change::Update, "client prod.team.agent: secret")]
    );
    assert_eq!(body(&plan.calls[0])["secret"], "s3cret");
    let observed = realm.client("prod.team.agent");
    assert!(plan::client(&ids(), &agent(), &observed, &realm.observed_scopes(), None, NOW).is_empty());
}

#[test]
fn suspending_ends_sessions_once() {
    let mut realm = settled();
    let suspended = ClientSpec {
        enabled: false,
        ..agent()
    };
    let at: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
    let observed = realm.client("prod.team.agent");
    let plan = plan::client(&ids(), &suspended, &observed, &realm.observed_scopes(), None, at);
    assert_eq!(
        changes(&plan),
        [(Change::Revoke, "client prod.team.agent: enabled")]
    );
    assert_eq!(
        body(&plan.calls[0])["notBefore"],
        at.as_second() + 1,
        "tokens of the running second are ended too"
    );
    assert!(
        body(&plan.calls[0])["attributes"].is_object(),
        "Keycloak fails without any where a client policy lets secrets expire"
    );
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &suspended).is_empty());
    let plan = plan_client(&realm, &agent());
    assert_eq!(
        changes(&plan),
        [(Change::Update, "client prod.team.agent: enabled")]
    );
    assert_eq!(
        body(&plan.calls[0]).get("notBefore"),
        None,
        "what was ended stays so"
    );
}

#[test]
fn access_that_is_gone_is_revoked() {
    let realm = settled();
    let want = ClientSpec {
        scopes: set(&[]),
        ..agent()
    };
    let plan = plan_client(&realm, &want);
    assert_eq!(
        changes(&plan),
        [(Change::Revoke, "scope orders:read from client prod.team.agent")]
    );
    assert_eq!(plan.revocations(), plan);
}

#[test]
fn a_scope_that_does_not_exist_is_left_out() {
    let mut realm = settled();
    let want = ClientSpec {
        scopes: set(&["orders:read", "nothing:here"]),
        ..agent()
    };
    assert!(plan_client(&realm, &want).is_empty());
    let fresh = ClientSpec {
        client_id: "prod.team.b".into(),
        mark: mark("McpClient", "b"),
        ..want
    };
    let plan = plan_client(&realm, &fresh);
    assert_eq!(
        body(&plan.calls[0])["optionalClientScopes"],
        json!(["offline_access", "orders:read"])
    );
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &fresh).is_empty());
}

#[test]
fn a_service_account_scope_comes_and_goes_with_the_grant() {
    let mut realm = settled();
    let machine = ClientSpec {
        grants: [Grant::ClientCredentials].into(),
        redirect_uris: set(&[]),
        ..agent()
    };
    realm.apply(&plan_client(&realm, &machine).calls);
    assert_eq!(
        client_mut(&mut realm, "prod.team.agent")["defaultClientScopes"],
        json!(["basic", "service_account"])
    );
    assert!(plan_client(&realm, &machine).is_empty());
    realm.apply(&plan_client(&realm, &agent()).calls);
    assert!(plan_client(&realm, &agent()).is_empty());
    client_mut(&mut realm, "prod.team.agent")["defaultClientScopes"] = json!(["basic", "service_account"]);
    assert_eq!(
        plan_client(&realm, &agent()).calls.len(),
        1,
        "foreign without the grant"
    );
}

#[test]
fn adoption_takes_consent_from_the_other_side() {
    let mut realm = Realm::new();
    realm.apply(&plan_resource(&realm, &orders()).calls);
    let foreign = json!({
        "id": "foreign", "clientId": "prod.team.agent", "publicClient": true, "fullScopeAllowed": true,
        "redirectUris": [], "webOrigins": [], "attributes": {},
        "defaultClientScopes": ["basic", "profile", "roles"], "optionalClientScopes": [],
    });
    realm.clients.insert("foreign".into(), foreign);
    assert_eq!(plan_client(&realm, &agent()).conflicts.len(), 1);
    let consented = ClientSpec {
        adopt: true,
        ..agent()
    };
    assert!(plan_client(&realm, &consented).conflicts.is_empty());
    client_mut(&mut realm, "prod.team.agent")["attributes"]["mcpauth.adopt"] = json!("McpClient/team/agent");
    let plan = plan_client(&realm, &agent());
    assert!(
        plan.calls
            .iter()
            .all(|call| call.path.starts_with("/clients/foreign"))
    );
    realm.apply(&plan.calls);
    assert!(plan_client(&realm, &agent()).is_empty());
    assert_eq!(realm.clients.len(), 2);
    let removal = plan::client_removal(&ids(), &agent().mark, &realm.client("prod.team.agent"));
    assert_eq!(removal.calls[0].path, "/clients/foreign");
}

#[test]
fn a_client_that_others_made_public_gets_its_secret_back() {
    let mut realm = settled();
    let client = client_mut(&mut realm, "prod.team.agent");
    client["publicClient"] = json!(true);
    client["redirectUris"] = json!(["https://evil.example/cb"]);
    let plan = plan_client(&realm, &agent());
    realm.apply(&plan.calls);
    let again = plan_client(&realm, &agent());
    assert!(again.is_empty(), "{again:?}");
}
