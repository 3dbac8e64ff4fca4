//! Exchanges with servers that misbehave.

use std::time::Instant;

use tokio::time::{sleep, timeout};

use super::*;

const SERVER: Audience = Audience::AuthorizationServer;

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_good_answer_is_read() {
    let server = Server::answering(answer("200 OK", "x-note: hello\r\n", r#"{"issuer":"me"}"#)).await;
    let client = client(DEVELOPMENT, Audience::Tenant);
    let whole = client.get(&server.url("127.0.0.1")).await.unwrap();
    assert_eq!(
        (whole.status.as_u16(), whole.headers["x-note"].to_str().unwrap()),
        (200, "hello")
    );
    assert_eq!(whole.body, br#"{"issuer":"me"}"#);
    let json: serde_json::Value = client.get_json(&server.url("localhost")).await.unwrap();
    assert_eq!(json["issuer"], "me");
}

#[tokio::test]
async fn other_methods_carry_what_they_are_given() {
    let server = Server::start(async |mut stream: TcpStream| {
        let head = read_request(&mut stream).await?;
        let mut body = vec![0; 13];
        stream.read_exact(&mut body).await?;
        let echo = format!("{head}{}", String::from_utf8_lossy(&body));
        stream
            .write_all(answer("201 Created", "", &echo).as_bytes())
            .await
    })
    .await;
    let client = client(DEVELOPMENT, SERVER);
    let request = client.request(Method::POST, &server.url("127.0.0.1")).unwrap();
    let echo = client
        .fetch(request.bearer_auth("token").form(&[("grant", "a b&c")]))
        .await;
    let echo = String::from_utf8(echo.unwrap().body).unwrap();
    assert!(echo.starts_with("POST /path HTTP/1.1\r\n"), "{echo}");
    assert!(
        echo.contains("authorization: Bearer token\r\n") && echo.contains("user-agent: mcp-auth-operator/")
    );
    assert!(echo.ends_with("\r\n\r\ngrant=a+b%26c"), "{echo}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::answering(answer("200 OK", "", "secret")).await;
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
        "300 Choices",
    ] {
        let location = format!("location: {}\r\n", target.url("127.0.0.1"));
        let server = Server::answering(answer(status, &location, "")).await;
        let error = client(DEVELOPMENT, SERVER)
            .get(&server.url("127.0.0.1"))
            .await
            .unwrap_err();
        assert_eq!(error, EgressError::Redirect, "{status}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = Server::start(async |mut stream: TcpStream| {
        read_request(&mut stream).await?;
        std::future::pending().await
    })
    .await;
    // The body drips: no single wait is long, but all of them are.
    let dripping = Server::start(async |mut stream: TcpStream| {
        read_request(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            .await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let egress = Egress::new(DEVELOPMENT);
    let client = egress
        .client_with_timeout(SERVER, None, Duration::from_millis(300))
        .unwrap();
    for server in [server, dripping] {
        let began = Instant::now();
        let ended = timeout(Duration::from_secs(5), client.get(&server.url("127.0.0.1")))
            .await
            .unwrap();
        assert_eq!(ended.unwrap_err(), EgressError::Timeout);
        assert!(began.elapsed() >= Duration::from_millis(290));
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_off() {
    let announced = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\nbegin").await;
    let error = client(DEVELOPMENT, SERVER)
        .get(&announced.url("127.0.0.1"))
        .await
        .unwrap_err();
    assert_eq!(error, EgressError::TooLarge { limit: MAX_BODY });

    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let endless = Server::start(move |mut stream: TcpStream| {
        let count = Arc::clone(&count);
        async move {
            read_request(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            for _ in 0..1600 {
                stream.write_all(chunk.as_bytes()).await?;
                count.fetch_add(0x10000, Ordering::SeqCst);
            }
            Ok(())
        }
    })
    .await;
    let error = client(DEVELOPMENT, SERVER)
        .get(&endless.url("127.0.0.1"))
        .await
        .unwrap_err();
    assert_eq!(error, EgressError::TooLarge { limit: MAX_BODY });
    sleep(Duration::from_millis(200)).await;
    let sent = sent.load(Ordering::SeqCst);
    assert!(
        sent < 40 * MAX_BODY,
        "the connection was closed early, after {sent} of 100 MiB"
    );
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    let whole = answer("200 OK", "", &"x".repeat(MAX_BODY));
    let server = Server::answering(whole).await;
    let answer = client(DEVELOPMENT, SERVER)
        .get(&server.url("127.0.0.1"))
        .await
        .unwrap();
    assert_eq!(answer.body.len(), MAX_BODY);
}

#[tokio::test]
async fn a_forbidden_address_is_not_even_connected_to() {
    let server = Server::answering(answer("200 OK", "", "{}")).await;
    for audience in [SERVER, Audience::Tenant] {
        // As an address, and as a name that leads there.
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "0x7f.1"] {
            let error = client(PLAIN, audience).get(&server.url(host)).await.unwrap_err();
            assert_eq!(
                error,
                EgressError::Refused(Refusal::Address(AddressClass::Loopback)),
                "{host}"
            );
            assert_eq!(error.to_string(), "refused: the host is a loopback address");
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_request_made_elsewhere_is_checked_too() {
    let server = Server::answering(answer("200 OK", "", "{}")).await;
    let foreign = reqwest::Client::new().get(server.url("127.0.0.1"));
    let error = client(PLAIN, SERVER).send(foreign).await.unwrap_err();
    assert_eq!(
        error,
        EgressError::Refused(Refusal::Address(AddressClass::Loopback))
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn errors_repeat_nothing() {
    let secret = "hunter2";
    let error = |answer: String| async move {
        let server = Server::answering(answer).await;
        let url = Url::parse(&format!("http://127.0.0.1:{}/hunter2?hunter2", server.port)).unwrap();
        client(DEVELOPMENT, SERVER)
            .get_json::<Vec<u32>>(&url)
            .await
            .unwrap_err()
    };
    let html = error(answer("200 OK", "", "<html>hunter2</html>")).await;
    assert_eq!(html, EgressError::NotJson);
    let other = error(answer("200 OK", "", r#"["hunter2"]"#)).await;
    assert_eq!(other, EgressError::NotJson);
    let denied = error(answer("403 hunter2", "x: hunter2\r\n", "hunter2")).await;
    assert_eq!(denied, EgressError::Status(403));
    let garbage = error("hunter2 is not HTTP\r\n\r\n".to_owned()).await;
    assert_eq!(garbage, EgressError::Unreachable);
    let cut = error("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhunter2".to_owned()).await;
    for error in [html, other, denied, garbage, cut] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let client = client(DEVELOPMENT, SERVER);
    let closed = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    assert_eq!(client.get(&closed).await.unwrap_err(), EgressError::NotConnected);
    let unknown = Url::parse("https://no-such-host.invalid/").unwrap();
    assert_eq!(client.get(&unknown).await.unwrap_err(), EgressError::UnknownHost);
}
