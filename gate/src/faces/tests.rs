use std::{net::SocketAddr, sync::Mutex, time::Duration};

use axum::{Router, extract::State, routing};
use http::{HeaderMap, HeaderValue, header};
use mcp_auth_cli::shutdown::ShutdownTrigger;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::{
    access_log::{AccessLog, AccessLogForm},
    credentials::ClientCredentials,
    handles::HANDLE,
    metrics::Metrics,
    proxy::{Proxy, ProxyParts, server},
    session::Sessions,
    testing::{self, AuthorizationServer, CALL, NOW, Script, Signer, TARGET, exchange, issued},
};

/// An MCP server that buys a token for each call.
#[derive(Clone, Default)]
struct Upstream(Arc<UpstreamState>);

#[derive(Default)]
struct UpstreamState {
    tokens: Mutex<Option<SocketAddr>>,
    handles: Mutex<Vec<HeaderValue>>,
    called: Notify,
    may_buy: Notify,
    waits: Mutex<bool>,
}

impl Upstream {
    async fn buy(&self, handle: &HeaderValue) -> (u16, Value) {
        let address = self.0.tokens.lock().unwrap().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(format!("http://{address}/token/orders"));
        let response = request.header(&HANDLE, handle).send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
        )
    }
}

async fn call(State(upstream): State<Upstream>, headers: HeaderMap) -> impl axum::response::IntoResponse {
    let all: Vec<HeaderValue> = headers.get_all(&HANDLE).iter().cloned().collect();
    upstream.0.handles.lock().unwrap().extend(all.iter().cloned());
    upstream.0.called.notify_one();
    let waits = *upstream.0.waits.lock().unwrap();
    if waits {
        upstream.0.may_buy.notified().await;
    }
    let (status, bought) = match all.as_slice() {
        [handle] => upstream.buy(handle).await,
        _ => (0, Value::Null),
    };
    let body = json!({
        "handles": all.len(),
        "status": status,
        "token": bought["access_token"],
        "authorization": headers.contains_key(header::AUTHORIZATION),
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string())
}

/// A whole gate in front of that server.
struct Stage {
    gate: SocketAddr,
    upstream: Upstream,
    token: String,
    exchanged: String,
    trigger: ShutdownTrigger,
    serving: JoinHandle<()>,
    _server: AuthorizationServer,
}

async fn stage() -> Stage {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let exchanged = signer.sign(&json!({"aud": TARGET, "exp": NOW + 200}));
    let answer = issued(&exchanged, 120);
    server.set_token(move |_| Script::json(200, &answer));
    let upstream = Upstream::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/inner", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/inner", routing::post(call))
        .with_state(upstream.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let changes = json!({"upstream": {"url": url}, "exchanges": [exchange("orders", "Endpoint")]});
    let arbiter = testing::arbiter(&server, &changes);
    arbiter.exchanges.set_client(Some(&ClientCredentials {
        id: "notes".to_owned(),
        secret: "s3cret".into(),
    }));
    let flags = ["gate", "--policy", "/none", "--tokens-address", "127.0.0.1:0"];
    let config = Config::load(flags).unwrap();
    let mut registry = Metrics::registry();
    let faces = Faces::bind(&config, &arbiter, &mut registry).await.unwrap();
    assert!(
        faces.ext_authz.is_none() && faces.forward_auth.is_none(),
        "off unless asked for"
    );
    *upstream.0.tokens.lock().unwrap() = faces.handles().map(|handles| handles.own());

    let (trigger, shutdown) = Shutdown::new();
    let proxy = Proxy::new(ProxyParts {
        authorizer: Arc::clone(&arbiter.authorizer),
        exchanges: Arc::clone(&arbiter.exchanges),
        handles: faces.handles(),
        upstream: None,
        sessions: Arc::new(Sessions::with_own_key().unwrap()),
        limits: config.limits,
        timeouts: config.timeouts,
        metrics: arbiter.metrics.clone(),
        access_log: Arc::new(AccessLog::new(AccessLogForm::Off)),
        stream_end: Arc::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = listener.local_addr().unwrap();
    let proxy = tokio::spawn(server::run(Arc::new(proxy), listener, None, shutdown.clone()));
    Stage {
        gate,
        upstream,
        token: signer.sign(&testing::claims(&server, &json!({}))),
        exchanged,
        trigger,
        serving: tokio::spawn(faces.serve(shutdown, proxy)),
        _server: server,
    }
}

impl Stage {
    /// A call through the gate; what the server says came of it.
    fn call(&self, handle: Option<&str>) -> impl Future<Output = Value> + Send + use<> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = http
            .post(format!("http://{}/mcp", self.gate))
            .bearer_auth(&self.token);
        if let Some(handle) = handle {
            request = request.header(&HANDLE, handle);
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(CALL);
        async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
        }
    }
}

#[tokio::test]
async fn the_server_buys_a_token_while_the_request_is_open_and_not_after() {
    let stage = stage().await;
    let expected = json!({"handles": 1, "status": 200, "token": stage.exchanged, "authorization": false});
    assert_eq!(stage.call(None).await, expected);
    assert_eq!(stage.call(None).await, expected);
    let handles = stage.upstream.0.handles.lock().unwrap().clone();
    assert_ne!(handles[0], handles[1]);
    // The end of the answer reaches the client a moment before the gate has noticed it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for handle in &handles {
        assert_eq!(
            stage.upstream.buy(handle).await,
            (401, json!({"error": "invalid_handle"}))
        );
    }
}

#[tokio::test]
async fn a_handle_that_the_client_sends_never_arrives() {
    let stage = stage().await;
    assert_eq!(stage.call(Some("forged.handle")).await["handles"], 1);
    let handles = stage.upstream.0.handles.lock().unwrap().clone();
    assert_ne!(handles[0], "forged.handle");
}

#[tokio::test]
async fn tokens_are_sold_until_the_last_request_has_ended() {
    let stage = stage().await;
    *stage.upstream.0.waits.lock().unwrap() = true;
    let open = tokio::spawn(stage.call(None));
    stage.upstream.0.called.notified().await;
    stage.trigger.ask();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stage.serving.is_finished());
    stage.upstream.0.may_buy.notify_one();
    assert_eq!(open.await.unwrap()["status"], 200);
    tokio::time::timeout(Duration::from_secs(10), stage.serving)
        .await
        .unwrap()
        .unwrap();
}
