//! Client ID metadata documents, as whoever makes an MCP client publishes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::{Authority, Identity};

/// An https server on the loopback interface. To who trusts one of its names and not the others, it is as many servers.
pub struct Documents {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    serving: AbortHandle,
}

#[derive(Default)]
struct Shared {
    documents: BTreeMap<String, Value>,
    /// What is published at an address once it was read.
    next: BTreeMap<String, Value>,
    hanging: BTreeSet<String>,
    reads: BTreeMap<String, usize>,
}

impl Documents {
    /// Listens, with nothing published.
    pub async fn start(authority: &Authority) -> anyhow::Result<Self> {
        Self::listen(&authority.server_certificate()?).await
    }

    /// The same under other names than those of this machine.
    pub async fn start_for(authority: &Authority, names: &[&str]) -> anyhow::Result<Self> {
        Self::listen(&authority.server_certificate_for(names)?).await
    }

    async fn listen(identity: &Identity) -> anyhow::Result<Self> {
        let tls = TlsAcceptor::from(identity.tls_config()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let SocketAddr::V4(address) = listener.local_addr()? else {
            anyhow::bail!("it listens at an address of IPv6");
        };
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = tokio::spawn(serve(listener, tls, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            port: address.port(),
            shared,
            serving,
        })
    }

    /// Publishes a document that says what every client says, and `more`. Gives its address, which is the client id.
    pub fn publish(&self, host: &str, name: &str, callback: &str, more: &Value) -> String {
        let id = format!("https://{host}:{}/{name}.json", self.port);
        let mut document = json!({
            "client_id": id,
            "client_name": name,
            "redirect_uris": [callback],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        });
        if let (Some(fields), Some(more)) = (document.as_object_mut(), more.as_object()) {
            fields.extend(more.clone());
        }
        lock(&self.shared).documents.insert(id.clone(), document);
        id
    }

    /// Publishes whatever this is. Gives its address.
    pub fn show(&self, host: &str, name: &str, what: Value) -> String {
        let id = format!("https://{host}:{}/{name}.json", self.port);
        lock(&self.shared).documents.insert(id.clone(), what);
        id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Publishes another document in place of this one, and after it was read once, yet another.
    pub fn publish_once(&self, id: &str, first: Value, then: Value) {
        let mut shared = lock(&self.shared);
        shared.documents.insert(id.to_owned(), first);
        shared.next.insert(id.to_owned(), then);
    }

    /// The document at this address.
    pub fn of(&self, id: &str) -> Option<Value> {
        lock(&self.shared).documents.get(id).cloned()
    }

    /// Answers 404 there.
    pub fn withdraw(&self, id: &str) {
        lock(&self.shared).documents.remove(id);
    }

    /// Lets whoever asks for it wait for ever.
    pub fn hang(&self, id: &str) {
        lock(&self.shared).hanging.insert(id.to_owned());
    }

    /// How often a document was read.
    pub fn reads(&self, id: &str) -> usize {
        lock(&self.shared).reads.get(id).copied().unwrap_or_default()
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        // An error of accept concerns one connection that is already gone.
        if let Ok((stream, _)) = listener.accept().await {
            let (tls, shared) = (tls.clone(), Arc::clone(&shared));
            // Errors of a connection are the other side's to notice.
            connections.spawn(async move { talk(stream, &tls, &shared).await.ok() });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn talk(stream: TcpStream, tls: &TlsAcceptor, shared: &Arc<Mutex<Shared>>) -> anyhow::Result<()> {
    let stream = tls.accept(stream).await?;
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, shared);
        async {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// `None`: there is never an answer.
fn answer(
    request: &Request<Incoming>,
    shared: &Arc<Mutex<Shared>>,
) -> Option<Result<Response<Full<Bytes>>, http::Error>> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let id = format!("https://{}{}", host.unwrap_or_default(), request.uri().path());
    let mut shared = lock(shared);
    *shared.reads.entry(id.clone()).or_default() += 1;
    if shared.hanging.contains(&id) {
        return None;
    }
    let document = shared.documents.get(&id).cloned();
    if let Some(next) = shared.next.remove(&id) {
        shared.documents.insert(id, next);
    }
    let status = if document.is_some() {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    let body = document.as_ref().map(Value::to_string).unwrap_or_default();
    let answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body));
    Some(answer)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
