//! Event streams: as they come, for as long as they may.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    fixture::{CALL, Setup, get, post},
    server::{Part, Server, events, last_chunk, text},
};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn events_arrive_one_by_one_as_they_are_sent() {
    let server = Server::start(|_| {
        events(&[
            text(": hello\n\n"),
            Part::Pause(SHORT),
            text("data: {\"a\":"),
            Part::Pause(SHORT),
            text("1}\n\n"),
        ])
        .into_iter()
        .chain([last_chunk()])
        .collect()
    })
    .await;
    let gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client.send(gate.post(CALL, "")).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    let started = Instant::now();
    for (expected, after) in [
        (Some(": hello\n\n"), Duration::ZERO),
        (Some("data: {\"a\":"), SHORT),
        (Some("1}\n\n"), 2 * SHORT),
        (None, 2 * SHORT),
    ] {
        assert_eq!(client.chunk().await.as_deref(), expected);
        let elapsed = started.elapsed();
        assert!(
            elapsed + SHORT / 3 >= after,
            "{expected:?} came after {elapsed:?}"
        );
        assert!(elapsed < after + SHORT, "{expected:?} came after {elapsed:?}");
    }
    // The connection goes on.
    client.send(gate.post(CALL, "")).await;
    assert_eq!(client.head().await.unwrap().status, 200);
}

fn endless() -> Vec<Part> {
    let mut parts = events(&[text(": hello\n\n")]);
    parts.push(Part::Hang);
    parts
}

#[tokio::test]
async fn a_stream_ends_some_time_after_its_token() {
    let server = Server::start(|_| endless()).await;
    let mut setup = Setup::before(&server);
    setup.timeouts.stream_grace = Duration::from_secs(1);
    let gate = setup.start().await;
    let mut client = gate.connect().await;
    // It has expired, but clocks may differ a little.
    let token = gate.token_with(&json!({"exp": crate::testing::NOW - 5}));
    let started = Instant::now();
    client.send(get(&token, "")).await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.as_deref(), Some(": hello\n\n"));
    assert_eq!(gate.metric("mcp_auth_gate_streams"), Some(1.0));
    assert_eq!(
        client.chunk().await,
        None,
        "a clean end, after which clients come back"
    );
    let elapsed = started.elapsed();
    assert!(
        elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(3),
        "{elapsed:?}"
    );
    server.left(1).await;
    assert_eq!(gate.metric("mcp_auth_gate_streams"), Some(0.0));
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_cut_off_rather_than_ended() {
    let server = Server::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![text(head), text("1\r\n{\r\n"), Part::Hang]
    })
    .await;
    let mut setup = Setup::before(&server);
    setup.timeouts.stream_grace = Duration::ZERO;
    let gate = setup.start().await;
    let mut client = gate.connect().await;
    let token = gate.token_with(&json!({"exp": crate::testing::NOW - 5}));
    client.send(post(&token, CALL, "")).await;
    client.head().await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.into_stream(), &mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    server.left(1).await;
}

#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_ends_if_that_is_asked_for() {
    let server = Server::start(|_| {
        let mut parts = events(&[text(": 1\n\n"), Part::Pause(SHORT), text(": 2\n\n")]);
        parts.push(Part::Hang);
        parts
    })
    .await;
    let mut setup = Setup::before(&server);
    setup.timeouts.stream_idle = Some(2 * SHORT);
    let gate = setup.start().await;
    let mut client = gate.connect().await;
    client.send(get(&gate.token(), "")).await;
    client.head().await.unwrap();
    let started = Instant::now();
    assert_eq!(client.chunk().await.as_deref(), Some(": 1\n\n"));
    assert_eq!(client.chunk().await.as_deref(), Some(": 2\n\n"));
    assert_eq!(client.chunk().await, None);
    assert!(
        started.elapsed() >= 2 * SHORT + SHORT / 2,
        "each event starts the time anew"
    );
    server.left(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    for (parts, why) in [
        (vec![Part::Hang], "before the answer"),
        (endless(), "within a stream"),
    ] {
        let server = Server::start(move |_| parts.clone()).await;
        let gate = Setup::before(&server).start().await;
        let mut client = gate.connect().await;
        client.send(gate.post(CALL, "")).await;
        while server.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if why == "within a stream" {
            client.head().await.unwrap();
        }
        drop(client);
        server.left(1).await;
        while gate.metric("mcp_auth_gate_requests") != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_client_may_send_its_next_request_before_a_stream_ends() {
    let server = Server::start(|received| {
        if received.head.starts_with("GET") {
            let mut parts = events(&[text(": hello\n\n"), Part::Pause(SHORT)]);
            parts.push(last_chunk());
            return parts;
        }
        super::server::json("{}")
    })
    .await;
    let gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    let both = format!("{}{}", get(&gate.token(), ""), gate.post(CALL, ""));
    client.send(both).await;
    assert_eq!(client.response().await.body, ": hello\n\n");
    assert_eq!(client.response().await.body, "{}");
}
