//! From a configuration to a running operator, and down again.

use std::{future::Future, time::Duration};

use futures::FutureExt as _;
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt as _};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

use crate::{
    admin::{self, Health},
    clock::SystemClock,
    config::Config,
    controllers::{self, Parts},
    egress::{Egress, cluster::ClusterAddressKeeper},
    lease::{Election, Elector, LeaseError},
    metrics::Metrics,
    watch::ControllerError,
};

/// How long the API server may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long running reconciles may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Why the operator ends with a failure. Displays as one line.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no cluster to speak to.
    #[error("no cluster to connect to: set KUBECONFIG, or run in a pod ({0})")]
    NoCluster(String),
    /// The API server does not answer.
    #[error("the API server at {address} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        address: String,
        /// What happened.
        why: String,
    },
    /// The API server refuses.
    #[error("the API server refuses to let the operator {action}: {why}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Its words.
        why: String,
    },
    /// The kinds are not installed.
    #[error("not installed in the cluster: {0}; install them with kubectl apply --server-side -f crds/yaml")]
    MissingKinds(String),
    /// Metrics and probes cannot be served.
    #[error("cannot listen on {address} (--admin-address): {why}")]
    AdminAddress {
        /// The address.
        address: String,
        /// What happened.
        why: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// The lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A controller.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// Runs the operator until it is told to stop, or cannot go on.
///
/// # Errors
/// One line that says why it cannot start or go on.
pub async fn run(config: Config) -> Result<(), RunError> {
    // One TLS provider for all: whoever asks first would otherwise decide. An error means that it is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = kube::Config::infer().await.map_err(|error| RunError::NoCluster(error.to_string()))?;
    let address = kubeconfig.cluster_url.to_string();
    let host = kubeconfig.cluster_url.host().unwrap_or_default().to_owned();
    let client = Client::try_from(kubeconfig).map_err(|error| RunError::NoCluster(error.to_string()))?;
    check_kinds(&client, &address).await?;
    let installation = installation(&client, &config, &address).await?;
    let shutdown = shutdown()?;

    let clock = SystemClock::shared();
    let metrics = Metrics::default();
    let health = Health::new(clock.clone(), config.lease.duration.max(Duration::from_secs(60)));
    health.api_server_answered();
    let listener = TcpListener::bind(config.admin_address)
        .await
        .map_err(|why| RunError::AdminAddress { address: config.admin_address.to_string(), why })?;
    let admin = tokio::spawn(admin::run(listener, metrics.clone(), health.clone(), std::future::pending()));

    let egress = Egress::new(config.egress);
    let keeper = ClusterAddressKeeper::new(client.clone(), &host, egress.cluster_addresses().clone());
    let keeper = tokio::spawn(keeper.run());
    let (elector, leadership) = Elector::new(Election {
        client: client.clone(),
        namespace: config.namespace.clone(),
        lease: config.lease.clone(),
        identity: identity(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
    });
    tracing::info!(%installation, namespace = %config.namespace, version = env!("CARGO_PKG_VERSION"), "starting");
    let parts = Parts { client, config, installation, clock, metrics, leadership, egress, health: health.clone() };
    let result = lead(elector, parts, &health, shutdown).await;
    keeper.abort();
    admin.abort();
    result
}

/// Runs election and controllers beside each other. The lease is given up only when the controllers have ended, and
/// losing it ends everything at once.
async fn lead(
    elector: Elector,
    parts: Parts,
    health: &Health,
    shutdown: impl Future<Output = ()> + Clone + Send + 'static,
) -> Result<(), RunError> {
    let (release, mut released) = watch::channel(false);
    let election = elector.run(async move {
        // The sender going away is as good as its word.
        let _ = released.wait_for(|done| *done).await;
    });
    let work = async {
        let controllers = controllers::run(parts, shutdown.clone());
        let late = async {
            shutdown.clone().await;
            health.stopping();
            tokio::time::sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = controllers => result,
            () = late => {
                tracing::warn!("some reconciles did not end in time; they are abandoned");
                Ok(())
            }
        };
        release.send_replace(true);
        result
    };
    let mut election = std::pin::pin!(election);
    tokio::select! {
        lost = &mut election => Ok(lost?),
        result = work => {
            // Giving the lease up takes one write; a dead API server must not keep the process.
            if let Ok(given_up) = timeout(Duration::from_secs(5), &mut election).await {
                given_up?;
            }
            Ok(result?)
        }
    }
}

/// Fails when one of our kinds is not installed, naming it.
async fn check_kinds(client: &Client, address: &str) -> Result<(), RunError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut missing = Vec::new();
    for crd in mcp_auth_crds::all() {
        let name = crd.name_any();
        let found = answered(address, "read CustomResourceDefinitions", api.get_opt(&name)).await?;
        if found.is_none() {
            missing.push(name);
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(RunError::MissingKinds(missing.join(", "))) }
}

/// The name of this installation: as told, else the UID of kube-system, which lives as long as the cluster.
async fn installation(client: &Client, config: &Config, address: &str) -> Result<String, RunError> {
    if let Some(name) = &config.installation {
        return Ok(name.clone());
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = answered(address, "read the namespace kube-system (or set --installation)", api.get("kube-system")).await?;
    Ok(namespace.uid().unwrap_or_default())
}

/// The answer to one of the first questions, or one line that says why there is none.
async fn answered<T>(
    address: &str,
    action: &'static str,
    question: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RunError> {
    let unreachable = |why: &str| RunError::Unreachable { address: address.to_owned(), why: why.to_owned() };
    match timeout(PATIENCE, question).await {
        Err(_) => Err(unreachable("it does not answer")),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(RunError::Refused { action, why: status.message.clone() }),
        Ok(Err(error)) => Err(unreachable(&innermost(&error))),
    }
}

/// The innermost cause, which says what happened without repeating the layers in between.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Completes at the first SIGTERM or SIGINT.
fn shutdown() -> Result<impl Future<Output = ()> + Clone + Send + 'static, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    // Spawned, so that a signal counts whoever happens to be waiting for it.
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        wait.await;
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(async move {
        let mut receiver = receiver;
        let _ = receiver.wait_for(|stop| *stop).await;
    }
    .boxed()
    .shared())
}

/// Who we are in the election: the pod, and something new for each process.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "mcp-auth-operator".to_owned());
    let random: u64 = rand::random();
    format!("{host}-{random:016x}")
}
