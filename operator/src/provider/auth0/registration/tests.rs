use std::sync::Arc;

use super::{super::mark, *};
use crate::provider::{Mark, ScopeOwner, Scopes, scope_key};

const ORDERS: &str = "https://mcp.example.com/orders";
const VAULT: &str = "https://mcp.example.com/vault";
const THEIRS: &str = "https://theirs.example.com/";

fn mark(name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: "McpServer".into(),
        namespace: "team".into(),
        name: name.into(),
        uid: "1".into(),
    }
}

/// Two APIs of ours and one of somebody else's; `noted` says at which ones the grant is said to be ours.
fn at_server(noted: &[&str]) -> ObservedScopes {
    let nobody = Holder::Unmarked { adopter: None };
    let mut scopes = BTreeMap::new();
    for (audience, holder, client) in [
        (ORDERS, Holder::Marked(mark("orders")), "rs_1"),
        (VAULT, Holder::Marked(mark("vault")), "rs_2"),
        (THEIRS, nobody, "rs_3"),
    ] {
        let metadata = default_grant_metadata(noted.contains(&audience));
        let client = json!({"client_id": client, "client_metadata": metadata});
        let raw = json!({"api": {"identifier": audience}, "client": client});
        let owner = Arc::new(ScopeOwner { holder, raw });
        scopes.insert(scope_key(audience, "read"), Arc::clone(&owner));
        scopes.insert(audience.to_owned(), owner);
    }
    Arc::new(Scopes::of_audiences(scopes))
}

fn seen(grants: &Value, probes: &Value) -> ObservedRegistration {
    ObservedRegistration::Seen(Arc::new(json!({"grants": grants, "probes": probes})))
}

fn grant(id: &str, audience: &str, scopes: &[&str], kind: &str) -> Value {
    json!({"id": id, "default_for": "third_party_clients", "audience": audience, "scope": scopes,
        "subject_type": kind})
}

fn open(keys: &[(&str, &str)]) -> RegistrationSpec {
    RegistrationSpec {
        open: keys
            .iter()
            .map(|(audience, scope)| scope_key(audience, scope))
            .collect(),
        ..RegistrationSpec::default()
    }
}

fn orders() -> RegistrationSpec {
    open(&[(ORDERS, "read")])
}

fn planned(want: Option<&RegistrationSpec>, doors: Doors, noted: &[&str], grants: &Value) -> Plan {
    plan("prod", want, doors, &seen(grants, &json!([])), &at_server(noted))
}

/// Each call as its verb, its path and its body.
fn calls(plan: &Plan) -> Vec<(Verb, &str, Value)> {
    let calls = plan.calls.iter();
    calls
        .map(|call| (call.verb, &*call.path, call.body.clone().unwrap_or_default()))
        .collect()
}

#[test]
fn what_is_open_is_one_grant_for_users_which_is_noted_before_it_is_made() {
    let plan = planned(Some(&orders()), Doors::Open, &[], &json!([]));
    let noted = json!({"client_metadata": {"mcpauth_default_grant": "true"}});
    let made = json!({"default_for": "third_party_clients", "audience": ORDERS, "scope": ["read"],
        "subject_type": "user"});
    assert_eq!(
        calls(&plan),
        [
            (Verb::Patch, "/clients/rs_1", noted),
            (Verb::Post, "/client-grants", made.clone()),
        ]
    );
    // Killed between the two.
    let plan = planned(Some(&orders()), Doors::Open, &[ORDERS], &json!([]));
    assert_eq!(calls(&plan), [(Verb::Post, "/client-grants", made)]);
    let there = json!([grant("cgr_1", ORDERS, &["read"], "user")]);
    for doors in [Doors::Open, Doors::Leave] {
        assert!(planned(Some(&orders()), doors, &[ORDERS], &there).is_empty());
    }
}

#[test]
fn nothing_is_opened_before_the_proof() {
    for (noted, grants) in [
        (&[][..], json!([])),
        (&[ORDERS], json!([])),
        (&[ORDERS], json!([grant("cgr_1", ORDERS, &[], "user")])),
    ] {
        for doors in [Doors::Leave, Doors::Shut] {
            let plan = planned(Some(&orders()), doors, noted, &grants);
            let gives = plan.calls.iter().any(|call| {
                call.change == Change::Create
                    || call
                        .body
                        .as_ref()
                        .is_some_and(|body| body["scope"] == json!(["read"]))
            });
            assert!(!gives, "{doors:?} {plan:?}");
        }
    }
}

#[test]
fn what_is_closed_goes_at_once_and_before_all_else() {
    let grants = json!([
        grant("cgr_1", ORDERS, &["read", "write"], "user"),
        grant("cgr_2", VAULT, &["read"], "user"),
    ]);
    let plan = planned(Some(&orders()), Doors::Leave, &[ORDERS, VAULT], &grants);
    let revoked = plan.revocations();
    assert_eq!(
        calls(&revoked),
        [
            (Verb::Patch, "/client-grants/cgr_1", json!({"scope": ["read"]})),
            (Verb::Delete, "/client-grants/cgr_2", Value::Null),
        ]
    );
    assert_eq!(plan.calls[..2], revoked.calls);
    for (want, doors) in [(None, Doors::Shut), (Some(&orders()), Doors::Shut)] {
        let plan = planned(want, doors, &[ORDERS, VAULT], &grants);
        assert_eq!(plan.revocations().calls.len(), 2, "{plan:?}");
        assert_eq!(plan.calls.len(), 4, "the notes go too: {plan:?}");
    }
    let plan = planned(None, Doors::Shut, &[VAULT], &json!([]));
    let unnoted = json!({"client_metadata": {"mcpauth_default_grant": null}});
    assert_eq!(calls(&plan), [(Verb::Patch, "/clients/rs_2", unnoted)]);
}

/// "All scopes", as an administrator can say, would open what comes later as well.
#[test]
fn more_than_is_open_is_drift() {
    let mut all = grant("cgr_1", ORDERS, &[], "user");
    all["allow_all_scopes"] = json!(true);
    let plan = planned(Some(&orders()), Doors::Leave, &[ORDERS], &json!([all]));
    assert_eq!(
        calls(&plan.revocations()),
        [(
            Verb::Patch,
            "/client-grants/cgr_1",
            json!({"scope": ["read"], "allow_all_scopes": null})
        )]
    );
}

#[test]
fn what_others_grant_at_our_apis_is_named_never_touched_and_shuts_the_rest() {
    let ours = grant("cgr_1", ORDERS, &["read"], "user");
    for (noted, foreign) in [
        (&[ORDERS][..], grant("cgr_2", VAULT, &["read"], "user")),
        // Ours are for users.
        (&[ORDERS, VAULT], grant("cgr_2", VAULT, &["read"], "client")),
        (&[ORDERS], grant("cgr_2", ORDERS, &["read"], "client")),
    ] {
        let plan = planned(Some(&orders()), Doors::Open, noted, &json!([ours, foreign]));
        assert_eq!(plan.conflicts.len(), 1, "{plan:?}");
        let audience = text(&foreign, "audience");
        assert!(plan.conflicts[0].subject.contains(audience), "{plan:?}");
        assert_eq!(
            calls(&plan),
            [(Verb::Delete, "/client-grants/cgr_1", Value::Null)]
        );
    }
    // When nobody wants it any more, what others have there stands in no one's way.
    let foreign = grant("cgr_2", VAULT, &["read"], "user");
    let plan = planned(None, Doors::Shut, &[ORDERS], &json!([ours, foreign]));
    assert!(plan.conflicts.is_empty());
    let paths: Vec<&str> = plan.calls.iter().map(|call| &*call.path).collect();
    assert_eq!(paths, ["/client-grants/cgr_1", "/clients/rs_1"]);
}

#[test]
fn what_others_grant_at_their_apis_is_their_business() {
    let theirs = json!([grant("cgr_9", THEIRS, &["read"], "user")]);
    // Not even if somebody wrote there that it is ours.
    assert!(planned(None, Doors::Shut, &[THEIRS], &theirs).is_empty());
    let elsewhere = plan(
        "staging",
        Some(&open(&[(THEIRS, "read")])),
        Doors::Open,
        &seen(&json!([grant("cgr_1", ORDERS, &["read"], "user")]), &json!([])),
        &at_server(&[ORDERS]),
    );
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[test]
fn what_is_left_of_proofs_goes_whatever_the_doors() {
    for (want, doors) in [(None, Doors::Shut), (Some(&orders()), Doors::Leave)] {
        let plan = plan(
            "prod",
            want,
            doors,
            &seen(&json!([]), &json!(["tpc_1"])),
            &at_server(&[]),
        );
        assert_eq!(calls(&plan), [(Verb::Delete, "/clients/tpc_1", Value::Null)]);
    }
    let named = |origin: &str, name: String| json!({"external_metadata_type": origin, "name": name});
    assert!(is_probe(&named("dcr", probe_name("prod")), "prod"));
    for other in [
        named("dcr", probe_name("staging")),
        named("cimd", probe_name("prod")),
        json!({"name": probe_name("prod"), "client_metadata": mark::metadata(&mark("orders"))}),
    ] {
        assert!(!is_probe(&other, "prod"), "{other}");
    }
    assert!(probe_name(&"i".repeat(100)).len() < 100);
}
