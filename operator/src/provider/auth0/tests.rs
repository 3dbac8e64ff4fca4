//! Plans from what was observed, without a server. What a tenant takes and does not take is in the stories.

mod actions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{mark, plan, render, resources};
use crate::provider::{
    Authentication, Change, ClientSpec, Credential, Credentials, ExchangeActions, Grant, Holder, Mark,
    ObservedClient, ObservedScopes, Plan, Presence, ResourceSpec, ScopeOwner, Scopes, Subjects, Verb,
    scope_key,
};

const ORDERS: &str = "https://mcp.example.com/orders";

fn mark(kind: &str, name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: kind.into(),
        namespace: "team".into(),
        name: name.into(),
        uid: "uid-1".into(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn agent() -> ClientSpec {
    ClientSpec {
        mark: mark("McpClient", "agent"),
        client_id: "prod.team.agent".into(),
        display_name: "Agent <1>".into(),
        enabled: true,
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        redirect_uris: set(&["https://app.example.com/cb"]),
        authentication: Authentication::ClientSecret,
        consent: true,
        token_lifetime: Duration::from_mins(5),
        scopes: set(&["orders:read"]),
        audiences: [(ORDERS.to_owned(), set(&["orders:read"]))].into(),
        adopt: false,
    }
}

fn orders() -> ResourceSpec {
    ResourceSpec {
        mark: mark("McpServer", "orders"),
        resource: ORDERS.into(),
        display_name: "orders".into(),
        scopes: [("orders:read".to_owned(), String::new())].into(),
        exchange_scopes: BTreeMap::new(),
        exchange_audiences: BTreeMap::new(),
        exchange_actions: ExchangeActions::default(),
        exchange_token_lifetime: Duration::from_mins(5),
        adopt: false,
        adopt_scopes: BTreeSet::new(),
    }
}

fn scopes() -> ObservedScopes {
    let owner = Arc::new(ScopeOwner {
        holder: Holder::Marked(mark("McpServer", "orders")),
        raw: Value::Null,
    });
    Arc::new(Scopes::of_audiences(
        [(scope_key(ORDERS, "orders:read"), owner)].into(),
    ))
}

/// A client as it would be after its creation.
fn created(want: &ClientSpec) -> Value {
    let mut client = render::client(want).creation(&[]);
    client["client_id"] = json!("tpc_1");
    client["client_secret"] = json!("s");
    client
}

fn seen(client: &Value, grants: &Value) -> ObservedClient {
    ObservedClient {
        presence: Presence::Held(mark::client_holder(client, &mark::Ours::default(), |_| false)),
        raw: Some(json!({"client": client, "grants": grants, "keys": null, "surplus": []})),
        ..super::observe::absent()
    }
}

fn secret() -> Credentials {
    Credentials::only(Credential::new("s"))
}

fn planned(want: &ClientSpec, client: &Value, grants: &Value) -> Plan {
    plan::client(want, &seen(client, grants), &scopes(), Some(&secret()))
}

fn own_grant() -> Value {
    json!([{"id": "cgr_1", "client_id": "tpc_1", "audience": ORDERS, "scope": ["orders:read"],
        "subject_type": "user"}])
}

#[test]
fn a_client_is_what_it_is_to_be() {
    let plan = planned(&agent(), &created(&agent()), &own_grant());
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn what_decides_about_power_is_always_said() {
    let body = render::client(&agent()).creation(&[]);
    for (name, value) in [
        ("third_party_security_mode", json!("strict")),
        ("is_first_party", json!(false)),
        ("oidc_conformant", json!(true)),
        ("grant_types", json!(["authorization_code", "refresh_token"])),
        ("name", json!("Agent (1)")),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    let plan = planned(&agent(), &created(&agent()), &json!([]));
    let grant = plan.calls[0].body.as_ref().unwrap();
    assert_eq!(grant["subject_type"], "user");
}

#[test]
fn more_than_is_wanted_is_taken_away_first() {
    let mut client = created(&agent());
    client["grant_types"] = json!(["authorization_code", "implicit"]);
    client["callbacks"] = json!(["https://app.example.com/cb", "https://evil.example/cb"]);
    let mut grants = own_grant();
    grants[0]["scope"] = json!(["orders:read", "orders:write"]);
    let foreign = json!({"id": "cgr_2", "client_id": "tpc_1", "audience": "https://other/", "scope": ["x"],
        "subject_type": "client"});
    grants.as_array_mut().unwrap().push(foreign);
    let revoked = planned(&agent(), &client, &grants).revocations().calls;
    let bodies: Vec<_> = revoked
        .iter()
        .map(|call| (call.verb, call.path.as_str(), call.body.clone()))
        .collect();
    let taken = json!({"grant_types": ["authorization_code"], "callbacks": ["https://app.example.com/cb"]});
    assert_eq!(
        bodies,
        [
            (Verb::Patch, "/clients/tpc_1", Some(taken)),
            (
                Verb::Patch,
                "/client-grants/cgr_1",
                Some(json!({"scope": ["orders:read"]}))
            ),
            (Verb::Delete, "/client-grants/cgr_2", None),
        ]
    );
    let mut all = own_grant();
    all[0]["allow_all_scopes"] = json!(true);
    let plan = planned(&agent(), &created(&agent()), &all);
    assert_eq!(
        plan.calls[0].body.as_ref().unwrap()["allow_all_scopes"],
        Value::Null
    );
}

#[test]
fn a_suspended_client_has_no_way_to_tokens() {
    let want = ClientSpec {
        enabled: false,
        ..agent()
    };
    let plan = planned(&want, &created(&agent()), &own_grant());
    assert!(
        plan.calls.iter().all(|call| call.change == Change::Revoke),
        "{plan:?}"
    );
    let body = plan.calls[0].body.as_ref().unwrap();
    assert_eq!(
        (&body["grant_types"], &body["callbacks"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(plan.calls[1].path, "/client-grants/cgr_1");
}

/// Consent to be taken over is no consent to be replaced: whose client it was keeps it.
#[test]
fn what_only_consents_is_never_deleted() {
    let machine = ClientSpec {
        consent: false,
        ..agent()
    };
    let mut client = created(&machine);
    client["client_metadata"] = json!({"mcpauth_adopt": "McpClient/team/agent"});
    assert!(planned(&machine, &client, &json!([])).conflicts.is_empty());
    let plan = planned(&agent(), &client, &json!([]));
    assert!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{plan:?}");
    let ours = created(&machine);
    let plan = planned(&agent(), &ours, &own_grant());
    let verbs: Vec<_> = plan.calls.iter().map(|call| call.verb).collect();
    assert_eq!(verbs, [Verb::Delete, Verb::Delete], "what is ours is made anew");
}

fn api(want: &ResourceSpec, client: &Value) -> ObservedClient {
    let mut api = render::api_creation(want);
    api["id"] = json!("64f");
    if !client.is_null() {
        api["client_id"] = client["client_id"].clone();
        api["name"] = json!(want.display_name);
    }
    ObservedClient {
        presence: Presence::Held(mark::api_holder(&api, client, &mark::Ours::default(), |_| false)),
        raw: Some(json!({"api": api, "client": client})),
        ..super::observe::absent()
    }
}

fn linked(want: &ResourceSpec) -> Value {
    let mut client = render::linked_client(want, false).creation(&[]);
    client["client_id"] = json!("rs_1");
    client["client_secret"] = json!("s");
    client
}

#[test]
fn an_api_without_its_client_is_still_ours_and_nobody_elses() {
    let born = api(&orders(), &Value::Null);
    let plan = resources::resource(&orders(), &born, &scopes(), None);
    assert!(
        matches!(&plan.calls[..], [call] if call.path == "/clients"),
        "{plan:?}"
    );
    assert!(!resources::removal(&orders().mark, &born).calls.is_empty());
    let other = ResourceSpec {
        mark: Mark {
            namespace: "evil".into(),
            ..orders().mark
        },
        ..orders()
    };
    assert_eq!(
        resources::resource(&other, &born, &scopes(), None)
            .conflicts
            .len(),
        1
    );
    assert!(resources::removal(&other.mark, &born).calls.is_empty());
}

/// A tenant who names a server like somebody else's birthmark must not make its API pass for that one's.
#[test]
fn no_display_name_is_a_birthmark() {
    let victim = mark("McpServer", "victim");
    let evil = ResourceSpec {
        display_name: format!("x{}", mark::birthmark(&victim)),
        ..orders()
    };
    let mut named = api(&evil, &linked(&evil));
    named.raw.as_mut().unwrap()["client"] = Value::Null;
    named.raw.as_mut().unwrap()["api"]["name"] = render::api(&evil)["name"].clone();
    assert!(resources::removal(&victim, &named).calls.is_empty());
    assert!(render::birth_name(&evil.display_name, &evil.mark).ends_with(&mark::birthmark(&evil.mark)));
}

#[test]
fn an_api_is_what_it_is_to_be_and_opened_doors_are_shut_first() {
    let secret = Credential::new("s");
    let mut observed = api(&orders(), &linked(&orders()));
    let plan = resources::resource(&orders(), &observed, &scopes(), Some(&secret));
    assert!(plan.is_empty(), "{plan:?}");
    let raw = observed.raw.as_mut().unwrap();
    raw["api"]["subject_type_authorization"]["user"]["policy"] = json!("allow_all");
    raw["api"]["name"] = json!("renamed");
    let plan = resources::resource(&orders(), &observed, &scopes(), Some(&secret));
    assert_eq!(plan.calls.len(), 2);
    assert_eq!(plan.calls[0].change, Change::Revoke);
    assert_eq!(plan.revocations().calls.len(), 1);
}

/// The orders server, which exchanges tokens for what an API of somebody else offers.
fn exchanging() -> ResourceSpec {
    let scope = "orders:read".to_owned();
    ResourceSpec {
        exchange_scopes: [(scope.clone(), Subjects::Any)].into(),
        exchange_audiences: [(ORDERS.to_owned(), [scope].into())].into(),
        ..orders()
    }
}

#[test]
fn exchange_takes_a_profile_and_a_grant_for_users_and_loses_both_first() {
    let secret = Credential::new("s");
    let without = api(&orders(), &linked(&orders()));
    let plan = resources::resource(&exchanging(), &without, &scopes(), Some(&secret));
    let [profile, grant] = &plan.calls[..] else {
        panic!("{plan:?}");
    };
    let body = profile.body.as_ref().unwrap();
    assert_eq!(
        body["token_exchange"]["allow_any_profile_of_type"],
        json!(["on_behalf_of_token_exchange"])
    );
    let body = grant.body.as_ref().unwrap();
    assert_eq!(
        (&body["subject_type"], &body["audience"]),
        (&json!("user"), &json!(ORDERS))
    );
    assert!(plan.revocations().calls.is_empty());

    let mut with = api(&exchanging(), &linked(&exchanging()));
    let grants = json!([{"id": "cgr_1", "client_id": "rs_1", "audience": ORDERS, "scope": ["orders:read"],
        "subject_type": "user"}]);
    with.raw.as_mut().unwrap()["grants"] = grants;
    assert!(resources::resource(&exchanging(), &with, &scopes(), Some(&secret)).is_empty());
    let plan = resources::resource(&orders(), &with, &scopes(), Some(&secret));
    assert_eq!(plan.calls.len(), 2, "{plan:?}");
    assert_eq!(plan.revocations().calls.len(), 2, "{plan:?}");
    let removal = resources::removal(&orders().mark, &with);
    let paths: Vec<&str> = removal.calls.iter().map(|call| &*call.path).collect();
    let position = |path: &str| paths.iter().position(|other| *other == path);
    assert!(
        position("/client-grants/cgr_1") < position("/clients/rs_1"),
        "{paths:?}"
    );
}

#[test]
fn longest_names_leave_room_for_the_birthmark() {
    let name = render::birth_name(&"n".repeat(300), &orders().mark);
    assert_eq!(name.chars().count(), 200);
    assert!(name.ends_with(&mark::birthmark(&orders().mark)));
}
