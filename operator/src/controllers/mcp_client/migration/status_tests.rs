use serde_json::{Value, json};

use super::*;
use crate::credential::homes::Drawer;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn place(name: &str) -> Place {
    Place {
        namespace: "p".into(),
        name: name.into(),
        issuer: format!("https://{name}"),
        realm: name.into(),
        registers: false,
        redirect_uris: Vec::new(),
        account: None,
    }
}

/// The client came to these places in this order.
fn homes(names: &[&str]) -> Homes {
    let moved = names.iter().fold(Drawer::default(), |drawer, name| {
        let leaving = crate::credential::homes::Leaving {
            client_id: "id".into(),
            ..Default::default()
        };
        drawer.arrived(place(name), leaving).unwrap()
    });
    moved.homes
}

fn home(name: &str) -> Value {
    json!({"authorizationServerRef": {"namespace": "p", "name": name}, "issuer": format!("https://{name}")})
}

fn previous(name: &str, more: Value) -> Value {
    let mut previous = home(name);
    previous["clientId"] = json!("id");
    for (field, value) in more.as_object().unwrap() {
        previous[field] = value.clone();
    }
    previous
}

#[test]
fn what_is_gone_is_remembered_while_its_tokens_may_be_valid() {
    let (later, soon) = ("2026-01-02T00:00:00Z", "2026-01-01T06:00:00Z");
    let kept = |name| previous(name, json!({}));
    let gone = |name, until: &str| previous(name, json!({"tokensUntil": until}));
    let at =
        |name: &str, before: Value| json!({"clientId": "id", "registeredAt": home(name), "previous": before});
    for (what, names, status, expected) in [
        ("it is new", vec!["a"], json!({}), json!([])),
        ("it stays", vec!["a"], at("a", json!([])), json!([])),
        ("it moved", vec!["a", "b"], at("a", json!([])), json!([kept("a")])),
        (
            "the old one is gone",
            vec!["b"],
            at("b", json!([kept("a")])),
            json!([gone("a", later)]),
        ),
        (
            "both in one pass",
            vec!["b"],
            at("a", json!([])),
            json!([gone("a", later)]),
        ),
        (
            "gone before",
            vec!["b"],
            at("b", json!([gone("a", soon)])),
            json!([gone("a", soon)]),
        ),
        (
            "over",
            vec!["b"],
            at("b", json!([gone("a", "2026-01-01T00:00:00Z")])),
            json!([]),
        ),
        (
            "changed back",
            vec!["a", "b", "a"],
            at("b", json!([kept("a")])),
            json!([kept("b")]),
        ),
        ("it ended", vec![], at("a", json!([])), json!([gone("a", later)])),
        (
            "it had other ids",
            vec!["b"],
            json!({"clientId": "id", "registeredAt": home("a"), "registration": {"previous": [
                {"clientId": "older", "until": soon}, {"clientId": "oldest", "until": "2025-01-01T00:00:00Z"},
            ]}}),
            json!([
                gone("a", later),
                previous("a", json!({"clientId": "older", "tokensUntil": soon}))
            ]),
        ),
    ] {
        let status: McpClientStatus = serde_json::from_value(status).unwrap();
        let said = history(&homes(&names), &status, now());
        assert_eq!(serde_json::to_value(&said.previous).unwrap(), expected, "{what}");
        let expected = names.last().map(|name| home(name));
        assert_eq!(
            said.registered_at.map(|home| serde_json::to_value(home).unwrap()),
            expected,
            "{what}"
        );
    }
}

#[test]
fn what_the_status_says_of_another_home_is_not_taken_over() {
    let status: McpClientStatus = serde_json::from_value(json!({
        "clientId": "chosen there", "registeredAt": home("a"), "registration": {"number": 1},
        "granted": [{"server": "team/orders", "resource": "https://h/"}], "secretName": "s",
    }))
    .unwrap();
    for (names, stays) in [(["a"], true), (["b"], false)] {
        let said = history(&homes(&names), &status, now()).at_home(status.clone());
        assert_eq!(said.client_id.is_some(), stays);
        assert_eq!(said.registration.is_some(), stays);
        assert_eq!(said.granted.len(), usize::from(stays));
        assert_eq!(said.secret_name.as_deref(), Some("s"));
    }
}

#[test]
fn it_is_said_how_far_it_is() {
    let mut kept = homes(&["a", "b"]);
    kept.parked[0].until = Some(now());
    let left = (place("a"), Halt::waiting("AuthorizationServerNotReady", "away"));
    for (homes, is_home, left, expected) in [
        (homes(&["a"]), true, None, None),
        (homes(&["a"]), false, None, Some("NotMoved")),
        (homes(&["a", "b"]), true, None, Some("Moving")),
        (kept.clone(), true, None, Some("OldKept")),
        (kept, true, Some(left), Some("OldNotRemoved")),
        (homes(&["a", "b"]), false, None, Some("NotMoved")),
    ] {
        let said = report(&homes, is_home, left.as_ref());
        assert_eq!(said.as_ref().map(|said| said.reason), expected);
        let Some(said) = said else { continue };
        let stored = condition::merge(&[], &[said.clone()], None, now());
        assert_eq!(
            last_report(&stored),
            Some(said),
            "a pass that does not find out says it again"
        );
    }
}
