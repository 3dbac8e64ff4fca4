//! Whose tokens a server may exchange, case by case.

mod properties;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Value, json};

use super::{
    super::{diff::texts, mark, plan, render::LIMITED},
    body, changes, client_mut, ids, orders, plan_resource,
    realm::Realm,
    set,
};
use crate::provider::{Call, Change, ResourceSpec, Subjects, Verb};

const CLIENTS: [&str; 3] = ["prod.team.desktop", "prod.team.web", "prodxteam.desktop"];
const SCOPES: [&str; 2] = ["archive:use", "ledger:use"];
const ROUNDS: usize = 3;

fn only(clients: &[&str]) -> Subjects {
    Subjects::Only(set(clients))
}

fn exchanging(scopes: &[(&str, Subjects)]) -> ResourceSpec {
    ResourceSpec {
        exchange_scopes: scopes
            .iter()
            .map(|(scope, subjects)| ((*scope).to_owned(), subjects.clone()))
            .collect(),
        ..orders()
    }
}

/// A realm with the targets' scopes, and entries of others in both documents.
fn realm() -> Realm {
    let mut realm = Realm::new();
    for scope in SCOPES {
        realm.scopes.insert(
            format!("id-of-{scope}"),
            json!({"id": format!("id-of-{scope}"), "name": scope}),
        );
    }
    for (field, entries) in foreign() {
        realm.documents.insert(field, entries);
    }
    realm
}

fn foreign() -> BTreeMap<&'static str, Vec<Value>> {
    // The second is a server's of the same name in another installation.
    let entry = |name: &str| json!({"name": name, "profiles": [], "executors": [{"executor": "x", "configuration": {"n": 1.5}}]});
    let entries = vec![
        entry("theirs"),
        entry("mcpauth.prod.team.orders.other.0123456789abcdef"),
    ];
    [("profiles", entries.clone()), ("policies", entries)].into()
}

/// Carries out plans until nothing is left to do. Gives all calls.
fn settle(realm: &mut Realm, want: &ResourceSpec) -> Vec<Call> {
    let mut calls = Vec::new();
    for _ in 0..ROUNDS {
        let plan = plan_resource(realm, want);
        realm.apply(&plan.calls);
        calls.extend(plan.calls);
    }
    let left = plan_resource(realm, want);
    assert!(left.is_empty(), "{left:?} after {calls:?}");
    calls
}

/// What Keycloak lets the server exchange: for which scope the tokens of which client.
fn exchanged(realm: &Realm) -> BTreeSet<(&'static str, &'static str)> {
    let observed = realm.client(&orders().resource);
    let Some(client) = observed.raw.as_ref() else {
        return BTreeSet::new();
    };
    if mark::attribute(client, "standard.token.exchange.enabled") != Some("true") {
        return BTreeSet::new();
    }
    let attached = texts(client.get("optionalClientScopes"));
    let pairs = SCOPES
        .into_iter()
        .flat_map(|scope| CLIENTS.map(|subject| (scope, subject)));
    pairs
        .filter(|(scope, _)| attached.contains(scope))
        .filter(|(scope, subject)| passes(realm, client, scope, subject))
        .collect()
}

/// Whether every profile lets the request pass that a policy names which matches it.
fn passes(realm: &Realm, client: &Value, scope: &str, subject: &str) -> bool {
    let matching = realm.documents["policies"].iter().filter(|policy| {
        policy["conditions"].as_array().is_some_and(|conditions| {
            conditions.iter().all(|condition| {
                let configuration = &condition["configuration"];
                match condition["condition"].as_str().unwrap() {
                    "grant-type" => true,
                    "client-attributes" => {
                        let wanted: Value =
                            serde_json::from_str(configuration["attributes"].as_str().unwrap()).unwrap();
                        mark::attribute(client, wanted[0]["key"].as_str().unwrap())
                            == wanted[0]["value"].as_str()
                    }
                    "client-scopes" => texts(configuration.get("scopes")).contains(scope),
                    other => panic!("no such condition: {other}"),
                }
            })
        })
    });
    matching.into_iter().all(|policy| {
        let profile = realm.documents["profiles"]
            .iter()
            .find(|profile| profile["name"] == policy["name"]);
        profile.is_none_or(|profile| {
            let allowed = profile["executors"][0]["configuration"]["allowed-value"]
                .as_str()
                .unwrap();
            matches_whole(allowed, subject)
        })
    })
}

fn matches_whole(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}

fn wanted(want: &ResourceSpec) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = SCOPES
        .into_iter()
        .flat_map(|scope| CLIENTS.map(|subject| (scope, subject)));
    pairs
        .filter(|(scope, subject)| {
            want.exchange_scopes
                .get(*scope)
                .is_some_and(|subjects| only(&[subject]).within(subjects))
        })
        .collect()
}

#[test]
fn a_limit_is_in_force_before_its_scope_is_attached_and_ends_after_it_is_detached() {
    let mut realm = realm();
    let limited = exchanging(&[
        ("archive:use", only(&["prod.team.desktop"])),
        ("ledger:use", Subjects::Any),
    ]);
    let plan = plan_resource(&realm, &limited);
    assert_eq!(plan.calls[0].change, Change::Create);
    let client = body(&plan.calls[0]);
    assert_eq!(
        client["optionalClientScopes"],
        json!(["ledger:use"]),
        "what is limited waits"
    );
    assert_eq!(client["attributes"][LIMITED], client["id"]);
    realm.apply(&plan.calls);
    let resource = "https://mcp.example.com/orders";
    let plan = plan_resource(&realm, &limited);
    let expected = [
        (
            Change::Revoke,
            format!("client profiles that limit the exchange for client {resource}"),
        ),
        (
            Change::Revoke,
            format!("client policies that limit the exchange for client {resource}"),
        ),
        (Change::Update, format!("scope archive:use for client {resource}")),
    ];
    assert_eq!(
        changes(&plan),
        expected
            .iter()
            .map(|(change, subject)| (*change, subject.as_str()))
            .collect::<Vec<_>>()
    );
    realm.apply(&plan.calls);
    assert!(plan_resource(&realm, &limited).is_empty());
    assert_eq!(exchanged(&realm), wanted(&limited));

    let plan = plan_resource(&realm, &orders());
    let verbs: Vec<_> = plan
        .calls
        .iter()
        .map(|call| (call.verb, call.operation))
        .collect();
    assert_eq!(
        verbs,
        [
            (Verb::Put, "update_client"),
            (Verb::Delete, "detach_scope"),
            (Verb::Delete, "detach_scope"),
            (Verb::Merge, "update_client_policies"),
            (Verb::Merge, "update_client_profiles"),
        ]
    );
    let calls = settle(&mut realm, &orders());
    assert_eq!(
        calls.last().unwrap().operation,
        "update_client",
        "the mark goes last"
    );
    assert_eq!(realm.documents, foreign());
    assert_eq!(mark::attribute(client_mut(&mut realm, resource), LIMITED), None);
}

#[test]
fn what_a_limit_says_is_what_keycloak_was_seen_to_enforce() {
    let mut realm = realm();
    settle(
        &mut realm,
        &exchanging(&[
            ("archive:use", only(&["prod.team.web", "prod.team.desktop"])),
            ("ledger:use", only(&["prod.team.desktop", "prod.team.web"])),
        ]),
    );
    let id = ids().client(&orders().mark).to_string();
    let name = &realm.documents["profiles"][2]["name"];
    assert!(
        name.as_str().unwrap().starts_with("mcpauth.prod.team.orders."),
        "{name}"
    );
    let description = "Whose tokens McpServer team/orders may exchange, managed by mcp-auth-operator";
    assert_eq!(
        realm.documents["profiles"][2..],
        [json!({"name": name, "description": description, "executors": [{
            "executor": "jwt-claim-enforcer",
            "configuration": {"claim-name": "azp", "allowed-value": "prod\\.team\\.desktop|prod\\.team\\.web"},
        }]})],
        "one for both scopes"
    );
    assert_eq!(
        realm.documents["policies"][2..],
        [
            json!({"name": name, "description": description, "enabled": true, "mode": "STRICT", "profiles": [name], "conditions": [
                {"condition": "grant-type", "configuration": {"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]}},
                {"condition": "client-attributes", "configuration": {"attributes": format!(r#"[{{"key":"mcpauth.exchange-limits","value":"{id}"}}]"#)}},
                {"condition": "client-scopes", "configuration": {"type": "Optional", "scopes": ["archive:use", "ledger:use"]}},
            ]})
        ]
    );
}

#[test]
fn without_the_right_to_limit_nothing_that_is_limited_is_attached_and_the_mark_stays() {
    let limited = exchanging(&[
        ("archive:use", only(&["prod.team.desktop"])),
        ("ledger:use", Subjects::Any),
    ]);
    let mut never = realm();
    never.may_limit = false;
    settle(&mut never, &limited);
    assert!(exchanged(&never).iter().all(|(scope, _)| *scope == "ledger:use"));
    assert_eq!(never.documents, foreign());

    let mut lost = realm();
    settle(&mut lost, &limited);
    lost.may_limit = false;
    let before = lost.documents.clone();
    settle(&mut lost, &orders());
    assert!(exchanged(&lost).is_empty());
    assert_eq!(lost.documents, before);
    let client = client_mut(&mut lost, &orders().resource);
    assert!(
        mark::attribute(client, LIMITED).is_some(),
        "nothing else tells of what is left"
    );
    lost.may_limit = true;
    settle(&mut lost, &orders());
    assert_eq!(lost.documents, foreign());
}

#[test]
fn a_list_without_clients_gives_nothing() {
    let mut realm = realm();
    settle(&mut realm, &exchanging(&[("archive:use", only(&[]))]));
    assert!(exchanged(&realm).is_empty());
    assert_eq!(
        realm.documents,
        foreign(),
        "an empty pattern would let everybody pass"
    );
}

#[test]
fn removal_stops_the_exchange_then_ends_the_limits_then_deletes() {
    let mut realm = realm();
    let limited = exchanging(&[("archive:use", only(&["prod.team.desktop"]))]);
    settle(&mut realm, &limited);
    let removal = |realm: &Realm| {
        let observed = realm.client(&limited.resource);
        plan::resource_removal(&ids(), &limited.mark, &observed, &realm.observed_scopes())
    };
    let calls = removal(&realm).calls;
    for (number, call) in calls.iter().enumerate() {
        realm.apply(std::slice::from_ref(call));
        assert!(
            exchanged(&realm).is_subset(&wanted(&limited)),
            "{number}: {call:?}"
        );
        assert_eq!(
            realm.documents == foreign(),
            number >= 2,
            "{number}: they end before the mark that tells of them: {call:?}"
        );
    }
    assert!(removal(&realm).is_empty());

    // Somebody deleted the client.
    settle(&mut realm, &limited);
    realm
        .clients
        .retain(|_, client| client["clientId"] != limited.resource.as_str());
    realm.apply(&removal(&realm).calls);
    assert_eq!(realm.documents, foreign());
    settle(&mut realm, &limited);
    realm
        .clients
        .retain(|_, client| client["clientId"] != limited.resource.as_str());
    settle(&mut realm, &orders());
    assert_eq!(
        realm.documents,
        foreign(),
        "also when it is made anew without limits"
    );
}
