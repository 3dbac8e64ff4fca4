//! Lists without what the caller may not call.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::Notify;

use super::{
    fixture::{Gate, Setup, get, post},
    server::{Part, Server, events, last_chunk, text, with_head},
};

const LIST: &str = r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#;
const ALL: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","z":1.0},{"name":"write"}]}}"#;
const SOME: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","z":1.0}]}}"#;

async fn gate(server: &Server) -> Gate {
    let mut setup = Setup::before(server);
    setup.policy["rules"] = json!([
        {"kind": "Tool", "match": "look", "scopes": ["mcp:use"]},
        {"kind": "Tool", "match": "write", "scopes": ["notes:write"]},
    ]);
    setup.start().await
}

#[tokio::test]
async fn a_list_is_filtered_by_what_the_caller_holds() {
    let server = Server::start(|_| super::server::json(ALL)).await;
    let gate = gate(&server).await;
    let response = gate.ask(&gate.post(LIST, "")).await;
    assert_eq!((response.status, response.body.as_str()), (200, SOME));
    assert_eq!(
        response.header("content-length"),
        Some(SOME.len().to_string().as_str())
    );
    let holder = gate.token_with(&json!({"scope": "notes:write"}));
    assert_eq!(gate.ask(&post(&holder, LIST, "")).await.body, ALL);
    // What lists nothing is not looked into.
    let ping = r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#;
    assert_eq!(gate.ask(&gate.post(ping, "")).await.body, ALL);
}

#[tokio::test]
async fn without_rules_nothing_is_looked_into() {
    let server = Server::start(|_| super::server::json("no JSON")).await;
    let gate = Setup::before(&server).start().await;
    assert_eq!(gate.ask(&gate.post(LIST, "")).await.body, "no JSON");
}

#[tokio::test]
async fn a_list_that_cannot_be_looked_into_is_refused() {
    let large = format!("{{\"result\":{{\"tools\":[\"{}\"]}}}}", "x".repeat(8 << 20));
    for (parts, why) in [
        (super::server::json("no JSON"), "no JSON"),
        (super::server::json(&large), "too large"),
        (
            with_head(
                "200 OK",
                "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
                ALL,
            ),
            "encoded",
        ),
        (
            with_head("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "of another type",
        ),
    ] {
        let server = Server::start(move |_| parts.clone()).await;
        let gate = gate(&server).await;
        let response = gate.ask(&gate.post(LIST, "")).await;
        assert_eq!(
            (response.status, &response.json()["id"]),
            (502, &1.into()),
            "{why}"
        );
    }
    for (parts, status) in [
        (with_head("500 Oops", "Content-Type: text/plain\r\n", "oops"), 500),
        (
            vec![text("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")],
            202,
        ),
    ] {
        let server = Server::start(move |_| parts.clone()).await;
        let gate = gate(&server).await;
        assert_eq!(
            gate.ask(&gate.post(LIST, "")).await.status,
            status,
            "no list at all"
        );
    }
}

#[tokio::test]
async fn lists_in_event_streams_are_filtered_however_they_are_cut() {
    let stream = format!(": ping\n\nid: 1\ndata:\n\nevent: message\nid: 2\ndata: {ALL}\n\n");
    let expected = stream.replace(ALL, SOME);
    for size in [1, 7, 50, 1000] {
        let stream = stream.clone();
        let server = Server::start(move |_| {
            let pieces: Vec<Part> = stream
                .as_bytes()
                .chunks(size)
                .map(|piece| Part::Bytes(piece.to_vec()))
                .collect();
            let mut parts = events(&pieces);
            parts.push(last_chunk());
            parts
        })
        .await;
        let gate = gate(&server).await;
        assert_eq!(gate.ask(&gate.post(LIST, "")).await.body, expected);
        // A stream that is taken up again may hold any answer.
        let again = get(&gate.token(), "Last-Event-ID: 1\r\n");
        assert_eq!(gate.ask(&again).await.body, expected);
    }
}

#[tokio::test]
async fn events_of_a_filtered_stream_arrive_as_they_are_sent() {
    let go_on = Arc::new(Notify::new());
    let wait = Part::Until(Arc::clone(&go_on));
    let server = Server::start(move |_| {
        let begun = text(&format!("data: {ALL}\n\ndata: half"));
        let mut parts = events(&[begun, wait.clone(), text("\n\n")]);
        parts.push(last_chunk());
        parts
    })
    .await;
    let gate = gate(&server).await;
    let mut client = gate.connect().await;
    client.send(gate.post(LIST, "")).await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), format!("data: {SOME}\n\n"));
    assert!(client.is_silent_for(Duration::from_millis(100)).await);
    go_on.notify_one();
    assert_eq!(client.chunk().await.unwrap(), "data: half\n\n");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn an_event_without_end_ends_the_stream() {
    let server = Server::start(|_| {
        let piece = Part::Bytes(vec![b'x'; 1 << 20]);
        let mut parts = events(&vec![piece; 9]);
        parts.push(Part::Hang);
        parts
    })
    .await;
    let gate = gate(&server).await;
    let mut client = gate.connect().await;
    client.send(gate.post(LIST, "")).await;
    client.head().await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.into_stream(), &mut rest).await;
    assert!(rest.is_empty(), "{}", rest.len());
}

#[tokio::test]
async fn a_list_keeps_its_place_until_the_client_has_it() {
    let list = format!(
        r#"{{"result":{{"tools":[{{"name":"{}"}}]}}}}"#,
        "x".repeat(7 << 20)
    );
    let server = Server::start(move |_| super::server::json(&list)).await;
    let mut setup = Setup::before(&server);
    setup.limits.requests = 1;
    setup.policy["defaultScopes"] = serde_json::json!(["mcp:use"]);
    let gate = setup.start().await;
    let request = gate.post(r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#, "");
    let mut slow = gate.connect().await;
    slow.send(&request).await;
    assert_eq!(slow.head().await.unwrap().status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gate.ask(&request).await.status, 503, "most of it was not taken");
    assert_eq!(gate.metric("mcp_auth_gate_requests"), Some(1.0));
    drop(slow);
    let room = async {
        while gate.ask(&request).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::fixture::PATIENCE, room)
        .await
        .unwrap();
}
