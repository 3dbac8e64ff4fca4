//! The public address of a gate: like an ingress, it passes everything on as it came, and writes down what it saw.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, anyhow};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// An http reverse proxy on its own port of 127.0.0.1. Answers stream through it. It ends when it is dropped.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: AbortHandle,
}

/// One request, and the head of its answer. Holds no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// The method of the MCP message in it and what that is about, such as `tools/call echo`; empty for none.
    pub message: String,
    /// Whether the client sent a token.
    pub token: bool,
    /// What was answered; None while it runs, and when there was no answer.
    pub status: Option<StatusCode>,
    /// The `WWW-Authenticate` of the answer.
    pub challenge: Option<String>,
}

#[derive(Default)]
struct Shared {
    way: Mutex<Way>,
    visits: Mutex<Vec<Visit>>,
    tokens: Mutex<BTreeSet<String>>,
}

/// Where requests go and what is added to them.
#[derive(Clone, Default)]
struct Way {
    to: Option<SocketAddr>,
    token: Option<SecretString>,
}

impl Front {
    /// Listens. Requests are refused until there is a gate to lead them to.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    /// The address of the MCP endpoint behind it, which is its canonical URI.
    pub fn resource(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Leads requests to `gate` from now on.
    pub fn lead_to(&self, gate: SocketAddr) {
        lock(&self.shared.way).to = Some(gate);
    }

    /// Adds this token to requests that have none, for clients that cannot send one.
    pub fn add_token(&self, token: &SecretString) {
        lock(&self.shared.way).token = Some(token.clone());
    }

    /// Every request so far, in the order of arrival.
    pub fn visits(&self) -> Vec<Visit> {
        lock(&self.shared.visits).clone()
    }

    /// Every token that came to it or was added, to look for where none may be.
    pub fn tokens(&self) -> Vec<SecretString> {
        let tokens = lock(&self.shared.tokens);
        tokens.iter().cloned().map(SecretString::from).collect()
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        lock(&self.shared.visits).clear();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // An error of accept concerns one connection that is already gone.
        if let Ok((stream, _)) = listener.accept().await {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let service = service_fn(|request| shared.handle(request));
                // Errors of a connection are the other side's to notice.
                let _ = server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    /// An error closes the connection without an answer.
    async fn handle(&self, request: Request<Incoming>) -> anyhow::Result<Response<Incoming>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let number = {
            let mut visits = lock(&self.visits);
            visits.push(Visit {
                method: parts.method.clone(),
                path: parts.uri.path().to_owned(),
                message: describe(&body),
                token: parts.headers.contains_key(header::AUTHORIZATION),
                status: None,
                challenge: None,
            });
            visits.len() - 1
        };
        let way = lock(&self.way).clone();
        if let (Some(token), None) = (way.token, parts.headers.get(header::AUTHORIZATION)) {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))?;
            parts.headers.insert(header::AUTHORIZATION, value);
        }
        let sent = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::to_str);
        let sent = sent.transpose()?.and_then(|value| value.strip_prefix("Bearer "));
        lock(&self.tokens).extend(sent.map(str::to_owned));
        let to = way.to.context("there is no gate yet")?;
        let response = forward(to, Request::from_parts(parts, body)).await?;
        // The record may have been cleared meanwhile.
        if let Some(visit) = lock(&self.visits).get_mut(number) {
            let challenge = response.headers().get(header::WWW_AUTHENTICATE);
            visit.status = Some(response.status());
            visit.challenge = challenge.and_then(|value| value.to_str().ok()).map(str::to_owned);
        }
        Ok(response)
    }
}

/// Over a connection of its own, which ends when the client goes away.
async fn forward(to: SocketAddr, request: Request<Bytes>) -> anyhow::Result<Response<Incoming>> {
    let (mut parts, body) = request.into_parts();
    only_end_to_end(&mut parts.headers);
    let stream = TcpStream::connect(to)
        .await
        .map_err(|error| anyhow!("{to}: {error}"))?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut response = sender
        .send_request(Request::from_parts(parts, Full::new(body)))
        .await?;
    only_end_to_end(response.headers_mut());
    Ok(response)
}

/// Takes away what belongs to one connection (RFC 9110 section 7.6.1). The lengths of bodies stay what they were.
fn only_end_to_end(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// The method of a message, and the tool, prompt or resource that it is about.
fn describe(body: &[u8]) -> String {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = [
        &message["method"],
        &message["params"]["name"],
        &message["params"]["uri"],
    ];
    let words: Vec<&str> = words.into_iter().filter_map(Value::as_str).collect();
    words.join(" ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
