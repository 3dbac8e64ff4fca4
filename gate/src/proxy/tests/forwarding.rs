//! What reaches the server.

use serde_json::json;

use super::{
    fixture::{CALL, Gate, Setup, get, post},
    server::{Part, Server, events, text},
};
use crate::{
    credentials::ClientCredentials,
    handles::Presented,
    testing::{self, Script},
};

async fn pair() -> (Server, Gate) {
    let server = Server::plain().await;
    let gate = Setup::before(&server).start().await;
    (server, gate)
}

#[tokio::test]
async fn the_server_gets_the_bytes_that_were_judged_and_the_client_its_answer() {
    let (server, gate) = pair().await;
    // Spaces, escapes, numbers and the order of keys are as they were sent.
    let body = " {\"params\":{\"name\":\"l\\u006fok\",\"arguments\":{\"n\":1.0e0,\"ü\":\"\\/\"}},\n\t\"method\":\"tools/call\",\"id\":7,\"jsonrpc\":\"2.0\"}\r\n";
    let response = gate.ask(&gate.post(body, "")).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.body, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, body.as_bytes());
    assert!(
        received[0].head.starts_with("POST /inner HTTP/1.1\r\n"),
        "{}",
        received[0].head
    );
}

#[tokio::test]
async fn a_body_in_many_chunks_is_put_together() {
    let (server, gate) = pair().await;
    let mut client = gate.connect().await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        gate.token()
    );
    client.send(&head).await;
    for piece in CALL.as_bytes().chunks(7) {
        client.send(format!("{:x}\r\n", piece.len())).await;
        client.send(piece).await;
        client.send("\r\n").await;
    }
    // A trailer was not judged.
    client.send("0\r\nMcp-Method: other\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let received = server.received();
    assert_eq!(received[0].body, CALL.as_bytes());
    assert_eq!(received[0].all("content-length"), [CALL.len().to_string()]);
    assert!(received[0].all("transfer-encoding").is_empty());
    assert!(received[0].all("mcp-method").is_empty());
}

#[tokio::test]
async fn headers_end_here_or_pass() {
    let (server, gate) = pair().await;
    let token = gate.token();
    let lines = format!(
        "Origin: https://mcp.example.com\r\nCookie: a=b\r\nX-Forwarded-Access-Token: {token}\r\n\
         X-Also: Bearer {token}\r\nMcp-Auth-Handle: forged\r\nmcp_auth_handle: forged\r\nMcp_Session_Id: forged\r\n\
         X-Mcp-Subject: root\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nConnection: keep-alive, X-Hop, Mcp-Protocol-Version\r\n\
         X-Hop: 1\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\
         Mcp-Method: lie\r\nMCP-Protocol-Version: 2025-11-25\r\nX-Tenant: blue\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\n\
         X-Forwarded-For: 192.0.2.1\r\n"
    );
    let response = gate.ask(&post(&token, CALL, &lines)).await;
    assert_eq!(response.status, 200, "{response:?}");
    let received = &server.received()[0];
    assert!(!received.head.contains(&token), "{}", received.head);
    for gone in [
        "authorization",
        "cookie",
        "x-forwarded-access-token",
        "x-also",
        "mcp-auth-handle",
        "mcp_auth_handle",
        "mcp_session_id",
        "x-mcp-subject",
        "accept-encoding",
        "te",
        "connection",
        "x-hop",
        "origin",
        "proxy-connection",
        "keep-alive",
        "mcp-method",
        "expect",
    ] {
        assert!(received.all(gone).is_empty(), "{gone}: {}", received.head);
    }
    for (name, value) in [
        ("host", server.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        // Judged by, and so sent on, whatever Connection says.
        ("mcp-protocol-version", "2025-11-25"),
        ("x-tenant", "blue"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", "a=1"),
        ("x-forwarded-for", "192.0.2.1"),
    ] {
        assert_eq!(received.all(name), [value], "{name}");
    }
}

#[tokio::test]
async fn nobody_changes_the_protocol() {
    let (server, gate) = pair().await;
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Upgrade: h2c\r\n",
        "HTTP2-Settings: AAMAAABk\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        assert_eq!(gate.ask(&gate.post(CALL, lines)).await.status, 400, "{lines}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_trace_is_not_made_up() {
    let (server, gate) = pair().await;
    gate.ask(&gate.post(CALL, "")).await;
    assert!(server.received()[0].all("traceparent").is_empty());
}

#[tokio::test]
async fn the_query_passes_as_it_is() {
    let (server, gate) = pair().await;
    let request = gate
        .post(CALL, "")
        .replace("POST /mcp ", "POST /mcp?a=%2F&b=ü%20+&&c ");
    // hyper takes UTF-8 in a target, as servers do.
    assert_eq!(gate.ask(&request).await.status, 200);
    assert!(
        server.received()[0]
            .head
            .starts_with("POST /inner?a=%2F&b=ü%20+&&c HTTP/1.1\r\n")
    );
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_server() {
    let (server, gate) = pair().await;
    let token = gate.token();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for (request, status, why) in [
        (
            post("", CALL, "").replace("Authorization: Bearer \r\n", ""),
            401,
            "no token",
        ),
        (post("a.b.c", CALL, ""), 401, "a bad token"),
        (
            post(&token, CALL, "").replace("/mcp ", "/other "),
            404,
            "another path",
        ),
        (
            post(&token, CALL, "").replace("/mcp ", "/mcp/ "),
            404,
            "nearly the path",
        ),
        (
            post(&token, CALL, "Origin: https://evil.example\r\n"),
            403,
            "a stranger's page",
        ),
        (post(&token, "[]", ""), 400, "a batch"),
        (post(&token, "{", ""), 400, "no JSON"),
        (post(&token, &large, ""), 413, "too large"),
        (
            post(&token, CALL, "").replace("POST", "PUT"),
            405,
            "a method that is none of MCP",
        ),
        (
            get(&token, "MCP-Protocol-Version: 2026-07-28\r\n"),
            405,
            "a stream on the stateless wire",
        ),
        (
            post(&gate.token_with(&json!({"scope": "other"})), CALL, ""),
            403,
            "no scope",
        ),
    ] {
        let response = gate.ask(&request).await;
        assert_eq!(response.status, status, "{why}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/json"), "{why}");
        assert!(response.json()["error"]["message"].is_string(), "{why}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn metadata_and_preflights_need_no_token_and_no_server() {
    let gate = Setup::new("http://127.0.0.1:1/inner").start().await;
    let metadata = gate
        .ask("GET /.well-known/oauth-protected-resource/mcp HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(metadata.status, 200);
    assert_eq!(metadata.json()["resource"], "https://mcp.example.com/mcp");
    assert_eq!(metadata.header("access-control-allow-origin"), Some("*"));
    let mut client = gate.connect().await;
    client
        .send("HEAD /.well-known/oauth-protected-resource/mcp HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let head = client.head().await.unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, metadata.header("content-length"))
    );
    let preflight = gate
        .ask("OPTIONS /mcp HTTP/1.1\r\nHost: x\r\nOrigin: https://mcp.example.com\r\nAccess-Control-Request-Method: POST\r\n\r\n")
        .await;
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://mcp.example.com")
    );
}

#[tokio::test]
async fn connections_to_the_server_are_used_again() {
    let (server, gate) = pair().await;
    let mut client = gate.connect().await;
    for _ in 0..5 {
        client.send(&gate.post(CALL, "")).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!((server.received().len(), server.connections()), (5, 1));
}

#[tokio::test]
async fn a_token_that_expires_is_refused_on_a_connection_that_it_opened() {
    let (server, gate) = pair().await;
    let request = gate.post(CALL, "");
    let mut client = gate.connect().await;
    for (after, status) in [(0, 200), (290, 200), (30, 401)] {
        gate.clock.advance(after);
        client.send(&request).await;
        assert_eq!(client.response().await.status, status, "after {after}");
    }
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn an_exchanged_token_takes_the_place_of_the_callers() {
    let server = Server::plain().await;
    let mut setup = Setup::before(&server);
    setup.policy["exchanges"] = json!([testing::exchange("orders", "Header")]);
    let gate = setup.start().await;
    // Without credentials there is no token to be had, and the server is not called without one.
    let response = gate.ask(&gate.post(CALL, "")).await;
    assert_eq!((response.status, &response.json()["id"]), (503, &json!(7)));
    assert!(server.received().is_empty());

    let client = ClientCredentials {
        id: "notes".to_owned(),
        secret: "a secret".into(),
    };
    gate.exchanges.set_client(Some(&client));
    let exchanged = gate.token_with(&json!({"aud": testing::TARGET}));
    let issued = testing::issued(&exchanged, 60);
    gate.authorization_server
        .set_token(move |_| Script::json(200, &issued));
    let response = gate.ask(&gate.post(CALL, "")).await;
    assert_eq!(response.status, 200, "{response:?}");
    let received = &server.received()[0];
    assert_eq!(received.all("authorization"), [format!("Bearer {exchanged}")]);
    assert!(!received.head.contains(&gate.token()));
}

#[tokio::test]
async fn a_handle_is_good_until_the_answer_has_ended() {
    let server = Server::start(|_| {
        let mut parts = events(&[text(": hello\n\n")]);
        parts.push(Part::Hang);
        parts
    })
    .await;
    let mut setup = Setup::before(&server);
    setup.policy["exchanges"] = json!([testing::exchange("orders", "Endpoint")]);
    let gate = setup.start().await;
    let mut client = gate.connect().await;
    client.send(gate.post(CALL, "Mcp-Auth-Handle: forged\r\n")).await;
    client.head().await.unwrap();
    let received = &server.received()[0];
    let [handle] = received.all("mcp-auth-handle")[..] else {
        panic!("{}", received.head)
    };
    let presented = Presented::parse(&handle.parse().unwrap()).unwrap();
    assert!(gate.handles.find(&presented).is_some());
    assert!(received.all("authorization").is_empty());
    drop(client);
    server.left(1).await;
    while gate.handles.find(&presented).is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn another_address_is_tried_only_when_there_was_no_connection() {
    // `localhost` has two addresses where IPv6 is on, and nothing listens at one of them.
    let server = Server::plain().await;
    let gate = Setup::new(&format!("http://localhost:{}/inner", server.address.port()))
        .start()
        .await;
    for _ in 0..4 {
        assert_eq!(gate.ask(&gate.post(CALL, "")).await.status, 200);
    }
    let broken = Server::start(|_| vec![Part::Close]).await;
    let gate = Setup::before(&broken).start().await;
    let response = gate.ask(&gate.post(CALL, "")).await;
    assert_eq!(response.status, 502);
    assert_eq!(broken.received().len(), 1, "a call is never made twice");
    let none = Setup::new("http://127.0.0.1:1/inner").start().await;
    let response = none
        .ask(&none.post(CALL, "Origin: https://mcp.example.com\r\n"))
        .await;
    assert_eq!((response.status, response.json()["id"].clone()), (502, json!(7)));
    assert!(response.header("access-control-allow-origin").is_some());
    assert_eq!(
        none.metric("mcp_auth_gate_upstream_failures_total{failure=\"connect\"}"),
        Some(1.0)
    );
}
