//! Being asked to stop.

use std::time::{Duration, Instant};

use super::{
    fixture::{CALL, Setup, get},
    server::{Part, Server, events, text},
};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn what_is_open_ends_by_itself_and_nothing_new_is_taken() {
    let server = Server::start(|_| {
        let mut parts = vec![Part::Pause(SHORT)];
        parts.extend(super::server::json("{}"));
        parts
    })
    .await;
    let mut gate = Setup::before(&server).start().await;
    let mut idle = gate.connect().await;
    let mut busy = gate.connect().await;
    busy.send(gate.post(CALL, "")).await;
    while server.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.trigger.ask();
    let response = busy.response().await;
    assert_eq!((response.status, response.body.as_str()), (200, "{}"));
    assert!(busy.has_ended().await, "its connection with it");
    assert!(idle.has_ended().await);
    gate.ended().await;
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err());
}

#[tokio::test]
async fn streams_go_on_until_they_are_told_to_end() {
    let server = Server::start(|_| {
        let mut parts = events(&[text(": 1\n\n"), Part::Pause(SHORT), text(": 2\n\n")]);
        parts.push(Part::Hang);
        parts
    })
    .await;
    let mut gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client.send(get(&gate.token(), "")).await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.as_deref(), Some(": 1\n\n"));
    gate.trigger.ask();
    assert_eq!(client.chunk().await.as_deref(), Some(": 2\n\n"));
    assert!(gate.is_running());
    gate.stream_end.set(()).unwrap();
    assert_eq!(client.chunk().await, None, "a clean end");
    gate.ended().await;
    server.left(1).await;
}

#[tokio::test]
async fn asked_twice_it_stops_at_once() {
    let server = Server::start(|_| vec![Part::Hang]).await;
    let mut gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client.send(gate.post(CALL, "")).await;
    while server.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.trigger.ask();
    assert!(client.is_silent_for(SHORT).await);
    assert!(gate.is_running());
    gate.trigger.ask();
    gate.ended().await;
    assert!(client.has_ended().await);
    server.left(1).await;
}

/// The kinds of the HTTP/2 frames in these bytes (RFC 9113, 4.1).
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        kinds.push(kind);
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_client_of_http2_that_was_idle_is_told_to_go() {
    const GOAWAY: u8 = 7;
    let server = Server::plain().await;
    let mut gate = Setup::before(&server).start().await;
    let mut client = gate.connect().await;
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    gate.trigger.ask();
    let asked = Instant::now();
    let (mut stream, mut bytes) = (client.into_stream(), Vec::new());
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap();
    assert!(kinds(&bytes).contains(&GOAWAY), "{bytes:?}");
    // It does not answer the ping that asks whether it has read that.
    let given = asked.elapsed();
    assert!(
        given >= Duration::from_millis(900),
        "it had no time to agree: {given:?}"
    );
    gate.ended().await;
}
