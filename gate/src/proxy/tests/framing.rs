//! Where one request ends and the next begins.

use std::time::Duration;

use super::{
    fixture::{CALL, Gate, Setup, post},
    server::Server,
};

/// What nobody may take for a request, were it left over from a body.
const SMUGGLED: &str = "DELETE /mcp HTTP/1.1\r\nHost: smuggled\r\n\r\n";

async fn pair() -> (Server, Gate) {
    let server = Server::plain().await;
    let gate = Setup::before(&server).start().await;
    (server, gate)
}

fn chunked(gate: &Gate, lines: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         {lines}\r\n{body}",
        gate.token()
    )
}

#[tokio::test]
async fn conflicting_lengths_and_broken_framing_end_the_connection() {
    let (server, gate) = pair().await;
    let half = CALL.len() / 2;
    for (lines, body, why) in [
        (
            format!("Content-Length: {half}\r\nContent-Length: {}\r\n", CALL.len()),
            CALL.to_owned(),
            "two lengths",
        ),
        (
            format!("Content-Length: {}, {half}\r\n", CALL.len()),
            CALL.to_owned(),
            "two lengths in one line",
        ),
        ("Content-Length: +5\r\n".to_owned(), CALL.to_owned(), "a sign"),
        (
            "Content-Length: 0x10\r\n".to_owned(),
            CALL.to_owned(),
            "no decimal number",
        ),
        (
            "Transfer-Encoding: gzip, chunked, identity\r\n".to_owned(),
            CALL.to_owned(),
            "chunked is not last",
        ),
        (
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            CALL.to_owned(),
            "not chunked",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
            CALL.to_owned(),
            "two encodings",
        ),
        (
            "Transfer-Encoding : chunked\r\n".to_owned(),
            format!("0\r\n\r\n{SMUGGLED}"),
            "a blank before the colon",
        ),
        (
            "X-A: 1\r\n Transfer-Encoding: chunked\r\n".to_owned(),
            format!("0\r\n\r\n{SMUGGLED}"),
            "a folded line",
        ),
    ] {
        let mut client = gate.connect().await;
        client.send(chunked(&gate, &lines, &body)).await;
        if let Some(head) = client.head().await {
            assert_eq!(head.status, 400, "{why}");
        }
        assert!(client.has_ended().await, "{why}");
    }
    assert!(server.received().is_empty(), "{:?}", server.received());
}

#[tokio::test]
async fn chunks_that_are_none_are_refused_and_end_the_connection() {
    let (server, gate) = pair().await;
    let length = CALL.len();
    for (body, why) in [
        (format!("g\r\n{CALL}\r\n0\r\n\r\n"), "no number"),
        (format!("-1\r\n{CALL}\r\n0\r\n\r\n"), "a sign"),
        (
            format!("{length:x}\r\n{CALL}XX0\r\n\r\n"),
            "no line end after a chunk",
        ),
        (format!("fffffffffffffffff\r\n{CALL}"), "a number without end"),
    ] {
        let mut client = gate.connect().await;
        client
            .send(chunked(&gate, "Transfer-Encoding: chunked\r\n", &body))
            .await;
        let head = client.response().await;
        assert_eq!(head.status, 413, "{why}: {head:?}");
        assert!(client.has_ended().await, "{why}");
    }
    assert!(server.received().is_empty(), "{:?}", server.received());
}

#[tokio::test]
async fn a_length_beside_chunks_counts_for_nothing_and_the_connection_ends() {
    let (server, gate) = pair().await;
    for lines in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        let mut client = gate.connect().await;
        let body = format!("{:x}\r\n{CALL}\r\n0\r\n\r\n{SMUGGLED}", CALL.len());
        client.send(chunked(&gate, lines, &body)).await;
        // RFC 9112, 6.3: the chunks are the body, and nothing after them may be believed.
        assert_eq!(client.response().await.status, 200);
        assert!(client.has_ended().await);
    }
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|one| one.body == CALL.as_bytes()
        && one.all("content-length") == [CALL.len().to_string()]
        && one.all("transfer-encoding").is_empty()));
}

#[tokio::test]
async fn what_is_left_of_a_refused_body_is_never_the_next_request() {
    let (server, gate) = pair().await;
    let smuggling = post("no.good.token", &format!("{CALL}{SMUGGLED}"), "");
    // All of it came at once: it is read, and the connection goes on.
    let mut client = gate.connect().await;
    client.send(format!("{smuggling}{}", gate.post(CALL, ""))).await;
    assert_eq!(client.response().await.status, 401);
    assert_eq!(client.response().await.status, 200);
    assert!(client.is_silent_for(Duration::from_millis(100)).await);

    // Some of it does not come before the patience ends: so does the connection.
    let mut client = gate.connect().await;
    let (early, late) = smuggling.split_at(smuggling.len() - SMUGGLED.len());
    client.send(early).await;
    assert_eq!(client.response().await.status, 401);
    let mut stream = client.into_stream();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, late.as_bytes()).await;
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read_and_the_refusal_arrives() {
    let (server, gate) = pair().await;
    let token = gate.token();
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat((1 << 20) + 1));
    let response = gate
        .ask(&post(&token, &large, "Origin: https://mcp.example.com\r\n"))
        .await;
    assert_eq!(response.status, 413);
    assert!(response.header("access-control-allow-origin").is_some());

    // Nothing of it was sent yet: the announcement is enough.
    let announced = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", 2 << 20);
    let mut client = gate.connect().await;
    client.send(chunked(&gate, &announced, "")).await;
    assert_eq!(client.response().await.status, 413, "no 100 before it");
    assert!(client.has_ended().await);

    // Chunks announce nothing, and are counted.
    let mut client = gate.connect().await;
    client
        .send(chunked(&gate, "Transfer-Encoding: chunked\r\n", ""))
        .await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    for _ in 0..17 {
        client.send(&chunk).await;
    }
    assert_eq!(client.response().await.status, 413);
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_body_of_the_greatest_size_passes() {
    let (server, gate) = pair().await;
    let (start, end) = (CALL.len(), 1 << 20);
    let body = format!("{CALL}{}", " ".repeat(end - start));
    assert_eq!(gate.ask(&gate.post(&body, "")).await.status, 200);
    assert_eq!(server.received()[0].body.len(), end);
}

#[tokio::test]
async fn a_client_that_waits_for_a_sign_gets_it_only_when_it_may_go_on() {
    let (server, gate) = pair().await;
    let expecting = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", CALL.len());
    let mut client = gate.connect().await;
    client.send(chunked(&gate, &expecting, "")).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send(CALL).await;
    assert_eq!(client.response().await.status, 200);
    assert!(server.received()[0].all("expect").is_empty());

    let mut client = gate.connect().await;
    let refused = chunked(&gate, &expecting, "").replace("Bearer ", "Bearer x");
    client.send(&refused).await;
    assert_eq!(client.response().await.status, 401);
    assert!(client.has_ended().await);
}

#[tokio::test]
async fn a_get_with_a_body_is_refused() {
    let (server, gate) = pair().await;
    let request = gate.post("{}", "").replace("POST ", "GET ");
    assert_eq!(gate.ask(&request).await.status, 400);
    assert!(server.received().is_empty());
}
