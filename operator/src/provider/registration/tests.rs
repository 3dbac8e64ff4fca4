//! What answers are judged to be, and what is sent where.

use std::{collections::BTreeSet, num::NonZeroU32};

use mcp_auth_crds::v1alpha1::{DiscoveredMetadata, Endpoints};
use serde_json::{Map, Value, json};
use url::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, body_partial_json, header, method as by, path},
};

use super::{answer::Expected, *};
use crate::{
    egress::{Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{Grant, LimitSettings, RealmRegistry, discovery::Discovered},
};

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

fn registration(
    server: &MockServer,
    endpoints: &Endpoints,
    named: &str,
    token: Option<&str>,
) -> Registration {
    let policy = EgressPolicy {
        allow_http: true,
        insecure_allow_loopback: true,
        ..Default::default()
    };
    let rate = NonZeroU32::new(10_000).unwrap();
    let discovered = Discovered {
        metadata: DiscoveredMetadata {
            issuer: "https://as.example".into(),
            token_endpoint: format!("{}/token", server.uri()),
            ..Default::default()
        },
        registration_endpoint: Some(named.to_owned()),
        ..Discovered::default()
    };
    Registration::new(Settings {
        endpoints,
        discovered: &discovered,
        initial_access_token: token.map(Credential::new),
        ca_bundle: None,
        realms: &RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30))),
        egress: &Egress::new(policy),
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })
    .unwrap()
    .unwrap()
}

fn document(uri: &str) -> Value {
    Value::Object(answered(&json!({ "registration_client_uri": uri })))
}

/// Where the server has another name inside, its own addresses are asked there, and its token goes nowhere else.
#[tokio::test]
async fn registrations_are_managed_at_the_place_at_which_one_registers() {
    let server = MockServer::start().await;
    let outside = "https://as.example/reg";
    let endpoints = Endpoints {
        registration: Some(format!("{}/inner/reg", server.uri())),
        ..Endpoints::default()
    };
    Mock::given(by("POST"))
        .and(path("/inner/reg"))
        .and(header("authorization", "Bearer initial"))
        .and(body_partial_json(
            json!({"software_id": "i.team.agent", "redirect_uris": [CALLBACK]}),
        ))
        .respond_with(ResponseTemplate::new(201).set_body_json(document("https://as.example/reg/chosen?x=1")))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(by("PUT"))
        .and(path("/reg/chosen"))
        .and(header("authorization", "Bearer token"))
        .and(body_partial_json(
            json!({"client_id": "chosen", "client_secret": "s3cret"}),
        ))
        .respond_with(ResponseTemplate::new(200).set_body_json(document("https://as.example/reg/chosen")))
        .expect(1)
        .mount(&server)
        .await;
    let registration = registration(&server, &endpoints, outside, Some("initial"));
    let information = registration.register(&asked()).await.unwrap();
    let managed = information.managed.unwrap();
    let updated = registration
        .update(&managed, information.secret.as_ref(), &asked())
        .await;
    updated.unwrap();
    assert!(registration.knows("chosen", Duration::from_secs(60)));
    assert!(!registration.knows("other", Duration::from_secs(60)));

    let elsewhere = Managed {
        uri: Credential::new(format!("{}/reg/chosen", server.uri())),
        ..managed
    };
    let error = registration.read(&elsewhere).await.unwrap_err();
    assert!(error.to_string().contains("at another place"), "{error}");
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

/// Neither repeated, nor taken for more than it is.
#[tokio::test]
async fn a_registration_is_made_once_and_says_what_may_be_left() {
    let rejected = |status: u16, code: &str| ProviderError::Rejected {
        operation: "register_client",
        status,
        code: code.to_owned(),
    };
    for (answer, may_exist, expected) in [
        (
            ResponseTemplate::new(400).set_body_json(json!({"error": "invalid_redirect_uri"})),
            false,
            Some(rejected(400, "invalid_redirect_uri")),
        ),
        (
            ResponseTemplate::new(401).set_body_string("hunter2"),
            false,
            Some(ProviderError::Unauthenticated {
                code: "HTTP 401".into(),
            }),
        ),
        (ResponseTemplate::new(403), false, Some(rejected(403, ""))),
        (ResponseTemplate::new(500), true, None),
        (ResponseTemplate::new(201).set_body_string("{}"), true, None),
        (ResponseTemplate::new(201).set_body_string("hunter2"), true, None),
        (
            ResponseTemplate::new(201).set_body_string("x".repeat(2 * 1024 * 1024)),
            true,
            None,
        ),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let named = format!("{}/reg", server.uri());
        let failed = registration(&server, &Endpoints::default(), &named, None)
            .register(&asked())
            .await
            .unwrap_err();
        assert_eq!(failed.may_exist, may_exist, "{failed:?}");
        if let Some(expected) = expected {
            assert_eq!(failed.error, expected);
        }
        assert!(!failed.error.to_string().contains("hunter2"));
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), 1, "{failed:?}");
        assert!(!requests[0].headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn what_the_server_does_not_know_is_told_from_what_it_does_not_allow() {
    for (status, expected) in [(401, None), (404, None), (403, Some(403)), (405, Some(405))] {
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(ResponseTemplate::new(status))
            .mount(&server)
            .await;
        let named = format!("{}/reg", server.uri());
        let registration = registration(&server, &Endpoints::default(), &named, None);
        let managed = Managed {
            client_id: "chosen".into(),
            uri: Credential::new(format!("{named}/chosen")),
            token: Credential::new("token"),
        };
        for failed in [
            registration.read(&managed).await.map(drop),
            registration.update(&managed, None, &asked()).await.map(drop),
            registration.remove(&managed).await,
        ] {
            match failed.unwrap_err() {
                ProviderError::Gone { .. } => assert_eq!(expected, None),
                ProviderError::Rejected { status, .. } => assert_eq!(expected, Some(status)),
                other => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_offers_no_registration_is_no_connection() {
    let discovered = Discovered::default();
    let none = Registration::new(Settings {
        endpoints: &Endpoints::default(),
        discovered: &discovered,
        initial_access_token: None,
        ca_bundle: None,
        realms: &RealmRegistry::new(LimitSettings::new(NonZeroU32::MIN, Duration::from_secs(1))),
        egress: &Egress::new(EgressPolicy::default()),
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    });
    assert!(none.unwrap().is_none());
}

#[tokio::test]
async fn who_a_client_is_shows_at_the_token_endpoint() {
    for (status, body, accepted) in [
        (401, json!({"error": "invalid_client"}), false),
        (400, json!({"error": "invalid_client"}), false),
        (400, json!({"error": "invalid_grant"}), true),
        (400, json!({"error": "unauthorized_client"}), true),
    ] {
        let server = MockServer::start().await;
        Mock::given(path("/token"))
            .and(header("authorization", "Basic YSUzQWI6cyUyNXQ="))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .mount(&server)
            .await;
        let named = format!("{}/reg", server.uri());
        let registration = registration(&server, &Endpoints::default(), &named, None);
        let secret = Credential::new("s%t");
        let found = registration.accepts("a:b", &secret, Method::Basic).await.unwrap();
        assert_eq!(found, accepted, "{status}");
    }
}
