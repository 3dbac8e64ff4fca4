//! The HTTP endpoints for those who run the gate: `/livez`, `/readyz`, `/policy`, `/metrics`. Nothing here needs or
//! shows a secret.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mcp_auth_cli::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    accept::accept,
    keys::KeyStore,
    metrics::{self, Input},
    watch::Reports,
};

#[cfg(test)]
mod tests;

/// How many connections there may be: probes and scrapes are few.
const MOST: usize = 64;
/// How long a connection may take for a head, or be idle.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the endpoints show.
#[derive(Debug)]
pub struct Admin {
    registry: Registry,
    reports: Reports,
    keys: Arc<KeyStore>,
    shutdown: Shutdown,
}

impl Admin {
    /// Shows these.
    pub fn new(registry: Registry, reports: Reports, keys: Arc<KeyStore>, shutdown: Shutdown) -> Self {
        Self {
            registry,
            reports,
            keys,
            shutdown,
        }
    }

    /// Serves the endpoints for as long as it is polled.
    pub async fn run(self, listener: TcpListener) -> Infallible {
        let (admin, places) = (Arc::new(self), Arc::new(Semaphore::new(MOST)));
        loop {
            let (stream, place) = accept(&listener, &places, || {}).await;
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                admin.serve(stream).await;
                drop(place);
            });
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request: Request<_>| {
            let response = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let mut server = http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(16 << 10);
        // How a scraper ends its connection is its own affair.
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/policy" => self.policy(),
            "/metrics" => match metrics::encode(&self.registry) {
                Ok(all) => response(StatusCode::OK, metrics::CONTENT_TYPE, all),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot be written\n"),
            },
            _ => text(StatusCode::NOT_FOUND, "nothing is here\n"),
        }
    }

    /// Ready is a gate that has a policy to decide by. That what is there now is not in force is told, but another
    /// replica would not do better.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let policy = self.reports.of(Input::Policy);
        let mut lines = String::new();
        let status = if self.shutdown.is_requested() {
            lines.push_str("the gate is stopping\n");
            StatusCode::SERVICE_UNAVAILABLE
        } else if policy.hash.is_none() {
            lines.push_str("there is no policy yet\n");
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            lines.push_str("ok\n");
            StatusCode::OK
        };
        for (input, problem) in self.reports.problems() {
            let _ = writeln!(lines, "{input}: {problem}");
        }
        response(status, "text/plain; charset=utf-8", lines)
    }

    fn policy(&self) -> Response<Full<Bytes>> {
        let hash = |input| self.reports.of(input).hash;
        let body = json!({
            "policy": hash(Input::Policy),
            "credentials": hash(Input::Credentials),
            "keys": self.keys.are_there(),
        });
        response(StatusCode::OK, "application/json", body.to_string())
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
