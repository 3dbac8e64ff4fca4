//! Plans, case by case.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{super::plan, agent, mark, orders, realm::Realm, set};
use crate::provider::{
    Authentication, Call, Change, ClientSpec, Credential, Grant, Holder, Mark, Plan, ResourceSpec, ScopeSpec,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn plan_client(realm: &Realm, want: &ClientSpec) -> Plan {
    let observed = realm.client(&want.client_id);
    plan::client(
        want,
        &observed,
        &realm.observed_scopes(),
        Some(&Credential::new("s3cret")),
        NOW,
    )
}

fn plan_resource(realm: &Realm, want: &ResourceSpec) -> Plan {
    plan::resource(
        want,
        &realm.client(&want.resource),
        &realm.observed_scopes(),
        None,
    )
}

/// A realm in which both samples are in force.
fn settled() -> Realm {
    let mut realm = Realm::new();
    realm.apply(&plan_resource(&realm, &orders()).calls);
    realm.apply(&plan_client(&realm, &agent()).calls);
    realm
}

fn changes(plan: &Plan) -> Vec<(Change, &str)> {
    plan.calls
        .iter()
        .map(|call| (call.change, call.subject.as_str()))
        .collect()
}

fn body(call: &Call) -> &Value {
    call.body.as_ref().unwrap()
}

fn client_mut<'a>(realm: &'a mut Realm, client_id: &str) -> &'a mut Value {
    realm
        .clients
        .values_mut()
        .find(|client| client["clientId"] == client_id)
        .unwrap()
}

fn scope_mut<'a>(realm: &'a mut Realm, name: &str) -> &'a mut Value {
    realm
        .scopes
        .values_mut()
        .find(|scope| scope["name"] == name)
        .unwrap()
}

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
fn a_new_server_is_an_audience_with_its_scopes() {
    let plan = plan_resource(&Realm::new(), &orders());
    assert_eq!(
        changes(&plan),
        [
            (Change::Create, "client https://mcp.example.com/orders"),
            (Change::Create, "scope orders:read"),
            (Change::Create, "scope orders:write"),
        ]
    );
    let client = body(&plan.calls[0]);
    assert_eq!(client["clientId"], client["attributes"]["resource_url"]);
    for flag in [
        "standardFlowEnabled",
        "serviceAccountsEnabled",
        "publicClient",
        "fullScopeAllowed",
    ] {
        assert_eq!(client[flag], json!(false), "{flag}");
    }
    let scope = body(&plan.calls[2]);
    assert_eq!(
        scope["attributes"]["consent.screen.text"], "orders:write",
        "the name, for want of a description"
    );
    let mapper = &scope["protocolMappers"][0];
    assert_eq!(
        mapper["config"]["included.client.audience"],
        "https://mcp.example.com/orders"
    );
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
    assert!(plan::client(&agent(), &observed, &realm.observed_scopes(), None, NOW).is_empty());
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
    let plan = plan::client(&suspended, &observed, &realm.observed_scopes(), None, at);
    assert_eq!(
        changes(&plan),
        [(Change::Revoke, "client prod.team.agent: enabled")]
    );
    assert_eq!(
        body(&plan.calls[0])["notBefore"],
        at.as_second() + 1,
        "tokens of the running second are ended too"
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
fn exchange_is_switched_off_with_its_scopes() {
    let mut realm = settled();
    let exchanging = ResourceSpec {
        exchange_scopes: set(&["billing:read"]),
        ..orders()
    };
    let api = [ScopeSpec {
        name: "billing:read".into(),
        description: String::new(),
        audience: "billing".into(),
    }];
    let platform = mark("AuthorizationServer", "main");
    realm.apply(&plan::api_scopes(&platform, &api, &realm.observed_scopes(), &|_| false).calls);
    let plan = plan_resource(&realm, &exchanging);
    assert_eq!(
        changes(&plan),
        [
            (
                Change::Update,
                "client https://mcp.example.com/orders: standard.token.exchange.enabled"
            ),
            (
                Change::Update,
                "scope billing:read for client https://mcp.example.com/orders"
            ),
        ]
    );
    realm.apply(&plan.calls);
    let plan = plan_resource(&realm, &orders());
    assert_eq!(
        changes(&plan),
        [
            (
                Change::Revoke,
                "client https://mcp.example.com/orders: standard.token.exchange.enabled"
            ),
            (
                Change::Revoke,
                "scope billing:read from client https://mcp.example.com/orders"
            ),
        ]
    );
    assert_eq!(plan.revocations(), plan);
}

#[test]
fn scopes_follow_the_spec() {
    let mut realm = settled();
    let mut want = orders();
    want.scopes.remove("orders:write");
    want.scopes.insert("orders:read".into(), "Read all orders".into());
    want.scopes.insert("orders:list".into(), String::new());
    let plan = plan_resource(&realm, &want);
    assert_eq!(
        changes(&plan),
        [
            (Change::Revoke, "scope orders:write"),
            (Change::Create, "scope orders:list"),
            (
                Change::Update,
                "scope orders:read: description, consent.screen.text"
            ),
        ]
    );
    realm.apply(&plan.calls);
    assert!(plan_resource(&realm, &want).is_empty());
}

#[test]
fn a_scope_has_one_mapper_and_its_own_name() {
    let mut realm = settled();
    let scope = scope_mut(&mut realm, "orders:read");
    scope["protocolMappers"][0]["config"]["included.client.audience"] = json!("https://evil.example");
    let mappers = scope["protocolMappers"].as_array_mut().unwrap();
    mappers.push(json!({"id": "m", "name": "evil", "protocolMapper": "oidc-audience-mapper", "config": {}}));
    scope["name"] = json!("orders:renamed");
    let plan = plan_resource(&realm, &orders());
    assert_eq!(
        changes(&plan),
        [
            (Change::Revoke, "mappers of scope orders:read"),
            (Change::Revoke, "mappers of scope orders:read"),
            (Change::Update, "scope orders:read: name"),
        ]
    );
    realm.apply(&plan.calls);
    assert!(plan_resource(&realm, &orders()).is_empty());
    scope_mut(&mut realm, "orders:read")["protocolMappers"] = json!([]);
    let plan = plan_resource(&realm, &orders());
    assert_eq!(changes(&plan), [(Change::Update, "mappers of scope orders:read")]);
    realm.apply(&plan.calls);
    assert!(plan_resource(&realm, &orders()).is_empty());
    scope_mut(&mut realm, "orders:read")["protocolMappers"][0]["config"]["included.custom.audience"] =
        json!("x");
    assert_eq!(
        plan_resource(&realm, &orders()).calls.len(),
        1,
        "a second audience beside ours"
    );
}

#[test]
fn what_belongs_to_others_is_a_conflict_and_no_call() {
    let realm = settled();
    let other = |mut want: ClientSpec| {
        want.mark = Mark {
            namespace: "other".into(),
            ..want.mark
        };
        want
    };
    let plan = plan_client(&realm, &other(agent()));
    assert!(plan.calls.is_empty());
    assert_eq!(plan.conflicts[0].subject, "client prod.team.agent");
    assert_eq!(plan.conflicts[0].holder, Holder::Marked(agent().mark));

    let mut thief = orders();
    thief.mark = mark("McpServer", "thief");
    let plan = plan_resource(&realm, &thief);
    assert!(plan.calls.is_empty());
    let subjects: Vec<_> = plan
        .conflicts
        .iter()
        .map(|conflict| conflict.subject.as_str())
        .collect();
    assert_eq!(
        subjects,
        [
            "resource https://mcp.example.com/orders",
            "scope orders:read",
            "scope orders:write"
        ]
    );

    thief.resource = "https://mcp.example.com/thief".into();
    let plan = plan_resource(&realm, &thief);
    assert!(plan.calls.is_empty(), "one conflict stops everything");
    assert_eq!(plan.conflicts.len(), 2);

    let spec = [ScopeSpec {
        name: "profile".into(),
        description: String::new(),
        audience: "a".into(),
    }];
    let plan = plan::api_scopes(&thief.mark, &spec, &realm.observed_scopes(), &|_| true);
    assert!(plan.calls.is_empty());
    assert_eq!(plan.conflicts[0].holder, Holder::BuiltIn);
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
    let removal = plan::client_removal(&agent().mark, &realm.client("prod.team.agent"));
    assert_eq!(removal.calls[0].path, "/clients/foreign");
}

#[test]
fn adopting_a_scope_takes_consent_too() {
    let mut realm = Realm::new();
    realm.scopes.insert(
        "f".into(),
        json!({"id": "f", "name": "orders:read", "protocol": "openid-connect"}),
    );
    assert_eq!(plan_resource(&realm, &orders()).conflicts.len(), 1);
    let want = ResourceSpec {
        adopt_scopes: set(&["orders:read"]),
        ..orders()
    };
    realm.apply(&plan_resource(&realm, &want).calls);
    assert!(plan_resource(&realm, &orders()).is_empty());
    let removal = plan::resource_removal(
        &want.mark,
        &realm.client(&want.resource),
        &realm.observed_scopes(),
    );
    assert_eq!(removal.calls.len(), 3);
}

#[test]
fn removal_takes_what_is_ours_and_nothing_else() {
    let mut realm = settled();
    let observed = realm.client(&orders().resource);
    let stranger = mark("McpServer", "stranger");
    assert!(plan::resource_removal(&stranger, &observed, &realm.observed_scopes()).is_empty());
    assert!(plan::client_removal(&stranger, &realm.client("prod.team.agent")).is_empty());
    let plan = plan::resource_removal(&orders().mark, &observed, &realm.observed_scopes());
    assert_eq!(
        changes(&plan),
        [
            (Change::Delete, "scope orders:read"),
            (Change::Delete, "scope orders:write"),
            (Change::Delete, "resource https://mcp.example.com/orders"),
        ]
    );
    realm.apply(&plan.calls);
    let observed = realm.client(&orders().resource);
    assert!(plan::resource_removal(&orders().mark, &observed, &realm.observed_scopes()).is_empty());
    // What is left of a client whose attributes somebody cleared is still ours by its id.
    client_mut(&mut realm, "prod.team.agent")["attributes"] = json!({});
    let plan = plan::client_removal(&agent().mark, &realm.client("prod.team.agent"));
    assert_eq!(changes(&plan), [(Change::Delete, "client prod.team.agent")]);
}

#[test]
fn managed_api_scopes_are_exactly_those_declared() {
    let mut realm = settled();
    let platform = mark("AuthorizationServer", "main");
    let spec = |name: &str| ScopeSpec {
        name: name.into(),
        description: String::new(),
        audience: "api".into(),
    };
    let plan = |realm: &Realm, want: &[ScopeSpec]| {
        plan::api_scopes(&platform, want, &realm.observed_scopes(), &|_| false)
    };
    realm.apply(&plan(&realm, &[spec("a"), spec("b")]).calls);
    assert!(plan(&realm, &[spec("a"), spec("b")]).is_empty());
    assert_eq!(
        changes(&plan(&realm, &[spec("b")])),
        [(Change::Revoke, "scope a")]
    );
    let clash = plan(&realm, &[spec("b"), spec("orders:read")]);
    assert!(clash.calls.is_empty() && clash.conflicts.len() == 1);
    assert!(
        plan_resource(&realm, &orders()).is_empty(),
        "others' scopes are untouched"
    );
}
