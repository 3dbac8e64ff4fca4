//! Callers that are no longer accepted while the server works for them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, sync::Notify};

use super::{
    fixture::{CALL, Client, Gate, Setup, get, post},
    server::{Part, Server, events, json, text},
};
use crate::{
    handles::Presented,
    testing::{NOW, Script, Signer, exchange},
};

const SHORT: Duration = Duration::from_millis(150);

fn endless() -> Vec<Part> {
    let mut parts = events(&[text(": hello\n\n")]);
    parts.push(Part::Hang);
    parts
}

async fn stream(gate: &Gate, changes: &Value) -> Client {
    let mut client = gate.connect().await;
    client.send(get(&gate.token_with(changes), "")).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.chunk().await.as_deref(), Some(": hello\n\n"));
    client
}

async fn until_received(server: &Server, count: usize) {
    while server.received().len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn streams_of_a_suspended_client_end_at_once_and_those_of_others_go_on() {
    for (why, changes) in [
        ("a good token", json!({})),
        ("one that has expired, within the grace", json!({"exp": NOW - 5})),
    ] {
        let server = Server::start(|_| endless()).await;
        let gate = Setup::before(&server).start().await;
        let mut suspended = stream(&gate, &changes).await;
        let mut other = stream(&gate, &json!({"client_id": "other"})).await;
        gate.change_policy("allowedOrigins", json!(["https://app.example.com"]));
        assert!(suspended.is_silent_for(SHORT).await, "{why}: another change");
        gate.change_policy("deniedClients", json!(["agent"]));
        assert_eq!(suspended.chunk().await, None, "{why}: a clean end");
        server.left(1).await;
        assert!(other.is_silent_for(SHORT).await, "{why}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_server_or_issuer_is_no_longer_the_one_of_its_token() {
    for (field, value) in [
        ("resource", json!("https://moved.example.com/mcp")),
        (
            "authorizationServer",
            json!({"issuer": "https://other.example.com"}),
        ),
        (
            "authorizationServer",
            json!({"tokenTypes": [{"header": "JWT", "payload": "Bearer"}]}),
        ),
    ] {
        let server = Server::start(|_| endless()).await;
        let gate = Setup::before(&server).start().await;
        let mut client = stream(&gate, &json!({})).await;
        gate.change_policy(field, value.clone());
        assert_eq!(client.chunk().await, None, "{field}: {value}");
        server.left(1).await;
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_key_of_its_token_is_withdrawn_and_not_when_another_comes() {
    let server = Server::start(|_| endless()).await;
    let gate = Setup::before(&server).start().await;
    let mut client = stream(&gate, &json!({})).await;
    let next = Signer::new("next");
    let jwks = |signers: &[&Signer]| Script::new(200, Signer::jwks(signers));
    let token =
        |signer: &Signer| signer.sign(&crate::testing::claims(&gate.authorization_server, &json!({})));
    gate.authorization_server.set_jwks(jwks(&[&gate.signer, &next]));
    // It has to be fetched for this token.
    let mut other = gate.connect().await;
    other.send(get(&token(&next), "")).await;
    assert_eq!(other.head().await.unwrap().status, 200);
    assert!(
        client.is_silent_for(SHORT).await,
        "another key says nothing about it"
    );

    let last = Signer::new("last");
    gate.authorization_server.set_jwks(jwks(&[&next, &last]));
    // Another way to the same keys: they are fetched, and stay until then.
    let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    gate.change_policy("authorizationServer", json!({"caBundle": authority}));
    assert_eq!(client.chunk().await, None, "its key is withdrawn");
    server.left(1).await;
}

#[tokio::test]
async fn keys_that_are_not_known_at_the_moment_end_no_stream() {
    let server = Server::start(|_| endless()).await;
    let mut gate = Setup::before(&server).start().await;
    let mut client = stream(&gate, &json!({})).await;
    gate.authorization_server.stop().await;
    let elsewhere = format!("{}/jwks?elsewhere", gate.authorization_server.url());
    gate.change_policy("authorizationServer", json!({"jwksUri": elsewhere}));
    assert!(client.is_silent_for(SHORT).await, "nobody can say that it is bad");
    gate.change_policy("deniedClients", json!(["agent"]));
    assert_eq!(client.chunk().await, None, "its client is denied without any key");
}

#[tokio::test]
async fn a_suspended_client_gets_no_answer_to_what_is_under_way() {
    let server = Server::start(|_| vec![Part::Hang]).await;
    let gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client
        .send(gate.post(CALL, "Origin: https://mcp.example.com\r\n"))
        .await;
    until_received(&server, 1).await;
    gate.change_policy("deniedClients", json!(["agent"]));
    let refused = client.response().await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://mcp.example.com")
    );
    server.left(1).await;
    assert_eq!(gate.metric("mcp_auth_gate_requests"), Some(0.0));
}

#[tokio::test]
async fn half_an_answer_to_a_suspended_client_does_not_look_whole() {
    let server = Server::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![text(head), text("1\r\n{\r\n"), Part::Hang]
    })
    .await;
    let gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client.send(gate.post(CALL, "")).await;
    client.head().await.unwrap();
    gate.change_policy("deniedClients", json!(["agent"]));
    let mut rest = Vec::new();
    let _ = client.into_stream().read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    server.left(1).await;
}

#[tokio::test]
async fn a_request_is_judged_by_the_policy_under_which_its_body_ended() {
    let rules = json!([{"kind": "Tool", "match": "look", "scopes": ["notes:write"]}]);
    for (field, value, status) in [
        ("deniedClients", json!(["agent"]), 401),
        ("rules", rules, 403),
        ("allowedOrigins", json!(["https://app.example.com"]), 200),
    ] {
        let server = Server::start(|_| json("{}")).await;
        let gate = Setup::before(&server).start().await;
        let mut client = gate.connect().await;
        let request = post(&gate.token(), CALL, "Expect: 100-continue\r\n");
        let (head, body) = request.split_at(request.len() - CALL.len());
        client.send(head).await;
        // The gate reads the body now: its head was accepted.
        assert_eq!(client.head().await.unwrap().status, 100);
        gate.change_policy(field, value);
        client.send(body).await;
        assert_eq!(client.response().await.status, status, "{field}");
        assert_eq!(server.received().len(), usize::from(status == 200), "{field}");
    }
}

#[tokio::test]
async fn a_request_that_waited_for_its_exchange_is_judged_again() {
    let mut header = exchange("orders", "Header");
    header["scopes"] = json!([{"name": "orders:read"}]);
    let rules = json!([{"kind": "Tool", "match": "look", "scopes": ["notes:write"]}]);
    for (field, value, status) in [("deniedClients", json!(["agent"]), 401), ("rules", rules, 403)] {
        let server = Server::start(|_| json("{}")).await;
        let mut setup = Setup::before(&server);
        setup.policy["exchanges"] = json!([header]);
        let gate = setup.start().await;
        gate.exchanges
            .set_client(Some(&crate::credentials::ClientCredentials {
                id: "notes".to_owned(),
                secret: "s3cret".into(),
            }));
        let asked = Arc::new(Notify::new());
        let token = gate
            .signer
            .sign(&json!({"aud": crate::testing::TARGET, "exp": NOW + 200}));
        gate.authorization_server.set_token({
            let asked = Arc::clone(&asked);
            move |_| {
                asked.notify_one();
                Script::json(200, &crate::testing::issued(&token, 120)).after(2 * SHORT)
            }
        });
        let mut client = gate.connect().await;
        client.send(gate.post(CALL, "")).await;
        asked.notified().await;
        gate.change_policy(field, value);
        assert_eq!(client.response().await.status, status, "{field}");
        assert!(server.received().is_empty(), "{field}");
    }
}

#[tokio::test]
async fn the_handle_of_a_suspended_client_ends_with_its_request() {
    let server = Server::start(|_| endless()).await;
    let mut setup = Setup::before(&server);
    setup.policy["exchanges"] = json!([exchange("orders", "Endpoint")]);
    let gate = setup.start().await;
    let mut client = stream(&gate, &json!({})).await;
    let received = server.received();
    let handle = received[0].all("mcp-auth-handle")[0].parse().unwrap();
    let presented = Presented::parse(&handle).unwrap();
    assert!(gate.handles.find(&presented).is_some());
    gate.change_policy("deniedClients", json!(["agent"]));
    assert_eq!(client.chunk().await, None);
    server.left(1).await;
    assert!(gate.handles.find(&presented).is_none());
}
