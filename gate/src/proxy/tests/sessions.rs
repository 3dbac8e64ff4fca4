//! Sessions of the old wire, as clients and servers see them.

use std::{collections::BTreeSet, sync::Arc};

use http::HeaderValue;
use mcp_auth_gate_core::token::Claims;
use serde_json::{Value, json};

use super::{
    fixture::{CALL, Gate, Response, Setup, get, post},
    server::{Part, Server, text, with_head},
};
use crate::session::{Owner, Session, Sessions};

const INITIALIZE: &str = r#"{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}"#;
const LINES: &str = "Content-Type: application/json\r\nMcp-Session-Id: inner-1\r\n";

/// Begins sessions, and answers what belongs to one.
fn script(received: &super::server::Received) -> Vec<Part> {
    let begins = String::from_utf8_lossy(&received.body).contains("initialize");
    with_head(
        "200 OK",
        if begins {
            LINES
        } else {
            "Content-Type: application/json\r\n"
        },
        "{}",
    )
}

async fn begin(gate: &Gate) -> String {
    let response = gate.ask(&gate.post(INITIALIZE, "")).await;
    assert_eq!(response.status, 200, "{response:?}");
    response.header("mcp-session-id").unwrap().to_owned()
}

fn line(session: &str) -> String {
    format!("Mcp-Session-Id: {session}\r\n")
}

fn assert_gone(response: &Response, why: &str) {
    let expected = json!({
        "jsonrpc": "2.0", "id": 7,
        "error": {"code": -32001, "message": "The session is gone: start a new one"},
    });
    assert_eq!((response.status, response.json()), (404, expected), "{why}");
}

#[tokio::test]
async fn a_session_is_sealed_for_the_client_and_opened_for_the_server() {
    let server = Server::start(script).await;
    let gate = Setup::before(&server).start().await;
    let session = begin(&gate).await;
    assert!(!session.contains("inner"));
    assert!(session.bytes().all(|byte| byte.is_ascii_graphic()));
    let token = gate.token();
    for request in [
        post(&token, CALL, &line(&session)),
        get(&token, &line(&session)),
        get(&token, &line(&session)).replace("GET ", "DELETE "),
    ] {
        assert_eq!(gate.ask(&request).await.status, 200);
    }
    let received = server.received();
    assert!(received[0].all("mcp-session-id").is_empty());
    assert!(
        received[1..]
            .iter()
            .all(|one| one.all("mcp-session-id") == ["inner-1"])
    );
    assert_eq!(received.len(), 4);
}

#[tokio::test]
async fn a_session_is_its_owners_alone_and_why_is_not_told() {
    let server = Server::start(script).await;
    let gate = Setup::before(&server).start().await;
    let session = begin(&gate).await;
    let before = server.received().len();
    let ask =
        async |changes: Value, lines: String| gate.ask(&post(&gate.token_with(&changes), CALL, &lines)).await;
    assert_gone(
        &ask(json!({"sub": "bob"}), line(&session)).await,
        "another subject",
    );
    assert_gone(
        &ask(json!({"client_id": "other"}), line(&session)).await,
        "another client",
    );
    assert_gone(
        &ask(json!({"azp": "other"}), line(&session)).await,
        "another client as well",
    );
    assert_gone(&ask(json!({}), line("inner-1")).await, "the server's own id");
    assert_gone(&ask(json!({}), line("")).await, "none");
    assert_gone(&ask(json!({}), line(&"A".repeat(5000))).await, "too long");
    assert_gone(
        &ask(json!({}), line(&format!("{session}A"))).await,
        "more than it",
    );
    for at in [0, 5, session.len() / 2, session.len() - 2] {
        let other = if session.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = format!("{}{other}{}", &session[..at], &session[at + 1..]);
        assert_gone(&ask(json!({}), line(&forged)).await, "forged");
    }
    let twice = line(&session) + &line(&session);
    assert_gone(&ask(json!({}), twice).await, "twice");
    assert_eq!(server.received().len(), before, "none of it reached the server");
    // The owner, with a newer token, keeps it.
    assert_eq!(
        ask(json!({"exp": crate::testing::NOW + 600}), line(&session))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_session_is_of_one_server_and_of_keys_that_are_known() {
    let server = Server::start(script).await;
    let gate = Setup::before(&server).start().await;
    let session = begin(&gate).await;
    let elsewhere = Setup::before(&server).start().await;
    assert_gone(
        &elsewhere.ask(&elsewhere.post(CALL, &line(&session))).await,
        "keys of another process",
    );
    assert_gone(
        &gate.ask(&gate.post(CALL, &line(&begin(&elsewhere).await))).await,
        "and back",
    );
}

#[tokio::test]
async fn replicas_with_the_same_keys_know_each_others_sessions_while_keys_rotate() {
    let (old, new) = ([1; 32], [2; 32]);
    let sessions = Arc::new(Sessions::with_own_key().unwrap());
    sessions.set_keys([old.as_slice()]).unwrap();
    let server = Server::start(script).await;
    let mut setup = Setup::before(&server);
    setup.sessions = Arc::clone(&sessions);
    let gate = setup.start().await;
    let session = begin(&gate).await;
    sessions.set_keys([new.as_slice(), old.as_slice()]).unwrap();
    assert_eq!(gate.ask(&gate.post(CALL, &line(&session))).await.status, 200);
    let newer = begin(&gate).await;
    sessions.set_keys([new.as_slice()]).unwrap();
    assert_eq!(gate.ask(&gate.post(CALL, &line(&newer))).await.status, 200);
    assert_gone(
        &gate.ask(&gate.post(CALL, &line(&session))).await,
        "its key has gone",
    );
    assert!(sessions.set_keys([]).is_err() && sessions.set_keys([&[1_u8; 31][..]]).is_err());
    assert_eq!(
        gate.ask(&gate.post(CALL, &line(&newer))).await.status,
        200,
        "keys stay"
    );
}

#[tokio::test]
async fn a_session_whose_address_is_no_longer_the_servers_is_gone() {
    let server = Server::start(script).await;
    let other = Server::start(script).await;
    let setup = Setup::before(&server);
    let sessions = Arc::clone(&setup.sessions);
    let gate = setup.start().await;
    let claims = Claims {
        issuer: gate.authorization_server.issuer(),
        subject: "alice".to_owned(),
        client: "agent".to_owned(),
        clients: BTreeSet::from(["agent".to_owned()]),
        audiences: Vec::new(),
        expires: 0,
        not_before: None,
        scopes: BTreeSet::new(),
        header_type: None,
        payload_type: None,
    };
    let sealed = |address| {
        let session = Session {
            address,
            id: HeaderValue::from_static("inner-1"),
        };
        let sealed = sessions
            .seal(Owner::new(&gate.policy, &claims), &session)
            .unwrap();
        sealed.to_str().unwrap().to_owned()
    };
    let response = gate.ask(&gate.post(CALL, &line(&sealed(server.address)))).await;
    assert_eq!(response.status, 200, "sealed as the gate seals");
    let response = gate.ask(&gate.post(CALL, &line(&sealed(other.address)))).await;
    assert_gone(&response, "an address that is not the server's");
    assert!(other.received().is_empty());

    // The address is still the server's, but nothing listens there: it may come back.
    let session = begin(&gate).await;
    drop(server);
    let response = gate.ask(&gate.post(CALL, &line(&session))).await;
    assert_eq!(response.status, 502);
}

#[tokio::test]
async fn ids_that_no_client_could_send_back_are_not_passed_on() {
    for id in ["with blank", "ünicode", &"x".repeat(1025)] {
        let lines = format!("Content-Type: application/json\r\nMcp-Session-Id: {id}\r\n");
        let server = Server::start(move |_| with_head("200 OK", &lines, "{}")).await;
        let gate = Setup::before(&server).start().await;
        assert_eq!(gate.ask(&gate.post(INITIALIZE, "")).await.status, 502, "{id}");
    }
    let twice = "HTTP/1.1 200 OK\r\nMcp-Session-Id: a\r\nMcp-Session-Id: b\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(move |_| vec![text(twice)]).await;
    let gate = Setup::before(&server).start().await;
    assert_eq!(gate.ask(&gate.post(INITIALIZE, "")).await.status, 502, "two ids");
}

#[tokio::test]
async fn the_stateless_wire_has_no_sessions() {
    let server = Server::start(script).await;
    let gate = Setup::before(&server).start().await;
    let stateless =
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: initialize\r\nMcp-Session-Id: inner-1\r\n";
    let response = gate.ask(&gate.post(INITIALIZE, stateless)).await;
    assert_eq!((response.status, response.header("mcp-session-id")), (200, None));
    assert!(server.received()[0].all("mcp-session-id").is_empty());
}
