//! From a checked configuration to running controllers, and back to an orderly end.
//!
//! Order matters at both ends: the endpoints come up first, so that a replica that waits can be seen to wait; it may
//! lead once its caches are filled; the lease is given up last, after everything that wrote under it has ended.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use mcp_auth_cli::shutdown::Shutdown;
use thiserror::Error;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::sleep,
};

use crate::{
    admin::{self, Health},
    clock::SystemClock,
    config::Config,
    controllers::{self, Parts},
    egress::{Egress, cluster::ClusterAddressKeeper},
    lease::{Election, Elector, LeaseError},
    metrics::Metrics,
    telemetry::TraceId,
    watch::ControllerError,
};

mod preflight;
#[cfg(test)]
mod tests;

pub use preflight::PreflightError;

/// How long running reconciles may take to finish once the process is asked to stop: time for a call that is under
/// way and for writing down what it did, and well within the 30 s that Kubernetes gives a pod.
const GRACE: Duration = Duration::from_secs(10);

/// How long the API server may be silent before a replica calls itself unready, unless its lease lasts longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long each source of the cluster's own addresses may take before anything else starts.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Why the operator ended, in one line.
#[derive(Debug, Error)]
pub enum RunError {
    /// The cluster cannot be worked with.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The address for metrics and probes is taken, or is not ours.
    #[error("cannot listen on {address} for metrics and probes: {problem}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The operating system's words.
        problem: std::io::Error,
    },
    /// The operating system lets us listen for no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// The election is over; another replica may be working.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A controller or a watch ended by itself.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The process was told twice to stop.
    #[error("stopped at once, as asked, without finishing what was running")]
    Forced,
    /// A task ended by a defect of this program.
    #[error("a defect ended the operator: {0}")]
    Defect(#[from] JoinError),
}

/// Runs until the process is asked to stop.
///
/// # Errors
/// When it cannot start, or has to stop without having been asked to.
pub async fn run(config: Config) -> Result<(), RunError> {
    let shutdown = Shutdown::on_signals().map_err(RunError::Signals)?;
    tokio::select! {
        ended = start(config, shutdown.clone()) => ended,
        () = shutdown.forced() => Err(RunError::Forced),
    }
}

async fn start(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let clock = SystemClock::shared();
    let metrics = Metrics::default();
    let health = Health::new(clock.clone(), (config.lease.duration * 2).max(PATIENCE));
    let listener = admin::listen(config.admin_address)
        .await
        .map_err(|problem| RunError::Listen {
            address: config.admin_address,
            problem,
        })?;
    let endpoints = admin::run(listener, metrics.clone(), health.clone(), std::future::pending());
    let _endpoints = AbortOnDrop(tokio::spawn(endpoints));

    let connection = preflight::connect().await?;
    let client = connection.client;
    let installation = preflight::check(&client, config.installation.as_deref()).await?;
    announce(&config, &installation);

    let egress = Egress::new(config.egress);
    let keeper = ClusterAddressKeeper::new(
        client.clone(),
        &connection.host,
        egress.cluster_addresses().clone(),
    );
    let _keeper = AbortOnDrop(tokio::spawn(keep_addresses(keeper).await));

    let election = Election {
        client: client.clone(),
        namespace: config.namespace.clone(),
        lease: config.lease.clone(),
        identity: identity(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let (elector, leadership) = Elector::new(election);
    let parts = Parts {
        client,
        config,
        installation,
        clock,
        metrics,
        leadership,
        egress,
        health: health.clone(),
    };
    lead(elector, shutdown, health, |asked, able| {
        controllers::run(parts, asked, able)
    })
    .await
}

/// Does `work` beside the election, and gives the lease up once `work` has ended.
///
/// `work` says when it is able to lead, and waits for its leadership by itself.
async fn lead<W>(
    elector: Elector,
    shutdown: Shutdown,
    health: Health,
    work: impl FnOnce(BoxFuture<'static, ()>, oneshot::Sender<()>) -> W,
) -> Result<(), RunError>
where
    W: Future<Output = Result<(), ControllerError>>,
{
    let (able, enabled) = oneshot::channel::<()>();
    let (release, released) = oneshot::channel::<()>();
    let enabled = async {
        if enabled.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut election = tokio::spawn(elector.run(enabled, async {
        // Dropping the other end releases too: no path out of here keeps the lease.
        let _ = released.await;
    }));
    let asked = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.requested().await;
            health.stopping();
            tracing::info!("asked to stop; finishing what is running");
        }
    };
    let worked = tokio::select! {
        // The fence has fallen already; what is running is aborted by leaving.
        lost = &mut election => return Err(unasked(lost)),
        worked = work(asked.boxed(), able) => worked,
        () = grace_after(shutdown) => {
            tracing::warn!(seconds = GRACE.as_secs(), "some reconciles did not finish in time and are aborted");
            Ok(())
        }
    };
    drop(release);
    election.await??;
    Ok(worked?)
}

/// Why an election that should still be going on is over.
fn unasked(ended: Result<Result<(), LeaseError>, JoinError>) -> RunError {
    match ended {
        Ok(Err(lost)) => lost.into(),
        Err(defect) => defect.into(),
        // It ends well only when it is released, which nobody did.
        Ok(Ok(())) => RunError::Forced,
    }
}

async fn grace_after(shutdown: Shutdown) {
    shutdown.requested().await;
    sleep(GRACE).await;
}

/// Looks once, for a bounded time, so that the first URL is checked against something; then goes on in the background.
async fn keep_addresses(mut keeper: ClusterAddressKeeper) -> impl Future<Output = ()> + Send + 'static {
    keeper.refresh(FIRST_LOOK).await;
    async move {
        keeper.run().await;
    }
}

/// Who this process is: the pod's name for people, and something that no other process has, not even this pod's next.
fn identity() -> String {
    let host = ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let unique = TraceId::random().to_string();
    format!(
        "{}_{}",
        host.as_deref().unwrap_or("mcp-auth-operator"),
        &unique[..12]
    )
}

fn announce(config: &Config, installation: &str) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = config.namespace,
        serves = %config.watch,
        installation,
        "starting"
    );
    if config.egress.insecure_allow_loopback {
        tracing::warn!(
            "--insecure-allow-loopback is for development: URLs in resources can lead to this machine"
        );
    }
    if config.egress.allow_http {
        tracing::warn!("--allow-http is set: credentials can travel in the clear");
    }
}

/// A background task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
