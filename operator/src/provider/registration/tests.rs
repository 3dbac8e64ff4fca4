//! What answers are judged to be.

mod calls;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use url::Url;

use super::{answer::Expected, *};
use crate::provider::Grant;

const CALLBACK: &str = "https://app.example/callback";

fn asked() -> Asked {
    Asked {
        name: "Agent".into(),
        software_id: "i.team.agent".into(),
        software_version: "1".into(),
        redirect_uris: [CALLBACK.to_owned()].into(),
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        method: Method::Basic,
        scopes: ["a".to_owned(), "b".to_owned()].into(),
        application: Application::Web,
    }
}

/// What a server says that keeps all of it, with these members changed; null takes one away.
fn answered(changes: &Value) -> Map<String, Value> {
    let mut answer = asked().document();
    for (name, value) in [
        ("client_id", json!("chosen")),
        ("client_secret", json!("s3cret")),
        ("client_secret_expires_at", json!(0)),
        ("registration_client_uri", json!("https://as.example/reg/chosen")),
        ("registration_access_token", json!("token")),
    ] {
        answer.insert(name.to_owned(), value);
    }
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => answer.remove(name),
            value => answer.insert(name.clone(), value.clone()),
        };
    }
    answer
}

fn read(changes: &Value, managed: Option<&Managed>) -> Result<Information, ProviderError> {
    let place = Url::parse("https://as.example/reg").unwrap().origin();
    let expected = Expected {
        operation: "op",
        place: &place,
        managed,
    };
    expected.read(&answered(changes))
}

#[test]
fn what_a_server_says_is_taken_over() {
    let information = read(&json!({}), None).unwrap();
    assert_eq!(information.client_id, "chosen");
    assert_eq!(information.secret, Some(Credential::new("s3cret")));
    assert_eq!(information.secret_expires, None, "0 is never");
    let managed = information.managed.clone().unwrap();
    assert_eq!(managed.uri.expose(), "https://as.example/reg/chosen");
    assert_eq!(information.told.altered(&asked()), BTreeSet::new());
    assert_eq!(information.told.unfit(&asked()), None);
    let text = format!("{information:?} {managed:?}");
    assert!(!text.contains("s3cret") && !text.contains("\"token\""), "{text}");

    let expiring = read(&json!({"client_secret_expires_at": 1_900_000_000}), None).unwrap();
    assert_eq!(expiring.secret_expires.unwrap().as_second(), 1_900_000_000);
    let bare = read(
        &json!({"registration_client_uri": null, "registration_access_token": null}),
        None,
    );
    assert_eq!(bare.unwrap().managed, None, "it offers no management");
    let half = read(&json!({"registration_access_token": null}), None);
    assert_eq!(half.unwrap().managed, None, "an address alone is of no use");
}

#[test]
fn what_is_not_said_again_stays_and_what_is_said_is_replaced() {
    let first = read(&json!({}), None).unwrap().managed.unwrap();
    let silent = json!({"registration_client_uri": null, "registration_access_token": null});
    assert_eq!(read(&silent, Some(&first)).unwrap().managed, Some(first.clone()));
    let rotated = read(&json!({"registration_access_token": "next"}), Some(&first)).unwrap();
    assert_eq!(rotated.managed.unwrap().token.expose(), "next");
    let other = read(&json!({"client_id": "other"}), Some(&first));
    assert!(other.unwrap_err().to_string().contains("another client"));
}

#[test]
fn answers_that_lie_are_refused() {
    let long = "x".repeat(9000);
    for (changes, why) in [
        (json!({"client_id": null}), "no client_id"),
        (json!({"client_id": 7}), "no client_id"),
        (json!({"client_id": ""}), "no client_id"),
        (json!({"client_id": "a\nb"}), "no client_id"),
        (json!({"client_id": "a b"}), "no client_id"),
        (json!({"client_id": "\u{e9}"}), "no client_id"),
        (json!({"client_id": "x".repeat(256)}), "no client_id"),
        (json!({"client_secret": ""}), "client_secret cannot"),
        (json!({"client_secret": ["s"]}), "client_secret cannot"),
        (json!({"client_secret": "a\r\nb"}), "client_secret cannot"),
        (json!({"client_secret": long}), "client_secret cannot"),
        (
            json!({"client_secret": "-----BEGIN PRIVATE KEY-----"}),
            "client_secret cannot",
        ),
        (json!({"client_secret_expires_at": -1}), "no time"),
        (json!({"client_secret_expires_at": 1.5}), "no time"),
        (json!({"client_secret_expires_at": "soon"}), "no time"),
        (json!({"client_secret_expires_at": i64::MAX}), "no time"),
        (
            json!({"registration_client_uri": "https://evil.example/reg"}),
            "not at",
        ),
        (
            json!({"registration_client_uri": "http://as.example/reg"}),
            "not at",
        ),
        (
            json!({"registration_client_uri": "https://as.example:8443/reg"}),
            "not at",
        ),
        (
            json!({"registration_client_uri": "https://as.example@evil.example/"}),
            "not at",
        ),
        (
            json!({"registration_client_uri": "https://u:p@as.example/reg"}),
            "not at",
        ),
        (json!({"registration_client_uri": "/reg/chosen"}), "not at"),
        (json!({"registration_client_uri": "data:,x"}), "not at"),
        (json!({"registration_client_uri": 7}), "not at"),
        (
            json!({"registration_client_uri": format!("https://as.example/{long}")}),
            "not at",
        ),
        (json!({"registration_access_token": "a\r\nx: y"}), "token cannot"),
        (json!({"registration_access_token": ""}), "token cannot"),
        (json!({"registration_access_token": long}), "token cannot"),
    ] {
        let error = read(&changes, None).unwrap_err().to_string();
        assert!(error.contains(why), "{changes}: {error}");
        assert!(!error.contains("evil"), "{error}");
    }
}

/// A server may replace what it was asked for, but not by what is dangerous or of no use.
#[test]
fn what_is_altered_is_named_and_what_is_unfit_is_told() {
    for (changes, altered, unfit) in [
        (json!({"client_name": "Other"}), vec!["client_name"], None),
        (json!({"software_id": null}), vec!["software_id"], None),
        (json!({"scope": "a"}), vec!["scope"], None),
        (json!({"scope": null}), vec!["scope"], None),
        (
            json!({"application_type": "native"}),
            vec!["application_type"],
            None,
        ),
        (
            json!({"grant_types": ["authorization_code", "refresh_token", "implicit"]}),
            vec!["grant_types"],
            None,
        ),
        (
            json!({"grant_types": ["authorization_code"]}),
            vec!["grant_types"],
            Some("grant_types lack"),
        ),
        (
            json!({"redirect_uris": [CALLBACK, "https://evil.example/"]}),
            vec!["redirect_uris"],
            Some("other redirect_uris"),
        ),
        (
            json!({"redirect_uris": []}),
            vec!["redirect_uris"],
            Some("other redirect_uris"),
        ),
        (
            json!({"redirect_uris": null}),
            vec!["redirect_uris"],
            Some("other redirect_uris"),
        ),
        (
            json!({"redirect_uris": [7]}),
            vec!["redirect_uris"],
            Some("other redirect_uris"),
        ),
        (
            json!({"token_endpoint_auth_method": "client_secret_post"}),
            vec!["token_endpoint_auth_method"],
            None,
        ),
        (json!({"token_endpoint_auth_method": null}), vec![], None),
        (
            json!({"token_endpoint_auth_method": "none"}),
            vec!["token_endpoint_auth_method"],
            Some("token_endpoint_auth_method"),
        ),
        (
            json!({"token_endpoint_auth_method": "tls_client_auth"}),
            vec!["token_endpoint_auth_method"],
            Some("token_endpoint_auth_method"),
        ),
    ] {
        let told = read(&changes, None).unwrap().told;
        assert_eq!(told.altered(&asked()), altered.into_iter().collect(), "{changes}");
        let found = told.unfit(&asked());
        match unfit {
            None => assert_eq!(found, None, "{changes}"),
            Some(part) => assert!(found.unwrap().contains(part), "{changes}"),
        }
    }
}

#[test]
fn a_secret_that_nobody_asks_for_is_left_out() {
    let public = read(&json!({"token_endpoint_auth_method": "none"}), None).unwrap();
    assert_eq!(public.secret, None);
}

#[test]
fn the_way_to_authenticate_is_one_that_the_server_takes() {
    let offers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (offered, expected) in [
        (&[][..], Some(Method::Basic)),
        (
            &["client_secret_post", "client_secret_basic"],
            Some(Method::Basic),
        ),
        (&["client_secret_post", "none"], Some(Method::Post)),
        (&["private_key_jwt", "none"], None),
    ] {
        assert_eq!(method(&offers(offered)), expected, "{offered:?}");
    }
}

#[test]
fn what_is_asked_for_is_told_from_anything_else_but_its_number() {
    let numbered = Asked {
        software_version: "2".into(),
        ..asked()
    };
    assert_eq!(asked().fingerprint(), numbered.fingerprint());
    let post = Asked {
        method: Method::Post,
        ..asked()
    };
    assert_eq!(asked().fingerprint(), post.fingerprint());
    let public = Asked {
        method: Method::None,
        ..asked()
    };
    assert_ne!(asked().fingerprint(), public.fingerprint());
    let elsewhere = Asked {
        redirect_uris: ["https://b.example/".to_owned()].into(),
        ..asked()
    };
    assert_ne!(asked().fingerprint(), elsewhere.fingerprint());
}
