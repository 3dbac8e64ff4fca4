//! A gate on loopback, and a client that writes and reads bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mcp_auth_cli::shutdown::{Shutdown, ShutdownTrigger};
use mcp_auth_gate_core::policy::Policy;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::SetOnce,
    task::JoinHandle,
    time::timeout,
};

use super::server::Server;
use crate::{
    access_log::{AccessLog, AccessLogForm},
    authorizer::Authorizer,
    config::{Limits, Timeouts},
    exchange::Exchanges,
    handles::Handles,
    keys::{KeyOptions, KeyStore},
    metrics::{self, Metrics},
    outbound::Outbound,
    proxy::{Proxy, ProxyParts, server, tls::Tls},
    session::Sessions,
    testing::{self, AuthorizationServer, ManualClock, NOW, Signer},
};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How a gate is set up.
pub(super) struct Setup {
    pub(super) policy: Value,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) tls: Option<Tls>,
    pub(super) sessions: Arc<Sessions>,
}

impl Setup {
    /// In front of these servers' name.
    pub(super) fn new(upstream: &str) -> Self {
        Self {
            policy: json!({"upstream": {"url": upstream}}),
            limits: Limits {
                body: 1 << 20,
                buffered: 64 << 20,
                header: 32 << 10,
                requests: 1000,
                per_caller: 1000,
                connections: 1000,
            },
            timeouts: Timeouts {
                header_read: PATIENCE,
                body_read: PATIENCE,
                connect: Duration::from_secs(1),
                upstream_header: PATIENCE,
                stream_idle: None,
                stream_grace: Duration::from_mins(1),
                drain: PATIENCE,
            },
            tls: None,
            sessions: Arc::new(Sessions::with_own_key().unwrap()),
        }
    }

    /// In front of this server.
    pub(super) fn before(server: &Server) -> Self {
        Self::new(&format!("http://{}/inner", server.address))
    }

    pub(super) async fn start(self) -> Gate {
        Gate::start(self).await
    }
}

/// A gate that serves.
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    pub(super) authorization_server: AuthorizationServer,
    pub(super) trigger: ShutdownTrigger,
    pub(super) stream_end: Arc<SetOnce<()>>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) exchanges: Arc<Exchanges>,
    pub(super) handles: Handles,
    pub(super) policy: Arc<Policy>,
    pub(super) signer: Signer,
    authorizer: Arc<Authorizer>,
    document: Value,
    registry: prometheus_client::registry::Registry,
    task: JoinHandle<()>,
    keys: JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
        self.keys.abort();
    }
}

impl Gate {
    async fn start(setup: Setup) -> Self {
        let signer = Signer::new("k1");
        let authorization_server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let policy = testing::policy(&authorization_server, &setup.policy);
        let (clock, outbound) = (ManualClock::at(NOW), Outbound::new(false));
        let keys = Arc::new(KeyStore::new(
            outbound.clone(),
            KeyOptions::default(),
            clock.clone(),
        ));
        let authorizer = Arc::new(Authorizer::new(Arc::clone(&keys), clock.clone()));
        let exchanges = Arc::new(Exchanges::new(outbound, clock.clone()));
        exchanges.follow(&policy);
        authorizer.set_policy(Arc::clone(&policy));
        let (trigger, shutdown) = Shutdown::new();
        let stream_end = Arc::new(SetOnce::new());
        let mut registry = Metrics::registry();
        let own = "127.0.0.1:8082".parse().unwrap();
        let handles = Handles::new(own, 100, clock.clone());
        let proxy = Proxy::new(ProxyParts {
            authorizer: Arc::clone(&authorizer),
            exchanges: Arc::clone(&exchanges),
            handles: Some(handles.clone()),
            upstream: None,
            sessions: setup.sessions,
            limits: setup.limits,
            timeouts: setup.timeouts,
            metrics: Metrics::new(&mut registry),
            access_log: Arc::new(AccessLog::new(AccessLogForm::Off)),
            stream_end: Arc::clone(&stream_end),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(server::run(Arc::new(proxy), listener, setup.tls, shutdown));
        let keys = tokio::spawn(async move {
            let _ = keys.run().await;
        });
        Self {
            address,
            authorization_server,
            trigger,
            stream_end,
            clock,
            exchanges,
            handles,
            policy,
            signer,
            authorizer,
            document: setup.policy,
            registry,
            task,
            keys,
        }
    }

    /// Puts another policy into force: the first one with this field.
    pub(super) fn change_policy(&self, field: &str, value: Value) {
        let mut document = self.document.clone();
        document[field] = value;
        let policy = testing::policy(&self.authorization_server, &document);
        self.exchanges.follow(&policy);
        self.authorizer.set_policy(policy);
    }

    /// A token of alice's, with changes to what it says.
    pub(super) fn token_with(&self, changes: &Value) -> String {
        self.signer
            .sign(&testing::claims(&self.authorization_server, changes))
    }

    pub(super) fn token(&self) -> String {
        self.token_with(&json!({}))
    }

    pub(super) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A POST of this body with alice's token and these further lines of its head.
    pub(super) fn post(&self, body: &str, lines: &str) -> String {
        post(&self.token(), body, lines)
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Response {
        let mut client = self.connect().await;
        client.send(request).await;
        client.response().await
    }

    /// The value of a metric, with its labels as they are written.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let text = metrics::encode(&self.registry).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// Waits until the gate has ended.
    pub(super) async fn ended(&mut self) {
        timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
    }

    pub(super) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

/// A POST as MCP clients send it.
pub(super) fn post(token: &str, body: &str, lines: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         Content-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
}

/// A GET as MCP clients of the old wire send it.
pub(super) fn get(token: &str, lines: &str) -> String {
    format!(
        "GET /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\n{lines}\r\n"
    )
}

/// A call that no rule is about.
pub(super) const CALL: &str =
    r#"{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "look"}}"#;

/// An answer, as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Response {
    /// The one value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(key, _)| key == name);
        let value = all.next()?.1.as_str();
        assert!(all.next().is_none(), "{name} is there twice: {:?}", self.headers);
        Some(value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A connection to the gate.
pub(super) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// Reads more; `false` at the end of the connection.
    async fn more(&mut self) -> bool {
        self.read.reserve(16 << 10);
        let count = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        // A connection that is reset has ended, too.
        let count = count.expect("nothing came").unwrap_or(0);
        count > 0
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(
                self.more().await,
                "cut off: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
        self.read.drain(..count).collect()
    }

    /// The head of the next answer; `None` when the connection ended.
    pub(super) async fn head(&mut self) -> Option<Response> {
        let mut response = Response::default();
        let first = self.line().await?;
        response.status = first.split(' ').nth(1).unwrap().parse().unwrap();
        while let Some(line) = self.line().await.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            response
                .headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(response)
    }

    /// The next answer, whole.
    pub(super) async fn response(&mut self) -> Response {
        let mut response = self.head().await.expect("no answer");
        let body = if response.header("transfer-encoding") == Some("chunked") {
            let mut all = Vec::new();
            while let Some(chunk) = self.chunk().await {
                all.extend_from_slice(chunk.as_bytes());
            }
            all
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            self.exactly(length).await
        } else {
            Vec::new()
        };
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// The next piece of a chunked body; `None` after the last.
    pub(super) async fn chunk(&mut self) -> Option<String> {
        let size = self.line().await.expect("the body was cut off");
        let size = usize::from_str_radix(&size, 16).unwrap();
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        (size > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// Whether the connection has ended, and nothing came before.
    pub(super) async fn has_ended(&mut self) -> bool {
        assert!(self.read.is_empty(), "{:?}", String::from_utf8_lossy(&self.read));
        !self.more().await
    }

    /// Whether nothing comes for a while.
    pub(super) async fn is_silent_for(&mut self, long: Duration) -> bool {
        self.read.is_empty() && timeout(long, self.stream.readable()).await.is_err()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}
