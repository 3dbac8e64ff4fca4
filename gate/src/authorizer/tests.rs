use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use mcp_auth_gate_core::answer::Reason;
use serde_json::json;

use super::*;
use crate::{
    keys::KeyOptions,
    outbound::Outbound,
    testing::{AuthorizationServer, CALL, ManualClock, NOW, Script, Signer, claims, headers, policy, post},
};

fn authorizer() -> Authorizer {
    let clock = ManualClock::at(NOW);
    let options = KeyOptions {
        demand_interval: Duration::from_millis(100),
        ..KeyOptions::default()
    };
    let keys = Arc::new(KeyStore::new(Outbound::new(false), options, clock.clone()));
    let running = Arc::clone(&keys);
    tokio::spawn(async move { running.run().await });
    Authorizer::new(keys, clock)
}

async fn reason(authorizer: &Authorizer, token: &str) -> Result<(), Reason> {
    let headers = headers(token);
    let decided = authorizer.decide(&post(&headers), Body::Whole(CALL)).await;
    decided.map(drop).map_err(|answer| answer.reason)
}

#[tokio::test]
async fn nothing_is_let_through_without_a_policy() {
    let authorizer = authorizer();
    assert_eq!(reason(&authorizer, "x.y.z").await, Err(Reason::NotReady));
}

#[tokio::test]
async fn the_first_request_waits_for_the_keys() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let slow = Script::new(200, Signer::jwks(&[&signer])).after(Duration::from_millis(100));
    server.set_jwks(slow);
    let authorizer = authorizer();
    authorizer.set_policy(policy(&server, &json!({})));
    let token = signer.sign(&claims(&server, &json!({})));
    assert_eq!(reason(&authorizer, &token).await, Ok(()));
    assert_eq!(server.jwks_fetches(), 1);
}

#[tokio::test]
async fn a_key_that_came_meanwhile_is_found_within_the_request() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = AuthorizationServer::start(Signer::jwks(&[&old])).await;
    let authorizer = authorizer();
    authorizer.set_policy(policy(&server, &json!({})));
    let token = old.sign(&claims(&server, &json!({})));
    assert_eq!(reason(&authorizer, &token).await, Ok(()));
    server.set_jwks(Script::new(200, Signer::jwks(&[&old, &new])));
    let token = new.sign(&claims(&server, &json!({})));
    assert_eq!(reason(&authorizer, &token).await, Ok(()));
    let made_up = Signer::new("made-up").sign(&claims(&server, &json!({})));
    assert_eq!(
        reason(&authorizer, &made_up).await,
        Err(Reason::Token(TokenError::UnknownKey))
    );
}

#[tokio::test]
async fn while_keys_cannot_be_fetched_no_token_is_called_bad() {
    let signer = Signer::new("one");
    let mut server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let authorizer = authorizer();
    authorizer.set_policy(policy(&server, &json!({})));
    let known = signer.sign(&claims(&server, &json!({})));
    assert_eq!(reason(&authorizer, &known).await, Ok(()));
    server.stop().await;
    let unknown = Signer::new("rotated").sign(&claims(&server, &json!({})));
    let mut headers = headers(&unknown);
    let origin = HeaderValue::from_static("https://mcp.example.com");
    headers.insert(header::ORIGIN, origin.clone());
    let answer = *authorizer.admit(&post(&headers)).await.unwrap_err();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.reason, Reason::Token(TokenError::NoKeys));
    assert!(
        answer
            .headers
            .contains(&(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin))
    );
    assert_eq!(
        reason(&authorizer, &known).await,
        Ok(()),
        "the last good keys stay"
    );
}

#[tokio::test]
async fn a_new_policy_counts_at_once() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let authorizer = authorizer();
    authorizer.set_policy(policy(&server, &json!({})));
    let token = signer.sign(&claims(&server, &json!({})));
    assert_eq!(reason(&authorizer, &token).await, Ok(()));
    authorizer.set_policy(policy(&server, &json!({"deniedClients": ["agent"]})));
    assert_eq!(
        reason(&authorizer, &token).await,
        Err(Reason::Token(TokenError::ClientDenied)),
        "although the token is remembered as verified"
    );
    assert_eq!(server.jwks_fetches(), 1, "the keys are the same");
}

#[tokio::test]
async fn nothing_that_holds_a_token_prints_it() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let authorizer = authorizer();
    authorizer.set_policy(policy(&server, &json!({})));
    let token = signer.sign(&claims(&server, &json!({})));
    let headers = headers(&token);
    let head = post(&headers);
    let (_, admitted) = authorizer.admit(&head).await.unwrap();
    let (_, allowed) = authorizer.decide(&head, Body::Whole(CALL)).await.unwrap();
    for printed in [
        format!("{head:?}"),
        format!("{admitted:?}"),
        format!("{allowed:?}"),
        format!("{authorizer:?}"),
        format!("{:?}", Body::Whole(CALL)),
    ] {
        assert!(
            !printed.contains(&token) && !printed.contains("jsonrpc"),
            "{printed}"
        );
    }
}
