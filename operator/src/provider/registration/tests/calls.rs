//! What is sent where, and what is made of the answer.

use std::num::NonZeroU32;

use mcp_auth_crds::v1alpha1::{DiscoveredMetadata, Endpoints};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, body_partial_json, header, method as by, path},
};

use super::*;
use crate::{
    egress::{Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{LimitSettings, RealmRegistry, discovery::Discovered},
};

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
