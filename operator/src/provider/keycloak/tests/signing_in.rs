//! Signing in, and what the operator's credential may do.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, path, path_regex},
};

use super::server::{CLIENTS, calls, create, exact, keycloak, own, sign_in};
use crate::provider::{Access, Capability, Plan, Provider as _, ProviderError, Read};

#[tokio::test]
async fn one_token_serves_all_who_ask_at_once_and_is_renewed_before_it_expires() {
    let server = MockServer::start().await;
    let issued = sign_in(&server, 2).await;
    exact(&server, "a", json!([{"id": "1", "clientId": "a"}])).await;
    let keycloak = keycloak(&server);
    let ask = || keycloak.observe_client("a", Read::Fresh);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert!([a, b, c, d].iter().all(Result::is_ok));
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    ask().await.unwrap();
    assert_eq!(
        issued.load(Ordering::SeqCst),
        2,
        "renewed at three quarters of two seconds"
    );
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for status in [401, 403] {
        let server = MockServer::start().await;
        let issued = sign_in(&server, 300).await;
        Mock::given(path(CLIENTS))
            .and(header("authorization", "Bearer token-1"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&server)
            .await;
        exact(&server, "a", json!([{"id": "1", "clientId": "a"}])).await;
        let keycloak = keycloak(&server);
        assert!(
            keycloak.observe_client("a", Read::Fresh).await.is_ok(),
            "{status}"
        );
        assert!(
            keycloak.observe_client("a", Read::Fresh).await.is_ok(),
            "{status}"
        );
        assert_eq!(issued.load(Ordering::SeqCst), 2, "{status}");
    }
}

#[tokio::test]
async fn a_missing_role_is_named_after_one_new_token() {
    let server = MockServer::start().await;
    let issued = sign_in(&server, 300).await;
    let body = json!({"error": "HTTP 403 Forbidden hunter2"});
    Mock::given(path_regex(CLIENTS))
        .respond_with(ResponseTemplate::new(403).set_body_json(body))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let plan = Plan {
        calls: vec![create("a")],
        conflicts: vec![],
    };
    let error = keycloak.execute(&plan).await.unwrap_err();
    assert_eq!(
        error,
        ProviderError::Forbidden {
            operation: "create_client",
            permission: "manage-clients"
        }
    );
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    assert_eq!(calls(&server, "POST /admin/realms/r/clients").await, 2);
    let access = keycloak.check_access().await.unwrap();
    assert_eq!(access.missing, ["manage-clients"]);
}

#[tokio::test]
async fn access_is_what_the_server_says_of_our_own_client() {
    for (found, missing) in [
        (own(true), vec![]),
        (own(false), vec!["manage-clients"]),
        (json!([]), vec!["manage-clients"]),
    ] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        exact(&server, "op", found).await;
        let Access {
            missing: found,
            capabilities,
            withheld,
        } = keycloak(&server).check_access().await.unwrap();
        assert_eq!(found, missing);
        assert!(
            !capabilities.contains(&Capability::TokenExchange),
            "the metadata does not name the grant"
        );
        assert!(withheld.is_empty() && !capabilities.contains(&Capability::SubjectClients));
    }
}

#[tokio::test]
async fn nothing_that_prints_shows_the_operators_secret_or_token() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(
        &server,
        "a",
        json!([{"id": "1", "clientId": "a", "secret": "s3cret"}]),
    )
    .await;
    let keycloak = keycloak(&server);
    let observed = keycloak.observe_client("a", Read::Fresh).await.unwrap();
    let printed = format!("{keycloak:?} {observed:?}");
    for secret in ["op-secret", "token-1", "s3cret"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
