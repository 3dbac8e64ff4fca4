//! The MCP server: its addresses, and connections to each of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::Scheme};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use mcp_auth_gate_core::document::{self, Protocol};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use super::{connect::Connector, server::ALIVE};
use crate::{config::Timeouts, metrics::UpstreamFailure};

#[cfg(test)]
mod tests;

/// How long the addresses of a name are used before they are asked for again.
const FRESH: Duration = Duration::from_secs(5);
/// How many addresses are tried for one request.
const TRIES: usize = 3;
/// How long an unused connection is kept: less than the 5 s after which Node.js and uvicorn close one, since a request
/// that crosses the end of its connection is lost, and cannot be sent again.
const IDLE: Duration = Duration::from_secs(4);
const MOST_IDLE: usize = 256;

/// A server, with what is known of its addresses.
#[derive(Debug)]
pub(crate) struct Upstream {
    of: document::Upstream,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: String,
    timeouts: Timeouts,
    /// Where it is, if not where its host resolves to.
    fixed: Option<SocketAddr>,
    resolved: Mutex<Resolved>,
    resolving: tokio::sync::Mutex<()>,
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Resolved {
    at: Option<Instant>,
    endpoints: Arc<[Arc<Endpoint>]>,
}

/// One address of the server.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    load: AtomicUsize,
    client: Client<Connector, Full<Bytes>>,
}

/// A request that an address works at, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Endpoint>);

impl Lease {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    /// The address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request to the server.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Upstream {
    /// The server that a policy names, at `fixed` if that is given; `None` for an address that the policy's own check
    /// would have refused.
    pub(crate) fn new(
        of: &document::Upstream,
        timeouts: Timeouts,
        fixed: Option<SocketAddr>,
    ) -> Option<Self> {
        let url = Url::parse(&of.url).ok()?;
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_owned(),
        };
        Some(Self {
            of: of.clone(),
            host,
            port: url.port_or_known_default()?,
            authority: HeaderValue::from_str(&authority).ok()?,
            path: url.path().to_owned(),
            timeouts,
            fixed,
            resolved: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
            next: AtomicUsize::new(0),
        })
    }

    /// Whether this is still the server that the policy names.
    pub(crate) fn is(&self, of: &document::Upstream) -> bool {
        self.of == *of
    }

    /// What the `Host` header says.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.authority
    }

    /// Whether the server has this address now.
    pub(crate) async fn has(self: &Arc<Self>, address: SocketAddr) -> bool {
        let is_there = |all: &[Arc<Endpoint>]| all.iter().any(|one| one.address == address);
        match self.endpoints().await {
            Ok(all) if is_there(&all) => true,
            // It may be newer than what is known.
            _ => self
                .resolve(Duration::from_secs(1))
                .await
                .is_ok_and(|all| is_there(&all)),
        }
    }

    /// Sends a request, to this address or to the one that has least to do. Another one is tried only when no
    /// connection came about, so that nothing is ever sent twice.
    pub(crate) async fn send(
        self: &Arc<Self>,
        call: &Call,
        to: Option<SocketAddr>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamFailure> {
        let endpoints = self.endpoints().await?;
        let candidates = self.in_order(&endpoints, to);
        for endpoint in candidates {
            let lease = Lease::of(endpoint);
            let request = self.request(call).ok_or(UpstreamFailure::Broken)?;
            let answer = timeout(self.timeouts.upstream_header, endpoint.client.request(request)).await;
            match answer {
                Ok(Ok(response)) => return Ok((response, lease)),
                Ok(Err(error)) if error.is_connect() => {
                    tracing::debug!(address = %endpoint.address, "no connection to the server");
                }
                Ok(Err(_)) => return Err(UpstreamFailure::Broken),
                Err(_) => return Err(UpstreamFailure::Timeout),
            }
        }
        Err(UpstreamFailure::Connect)
    }

    /// The addresses to try, the one with least to do first; of equal ones each in turn.
    fn in_order<'a>(&self, all: &'a [Arc<Endpoint>], only: Option<SocketAddr>) -> Vec<&'a Arc<Endpoint>> {
        if let Some(only) = only {
            return all.iter().filter(|one| one.address == only).collect();
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut candidates: Vec<&Arc<Endpoint>> = all.iter().collect();
        if candidates.len() > 1 {
            candidates.rotate_left(turn % all.len());
            candidates.sort_by_key(|one| one.load.load(Ordering::Relaxed));
            candidates.truncate(TRIES);
        }
        candidates
    }

    fn request(&self, call: &Call) -> Option<Request<Full<Bytes>>> {
        let target = match &call.query {
            Some(query) => format!("{}?{query}", self.path).try_into().ok()?,
            None => self.path.as_str().try_into().ok()?,
        };
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.to_str().ok()?.try_into().ok()?);
        uri.path_and_query = Some(target);
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.headers_mut() = call.headers.clone();
        if self.of.protocol == Protocol::H2c {
            // It is in the URL there.
            request.headers_mut().remove(header::HOST);
            *request.version_mut() = Version::HTTP_2;
        }
        Some(request)
    }

    /// The addresses as they are known, asked for again when that was some time ago. While they are asked for, those
    /// that were known go on being used.
    async fn endpoints(self: &Arc<Self>) -> Result<Arc<[Arc<Endpoint>]>, UpstreamFailure> {
        let (age, known) = self.known();
        match age {
            Some(age) if age < FRESH => Ok(known),
            Some(_) if !known.is_empty() => {
                if self.resolving.try_lock().is_ok() {
                    let upstream = Arc::clone(self);
                    tokio::spawn(async move { upstream.resolve(FRESH).await });
                }
                Ok(known)
            }
            _ => self.resolve(FRESH).await,
        }
    }

    fn known(&self) -> (Option<Duration>, Arc<[Arc<Endpoint>]>) {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        (
            resolved.at.map(|at| at.elapsed()),
            Arc::clone(&resolved.endpoints),
        )
    }

    /// Asks for the addresses, unless that was done within `fresh`. What was known stays when nobody answers: a server
    /// does not move because a name server is down.
    async fn resolve(&self, fresh: Duration) -> Result<Arc<[Arc<Endpoint>]>, UpstreamFailure> {
        let _one_at_a_time = self.resolving.lock().await;
        let (age, known) = self.known();
        if age.is_some_and(|age| age < fresh) && !known.is_empty() {
            return Ok(known);
        }
        let found = self.look_up().await;
        let endpoints = if found.is_empty() {
            known
        } else {
            self.endpoints_at(found, &known)
        };
        if endpoints.is_empty() {
            return Err(UpstreamFailure::Resolve);
        }
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        *resolved = Resolved {
            at: Some(Instant::now()),
            endpoints: Arc::clone(&endpoints),
        };
        Ok(endpoints)
    }

    /// Where the server is; empty when nobody knows.
    async fn look_up(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = self.fixed {
            return vec![fixed];
        }
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        match timeout(self.timeouts.connect, lookup).await {
            Ok(Ok(found)) => found.collect(),
            _ => Vec::new(),
        }
    }

    /// Connections to addresses that stay are kept.
    fn endpoints_at(&self, mut found: Vec<SocketAddr>, known: &[Arc<Endpoint>]) -> Arc<[Arc<Endpoint>]> {
        found.sort_unstable();
        found.dedup();
        let endpoint = |address: SocketAddr| {
            let same = known.iter().find(|one| one.address == address);
            same.map_or_else(|| Arc::new(self.endpoint(address)), Arc::clone)
        };
        found.into_iter().map(endpoint).collect()
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .set_host(false)
            .http2_only(self.of.protocol == Protocol::H2c)
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE / 4)
            .build(Connector::new(address, self.timeouts.connect));
        Endpoint {
            address,
            load: AtomicUsize::new(0),
            client,
        }
    }
}
