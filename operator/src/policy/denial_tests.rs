use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-02T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn server(allowed: &Value) -> McpServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "team", "name": "notes"},
        "spec": {"authorizationServerRef": {"name": "main", "namespace": "platform"}, "resource": "https://h/",
                 "scopes": [{"name": "a", "challenge": true}], "allowedClients": allowed},
    }))
    .unwrap()
}

fn client(namespace: &str, spec: &Value, status: Value) -> McpClient {
    let mut client = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": namespace, "name": "c"},
        "spec": {"authorizationServerRef": {"name": "main", "namespace": "platform"}, "suspended": true,
                 "access": [{"server": {"name": "notes", "namespace": "team"}, "scopes": ["a"]}]},
        "status": status,
    });
    let fields = client["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    serde_json::from_value(client).unwrap()
}

fn after(server: &McpServer, clients: &[McpClient], before: &Denials, now: Timestamp) -> Denials {
    let labels = BTreeMap::new();
    let clients: Vec<_> = clients.iter().map(|client| (client, &labels)).collect();
    denials(server, &clients, before, "i", now)
}

#[test]
fn suspended_clients_are_denied_where_they_can_have_tokens() {
    let granted = || json!({"granted": [{"server": "team/notes", "resource": "https://h/"}]});
    let everybody = json!([{"namespaces": {"from": "All"}}]);
    for (allowed, namespace, spec, status, expected, why) in [
        (
            Value::Null,
            "team",
            json!({}),
            Value::Null,
            Some("i.team.c"),
            "suspended",
        ),
        (
            Value::Null,
            "team",
            json!({"suspended": false}),
            Value::Null,
            None,
            "resumed",
        ),
        (
            Value::Null,
            "team",
            json!({}),
            json!({"clientId": "other-id"}),
            Some("other-id"),
            "by its id",
        ),
        (
            Value::Null,
            "team",
            json!({"access": []}),
            granted(),
            Some("i.team.c"),
            "has access",
        ),
        (
            Value::Null,
            "team",
            json!({"access": []}),
            Value::Null,
            None,
            "neither has nor asks",
        ),
        (
            Value::Null,
            "other",
            json!({}),
            Value::Null,
            None,
            "a stranger who asks for access",
        ),
        (
            everybody.clone(),
            "other",
            json!({}),
            Value::Null,
            Some("i.other.c"),
            "allowed access",
        ),
        (
            Value::Null,
            "other",
            json!({}),
            granted(),
            Some("i.other.c"),
            "was allowed access",
        ),
        (
            everybody,
            "other",
            json!({"authorizationServerRef": {"name": "main"}}),
            granted(),
            None,
            "of another authorization server",
        ),
    ] {
        let client = client(namespace, &spec, status);
        let found = after(&server(&allowed), &[client], &Denials::new(), now());
        let ids: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(ids, Vec::from_iter(expected), "{why}");
    }
}

#[test]
fn who_was_denied_stays_so_while_a_token_can_be_valid() {
    let (server, none) = (server(&Value::Null), Denials::new());
    let suspended = client("team", &json!({}), Value::Null);
    let resumed = client("team", &json!({"suspended": false, "access": []}), Value::Null);
    let leaves = client("team", &json!({"access": []}), Value::Null);
    let hours = |hours: i64| Timestamp::from_second(now().as_second() + hours * 3600).unwrap();
    let denied = after(&server, std::slice::from_ref(&suspended), &none, now());
    for (why, clients) in [("deleted", vec![]), ("without access", vec![leaves])] {
        let left = after(&server, &clients, &denied, hours(50));
        assert!(
            left.contains_key("i.team.c"),
            "{why}: the day begins when it leaves"
        );
        let late = after(&server, &clients, &left, hours(73));
        assert_eq!(late, left, "{why}: nothing changes meanwhile");
        assert_eq!(
            after(&server, &clients, &left, hours(74)),
            none,
            "{why}: a day later"
        );
        let back = after(&server, std::slice::from_ref(&suspended), &left, hours(60));
        assert_eq!(back, denied, "{why}: suspended again");
        assert_eq!(
            after(&server, std::slice::from_ref(&resumed), &left, hours(60)),
            none,
            "{why}: admitted again"
        );
    }
    let forged = [(
        "x".to_owned(),
        Denial {
            since: 0,
            left: Some(i64::MAX),
        },
    )]
    .into();
    let left = after(&server, &[], &forged, now());
    assert_eq!(
        after(&server, &[], &left, hours(24)),
        none,
        "no time is in the future"
    );
}

#[test]
fn what_does_not_fit_are_the_oldest_and_first_those_that_left() {
    let suspended = |number: i64| {
        (
            format!("s{number:04}"),
            Denial {
                since: number,
                left: None,
            },
        )
    };
    let left = |number: i64| {
        (
            format!("l{number:04}"),
            Denial {
                since: number,
                left: Some(9999),
            },
        )
    };
    let most = i64::try_from(MOST).unwrap();
    let mut all: Denials = (0..most).map(suspended).chain((0..3).map(left)).collect();
    assert_eq!(fit(&mut all), 3);
    assert!(all.keys().all(|id| id.starts_with('s')), "who left goes first");
    let mut all: Denials = (0..=most).map(suspended).collect();
    assert_eq!(fit(&mut all), 1);
    assert!(!all.contains_key("s0000"), "then the oldest");
    assert_eq!(fit(&mut all), 0);
}

#[test]
fn the_most_that_is_denied_fits_into_a_config_map() {
    let id = |number: usize| format!("{number:0>340}");
    let all: Denials = (0..MOST).map(|number| (id(number), Denial::new(now()))).collect();
    let ids: Vec<_> = all.keys().collect();
    let bytes =
        serde_json::to_string(&all).unwrap().len() + serde_json::to_string_pretty(&ids).unwrap().len();
    assert!(bytes < 512 * 1024, "{bytes}");
}

#[test]
fn a_client_of_somebody_else_speaks_only_for_what_it_proved_to_be() {
    speaks_for_what_it_is(
        &json!({"existing": {"secretRef": {"name": "s"}, "grantTypes": ["client_credentials"]}}),
    );
}

/// Anybody can name a document; whose it is shows once it is registered.
#[test]
fn a_client_with_a_document_speaks_only_for_what_is_registered() {
    speaks_for_what_it_is(&json!({"metadataDocument": {"url": "theirs"}}));
}

fn speaks_for_what_it_is(way_in: &Value) {
    let (server, none) = (server(&Value::Null), Denials::new());
    let existing = |fields: &Value, id: Option<&str>| {
        let mut spec = way_in.clone();
        let all = spec.as_object_mut().unwrap();
        all.extend(fields.as_object().unwrap().clone());
        client("team", &spec, json!({"clientId": id}))
    };
    let suspended = |id| existing(&json!({}), id);
    assert_eq!(after(&server, &[suspended(None)], &none, now()), none);
    let denied = after(&server, &[suspended(Some("theirs"))], &none, now());
    assert_eq!(denied.keys().collect::<Vec<_>>(), ["theirs"]);

    for (fields, id, stays, why) in [
        (
            json!({"suspended": false}),
            Some("theirs"),
            false,
            "it is resumed",
        ),
        (json!({"suspended": false}), None, true, "it proved nothing"),
        (json!({}), None, true, "its credential works no more"),
        (
            json!({"suspended": false, "access": []}),
            Some("theirs"),
            true,
            "it has no access",
        ),
    ] {
        let left = after(&server, &[existing(&fields, id)], &denied, now());
        assert_eq!(left.contains_key("theirs"), stays, "{why}");
    }
    let beside = [
        suspended(Some("theirs")),
        existing(&json!({"suspended": false}), Some("theirs")),
    ];
    assert_eq!(
        after(&server, &beside, &denied, now()),
        denied,
        "another who has the credential does not lift it"
    );
}

/// Where the server chooses a new id with each credential, tokens of all of them are refused.
#[test]
fn the_ids_of_before_are_denied_too_and_not_admitted_again() {
    let status = json!({"clientId": "now", "registration": {"previous": [
        {"clientId": "before", "until": "2026-01-03T00:00:00Z"},
    ]}});
    let server = server(&Value::Null);
    let suspended = client("team", &json!({}), status.clone());
    let denied = after(&server, &[suspended], &Denials::new(), now());
    assert_eq!(denied.keys().collect::<Vec<_>>(), ["before", "now"]);
    let resumed = client("team", &json!({"suspended": false}), status);
    let denied = after(&server, &[resumed], &denied, now());
    assert_eq!(
        denied.keys().collect::<Vec<_>>(),
        ["before"],
        "its registration ended with the suspension"
    );
}

/// A client that moved is denied where it was, by the id that it had there; and what another authorization server calls it
/// neither denies nor admits anybody here.
#[test]
fn a_client_that_moved_is_denied_where_it_was() {
    let granted = json!([{"server": "team/notes", "resource": "https://h/", "scopes": ["a"]}]);
    let previous = |more: Value| {
        let mut previous = json!({
            "authorizationServerRef": {"name": "main", "namespace": "platform"}, "issuer": "i",
            "clientId": "here", "granted": granted,
        });
        previous
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!([previous])
    };
    let at = |previous: Value| {
        json!({
            "clientId": "victim", "registration": {"number": 1}, "previous": previous,
            "registeredAt": {"authorizationServerRef": {"name": "next", "namespace": "platform"}, "issuer": "n"},
        })
    };
    let moved = json!({"authorizationServerRef": {"name": "next", "namespace": "platform"}});
    let server = server(&Value::Null);
    for (what, previous, expected) in [
        ("kept", previous(json!({})), vec!["here"]),
        (
            "gone",
            previous(json!({"tokensUntil": "2026-01-03T00:00:00Z"})),
            vec!["here"],
        ),
        ("never here", json!([]), vec![]),
    ] {
        let suspended = client("team", &moved, at(previous));
        let denied = after(&server, &[suspended.clone()], &Denials::new(), now());
        assert_eq!(denied.keys().collect::<Vec<_>>(), expected, "{what}");
        let woken = denied_at(&suspended).contains(&("team".to_owned(), "notes".to_owned()));
        assert!(woken, "{what}");
    }
    let denied = Denials::from([("victim".to_owned(), Denial::new(now()))]);
    let mut resumed = moved.clone();
    resumed["suspended"] = json!(false);
    resumed["access"] = json!([]);
    let resumed = client("team", &resumed, at(json!([])));
    let after = after(&server, &[resumed], &denied, now());
    assert!(
        after.contains_key("victim"),
        "a name from elsewhere lifts no denial"
    );
}

/// A client whose move cannot begin has its tokens from where it is.
#[test]
fn a_client_that_has_not_moved_yet_is_denied_where_it_is() {
    let status = json!({
        "clientId": "i.team.c", "granted": [{"server": "team/notes", "resource": "https://h/", "scopes": ["a"]}],
        "registeredAt": {"authorizationServerRef": {"name": "main", "namespace": "platform"}, "issuer": "i"},
    });
    let elsewhere =
        json!({"authorizationServerRef": {"name": "next", "namespace": "platform"}, "access": []});
    let suspended = client("team", &elsewhere, status);
    let denied = after(&server(&Value::Null), &[suspended], &Denials::new(), now());
    assert_eq!(denied.keys().collect::<Vec<_>>(), ["i.team.c"]);
}
