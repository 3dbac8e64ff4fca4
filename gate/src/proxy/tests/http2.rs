//! HTTP/2 on either side, and TLS.

use std::{convert::Infallible, sync::Mutex, time::Duration};

use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    fixture::{CALL, Gate, PATIENCE, Setup},
    server::{Part, Server, events, text},
};
use crate::{proxy::tls::Tls, watch::Files};

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().timeout(PATIENCE)
}

fn post(
    client: &reqwest::Client,
    url: &str,
    token: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::RequestBuilder {
    let request = client.post(url).header("content-type", "application/json");
    request.bearer_auth(token).body(body)
}

fn url(gate: &Gate) -> String {
    format!("http://{}/mcp", gate.address)
}

#[tokio::test]
async fn clients_may_speak_http2_with_prior_knowledge() {
    let server = Server::plain().await;
    let gate = Setup::before(&server).start().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let url = url(&gate);
    let one = post(&client, &url, &gate.token(), CALL).send().await.unwrap();
    assert_eq!((one.status().as_u16(), one.version()), (200, Version::HTTP_2));
    assert_eq!(
        one.text().await.unwrap(),
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#
    );
    assert_eq!(server.received()[0].body, CALL.as_bytes());
    assert!(
        server.received()[0]
            .head
            .contains(&format!("host: {}", server.address))
    );
    // A refusal ends its own stream, not the connection.
    let large = post(&client, &url, &gate.token(), vec![b' '; 3 << 20])
        .send()
        .await
        .unwrap();
    assert_eq!(large.status().as_u16(), 413);
    let refused = post(&client, &url, "no.good.token", CALL).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    assert_eq!(
        post(&client, &url, &gate.token(), CALL)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(gate.metric("mcp_auth_gate_connections"), Some(1.0));
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let server = Server::plain().await;
    let gate = Setup::before(&server).start().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let path = "/.well-known/oauth-protected-resource/mcp";
    let url = format!("http://{}{path}", gate.address);
    let whole = client.get(&url).send().await.unwrap();
    let length = whole.headers()["content-length"].clone();
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &length)
    );
    // A client of HTTP/2 takes data for an error here.
    assert_eq!(head.bytes().await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn streams_over_http2_arrive_as_they_are_sent_and_leave_with_the_client() {
    let server = Server::start(|_| {
        let mut parts = events(&[
            text("data: 1\n\n"),
            Part::Pause(Duration::from_millis(100)),
            text("data: 2\n\n"),
        ]);
        parts.push(Part::Hang);
        parts
    })
    .await;
    let gate = Setup::before(&server).start().await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let url = url(&gate);
    let mut response = post(&client, &url, &gate.token(), CALL).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: 2\n\n");
    drop(response);
    server.left(1).await;
    let again = post(&client, &url, "no.good.token", CALL).send().await.unwrap();
    assert_eq!(again.status(), 401, "the connection goes on");
}

#[tokio::test]
async fn servers_may_speak_http2_with_prior_knowledge() {
    static SEEN: Mutex<Vec<(Version, String, bool, Bytes)>> = Mutex::new(Vec::new());
    async fn answer(request: Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let seen = (
            parts.version,
            parts.uri.to_string(),
            parts.headers.contains_key("host"),
            body,
        );
        SEEN.lock().unwrap().push(seen);
        Ok(http::Response::new(Full::from("{}")))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            tokio::spawn(async move {
                builder
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await
            });
        }
    });
    let mut setup = Setup::new(&format!("http://localhost:{port}/inner"));
    setup.policy["upstream"]["protocol"] = json!("H2c");
    let gate = setup.start().await;
    for _ in 0..2 {
        assert_eq!(gate.ask(&gate.post(CALL, "")).await.body, "{}");
    }
    let expected = (
        Version::HTTP_2,
        // The server's own name, not one of its addresses.
        format!("http://localhost:{port}/inner"),
        false,
        Bytes::from_static(CALL.as_bytes()),
    );
    assert_eq!(*SEEN.lock().unwrap(), [expected.clone(), expected]);
}

fn certificate() -> (Files, reqwest::Certificate) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = [
        ("certificate", made.cert.pem()),
        ("key", made.signing_key.serialize_pem()),
    ];
    let files = files.map(|(name, pem)| (name.to_owned(), pem.into_bytes()));
    let root = reqwest::Certificate::from_der(made.cert.der()).unwrap();
    (Files::from(files), root)
}

#[tokio::test]
async fn tls_offers_both_and_takes_a_new_certificate_while_it_serves() {
    let server = Server::plain().await;
    let (tls, (old, old_root), (new, new_root)) = (Tls::default(), certificate(), certificate());
    tls.set(&old).unwrap();
    let mut setup = Setup::before(&server);
    setup.tls = Some(tls.clone());
    let gate = setup.start().await;
    let url = format!("https://{}/mcp", gate.address);
    let trusting = |root: &reqwest::Certificate| client().tls_certs_only([root.clone()]);
    for (client, version) in [
        (trusting(&old_root).build().unwrap(), Version::HTTP_2),
        (
            trusting(&old_root).http1_only().build().unwrap(),
            Version::HTTP_11,
        ),
    ] {
        let response = post(&client, &url, &gate.token(), CALL).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
    }
    let mut wrong = new.clone();
    wrong.insert("key".to_owned(), old["key"].clone());
    let error = tls.set(&wrong).unwrap_err();
    assert!(error.contains("cannot be used"), "{error}");
    for broken in ["certificate", "key"] {
        let mut files = new.clone();
        files.insert(broken.to_owned(), b"secret text".to_vec());
        let error = tls.set(&files).unwrap_err();
        assert!(
            error.contains(broken) && !error.contains("secret text"),
            "{error}"
        );
    }
    let still = trusting(&old_root).build().unwrap();
    assert_eq!(
        post(&still, &url, &gate.token(), CALL)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    tls.set(&new).unwrap();
    let newer = trusting(&new_root).build().unwrap();
    assert_eq!(
        post(&newer, &url, &gate.token(), CALL)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let older = trusting(&old_root).build().unwrap();
    assert!(post(&older, &url, &gate.token(), CALL).send().await.is_err());
}

#[tokio::test]
async fn a_handshake_that_does_not_come_about_ends() {
    let server = Server::plain().await;
    let tls = Tls::default();
    let mut setup = Setup::before(&server);
    setup.tls = Some(tls.clone());
    setup.timeouts.header_read = Duration::from_millis(200);
    let gate = setup.start().await;
    assert!(gate.connect().await.has_ended().await, "there is no certificate");
    tls.set(&certificate().0).unwrap();
    assert!(gate.connect().await.has_ended().await, "nothing was said");
    let mut plain = gate.connect().await;
    plain.send("GET / HTTP/1.1\r\n\r\n").await;
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain.into_stream(), &mut rest).await;
    assert!(!rest.starts_with(b"HTTP"), "plain HTTP is not answered");
}
