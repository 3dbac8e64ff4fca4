//! Plans for resources and scopes, and who may have what, case by case.

use serde_json::json;

use super::{
    super::plan, agent, body, changes, client_mut, ids, mark, orders, plan_client, plan_resource,
    realm::Realm, scope_mut, set, settled,
};
use crate::provider::{Change, ClientSpec, Holder, Mark, ResourceSpec, ScopeSpec, Subjects};

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
fn exchange_is_switched_off_with_its_scopes() {
    let mut realm = settled();
    let exchanging = ResourceSpec {
        exchange_scopes: [("billing:read".to_owned(), Subjects::Any)].into(),
        ..orders()
    };
    let api = [ScopeSpec {
        name: "billing:read".into(),
        description: String::new(),
        audience: "billing".into(),
    }];
    let platform = mark("AuthorizationServer", "main");
    realm.apply(&plan::api_scopes(&ids(), &platform, &api, &realm.observed_scopes(), &|_| false).calls);
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
    let plan = plan::api_scopes(&ids(), &thief.mark, &spec, &realm.observed_scopes(), &|_| true);
    assert!(plan.calls.is_empty());
    assert_eq!(plan.conflicts[0].holder, Holder::BuiltIn);
}

#[test]
fn a_conflict_keeps_nothing_that_is_not_wanted_any_more_and_takes_nothing_over() {
    let mut realm = settled();
    let other = ResourceSpec {
        mark: mark("McpServer", "other"),
        resource: "https://mcp.example.com/other".into(),
        scopes: [("other:read".to_owned(), String::new())].into(),
        ..orders()
    };
    realm.apply(&plan_resource(&realm, &other).calls);
    let exchanging = ResourceSpec {
        exchange_scopes: [("other:read".to_owned(), Subjects::Any)].into(),
        ..orders()
    };
    realm.apply(&plan_resource(&realm, &exchanging).calls);
    realm.scopes.insert(
        "f".into(),
        json!({"id": "f", "name": "foreign", "protocol": "openid-connect",
            "protocolMappers": [{"id": "m", "name": "theirs", "protocolMapper": "oidc-audience-mapper"}]}),
    );
    // It is wanted no more that it exchanges, nor one of its scopes; new ones are, one with consent, and another's.
    let mut want = orders();
    want.scopes.remove("orders:write");
    want.scopes
        .extend(["other:read", "orders:new", "foreign"].map(|name| (name.to_owned(), String::new())));
    want.adopt_scopes = set(&["foreign"]);
    let plan = plan_resource(&realm, &want);
    assert_eq!(plan.conflicts.len(), 1);
    let client = "https://mcp.example.com/orders";
    let switch = format!("client {client}: standard.token.exchange.enabled");
    let detached = format!("scope other:read from client {client}");
    assert_eq!(
        changes(&plan),
        [
            (Change::Revoke, switch.as_str()),
            (Change::Revoke, detached.as_str()),
            (Change::Revoke, "scope orders:write"),
        ]
    );
    realm.apply(&plan.calls);
    assert!(plan_resource(&realm, &want).calls.is_empty());

    // A client that is to be adopted is not touched before everything is.
    let stranger = client_mut(&mut realm, client);
    stranger["id"] = json!("s");
    stranger["attributes"] = json!({});
    stranger["standardFlowEnabled"] = json!(true);
    let adopting = ResourceSpec { adopt: true, ..want };
    let plan = plan_resource(&realm, &adopting);
    assert_eq!((plan.calls.len(), plan.conflicts.len()), (0, 1), "{plan:?}");
}

#[test]
fn while_somebody_else_holds_the_resource_only_surplus_scopes_go() {
    let mut realm = settled();
    let theirs = super::super::mark::attributes(&mark("McpServer", "thief"));
    client_mut(&mut realm, "https://mcp.example.com/orders")["attributes"] = json!(theirs);
    scope_mut(&mut realm, "orders:read")["protocolMappers"][0]["config"]["included.client.audience"] =
        json!("https://old.example");
    let mut want = orders();
    want.scopes.remove("orders:write");
    let plan = plan_resource(&realm, &want);
    assert_eq!(
        changes(&plan),
        [(Change::Revoke, "scope orders:write")],
        "and no scope gets the audience of somebody else"
    );
    assert_eq!(plan.conflicts.len(), 1);
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
        &ids(),
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
    assert!(plan::resource_removal(&ids(), &stranger, &observed, &realm.observed_scopes()).is_empty());
    assert!(plan::client_removal(&ids(), &stranger, &realm.client("prod.team.agent")).is_empty());
    let plan = plan::resource_removal(&ids(), &orders().mark, &observed, &realm.observed_scopes());
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
    assert!(plan::resource_removal(&ids(), &orders().mark, &observed, &realm.observed_scopes()).is_empty());
    // What is left of a client whose attributes somebody cleared is still ours by its id.
    client_mut(&mut realm, "prod.team.agent")["attributes"] = json!({});
    let plan = plan::client_removal(&ids(), &agent().mark, &realm.client("prod.team.agent"));
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
        plan::api_scopes(&ids(), &platform, want, &realm.observed_scopes(), &|_| false)
    };
    realm.apply(&plan(&realm, &[spec("a"), spec("b")]).calls);
    assert!(plan(&realm, &[spec("a"), spec("b")]).is_empty());
    assert_eq!(
        changes(&plan(&realm, &[spec("b")])),
        [(Change::Revoke, "scope a")]
    );
    let clash = plan(&realm, &[spec("a"), spec("b"), spec("orders:read")]);
    assert!(clash.calls.is_empty() && clash.conflicts.len() == 1);
    let clash = plan(&realm, &[spec("b"), spec("new"), spec("orders:read")]);
    assert_eq!(changes(&clash), [(Change::Revoke, "scope a")]);
    assert_eq!(clash.conflicts.len(), 1);
    assert!(
        plan_resource(&realm, &orders()).is_empty(),
        "others' scopes are untouched"
    );
}
