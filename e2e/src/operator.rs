//! The operator's real binary, run as a Deployment would run it.

mod access;
mod metrics;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    control_plane::ControlPlane,
    ports,
    process::Guarded,
    wait::{Seen, wait_for},
};

pub use access::{SERVICE_ACCOUNT, revoke};

const BINARY: &str = "mcp-auth-operator";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(15);
const TOKEN_LIFETIME: Duration = Duration::from_hours(2);

/// How an operator is run. The fields are its flags of the same names; durations are written as the flags want them.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Its own namespace.
    pub namespace: String,
    /// The namespaces that it serves; empty for all. Its rights reach as far.
    pub watch_namespaces: Vec<String>,
    /// The name of the installation. None leaves the flag out.
    pub installation: Option<String>,
    /// Between comparisons with the authorization server.
    pub resync_interval: String,
    /// The longest pause after a failure.
    pub max_backoff: String,
    /// The Lease that replicas share.
    pub lease_name: String,
    /// How long the lease lasts.
    pub lease_duration: String,
    /// How long deletion waits for an authorization server.
    pub deletion_timeout: String,
    /// What is logged.
    pub log_level: String,
    /// Whether addresses on the loopback interface are allowed, where everything here is.
    pub insecure_allow_loopback: bool,
    /// A file of authorities in PEM that it trusts at public addresses of servers, instead of those of this machine.
    pub trust: Option<PathBuf>,
    /// The address where it finds the API server, such as that of a proxy. None for the API server's own.
    pub api_server: Option<String>,
    /// Any other arguments.
    pub extra: Vec<String>,
}

impl OperatorOptions {
    /// The options of most stories: everything within seconds.
    pub fn new(namespace: impl Into<String>, watch_namespaces: Vec<String>) -> Self {
        Self {
            namespace: namespace.into(),
            watch_namespaces,
            installation: None,
            resync_interval: "10m".to_owned(),
            max_backoff: "5s".to_owned(),
            lease_name: BINARY.to_owned(),
            // As shipped: a moment of a busy API server must not end an operator.
            lease_duration: "15s".to_owned(),
            deletion_timeout: "1h".to_owned(),
            log_level: "debug".to_owned(),
            insecure_allow_loopback: true,
            trust: None,
            api_server: None,
            extra: Vec::new(),
        }
    }

    fn arguments(&self, admin_port: u16) -> Vec<String> {
        let mut arguments: Vec<String> = [
            ("namespace", self.namespace.as_str()),
            ("watch-namespaces", &self.watch_namespaces.join(",")),
            ("resync-interval", &self.resync_interval),
            ("max-backoff", &self.max_backoff),
            ("lease-name", &self.lease_name),
            ("lease-duration", &self.lease_duration),
            ("deletion-timeout", &self.deletion_timeout),
            ("admin-address", &format!("127.0.0.1:{admin_port}")),
            ("log-format", "json"),
            ("log-level", &self.log_level),
        ]
        .iter()
        .map(|(flag, value)| format!("--{flag}={value}"))
        .collect();
        arguments.extend(
            self.installation
                .as_ref()
                .map(|name| format!("--installation={name}")),
        );
        arguments.extend(
            self.insecure_allow_loopback
                .then(|| "--insecure-allow-loopback".to_owned()),
        );
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// A running operator. It is killed when it is dropped.
pub struct Operator {
    process: Guarded,
    admin: String,
    http: reqwest::Client,
}

impl Operator {
    /// Gives the operator's ServiceAccount the shipped roles, starts the binary with a token of that account and its
    /// log in `dir`, and waits until it is ready.
    pub async fn start(
        dir: &Path,
        cluster: &ControlPlane,
        options: &OperatorOptions,
    ) -> anyhow::Result<Self> {
        access::grant(cluster, options).await?;
        let operator = Self::launch(dir, cluster, options).await?;
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// Starts the binary without waiting, with whatever rights its ServiceAccount has.
    pub async fn launch(
        dir: &Path,
        cluster: &ControlPlane,
        options: &OperatorOptions,
    ) -> anyhow::Result<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(1);
        let address = options.api_server.as_deref().unwrap_or(cluster.address());
        let kubeconfig = cluster
            .service_account_kubeconfig_at(address, &options.namespace, SERVICE_ACCOUNT, TOKEN_LIFETIME)
            .await?;
        let port = ports::free()?;
        let mut command = Command::new(binary()?);
        command
            .args(options.arguments(port))
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_BACKTRACE", "1");
        if let Some(trust) = &options.trust {
            command.env("SSL_CERT_FILE", trust);
        }
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = dir.join(format!("operator-{number}.log"));
        let process = Guarded::spawn(format!("operator of {}", options.namespace), &command, log)?;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self {
            process,
            admin: format!("http://127.0.0.1:{port}"),
            http,
        })
    }

    /// Waits until it says that it is ready. A replica that does not lead is ready too.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = wait_for("the operator to be ready", START_TIMEOUT, async || {
            let answer = self
                .http
                .get(format!("{}/readyz", self.admin))
                .send()
                .await
                .context("no answer")?;
            let status = answer.status();
            Ok(if status.is_success() {
                Seen::Done(())
            } else {
                Seen::NotYet(answer.text().await?)
            })
        });
        tokio::select! {
            ready = ready => ready.with_context(|| format!("its last lines:\n{}", self.process.log_tail())),
            status = self.process.wait() => {
                bail!("the operator ended ({}); its last lines:\n{}", status?, self.process.log_tail())
            }
        }
    }

    /// The process, to look at or to signal.
    pub fn process(&self) -> &Guarded {
        &self.process
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// What `/metrics` shows.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let response = self.http.get(format!("{}/metrics", self.admin)).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// The sum of a metric over all series that carry these labels; 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<f64> {
        Ok(metrics::sum(&self.metrics().await?, name, labels))
    }

    /// Ends it as Kubernetes does, and fails unless it ends well.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let status = self.process.stop(STOP_GRACE).await?;
        if !status.success() {
            bail!(
                "the operator ended with {status}; its last lines:\n{}",
                self.process.log_tail()
            );
        }
        Ok(())
    }

    /// Kills it in the middle of whatever it does.
    pub async fn kill_hard(&self) -> anyhow::Result<()> {
        self.process.kill_hard().await.map(drop)
    }
}

/// `$MCP_AUTH_OPERATOR_BIN`, or the binary that cargo built beside the running program.
pub fn binary() -> anyhow::Result<PathBuf> {
    built(BINARY, "MCP_AUTH_OPERATOR_BIN")
}

/// What this variable names, or the binary of this name that cargo built beside the running program.
pub(crate) fn built(name: &str, variable: &str) -> anyhow::Result<PathBuf> {
    if let Some(chosen) = std::env::var_os(variable) {
        return Ok(PathBuf::from(chosen));
    }
    let this = std::env::current_exe().context("cannot find the running program")?;
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!("{name} is not built: run `cargo build -p {name}`, or set {variable} to its path")
        })
}
