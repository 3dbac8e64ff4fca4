//! The HTTP endpoints for those who run the operator: `/metrics`, `/healthz`, `/readyz`. Nothing here needs or shows a
//! secret.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve,
};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    clock::SharedClock,
    metrics::{CONTENT_TYPE, Metrics},
};

#[cfg(test)]
mod tests;

/// Listens at an address. `[::]` stands for all addresses, of IPv4 as well; where there is no IPv6, for those of IPv4.
///
/// # Errors
/// When none of them can be listened on.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let everything = address.is_ipv6() && address.ip().is_unspecified();
    let instead = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    let in_turn = [Some(address), everything.then_some(instead)];
    TcpListener::bind(&in_turn.into_iter().flatten().collect::<Vec<_>>()[..]).await
}

/// Says what it still waits for, or nothing once it is ready.
type Probe = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What is known about the process's readiness. A clone shares it.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    clock: SharedClock,
    /// How long the API server may be silent before we call it unreachable.
    patience: Duration,
    state: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    answered: Option<Instant>,
    stopping: bool,
    caches: Vec<Probe>,
}

impl Health {
    /// Nothing is known yet. The API server counts as unreachable when it has not answered for `patience`.
    pub fn new(clock: SharedClock, patience: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                patience,
                state: Mutex::default(),
            }),
        }
    }

    /// The API server answered just now, be it with a refusal.
    pub fn api_server_answered(&self) {
        let now = self.shared.clock.instant();
        self.with(|facts| facts.answered = Some(now));
    }

    /// Makes readiness depend on a cache: `probe` says what is missing, if anything is.
    pub fn wait_for_cache(&self, probe: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.with(|facts| facts.caches.push(Box::new(probe)));
    }

    /// The process is on its way out and should get no more work.
    pub fn stopping(&self) {
        self.with(|facts| facts.stopping = true);
    }

    /// Nothing if the process can do its work (or wait for the lease in health), else why not.
    ///
    /// A replica that does not lead is ready: it is what a replica is for, and a rolling update waits for readiness.
    pub fn unready(&self) -> Option<String> {
        let now = self.shared.clock.instant();
        self.with(|facts| {
            if facts.stopping {
                return Some("the operator is stopping".to_owned());
            }
            match facts.answered {
                None => return Some("the API server has not answered yet".to_owned()),
                Some(answered) if now - answered > self.shared.patience => {
                    let silent = (now - answered).as_secs();
                    return Some(format!("the API server has not answered for {silent} s"));
                }
                Some(_) => {}
            }
            let missing: Vec<_> = facts.caches.iter().filter_map(|probe| probe()).collect();
            (!missing.is_empty()).then(|| format!("caches are not up to date: {}", missing.join("; ")))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Facts) -> T) -> T {
        // A probe that panicked has left nothing half-written here.
        act(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

/// What the endpoints show.
#[derive(Clone, Debug)]
struct Shown {
    metrics: Metrics,
    health: Health,
}

/// Serves the endpoints until `shutdown` completes.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn run(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve(listener, router(Shown { metrics, health }))
        .with_graceful_shutdown(shutdown)
        .await
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .with_state(shown)
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn show_readiness(State(shown): State<Shown>) -> (StatusCode, String) {
    match shown.health.unready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
