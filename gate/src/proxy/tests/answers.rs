//! What comes back from the server.

use super::{
    fixture::{CALL, Response, Setup},
    server::{Part, Server, json, text, with_head},
};

const ORIGIN: &str = "Origin: https://mcp.example.com\r\n";

async fn answer(parts: Vec<Part>) -> Response {
    let server = Server::start(move |_| parts.clone()).await;
    let gate = Setup::before(&server).start().await;
    gate.ask(&gate.post(CALL, ORIGIN)).await
}

#[tokio::test]
async fn a_server_cannot_look_like_the_gate() {
    let lines = "WWW-Authenticate: Bearer resource_metadata=\"https://evil.example\"\r\n\
                 Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
                 Set-Cookie: a=b\r\nAlt-Svc: h2=\"evil.example:443\"\r\nRefresh: 0; url=https://evil.example\r\n\
                 Location: https://evil.example\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                 Mcp-Protocol-Version: 2025-11-25\r\nX-Kept: 1\r\nContent-Type: application/json\r\n";
    for status in [
        "200 OK",
        "201 Created",
        "403 Forbidden",
        "404 Not Found",
        "500 Oops",
    ] {
        let response = answer(with_head(status, lines, "{}")).await;
        assert_eq!(response.status.to_string(), status[..3]);
        assert_eq!(response.body, "{}");
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("https://mcp.example.com"),
            "once, and ours"
        );
        for gone in [
            "www-authenticate",
            "access-control-allow-credentials",
            "set-cookie",
            "alt-svc",
            "refresh",
            "location",
            "x-hop",
            "keep-alive",
        ] {
            assert_eq!(response.header(gone), None, "{status}");
        }
        assert_eq!(response.header("x-kept"), Some("1"));
        assert_eq!(response.header("mcp-protocol-version"), Some("2025-11-25"));
        assert_eq!(response.header("vary"), Some("Origin"));
    }
}

#[tokio::test]
async fn logins_redirects_and_other_protocols_end_at_the_gate() {
    for (status, lines) in [
        ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n"),
        (
            "407 Proxy Authentication Required",
            "Proxy-Authenticate: Basic\r\n",
        ),
        ("301 Moved Permanently", "Location: https://evil.example\r\n"),
        ("307 Temporary Redirect", "Location: /other\r\n"),
        ("304 Not Modified", ""),
        (
            "101 Switching Protocols",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
        ),
    ] {
        let parts = match status {
            // These have no body.
            "101 Switching Protocols" | "304 Not Modified" => {
                vec![text(&format!("HTTP/1.1 {status}\r\n{lines}\r\n"))]
            }
            _ => with_head(status, lines, "{}"),
        };
        let response = answer(parts).await;
        assert_eq!(response.status, 502, "{status}");
        assert_eq!(response.json()["id"], 7);
        assert_eq!(response.header("location"), None);
        assert_eq!(response.header("www-authenticate"), None);
        assert!(response.header("access-control-allow-origin").is_some());
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_gateway() {
    for (parts, why) in [
        (vec![text("garbage\r\n\r\n")], "no HTTP"),
        (vec![Part::Close], "nothing"),
        (
            vec![text("HTTP/1.1 200 OK\r\nContent-"), Part::Close],
            "half a head",
        ),
        (
            vec![text(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            )],
            "two lengths",
        ),
    ] {
        let response = answer(parts).await;
        assert_eq!(
            (response.status, &response.json()["id"]),
            (502, &7.into()),
            "{why}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n:\r\n",
    ] {
        let server = Server::start(move |_| vec![text(head), Part::Close]).await;
        let gate = Setup::before(&server).start().await;
        let mut client = gate.connect().await;
        client.send(gate.post(CALL, "")).await;
        let response = client.head().await.unwrap();
        assert_eq!(response.status, 200);
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.into_stream(), &mut rest).await;
        let rest = String::from_utf8(rest).unwrap();
        assert!(!rest.ends_with("0\r\n\r\n"), "{head}: {rest:?}");
        assert_eq!(
            gate.metric("mcp_auth_gate_upstream_failures_total{failure=\"cut\"}"),
            Some(1.0)
        );
    }
}

#[tokio::test]
async fn a_server_that_is_too_slow_is_a_timeout_and_left_alone() {
    let server = Server::start(|_| vec![Part::Hang]).await;
    let mut setup = Setup::before(&server);
    setup.timeouts.upstream_header = std::time::Duration::from_millis(100);
    let gate = setup.start().await;
    let response = gate.ask(&gate.post(CALL, "")).await;
    assert_eq!((response.status, &response.json()["id"]), (504, &7.into()));
    server.left(1).await;
}

#[tokio::test]
async fn notifications_are_accepted_without_a_body() {
    let server = Server::start(|_| vec![text("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")]).await;
    let gate = Setup::before(&server).start().await;
    let notification = r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#;
    let mut client = gate.connect().await;
    for _ in 0..2 {
        client.send(gate.post(notification, "")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.body.as_str()), (202, ""));
    }
}

#[tokio::test]
async fn an_answer_of_old_http_is_passed_on_as_one_of_ours() {
    let old = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1}";
    let response = answer(vec![text(old), Part::Close]).await;
    assert_eq!((response.status, response.body.as_str()), (200, "{\"a\":1}"));
    let response = answer(json("{}")).await;
    assert_eq!(response.header("content-length"), Some("2"));
}
