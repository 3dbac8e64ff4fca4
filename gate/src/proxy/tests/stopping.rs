//! Being asked to stop.

use std::time::Duration;

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
    gate.trigger.end_streams();
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
