//! What one client gets at most.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    fixture::{CALL, Setup, get},
    server::{Part, Server, events, text},
};

const SHORT: Duration = Duration::from_millis(200);

fn endless() -> Vec<Part> {
    let mut parts = events(&[text(": hello\n\n")]);
    parts.push(Part::Hang);
    parts
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_back() {
    let server = Server::start(|_| endless()).await;
    let mut setup = Setup::before(&server);
    setup.limits.requests = 2;
    let gate = setup.start().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = gate.connect().await;
        client.send(get(&gate.token(), "")).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        open.push(client);
    }
    let response = gate.ask(&gate.post(CALL, "")).await;
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("1"))
    );
    open.pop();
    server.left(1).await;
    let mut client = gate.connect().await;
    client.send(get(&gate.token(), "")).await;
    assert_eq!(client.head().await.unwrap().status, 200, "there is room again");
}

#[tokio::test]
async fn bodies_that_are_too_much_together_are_told_to_come_back() {
    let server = Server::start(|_| vec![Part::Hang]).await;
    let mut setup = Setup::before(&server);
    setup.limits.buffered = 1 << 20;
    let gate = setup.start().await;
    let large = format!("{CALL}{}", " ".repeat(700 << 10));
    let mut first = gate.connect().await;
    first.send(gate.post(&large, "")).await;
    while server.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = gate
        .ask(&gate.post(&large, "Origin: https://mcp.example.com\r\n"))
        .await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.header("access-control-allow-origin").is_some());
    drop(first);
    server.left(1).await;
    let mut second = gate.connect().await;
    second.send(gate.post(&large, "")).await;
    while server.received().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn lists_that_are_too_much_together_are_told_to_come_back() {
    let list = format!("{{\"result\":{{\"tools\":[\"{}\"]}}}}", "x".repeat(2 << 20));
    let server = Server::start(move |_| super::server::json(&list)).await;
    let mut setup = Setup::before(&server);
    setup.limits.buffered = 1 << 20;
    setup.policy["defaultScopes"] = serde_json::json!(["mcp:use"]);
    let gate = setup.start().await;
    let request = r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}"#;
    assert_eq!(gate.ask(&gate.post(request, "")).await.status, 503);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let server = Server::plain().await;
    let mut setup = Setup::before(&server);
    setup.limits.connections = 2;
    let gate = setup.start().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = gate.connect().await;
        client.send(gate.post(CALL, "")).await;
        assert_eq!(client.response().await.status, 200);
        open.push(client);
    }
    assert!(gate.connect().await.has_ended().await);
    assert_eq!(gate.metric("mcp_auth_gate_connections_refused_total"), Some(1.0));
    open.pop();
    while gate.metric("mcp_auth_gate_connections") != Some(1.0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gate.ask(&gate.post(CALL, "")).await.status, 200);
}

#[tokio::test]
async fn a_connection_that_sends_no_whole_head_ends() {
    let server = Server::plain().await;
    let mut setup = Setup::before(&server);
    setup.timeouts.header_read = SHORT;
    let gate = setup.start().await;
    for (sent, why) in [
        ("", "nothing"),
        ("POST /mcp HT", "half a line"),
        ("POST /mcp HTTP/1.1\r\nHost: x\r\n", "half a head"),
        ("PRI * HTTP/2.0\r\n\r\nSM", "half of what HTTP/2 begins with"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 without a request"),
    ] {
        let started = Instant::now();
        let stream = {
            let mut client = gate.connect().await;
            client.send(sent).await;
            client.into_stream()
        };
        let mut stream = stream;
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        let _ = tokio::time::timeout(Duration::from_secs(5), read)
            .await
            .expect(why);
        let elapsed = started.elapsed();
        assert!(elapsed + Duration::from_millis(20) >= SHORT, "{why}: {elapsed:?}");
    }
}

#[tokio::test]
async fn a_head_that_drips_does_not_hold_a_connection() {
    let server = Server::plain().await;
    let mut setup = Setup::before(&server);
    setup.timeouts.header_read = SHORT;
    let gate = setup.start().await;
    let mut stream = gate.connect().await.into_stream();
    let started = Instant::now();
    let ended = async {
        for byte in b"POST /mcp HTTP/1.1\r\nX-Slow: "
            .iter()
            .chain(std::iter::repeat(&b'a'))
        {
            if tokio::io::AsyncWriteExt::write_all(&mut stream, &[*byte])
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    assert!(started.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_speaks_ends() {
    let server = Server::plain().await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut setup = Setup::before(&server);
        setup.timeouts.header_read = SHORT;
        let gate = setup.start().await;
        let mut client = gate.connect().await;
        client.send(beginning).await;
        assert!(client.has_ended().await, "{beginning:?}");
        let mut slow = gate.connect().await;
        let request = gate.post(CALL, "");
        slow.send(&request[..1]).await;
        tokio::time::sleep(SHORT / 4).await;
        slow.send(&request[1..]).await;
        assert_eq!(slow.response().await.status, 200, "POST begins like PRI");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_refused() {
    let server = Server::plain().await;
    let mut setup = Setup::before(&server);
    setup.timeouts.body_read = SHORT;
    let gate = setup.start().await;
    let request = gate.post(CALL, "");
    let mut client = gate.connect().await;
    client.send(&request[..request.len() - 10]).await;
    let response = client.response().await;
    assert_eq!(response.status, 413, "not all of it came");
    assert!(client.has_ended().await);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::plain().await;
    let gate = Setup::before(&server).start().await;
    let large = format!("X-Large: {}\r\n", "x".repeat(40 << 10));
    let response = gate.ask(&gate.post(CALL, &large)).await;
    assert_eq!(response.status, 431);
    // However its parts come: hyper's buffer may hold more than it asks for.
    for cut in [1, 3, 100, 8 << 10, 20 << 10, 31 << 10, 33 << 10] {
        let request = gate.post(CALL, &large);
        let (first, rest) = request.split_at(cut);
        let mut client = gate.connect().await;
        client.send(first).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.send(rest).await;
        assert_eq!(client.response().await.status, 431, "cut after {cut}");
    }
    let many = "X-Many: 1\r\n".repeat(200);
    assert_eq!(gate.ask(&gate.post(CALL, &many)).await.status, 431);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let server = Server::start(|_| endless()).await;
    let mut setup = Setup::before(&server);
    setup.timeouts.header_read = SHORT;
    let gate = setup.start().await;
    let mut client = gate.connect().await;
    client.send(get(&gate.token(), "")).await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.as_deref(), Some(": hello\n\n"));
    assert!(
        client.is_silent_for(3 * SHORT).await,
        "a stream is no idle connection"
    );
    assert_eq!(gate.metric("mcp_auth_gate_streams"), Some(1.0));
}

#[tokio::test]
async fn one_caller_leaves_places_for_others() {
    let server = Server::start(|_| endless()).await;
    let mut setup = Setup::before(&server);
    setup.limits.per_caller = 2;
    let gate = setup.start().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = gate.connect().await;
        client.send(get(&gate.token(), "")).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        open.push(client);
    }
    let refused = gate
        .ask(&gate.post(CALL, "Origin: https://mcp.example.com\r\n"))
        .await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.header("access-control-allow-origin").is_some());
    for changes in [
        serde_json::json!({"sub": "bob"}),
        serde_json::json!({"client_id": "other"}),
    ] {
        let mut client = gate.connect().await;
        client.send(get(&gate.token_with(&changes), "")).await;
        assert_eq!(client.head().await.unwrap().status, 200, "{changes}");
    }
    open.pop();
    let room = async {
        loop {
            let mut client = gate.connect().await;
            client.send(get(&gate.token(), "")).await;
            if client.head().await.unwrap().status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), room).await.unwrap();
}
