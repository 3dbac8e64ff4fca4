use super::*;

fn server(name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: "McpServer".into(),
        namespace: "team".into(),
        name: name.into(),
        uid: "1".into(),
    }
}

fn wanted(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn action(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "all_changes_deployed": true})
}

fn profile(mark: &Mark, id: &str, name: &str, action: &str) -> Value {
    json!({"id": id, "name": name, "subject_token_type": type_of(mark, name), "action_id": action, "type": CUSTOM})
}

fn paths(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| &*call.path).collect()
}

#[test]
fn a_profile_is_made_for_a_deployed_action_and_then_left_alone() {
    let orders = server("orders");
    let mut raw = json!({"profiles": [], "actions": [action("a1", "swap")]});
    assert!(in_force(&orders, &raw).is_empty());
    let planned = plan(&orders, &wanted(&["swap"]), &raw);
    assert!(planned.revoked.is_empty());
    let [call] = &planned.given[..] else {
        panic!("{planned:?}");
    };
    let mut made = call.body.clone().unwrap();
    let name = made["name"].as_str().unwrap();
    assert!((3..=50).contains(&name.len()), "{name}");
    assert!(text(&made, "subject_token_type").len() <= 100, "{made}");
    made["id"] = json!("tep_1");
    raw["profiles"] = json!([made]);
    let planned = plan(&orders, &wanted(&["swap"]), &raw);
    assert!(
        planned.given.is_empty() && planned.revoked.is_empty(),
        "{planned:?}"
    );
    assert_eq!(in_force(&orders, &raw)["swap"], "tep_1");
    // A draft that nobody has deployed yet changes nothing of what is in force.
    raw["actions"][0]["all_changes_deployed"] = json!(false);
    let planned = plan(&orders, &wanted(&["swap"]), &raw);
    assert!(
        planned.given.is_empty() && planned.revoked.is_empty(),
        "{planned:?}"
    );
    assert_eq!(in_force(&orders, &raw)["swap"], "tep_1");
}

#[test]
fn the_longest_names_fit() {
    let longest = Mark {
        installation: "i".repeat(63),
        namespace: "n".repeat(63),
        ..server(&"m".repeat(52))
    };
    let name = "x".repeat(100);
    let raw = json!({"profiles": [], "actions": [action("a1", &name)]});
    let planned = plan(&longest, &wanted(&[&name]), &raw);
    let body = planned.given[0].body.as_ref().unwrap();
    assert_eq!(text(body, "name").len(), 50);
    assert!(text(body, "subject_token_type").len() <= 100);
}

/// What may be used is what the AuthorizationServer names: by no other way may an action come into force.
#[test]
fn no_other_action_than_the_one_that_is_named_is_used() {
    let orders = server("orders");
    let mut not_deployed = action("a1", "swap");
    not_deployed["all_changes_deployed"] = json!(false);
    let there = profile(&orders, "tep_1", "swap", "a1");
    let mut other_kind = there.clone();
    other_kind["type"] = json!("on_behalf_of_token_exchange");
    for (case, actions, profiles, revoked, given) in [
        (
            "none of that name",
            json!([action("a1", "swop")]),
            json!([]),
            0,
            0,
        ),
        ("not deployed", json!([not_deployed]), json!([]), 0, 0),
        (
            "two of that name",
            json!([action("a1", "swap"), action("a2", "swap")]),
            json!([there]),
            1,
            0,
        ),
        ("renamed", json!([action("a1", "harmless")]), json!([there]), 1, 0),
        (
            "another took the name",
            json!([action("a1", "old"), action("a2", "swap")]),
            json!([there]),
            1,
            1,
        ),
        (
            "another kind of profile",
            json!([action("a1", "swap")]),
            json!([other_kind]),
            1,
            1,
        ),
    ] {
        let raw = json!({"profiles": profiles, "actions": actions});
        let planned = plan(&orders, &wanted(&["swap"]), &raw);
        assert_eq!(
            (planned.revoked.len(), planned.given.len()),
            (revoked, given),
            "{case}"
        );
        assert!(
            planned.revoked.iter().all(|call| call.change == Change::Revoke),
            "{case}"
        );
        assert!(in_force(&orders, &raw).is_empty(), "{case}");
    }
}

#[test]
fn profiles_of_others_are_left_alone() {
    let orders = server("orders");
    let elsewhere = Mark {
        installation: "staging".into(),
        ..server("orders")
    };
    let foreign = json!({"id": "tep_4", "name": "swap", "subject_token_type": "urn:acme:legacy", "action_id": "a1",
        "type": CUSTOM});
    // One name is the beginning of the other.
    let profiles = json!([
        profile(&server("orders-2"), "tep_1", "swap", "a1"),
        profile(&elsewhere, "tep_2", "swap", "a1"),
        profile(&orders, "tep_3", "swap", "a1"),
        foreign,
    ]);
    let raw = json!({"profiles": profiles, "actions": [action("a1", "swap")]});
    let planned = plan(&orders, &wanted(&[]), &raw);
    assert_eq!(paths(&planned.revoked), ["/token-exchange-profiles/tep_3"]);
    assert!(planned.given.is_empty());
    assert_eq!(paths(&removal(&orders, &raw)), ["/token-exchange-profiles/tep_3"]);
    assert!(has_any(&orders, &raw) && !has_any(&server("billing"), &raw));
    assert_eq!(in_force(&orders, &raw)["swap"], "tep_3");
}

/// Where one name ends and the next begins must not be for a tenant to choose.
#[test]
fn no_two_servers_share_a_type() {
    let types: BTreeSet<String> = [("a", "b-c"), ("a-b", "c"), ("a", "b.c"), ("a.b", "c")]
        .into_iter()
        .map(|(namespace, name)| names::subject_token_type("prod", namespace, name, "swap"))
        .collect();
    assert_eq!(types.len(), 4);
}

#[test]
fn code_and_secrets_of_actions_are_not_kept() {
    let raw = |trigger: &str| {
        json!({"id": "a1", "name": "swap", "all_changes_deployed": true, "code": "hunter2",
            "secrets": [{"name": "hunter2"}], "supported_triggers": [{"id": trigger, "version": "v1"}]})
    };
    let known = known_of(&[], &[raw(TRIGGER), raw("post-login")]);
    assert_eq!(known["actions"], json!([action("a1", "swap")]));
}
