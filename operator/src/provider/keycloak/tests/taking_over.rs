//! What another replica sent before this one led is not accepted any more.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::server::{calls, exact, keycloak, keycloak_of};
use crate::provider::{LimitSettings, Provider as _, ProviderError, RealmRegistry, SignIn, key};

const OWN: &str = "PUT /admin/realms/r/clients/0";

/// A server that issues tokens at this time, shows the operator's client, and answers a change of it with this status.
async fn serving(token: &str, own: Value, status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/realms/r/token"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({"access_token": token, "expires_in": 300})),
        )
        .mount(&server)
        .await;
    exact(&server, "op", own).await;
    Mock::given(method("PUT"))
        .respond_with(ResponseTemplate::new(status))
        .mount(&server)
        .await;
    server
}

fn issued(at: i64) -> String {
    let payload = URL_SAFE_NO_PAD.encode(json!({"iat": at}).to_string());
    format!("e30.{payload}.signature")
}

fn own(with: &Value) -> Value {
    let mut own = json!({"id": "0", "clientId": "op", "webOrigins": ["https://a.example"]});
    own.as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    json!([own])
}

/// What the operator's client was changed to, if it was.
async fn told(server: &MockServer) -> Vec<Value> {
    let received = server.received_requests().await.unwrap();
    let changes = received.iter().filter(|request| request.method == "PUT");
    changes.map(|request| request.body_json().unwrap()).collect()
}

#[tokio::test]
async fn tokens_from_before_end_once_for_each_client_of_the_operator() {
    let server = serving(&issued(1_000), own(&json!({"notBefore": 0})), 204).await;
    exact(&server, "other", json!([{"id": "1", "clientId": "other"}])).await;
    let rate = 10_000.try_into().unwrap();
    let realms = RealmRegistry::new(LimitSettings::new(rate, std::time::Duration::from_secs(30)));
    for operator in ["op", "op", "other"] {
        let keycloak = keycloak_of(&server, "other", operator, &realms);
        keycloak.take_over().await.unwrap();
        keycloak.take_over().await.unwrap();
    }
    let ended = |origins: Value| json!({"notBefore": 999, "webOrigins": origins});
    assert_eq!(
        told(&server).await,
        [ended(json!(["https://a.example"])), ended(json!([]))]
    );
}

#[tokio::test]
async fn where_it_cannot_be_done_the_rest_goes_on() {
    let expires = json!({"attributes": {"client.secret.expiration.time": "4000"}});
    for (what, token, own, status, told_times) in [
        (
            "done before",
            issued(1_000),
            own(&json!({"notBefore": 999})),
            204,
            0,
        ),
        ("a secret that ends", issued(1_000), own(&expires), 204, 0),
        ("an opaque token", "opaque".to_owned(), own(&json!({})), 204, 0),
        ("no client", issued(1_000), json!([]), 204, 0),
        // Asked twice: the role may have been granted since the token was issued.
        ("not allowed", issued(1_000), own(&json!({})), 403, 2),
        ("refused", issued(1_000), own(&json!({})), 400, 1),
    ] {
        let server = serving(&token, own, status).await;
        let keycloak = keycloak(&server);
        for _ in 0..2 {
            assert_eq!(keycloak.take_over().await, Ok(()), "{what}");
        }
        assert_eq!(calls(&server, OWN).await, told_times, "{what}");
    }
}

/// A client that had a secret before keeps the time at which Keycloak would end that.
#[tokio::test]
async fn a_secret_that_ends_is_nothing_to_who_signs_in_otherwise() {
    let expires = json!({"attributes": {"client.secret.expiration.time": "4000"}});
    let server = serving(&issued(1_000), own(&expires), 204).await;
    let mut keycloak = keycloak(&server);
    keycloak.admin.tokens.identity.sign_in = SignIn::Key(key::make().unwrap());
    keycloak.take_over().await.unwrap();
    let origins = json!(["https://a.example"]);
    assert_eq!(
        told(&server).await,
        [json!({"notBefore": 999, "webOrigins": origins, "attributes": {}})]
    );
}

/// As Keycloak does where a client policy fails at the change.
#[tokio::test]
async fn a_server_that_fails_whenever_it_is_told_is_not_told_for_ever() {
    let server = serving(&issued(1_000), own(&json!({})), 500).await;
    let keycloak = keycloak(&server);
    for _ in 0..2 {
        let failed = keycloak.take_over().await.unwrap_err();
        assert!(
            matches!(failed, ProviderError::Unavailable { status: 500, .. }),
            "{failed}"
        );
        keycloak.admin.http.limits.try_again_now();
    }
    assert_eq!(keycloak.take_over().await, Ok(()));
    let times = calls(&server, OWN).await;
    keycloak.take_over().await.unwrap();
    assert_eq!(calls(&server, OWN).await, times);
}

#[tokio::test]
async fn what_failed_in_passing_is_done_again() {
    let server = serving(&issued(1_000), own(&json!({})), 503).await;
    let keycloak = keycloak(&server);
    let failed = keycloak.take_over().await.unwrap_err();
    assert!(
        matches!(failed, ProviderError::Unavailable { status: 503, .. }),
        "{failed}"
    );
    let before = calls(&server, OWN).await;
    keycloak.admin.http.limits.try_again_now();
    keycloak.take_over().await.unwrap_err();
    assert!(calls(&server, OWN).await > before);
}
