use std::sync::Arc;

use super::*;
use crate::provider::{
    Change, DocumentSpec, Grant, Holder, Mark, ObservedScopes, Plan, ScopeOwner, Scopes, auth0::mark,
    scope_key,
};

const URL: &str = "https://app.example.com/client.json";
const API: &str = "https://mcp.example.com/orders";

fn mark_of(name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: "McpClient".into(),
        namespace: "team-a".into(),
        name: name.into(),
        uid: "1".into(),
    }
}

fn want() -> DocumentSpec {
    DocumentSpec {
        mark: mark_of("agent"),
        url: URL.into(),
        enabled: true,
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        audiences: [(API.to_owned(), ["orders:read".to_owned()].into())].into(),
        adopt: false,
    }
}

fn at_server() -> ObservedScopes {
    let owner = ScopeOwner {
        holder: Holder::Marked(mark_of("server")),
        raw: Value::Null,
    };
    let all = [(scope_key(API, "orders:read"), Arc::new(owner))];
    Arc::new(Scopes::of_audiences(all.into()))
}

fn preview(callbacks: &[&str], grants: &[&str]) -> Value {
    json!({
        "mapped_fields": {
            "external_client_id": URL, "name": "App", "app_type": "native", "callbacks": callbacks,
            "grant_types": grants, "token_endpoint_auth_method": "none",
        },
        "validation": {"valid": true, "violations": [], "warnings": []},
    })
}

fn registered(callbacks: &[&str], grants: &[&str]) -> Value {
    json!({
        "client_id": "tpc_1", "external_client_id": URL, "external_metadata_type": "cimd",
        "external_metadata_created_by": "admin", "name": "App", "app_type": "native", "callbacks": callbacks,
        "grant_types": grants, "token_endpoint_auth_method": "none",
    })
}

fn marked(mut client: Value, by: &Mark) -> Value {
    client["client_metadata"] = Value::Object(mark::metadata(by));
    client
}

fn seen(client: &Value, preview: &Value, turn: Turn) -> ObservedDocument {
    let ours = mark::Ours {
        installation: "prod".into(),
        ..mark::Ours::default()
    };
    let presence = if client.is_null() {
        Presence::Absent
    } else {
        Presence::Held(document_holder(client, &ours, |_| false))
    };
    observed(presence, client, preview, &json!([]), turn)
}

fn bodies(plan: &Plan) -> Vec<(&str, Value)> {
    let calls = plan.calls.iter();
    calls
        .map(|call| (call.path.as_str(), call.body.clone().unwrap_or_default()))
        .collect()
}

const CB: &str = "https://app.example.com/cb";
const CODE: &str = "authorization_code";
const REFRESH: &str = "refresh_token";

#[test]
fn it_is_registered_first_and_given_something_only_once_that_was_read_back() {
    let absent = seen(&Value::Null, &preview(&[CB], &[CODE]), Turn::Changed);
    let first = plan(&want(), &absent, &at_server());
    assert_eq!(bodies(&first), [(REGISTER, json!({"external_client_id": URL}))]);

    let mut ours = want();
    ours.adopt = true;
    let unmarked = registered(&[CB], &[CODE]);
    let second = plan(
        &ours,
        &seen(&unmarked, &preview(&[CB], &[CODE]), Turn::Over),
        &at_server(),
    );
    let [(client, fields), (grants, grant)] = &bodies(&second)[..] else {
        panic!("{second:?}");
    };
    assert_eq!((*client, *grants), ("/clients/tpc_1", "/client-grants"));
    assert_eq!(
        fields["client_metadata"]["mcpauth_object"],
        "McpClient/team-a/agent"
    );
    assert_eq!(fields["redirection_policy"], "allow_always");
    // What the document says is not for us to write.
    assert!(
        ["name", "callbacks", "app_type"]
            .iter()
            .all(|name| fields[*name].is_null())
    );
    assert_eq!(grant["subject_type"], "user");
}

#[test]
fn a_document_gets_no_more_grant_types_than_it_may_have() {
    let mut want = want();
    want.grants = [Grant::AuthorizationCode].into();
    let client = marked(registered(&[CB], &[CODE, REFRESH]), &want.mark);
    let document = preview(&[CB], &[CODE, REFRESH]);
    let plan = super::plan(&want, &seen(&client, &document, Turn::Over), &at_server());
    assert_eq!(plan.calls[0].change, Change::Revoke);
    assert_eq!(plan.calls[0].body, Some(json!({"grant_types": [CODE]})));
    // One that no document may name is not kept either, whoever let it through.
    let machine = marked(registered(&[CB], &[CODE, "client_credentials"]), &want.mark);
    let document = preview(&[CB], &[CODE, "client_credentials"]);
    let plan = super::plan(
        &self::want(),
        &seen(&machine, &document, Turn::Over),
        &at_server(),
    );
    assert_eq!(plan.calls[0].body, Some(json!({"grant_types": [CODE]})));
}

#[test]
fn it_follows_its_document_and_what_it_had_goes_first() {
    let client = marked(registered(&[CB], &[CODE]), &want().mark);
    for (preview, follows) in [
        (preview(&[CB], &[CODE]), false),
        // Which of them it has is ours to say.
        (preview(&[CB], &[CODE, REFRESH]), false),
        (preview(&[CB, "https://app.example.com/2"], &[CODE]), true),
        (preview(&[], &[CODE]), true),
    ] {
        let plan = super::plan(&want(), &seen(&client, &preview, Turn::Changed), &at_server());
        let registers = plan.calls.last().is_some_and(|call| call.path == REGISTER);
        assert_eq!(registers, follows, "{preview} {plan:?}");
        let given = plan.calls.iter().any(|call| call.path == "/client-grants");
        assert_eq!(given, !follows, "{preview} {plan:?}");
    }
    let other = preview(&[CB, "https://app.example.com/2"], &[CODE]);
    for (turn, enabled) in [(Turn::Over, true), (Turn::Due, false)] {
        let mut want = want();
        want.enabled = enabled;
        let plan = super::plan(&want, &seen(&client, &other, turn), &at_server());
        assert!(plan.calls.iter().all(|call| call.path != REGISTER), "{plan:?}");
    }
}

#[test]
fn keys_are_fetched_again_when_it_is_time() {
    let mut document = preview(&[CB], &[CODE]);
    document["mapped_fields"]["token_endpoint_auth_method"] = json!("private_key_jwt");
    document["mapped_fields"]["jwks_uri"] = json!("https://app.example.com/keys");
    let mut client = marked(registered(&[CB], &[CODE]), &want().mark);
    client["jwks_uri"] = json!("https://app.example.com/keys");
    client["token_endpoint_auth_method"] = Value::Null;
    for (turn, registers) in [(Turn::Due, true), (Turn::Changed, false), (Turn::Over, false)] {
        let plan = super::plan(&want(), &seen(&client, &document, turn), &at_server());
        assert_eq!(
            plan.calls.iter().any(|call| call.path == REGISTER),
            registers,
            "{turn:?}"
        );
    }
    let now = Instant::now();
    let ago = |seconds| now.checked_sub(Duration::from_secs(seconds));
    let pass = Read::Within(Duration::from_secs(300));
    for (registered, read, turn) in [
        (None, pass, Turn::Due),
        (ago(10), pass, Turn::Over),
        (ago(301), pass, Turn::Due),
        (ago(10), Read::Fresh, Turn::Over),
        (ago(61), Read::Fresh, Turn::Changed),
        (None, Read::Fresh, Turn::Changed),
    ] {
        assert_eq!(Turn::of(registered, read, now), turn);
    }
}

#[test]
fn one_out_of_reach_keeps_what_it_has_and_gets_no_more() {
    let gone = json!({"errors": ["getaddrinfo"], "validation": {"valid": false}});
    let client = marked(registered(&[CB], &[CODE]), &want().mark);
    let observed = seen(&client, &gone, Turn::Due);
    assert_eq!(observed.reading, Reading::Unreachable);
    let kept = plan(&want(), &observed, &at_server());
    assert!(
        kept.calls.iter().all(|call| call.change != Change::Revoke),
        "{kept:?}"
    );
    let fields = &bodies(&kept)[0].1;
    assert!(fields["grant_types"].is_null(), "{fields}");
    let none = plan(&want(), &seen(&Value::Null, &gone, Turn::Due), &at_server());
    assert!(none.is_empty());
    let invalid = json!({"validation": {"valid": false, "violations": ["x"]}});
    let none = plan(&want(), &seen(&Value::Null, &invalid, Turn::Due), &at_server());
    assert!(none.is_empty());
}

#[test]
fn only_ours_is_changed_or_removed() {
    let document = preview(&[CB], &[CODE]);
    let mut by_itself = marked(registered(&[CB], &[CODE]), &want().mark);
    by_itself["external_metadata_type"] = json!("dcr");
    let mut by_client = marked(registered(&[CB], &[CODE]), &want().mark);
    by_client["external_metadata_created_by"] = json!("client");
    let foreign = [
        registered(&[CB], &[CODE]),
        marked(registered(&[CB], &[CODE]), &mark_of("another")),
        by_itself,
        by_client,
    ];
    for client in foreign {
        let observed = seen(&client, &document, Turn::Changed);
        let plan = super::plan(&want(), &observed, &at_server());
        assert!(plan.calls.is_empty() && plan.conflicts.len() == 1, "{client}");
        assert!(removal(&want().mark, &observed, false).is_empty(), "{client}");
    }
    let ours = marked(registered(&[CB], &[CODE]), &want().mark);
    let ours = seen(&ours, &document, Turn::Changed);
    assert_eq!(removal(&want().mark, &ours, false).calls.len(), 1);
    // Between the registration and the mark.
    let begun = seen(&registered(&[CB], &[CODE]), &document, Turn::Changed);
    assert_eq!(removal(&want().mark, &begun, true).calls.len(), 1);
}

#[test]
fn without_a_grant_nothing_is_left_of_it() {
    let mut want = want();
    want.enabled = false;
    let client = marked(registered(&[CB], &[CODE]), &want.mark);
    let grants = json!([{"id": "cgr_1", "client_id": "tpc_1", "audience": API, "scope": ["orders:read"],
        "subject_type": "user"}]);
    let mut observed = seen(&client, &preview(&[CB], &[CODE]), Turn::Due);
    observed.raw.as_mut().unwrap()["grants"] = grants;
    let plan = super::plan(&want, &observed, &at_server());
    let taken: Vec<_> = plan
        .calls
        .iter()
        .filter(|call| call.change == Change::Revoke)
        .collect();
    assert_eq!(taken[0].body, Some(json!({"grant_types": []})));
    assert_eq!(taken[1].path, "/client-grants/cgr_1");
    assert!(plan.calls.iter().all(|call| call.path != "/client-grants"));
}

/// By the address, which is the id that everybody knows, and to whom the AuthorizationServer says.
#[test]
fn one_of_another_administrator_is_given_away_by_its_address() {
    let ours = mark::Ours {
        installation: "prod".into(),
        adoption: [(URL.to_owned(), "McpClient/team-a/agent".to_owned())].into(),
    };
    let client = registered(&[CB], &[CODE]);
    let holder = |client: &Value| document_holder(client, &ours, |id| id == "own");
    let presence = Presence::Held(holder(&client));
    assert!(presence.claimable(&mark_of("agent"), false) && !presence.claimable(&mark_of("other"), false));
    // It is no consent to take one that registered itself, nor the operator's own.
    let mut by_itself = client.clone();
    by_itself["external_metadata_type"] = json!("dcr");
    assert_eq!(holder(&by_itself), Holder::Unmarked { adopter: None });
    let mut own = client;
    own["client_id"] = json!("own");
    assert_eq!(holder(&own), Holder::BuiltIn);
}
