//! Plans for clients that register themselves.

mod wide;

use serde_json::json;

use self::wide::{Wide, closed_by};
use super::{mark, set};
use crate::provider::{
    Change, DocumentsSpec, Doors, DynamicSpec, Holder, RegistrationSpec, keycloak::render,
};

const KEEPER: &str = "mcpauth.prod.registration";

fn want(open: &[&str]) -> RegistrationSpec {
    RegistrationSpec {
        dynamic: Some(DynamicSpec {
            hosts: set(&["localhost"]),
            max_clients: Some(5),
        }),
        documents: Some(DocumentsSpec {
            domains: set(&["claude.ai"]),
            hosts: set(&["localhost"]),
        }),
        refuse_device_flow: false,
        open: set(open),
    }
}

/// A realm with two servers, one of which is open.
fn with_servers() -> Wide {
    let mut wide = Wide::new();
    wide.add_scope(&mark("McpServer", "orders"), "orders:read");
    wide.add_scope(&mark("McpServer", "vault"), "vault:read");
    wide
}

#[test]
fn what_refuses_is_in_force_before_anything_is_opened() {
    let mut wide = with_servers();
    let before = wide.clone();
    wide.settle(Some(&want(&["orders:read"])), Doors::Leave);
    assert_eq!(
        closed_by(wide.policy("closed").unwrap()),
        ["mcpauth.prod.probe", "vault:read"]
    );
    let foreign = wide.realm.documents["policies"]
        .iter()
        .find(|policy| closed_by(policy) == ["payroll"])
        .unwrap();
    assert!(
        foreign.to_string().contains("The client's hostname is claude.ai"),
        "{foreign}"
    );
    for what in ["marks", "trusted", "devices", "registered"] {
        assert!(wide.policy(what).is_some(), "{what}");
    }
    assert!(wide.policy("documents").is_none());
    assert_eq!(wide.component("hosts"), before.component("hosts"));
    assert_eq!(wide.optional, before.optional);

    wide.settle(Some(&want(&["orders:read"])), Doors::Open);
    assert!(wide.policy("documents").is_some());
    assert_eq!(
        wide.component("hosts")["config"]["trusted-hosts"],
        json!(["localhost"])
    );
    assert_eq!(wide.component("most")["config"]["max-clients"], json!(["5"]));
    assert_eq!(wide.optional, set(&["offline_access", "orders:read"]));
    assert_eq!(wide.component("signed in"), before.component("signed in"));
    for doors in [Doors::Leave, Doors::Open] {
        assert!(
            wide.plan(Some(&want(&["orders:read"])), doors).calls.is_empty(),
            "{doors:?}"
        );
    }
}

#[test]
fn a_plan_that_finds_a_guard_missing_opens_nothing() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&["orders:read"])), Doors::Leave);
    wide.realm
        .documents
        .get_mut("policies")
        .unwrap()
        .retain(|policy| policy["name"] != "mcpauth.prod.marks");
    let plan = wide.plan(Some(&want(&["orders:read"])), Doors::Open);
    assert!(!plan.calls.is_empty());
    for call in plan.calls {
        assert!(call.path.starts_with("/client-policies/"), "{call:?}");
        assert!(!call.body.unwrap().to_string().contains("client-id-uri"));
    }
}

#[test]
fn a_scope_that_is_closed_again_is_refused_and_no_new_client_gets_it() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&["orders:read", "vault:read"])), Doors::Open);
    assert!(wide.optional.contains("vault:read"));
    wide.settle(Some(&want(&["orders:read"])), Doors::Leave);
    assert!(!wide.optional.contains("vault:read"));
    assert!(closed_by(wide.policy("closed").unwrap()).contains(&"vault:read"));
    // Whoever gave it to all clients of the realm: it is ours.
    wide.default.insert("vault:read".into());
    wide.settle(Some(&want(&["orders:read"])), Doors::Leave);
    assert_eq!(wide.default, set(&["basic"]));
}

#[test]
fn only_scopes_of_ours_are_opened() {
    let mut wide = with_servers();
    let greedy = want(&["orders:read", "payroll", "nobody's"]);
    wide.settle(Some(&greedy), Doors::Open);
    assert_eq!(wide.optional, set(&["offline_access", "orders:read"]));
    let allowed = wide
        .components
        .iter()
        .find(|component| component["name"] == "mcpauth.prod.scopes")
        .unwrap();
    assert_eq!(allowed["subType"], "anonymous");
}

#[test]
fn what_was_opened_is_shut_when_nothing_shows_that_closed_scopes_are_refused() {
    let mut wide = with_servers();
    let before = wide.clone();
    wide.settle(Some(&want(&["orders:read"])), Doors::Open);
    wide.settle(Some(&want(&["orders:read"])), Doors::Shut);
    assert!(wide.policy("documents").is_none());
    assert_eq!(wide.component("hosts"), before.component("hosts"));
    assert_eq!(wide.component("most"), before.component("most"));
    assert_eq!(wide.optional, before.optional);
    assert!(wide.policy("closed").is_some(), "what refuses stays");
}

#[test]
fn another_domain_is_let_in_only_after_the_one_before_is_shut_out_with_its_clients() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&[])), Doors::Open);
    let cached = json!({"cimd.cache.expiry.time.in.sec": "1"});
    wide.stranger("https://claude.ai/oauth/client", &["vault:read"], &cached);
    wide.stranger("https://claude.ai.evil.example/client", &[], &cached);
    wide.stranger("https://claude.ai/not-from-a-document", &[], &json!({}));
    let mut other = want(&[]);
    other.documents.as_mut().unwrap().domains = set(&["vscode.dev"]);
    let first = wide.plan(Some(&other), Doors::Leave);
    assert!(
        first
            .calls
            .iter()
            .any(|call| call.change == Change::Revoke && call.path == "/client-policies/policies")
    );
    wide.settle(Some(&other), Doors::Leave);
    assert!(wide.policy("documents").is_none(), "it said something else");
    wide.settle(Some(&other), Doors::Open);
    let left: Vec<_> = wide
        .realm
        .clients
        .values()
        .map(|client| client["clientId"].as_str().unwrap())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(!left.contains(&"https://claude.ai/oauth/client"));
    let policies = json!(wide.realm.documents["policies"]).to_string();
    assert!(!policies.contains("hostname is claude.ai") && policies.contains("hostname is vscode.dev"));
}

#[test]
fn switched_off_nothing_is_left_and_nobody_keeps_a_scope() {
    let mut wide = with_servers();
    let before = wide.clone();
    wide.settle(Some(&want(&["orders:read"])), Doors::Open);
    let cached = json!({"cimd.cache.expiry.time.in.sec": "1"});
    wide.stranger(
        "https://claude.ai/oauth/client",
        &["vault:read", "payroll"],
        &cached,
    );
    wide.stranger("registered", &["orders:read", "offline_access"], &json!({}));
    wide.stranger("trusted", &["orders:read"], &json!({"mcpauth.trusted": "true"}));
    wide.stranger("ours", &["orders:read"], &json!({"mcpauth.managed": "true"}));
    let calls = wide.settle(None, Doors::Shut);
    let at = |what: &str| calls.iter().position(|call| call.subject.contains(what)).unwrap();
    assert!(
        at("for metadata documents") < at("client https://claude.ai")
            && at("client https://claude.ai") < at("that refused closed scopes")
    );
    let scopes = |id: &str| wide.realm.clients[&format!("id-of-{id}")]["optionalClientScopes"].clone();
    assert_eq!(scopes("registered"), json!(["offline_access"]));
    assert_eq!(scopes("trusted"), json!(["orders:read"]));
    assert_eq!(scopes("ours"), json!(["orders:read"]));
    assert!(
        !wide
            .realm
            .clients
            .contains_key("id-of-https:__claude.ai_oauth_client")
    );
    assert_eq!(wide.components, before.components);
    assert_eq!(wide.realm.documents, before.realm.documents, "byte for byte");
    assert_eq!(wide.optional, before.optional);
    assert_eq!(wide.realm.scopes, before.realm.scopes);
    assert!(wide.realm.client(KEEPER).raw.is_none());
    assert!(wide.plan(None, Doors::Shut).calls.is_empty());
}

#[test]
fn what_a_component_said_is_known_before_it_is_changed() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&[])), Doors::Leave);
    let client = wide
        .realm
        .clients
        .values_mut()
        .find(|client| client["clientId"] == KEEPER)
        .unwrap();
    client["attributes"]
        .as_object_mut()
        .unwrap()
        .remove("mcpauth.previous");
    // Killed in between, or somebody cleared it: nothing may be overwritten that is not kept.
    let plan = wide.plan(Some(&want(&[])), Doors::Open);
    assert!(
        plan.calls
            .iter()
            .all(|call| !call.path.starts_with("/components")),
        "{plan:?}"
    );
    wide.settle(Some(&want(&[])), Doors::Open);
    let mut fewer = want(&[]);
    fewer.dynamic.as_mut().unwrap().max_clients = None;
    wide.settle(Some(&fewer), Doors::Open);
    assert_eq!(wide.component("most")["config"]["max-clients"], json!(["200"]));
    // From now on it is the administrator's again.
    wide.components
        .iter_mut()
        .find(|component| component["id"] == "most")
        .unwrap()["config"]["max-clients"] = json!(["9"]);
    assert!(wide.settle(Some(&fewer), Doors::Open).is_empty());
}

#[test]
fn the_device_flow_is_refused_to_all_or_to_those_who_register_themselves() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&[])), Doors::Leave);
    let conditions = |wide: &Wide| wide.policy("devices").unwrap()["conditions"].to_string();
    assert!(conditions(&wide).contains("ByAnonymous") && !conditions(&wide).contains("grant-type"));
    let mut for_all = want(&[]);
    for_all.refuse_device_flow = true;
    wide.settle(Some(&for_all), Doors::Leave);
    assert!(!conditions(&wide).contains("ByAnonymous") && conditions(&wide).contains("device_code"));
}

#[test]
fn a_realm_without_a_policy_of_hosts_gets_one_of_ours() {
    let mut wide = with_servers();
    wide.components
        .retain(|component| component["providerId"] != "trusted-hosts");
    let before = wide.components.clone();
    wide.settle(Some(&want(&[])), Doors::Open);
    let own = wide
        .components
        .iter()
        .find(|component| component["providerId"] == "trusted-hosts")
        .unwrap();
    assert_eq!(own["name"], "mcpauth.prod.registration-trusted-hosts");
    wide.settle(None, Doors::Shut);
    assert_eq!(wide.components, before);
}

#[test]
fn somebody_elses_client_of_that_name_is_in_the_way() {
    let mut wide = with_servers();
    wide.stranger(KEEPER, &[], &json!({}));
    let plan = wide.plan(Some(&want(&[])), Doors::Open);
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(plan.conflicts[0].holder, Holder::Unmarked { adopter: None });
    assert!(plan.calls.is_empty(), "{plan:?}");
}

#[test]
fn who_took_the_place_of_the_client_that_shows_it_has_no_token_for_it() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&[])), Doors::Leave);
    let ours = wide.realm.client(KEEPER).raw.unwrap();
    let mut taken = ours.clone();
    taken["attributes"] = json!({"theirs": "x"});
    wide.realm
        .clients
        .insert(ours["id"].as_str().unwrap().to_owned(), taken);
    let calls = wide.settle(Some(&want(&[])), Doors::Leave);
    assert!(
        calls.iter().any(|call| call.operation == "end_registration"),
        "{calls:?}"
    );
}

#[test]
fn the_client_that_shows_it_carries_no_mark_that_lets_it_pass() {
    let mut wide = with_servers();
    wide.settle(Some(&want(&[])), Doors::Leave);
    let keeper = wide.realm.client(KEEPER).raw.unwrap();
    assert!(keeper["attributes"].get("mcpauth.managed").is_none());
    assert_eq!(keeper["optionalClientScopes"], json!(["mcpauth.prod.probe"]));
    assert_eq!(keeper["serviceAccountsEnabled"], true);
    assert_eq!(keeper["fullScopeAllowed"], false);
    assert_eq!(render::BASIC, "basic");
}
