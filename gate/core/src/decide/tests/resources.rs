//! Resources by every spelling of their URIs.

use super::*;

/// Calls that are about one resource, or a template of them.
fn calls(uri: &str) -> Vec<String> {
    let listen = json!({"notifications": {"resourceSubscriptions": ["note://open/a", uri]}});
    let template =
        json!({"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "a", "value": "b"}});
    [
        ("resources/read", json!({"uri": uri})),
        ("resources/subscribe", json!({"uri": uri})),
        ("resources/unsubscribe", json!({"uri": uri})),
        ("subscriptions/listen", listen),
        ("completion/complete", template),
    ]
    .iter()
    .map(|(method, params)| {
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
    })
    .collect()
}

fn reason(policy: &Policy, scope: &str, body: &str) -> &'static str {
    let decision = post(&token(scope), body).decide_by(policy, &issuer_keys(), false);
    match decision {
        Decision::Allow(_) => "allowed",
        decision => {
            let answer = answer(decision);
            if answer.reason.as_str() == "body_ambiguous_uri" {
                assert_eq!(answer.status, StatusCode::BAD_REQUEST);
                assert!(answer.body.contains("\"id\":1"), "{}", answer.body);
            }
            answer.reason.as_str()
        }
    }
}

const AMBIGUOUS: [&str; 14] = [
    " note://admin/x",
    "note://admin/x ",
    "note://admin/sec\trets",
    "no\nte://admin/x",
    "note://open/../admin/x",
    "note://admin/./x",
    "note://open/%2e%2E/x",
    "note://open/.%2e/x",
    "note://open/..%2fx",
    "file:///public/%2e%2e/secret/x",
    "file:///public/..%5csecret/x",
    "file:\\\\\\secret/x",
    "file:///public\\..\\secret/x",
    "file:///secret/x%00",
];

#[test]
fn what_may_be_read_holds_for_every_spelling() {
    let rules = json!([
        {"kind": "Resource", "match": "note://open/*", "scopes": ["notes:read"]},
        {"kind": "Resource", "match": "NOTE://*", "scopes": ["notes:read"]},
        {"kind": "Resource", "match": "note:///{id}", "scopes": ["notes:read"]},
        {"kind": "Resource", "match": "file:///public/*", "scopes": ["notes:read"]},
        {"kind": "Resource", "match": "file://l*", "scopes": ["notes:read"]},
    ]);
    let policy = policy_with(&json!({"rules": rules}));
    for uri in AMBIGUOUS {
        for body in calls(uri) {
            assert_eq!(
                reason(&policy, "notes:read", &body),
                "body_ambiguous_uri",
                "{body}"
            );
        }
    }
    for (uri, expected, why) in [
        ("note://open/a", "allowed", "as it is in the rule"),
        ("note://open/a%20b", "allowed", "encoded, and matched decoded"),
        ("note://open/{id}", "allowed", "a template"),
        ("NOTE://open/a", "allowed", "both spellings are allowed"),
        ("NOTE://admin/x", "unmatched", "the parsed one is not"),
        ("note://%61dmin/x", "unmatched", "neither is"),
        (
            "file://localhost/secret",
            "unmatched",
            "the parsed one has no host",
        ),
        ("file:///%70ublic/x", "unmatched", "only the decoded one is"),
        ("file:/public/x", "unmatched", "only the parsed one is"),
    ] {
        for body in calls(uri) {
            assert_eq!(reason(&policy, "notes:read", &body), expected, "{body}: {why}");
        }
    }
    let template = calls("note:///{id}").pop().unwrap();
    assert_eq!(
        reason(&policy, "notes:read", &template),
        "allowed",
        "a template named exactly"
    );
}

#[test]
fn a_rule_that_is_stricter_holds_for_every_spelling() {
    let rules = json!([
        {"kind": "Resource", "match": "*", "scopes": ["notes:read"]},
        {"kind": "Resource", "match": "note://admin/*", "scopes": ["notes:admin"]},
        {"kind": "Resource", "match": "file:///secret*", "scopes": ["notes:admin"]},
        {"kind": "Resource", "match": "https://docs.example/*", "scopes": ["notes:admin"]},
    ]);
    let policy = policy_with(&json!({"rules": rules}));
    for uri in AMBIGUOUS {
        for body in calls(uri) {
            assert_eq!(
                reason(&policy, "notes:read", &body),
                "body_ambiguous_uri",
                "{body}"
            );
        }
    }
    for uri in [
        "note://admin/x",
        "NOTE://admin/x",
        "nOtE://admin/%78",
        "note://%61dmin/x",
        "file://localhost/secret",
        "FILE:/secret",
        "file:secret",
        "file:///%73ecret/x",
        "file:///secret%2fx",
        "HTTPS://docs.example:443/x",
        "https:docs.example/x",
        "https:///docs.example/x",
        "https://DOCS.example/x",
        "https://docs%2Eexample/x",
        "https://ｄocs.example/x",
    ] {
        for body in calls(uri) {
            assert_eq!(reason(&policy, "notes:read", &body), "scope", "{body}");
            assert_eq!(reason(&policy, "notes:admin", &body), "allowed", "{body}");
        }
    }
    for body in calls("note://open/x") {
        assert_eq!(reason(&policy, "notes:read", &body), "allowed", "{body}");
    }
}

#[test]
fn nobody_subscribes_to_more_than_is_looked_at() {
    for (count, expected) in [(256, "allowed"), (257, "body_too_many")] {
        let uris: Vec<String> = (0..count).map(|at| format!("note:///{at}")).collect();
        let params = json!({"notifications": {"resourceSubscriptions": uris}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params});
        assert_eq!(
            reason(&policy(), "notes:read", &body.to_string()),
            expected,
            "{count}"
        );
    }
}

#[test]
fn lists_show_what_may_be_read() {
    let policy = policy();
    let held = policy.held(["notes:read"]);
    for (uri, shown) in [
        ("note:///a", true),
        ("NOTE:///a", false),
        ("note:///a/../b", false),
        ("note:///a b", false),
        ("note:///a%20b", true),
    ] {
        assert_eq!(
            policy.may(crate::document::Kind::Resource, uri, &held),
            shown,
            "{uri}"
        );
    }
}
