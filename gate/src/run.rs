//! The gate as a whole: its parts, put together, from start to end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use mcp_auth_cli::shutdown::Shutdown;
use mcp_auth_gate_core::{document::Document, policy::Policy};
use secrecy::ExposeSecret as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, SetOnce},
};

use crate::{
    access_log::AccessLog,
    admin::Admin,
    arbiter::Arbiter,
    authorizer::Authorizer,
    callers::Callers,
    clock::{SharedClock, SystemClock},
    config::Config,
    credentials::Credentials,
    exchange::Exchanges,
    faces::Faces,
    handles::Handles,
    keys::{KeyOptions, KeyStore},
    listen,
    metrics::{Input, Metrics},
    outbound::Outbound,
    proxy::{Proxy, ProxyParts, budget::Budget, server, tls, tls::Tls},
    session::Sessions,
    watch::{self, Place, Reports, Watched},
};

/// How long streams may take to end once they were told to.
const STREAM_END: Duration = Duration::from_secs(1);

/// Why the gate cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Signals cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// No HTTP client can be made.
    #[error("no HTTP client can be made for the other replicas")]
    Client,
    /// A part that runs for as long as the gate does has ended: what it keeps fresh would grow old without notice.
    #[error("the {0} has ended")]
    Ended(&'static str),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Randomness,
}

/// The parts that more than one other part needs.
struct Parts {
    authorizer: Arc<Authorizer>,
    exchanges: Arc<Exchanges>,
    sessions: Arc<Sessions>,
    metrics: Metrics,
    access_log: Arc<AccessLog>,
    tls: Option<Tls>,
}

impl Parts {
    fn arbiter(&self, config: &Config) -> Arbiter {
        Arbiter {
            authorizer: Arc::clone(&self.authorizer),
            exchanges: Arc::clone(&self.exchanges),
            metrics: self.metrics.clone(),
            access_log: Arc::clone(&self.access_log),
            largest_body: config.limits.body,
            places: Arc::new(Semaphore::new(config.limits.requests)),
            callers: Callers::new(config.limits.per_caller),
            budget: Budget::new(config.limits.buffered),
        }
    }
}

/// Runs the gate until it is asked to stop.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let shutdown = Shutdown::on_signals().map_err(RunError::Signals)?;
    let stream_end = Arc::new(SetOnce::new());
    let mut registry = Metrics::registry();
    let clock: SharedClock = Arc::new(SystemClock);
    let outbound = Outbound::new(config.insecure_allow_http);
    let keys = Arc::new(KeyStore::new(
        outbound.clone(),
        KeyOptions::default(),
        Arc::clone(&clock),
    ));
    keys.register(&mut registry);
    let parts = Parts {
        exchanges: Arc::new(Exchanges::new(outbound, Arc::clone(&clock))),
        authorizer: Arc::new(Authorizer::new(Arc::clone(&keys), clock)),
        sessions: Arc::new(Sessions::with_own_key().map_err(|_| RunError::Randomness)?),
        metrics: Metrics::new(&mut registry),
        access_log: Arc::new(AccessLog::new(config.access_log)),
        tls: config.tls.as_ref().map(|_| Tls::default()),
    };
    parts.exchanges.register(&mut registry);
    let (proxy, admin_listener) = (
        listen("proxy", config.addresses.proxy).await?,
        listen("admin", config.addresses.admin).await?,
    );
    let faces = Faces::bind(&config, &parts.arbiter(&config), &mut registry).await?;

    let reports = Reports::default();
    let mut inputs = inputs(&config, &parts);
    for input in &mut inputs {
        input.look(&reports, &parts.metrics);
    }
    let watcher = tokio::spawn(watch::run(inputs, reports.clone(), parts.metrics.clone()));
    let admin = Admin::new(registry, reports, Arc::clone(&keys), shutdown.clone());
    let keys = tokio::spawn(async move { keys.run().await });
    let admin = tokio::spawn(admin.run(admin_listener));
    let proxy = serve(&config, parts, proxy, faces.handles(), &stream_end, &shutdown);
    let server = tokio::spawn(faces.serve(shutdown.clone(), proxy));
    tokio::select! {
        () = shutdown.requested() => {}
        error = ended("watcher of files", watcher) => return Err(error),
        error = ended("fetcher of keys", keys) => return Err(error),
        error = ended("admin face", admin) => return Err(error),
    }
    stop(server, &stream_end, &shutdown, config.timeouts.drain).await;
    Ok(())
}

/// Waits until a part has ended, by itself or by a panic.
async fn ended<T>(part: &'static str, task: tokio::task::JoinHandle<T>) -> RunError {
    let _ = task.await;
    RunError::Ended(part)
}

pub(crate) async fn listen(face: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = listen::listen(face, address).await;
    bound.map_err(|error| RunError::Listen { address, error })
}

fn serve(
    config: &Config,
    parts: Parts,
    listener: TcpListener,
    handles: Option<Handles>,
    stream_end: &Arc<SetOnce<()>>,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<()> {
    let proxy = Proxy::new(ProxyParts {
        authorizer: parts.authorizer,
        exchanges: parts.exchanges,
        handles,
        upstream: config.addresses.upstream,
        sessions: parts.sessions,
        limits: config.limits,
        timeouts: config.timeouts,
        metrics: parts.metrics,
        access_log: parts.access_log,
        stream_end: Arc::clone(stream_end),
    });
    tokio::spawn(server::run(
        Arc::new(proxy),
        listener,
        parts.tls,
        shutdown.clone(),
    ))
}

/// Lets what is open end: requests by themselves, streams when the time is up.
async fn stop(
    mut server: tokio::task::JoinHandle<()>,
    stream_end: &SetOnce<()>,
    shutdown: &Shutdown,
    drain: Duration,
) {
    tracing::info!("stopping: what is open may end");
    tokio::select! {
        _ = &mut server => return,
        () = tokio::time::sleep(drain) => {}
        () = shutdown.forced() => return,
    }
    let _ = stream_end.set(());
    tokio::select! {
        _ = &mut server => {}
        () = tokio::time::sleep(STREAM_END) => tracing::warn!("requests were cut off: their time was up"),
        () = shutdown.forced() => {}
    }
}

/// The files that the gate lives by.
fn inputs(config: &Config, parts: &Parts) -> Vec<Watched> {
    let mut all = vec![policy_input(config, parts)];
    if let Some(directory) = &config.credentials {
        let (sessions, exchanges) = (Arc::clone(&parts.sessions), Arc::clone(&parts.exchanges));
        let place = Place::Directory(directory.clone());
        all.push(Watched::new(Input::Credentials, place, move |files| {
            let credentials = Credentials::parse(files).map_err(|error| error.to_string())?;
            let keys = credentials.session_keys.iter();
            let keys = keys.map(|key| key.expose_secret().as_slice());
            // Without any, sessions stay under the keys that they were begun with.
            if keys.len() > 0 {
                sessions
                    .set_keys(keys)
                    .map_err(|_| "session-keys cannot be used".to_owned())?;
            }
            exchanges.set_client(credentials.client.as_ref());
            Ok(Document::credentials_hash(files))
        }));
    }
    if let (Some(files), Some(tls)) = (&config.tls, &parts.tls) {
        let place = tls::place(files.certificate.clone(), files.key.clone());
        let tls = tls.clone();
        all.push(Watched::new(Input::Certificate, place, move |files| {
            tls.set(files)?;
            Ok(Document::credentials_hash(files))
        }));
    }
    all
}

fn policy_input(config: &Config, parts: &Parts) -> Watched {
    let (authorizer, exchanges) = (Arc::clone(&parts.authorizer), Arc::clone(&parts.exchanges));
    let metrics = parts.metrics.clone();
    let place = Place::File(config.policy.clone());
    Watched::new(Input::Policy, place, move |files| {
        let bytes = files.values().next().map(Vec::as_slice).unwrap_or_default();
        if bytes.is_empty() {
            return Err("the policy file is empty".to_owned());
        }
        let policy = Policy::parse(bytes).map_err(|error| error.to_string())?;
        let policy = Arc::new(policy);
        exchanges.follow(&policy);
        authorizer.set_policy(Arc::clone(&policy));
        metrics.policy_in_force(&policy.hash);
        Ok(policy.hash.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_is_noticed() {
        let returned = tokio::spawn(async {});
        let panicked = tokio::spawn(async { panic!("a bug") });
        for (part, error) in [
            ("returned", ended("returned", returned).await),
            ("panicked", ended::<()>("panicked", panicked).await),
        ] {
            assert_eq!(error.to_string(), format!("the {part} has ended"));
        }
        let running = tokio::spawn(std::future::pending::<()>());
        let waited = tokio::time::timeout(Duration::from_millis(50), ended("running", running)).await;
        assert!(waited.is_err());
    }
}
