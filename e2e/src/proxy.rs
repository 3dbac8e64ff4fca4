//! A reverse proxy that writes down every call and breaks those it is told to break.
//!
//! It stands between one operator and Keycloak, or between one operator and the API server. Keycloak's issuer does not
//! depend on it, because Keycloak is started with its own full URL as hostname; an AuthorizationServer names the proxy's
//! address under `endpoints`. At the API server callers show a token, which is passed on.

mod call;
mod fault;
mod passing;
mod point;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::Authority;

pub use call::Call;
pub use fault::{Fault, Hits};
pub use point::Point;

/// An https reverse proxy on a port of its own. It ends when it is dropped.
pub struct RecordingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Serving>,
}

enum Serving {
    Accepting(AbortHandle),
    /// The port stays ours, but nobody listens on it: connecting fails at once.
    Refusing(TcpSocket),
    /// Only for the moment between the two.
    Changing,
}

/// What all connections share.
struct Shared {
    upstream: String,
    http: reqwest::Client,
    tls: TlsAcceptor,
    calls: Mutex<Vec<Call>>,
    tokens: Mutex<BTreeSet<String>>,
    faults: Mutex<Vec<Fault>>,
    /// Counts how often the proxy was healed: what hangs gives up at the next time.
    healed: watch::Sender<u64>,
}

impl RecordingProxy {
    /// Starts a proxy in front of `upstream`, the scheme and authority of a server with a certificate of `authority`.
    pub fn start(upstream: &str, authority: &Authority) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, upstream, authority)
    }

    /// The same at another address of this machine.
    pub fn start_at(host: Ipv4Addr, upstream: &str, authority: &Authority) -> anyhow::Result<Self> {
        let socket = reserve(SocketAddr::from((host, 0)))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            http: authority.http_client()?.http1_only().build()?,
            tls: TlsAcceptor::from(authority.server_certificate_at(&host.to_string())?.tls_config()?),
            calls: Mutex::default(),
            tokens: Mutex::default(),
            faults: Mutex::default(),
            healed: watch::Sender::new(0),
        });
        let proxy = Self {
            address,
            shared,
            serving: Mutex::new(Serving::Refusing(socket)),
        };
        proxy.accept_connections()?;
        Ok(proxy)
    }

    /// Its address, `https://host:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    /// The same, and forgets them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.shared.calls))
    }

    /// The calls that change something, see [`Call::is_write`].
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_write).collect()
    }

    /// Every token that was sent through it or answered, to look for where none may be.
    pub fn tokens(&self) -> Vec<SecretString> {
        let tokens = lock(&self.shared.tokens);
        tokens.iter().cloned().map(SecretString::from).collect()
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        lock(&self.shared.calls).clear();
    }

    /// Breaks calls from now on. Of several faults the one that was injected first and matches counts.
    pub fn inject(&self, fault: Fault) -> Hits {
        let hits = fault.hits();
        lock(&self.shared.faults).push(fault);
        hits
    }

    /// Ends all faults, lets go of what hangs (by closing its connection) and of what is held (by carrying it out), and
    /// accepts connections again.
    pub fn heal(&self) -> anyhow::Result<()> {
        lock(&self.shared.faults).clear();
        self.shared.healed.send_modify(|times| *times += 1);
        self.accept_connections()
    }

    /// From now on connecting fails with "connection refused", and open connections are closed.
    pub async fn refuse_connections(&self) -> anyhow::Result<()> {
        let accepting = std::mem::replace(&mut *lock(&self.serving), Serving::Changing);
        if let Serving::Accepting(task) = &accepting {
            task.abort();
            // The listener is closed when the task has noticed.
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        let next = match accepting {
            Serving::Refusing(socket) => Serving::Refusing(socket),
            Serving::Accepting(_) | Serving::Changing => Serving::Refusing(reserve(self.address)?),
        };
        *lock(&self.serving) = next;
        Ok(())
    }

    fn accept_connections(&self) -> anyhow::Result<()> {
        let mut serving = lock(&self.serving);
        match std::mem::replace(&mut *serving, Serving::Changing) {
            Serving::Refusing(socket) => {
                let listener = socket.listen(1024).context("the proxy cannot listen")?;
                let task = tokio::spawn(serve(listener, Arc::clone(&self.shared)));
                *serving = Serving::Accepting(task.abort_handle());
            }
            unchanged => *serving = unchanged,
        }
        Ok(())
    }
}

impl Drop for RecordingProxy {
    fn drop(&mut self) {
        if let Serving::Accepting(task) = &*lock(&self.serving) {
            task.abort();
        }
    }
}

fn reserve(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of a moment ago may linger on the port.
    socket.set_reuseaddr(true)?;
    socket
        .bind(address)
        .with_context(|| format!("the proxy cannot use {address}"))?;
    Ok(socket)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with this task, so that nothing answers while connections are refused.
    let mut connections = JoinSet::new();
    loop {
        // An error of accept concerns one connection that is already gone.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Errors of a connection are the other side's to notice.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(stream) = shared.tls.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { shared.handle(request).await }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
