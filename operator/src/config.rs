//! Flags and environment variables, in two stages: [`Flags`] is what was typed, [`Config`] is what it means.
//!
//! The first stage holds plain strings, so that the second can report everything that is wrong at once, one line per
//! flag, in words that say what to write instead.

use std::{ffi::OsString, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, builder::BoolishValueParser};
use mcp_auth_cli::{
    flags::{FlagError, Problems, Unusable, address, duration_within, given, number_within},
    logs::{LogFilter, LogFormat},
};

use crate::{egress::EgressPolicy, telemetry, watch::WatchScope};

mod gate;
mod parse;
#[cfg(test)]
mod tests;

pub use gate::GateConfig;

/// Where Kubernetes puts the namespace of a pod's service account.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Registers MCP servers and their clients at the authorization server you run, as declared by the custom resources
/// AuthorizationServer, McpServer, McpClient and TokenExchangePolicy (group mcpauth.dev).
///
/// The cluster is the one of KUBECONFIG, or the one that the operator's pod runs in. Every flag can also be given as an
/// environment variable. Durations are written as 90s, 10m or 1h30m.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-auth-operator", version, max_term_width = 110)]
pub struct Flags {
    /// The operator's own namespace: its lease, its journals of credential changes and its inventory live here.
    /// Default: the environment variable POD_NAMESPACE, else the namespace of the pod's service account.
    #[arg(long, env = "MCP_AUTH_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// The namespaces whose resources are served, separated by commas. Empty: all namespaces.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_WATCH_NAMESPACES",
        value_name = "NAMESPACES",
        default_value = ""
    )]
    watch_namespaces: String,

    /// The name that marks everything this installation creates at an authorization server, so that two clusters can
    /// share one realm: lower-case letters, digits and dashes, at most 63. Never change it once something is
    /// registered. Default: the UID of the namespace kube-system.
    #[arg(long, env = "MCP_AUTH_OPERATOR_INSTALLATION", value_name = "NAME")]
    installation: Option<String>,

    /// How often every object is compared with the authorization server even though nothing changed; each pass is
    /// moved by a random part of it. At least 1s.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_RESYNC_INTERVAL",
        value_name = "DURATION",
        default_value = "10m"
    )]
    resync_interval: String,

    /// The longest pause between two attempts at something that fails. At least 1s.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_MAX_BACKOFF",
        value_name = "DURATION",
        default_value = "5m"
    )]
    max_backoff: String,

    /// The Lease in the operator's namespace by which one of several replicas becomes the leader.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_LEASE_NAME",
        value_name = "NAME",
        default_value = "mcp-auth-operator"
    )]
    lease_name: String,

    /// How long the lease of a leader that vanished stays valid. It is renewed at every third of this, and a leader
    /// that could not renew it stops working when two thirds have passed. 1s to 10m.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_LEASE_DURATION",
        value_name = "DURATION",
        default_value = "15s"
    )]
    lease_duration: String,

    /// How long the deletion of an object is retried while its authorization server cannot be reached. After that
    /// the operator lets the object go and reports what was left behind, with a metric and an Event.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_DELETION_TIMEOUT",
        value_name = "DURATION",
        default_value = "1h"
    )]
    deletion_timeout: String,

    /// The address that serves /metrics, /healthz and /readyz over plain HTTP. Port 0 takes a free port.
    /// [::] is every address of this machine, also for IPv4, and where there is no IPv6 for IPv4 alone.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_ADMIN_ADDRESS",
        value_name = "IP:PORT",
        default_value = "[::]:8080"
    )]
    admin_address: String,

    /// How log lines are written, to the standard error stream: json or text.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "json"
    )]
    log_format: String,

    /// What is logged: a level (error, warn, info, debug, trace, off), or directives as in RUST_LOG, for example
    /// debug,hyper=debug. A level without a name is for the operator's own code; libraries stay at info or less
    /// unless a directive names them, since an HTTP library at trace may log what it sends.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    log_level: String,

    /// How many objects of one kind are worked on at the same time, for each AuthorizationServer. 1 to 256.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_CONCURRENCY",
        value_name = "COUNT",
        default_value = "8"
    )]
    concurrency: String,

    /// How many calls per second one realm of an authorization server gets at most. 1 to 10000.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_AUTHORIZATION_SERVER_RATE",
        value_name = "COUNT",
        default_value = "50"
    )]
    authorization_server_rate: String,

    /// The least time between two credentials of one realm that are replaced because they reached their age, so that a
    /// thousand clients which were made in one minute are not replaced in one. 0s to 1h.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_ROTATION_SPACING",
        value_name = "DURATION",
        default_value = "2s"
    )]
    rotation_spacing: String,

    /// Files with tokens of the operator's own ServiceAccount, separated by commas, for AuthorizationServers with
    /// credentials.serviceAccountToken: the one whose only audience is the issuer is read anew at each sign-in.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_SERVICE_ACCOUNT_TOKEN_FILE",
        value_name = "FILES",
        default_value = "/var/run/secrets/mcpauth.dev/token"
    )]
    service_account_token_file: String,

    /// Allow http:// URLs of authorization servers and of everything else that is fetched for users. Credentials then
    /// travel in the clear.
    #[arg(long, env = "MCP_AUTH_OPERATOR_ALLOW_HTTP", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new(), hide_possible_values = true, value_name = "BOOL")]
    allow_http: bool,

    /// Allow URLs that tenants write to lead to private address ranges (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16,
    /// 100.64.0.0/10, fc00::/7). Authorization servers, which platform admins declare, may always be there.
    #[arg(long, env = "MCP_AUTH_OPERATOR_ALLOW_PRIVATE_ADDRESSES", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new(), hide_possible_values = true, value_name = "BOOL")]
    allow_private_addresses: bool,

    /// Development only: allow URLs that lead to loopback addresses and to the cluster's own nodes and API server.
    /// Whoever may create a resource can then make the operator call what listens there.
    #[arg(long, env = "MCP_AUTH_OPERATOR_INSECURE_ALLOW_LOOPBACK", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new(), hide_possible_values = true, value_name = "BOOL")]
    insecure_allow_loopback: bool,

    #[command(flatten)]
    gate: gate::GateFlags,
}

/// What the operator was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The operator's own namespace.
    pub namespace: String,
    /// The namespaces that are served.
    pub watch: WatchScope,
    /// The installation's name; `None` until it is read from the cluster.
    pub installation: Option<String>,
    /// The interval of the periodic comparison with the authorization server, before jitter.
    pub resync_interval: Duration,
    /// The cap of the pause between attempts.
    pub max_backoff: Duration,
    /// The leader's lease.
    pub lease: LeaseConfig,
    /// How long an impossible clean-up is retried before the object is let go.
    pub deletion_timeout: Duration,
    /// Where metrics and probes are served.
    pub admin_address: SocketAddr,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: LogFilter,
    /// Reconciles at a time, per kind and AuthorizationServer.
    pub concurrency: u16,
    /// Calls per second and realm.
    pub authorization_server_rate: NonZeroU32,
    /// The least time between two credentials of a realm that are replaced because of their age.
    pub rotation_spacing: Duration,
    /// Where tokens of the operator's own ServiceAccount may be.
    pub service_account_token_files: Vec<PathBuf>,
    /// What URLs that users choose may lead to.
    pub egress: EgressPolicy,
    /// How gates are run.
    pub gate: GateConfig,
}

/// The Lease by which replicas agree on a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// The Lease's name in the operator's namespace.
    pub name: String,
    /// How long an unrenewed lease stays valid; whole seconds.
    pub duration: Duration,
}

/// What the process's surroundings say about where it runs, read once.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The variable POD_NAMESPACE.
    pub pod_namespace: Option<String>,
    /// The content of the service account's namespace file.
    pub service_account_namespace: Option<String>,
}

impl Surroundings {
    /// Reads the variable and the file.
    pub fn read() -> Self {
        Self {
            pod_namespace: std::env::var("POD_NAMESPACE").ok(),
            service_account_namespace: std::fs::read_to_string(SERVICE_ACCOUNT_NAMESPACE).ok(),
        }
    }

    /// The namespace that the operator's pod runs in, if it runs in one.
    fn namespace(&self) -> Option<&str> {
        let known = [
            self.pod_namespace.as_deref(),
            self.service_account_namespace.as_deref(),
        ];
        known
            .into_iter()
            .flatten()
            .map(str::trim)
            .find(|namespace| !namespace.is_empty())
    }
}

impl Config {
    /// Reads the command line (program name first), environment variables and surroundings.
    pub fn load<I>(arguments: I, surroundings: &Surroundings) -> Result<Self, Unusable>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let flags = Flags::try_parse_from(arguments).map_err(Unusable::CommandLine)?;
        Self::from_flags(flags, surroundings).map_err(Unusable::Values)
    }

    /// Gives the flags their meaning, or names every flag that has none.
    pub fn from_flags(flags: Flags, surroundings: &Surroundings) -> Result<Self, Vec<FlagError>> {
        let mut problems = Problems::default();
        let config = Self {
            namespace: problems.keep(
                "--namespace",
                own_namespace(flags.namespace.as_deref(), surroundings),
            ),
            watch: problems.keep("--watch-namespaces", parse::namespaces(&flags.watch_namespaces)),
            installation: given(flags.installation.as_deref())
                .map(|name| problems.keep("--installation", parse::dns_label(name))),
            resync_interval: problems.keep(
                "--resync-interval",
                duration_within(&flags.resync_interval, 1, None),
            ),
            max_backoff: problems.keep("--max-backoff", duration_within(&flags.max_backoff, 1, None)),
            lease: LeaseConfig {
                name: problems.keep("--lease-name", parse::dns_subdomain(&flags.lease_name)),
                duration: problems.keep(
                    "--lease-duration",
                    duration_within(&flags.lease_duration, 1, Some(600)),
                ),
            },
            deletion_timeout: problems.keep(
                "--deletion-timeout",
                duration_within(&flags.deletion_timeout, 1, None),
            ),
            admin_address: problems.keep_or(
                "--admin-address",
                address(&flags.admin_address),
                SocketAddr::from(([0, 0, 0, 0], 0)),
            ),
            log_format: problems.keep("--log-format", flags.log_format.parse()),
            log_filter: problems.keep("--log-level", telemetry::LOGS.filter(&flags.log_level)),
            concurrency: problems.keep("--concurrency", number_within(&flags.concurrency, 1, 256)),
            authorization_server_rate: problems.keep_or(
                "--authorization-server-rate",
                number_within(&flags.authorization_server_rate, NonZeroU32::MIN, parse::MAX_RATE),
                NonZeroU32::MIN,
            ),
            rotation_spacing: problems.keep(
                "--rotation-spacing",
                duration_within(&flags.rotation_spacing, 0, Some(3600)),
            ),
            service_account_token_files: parse::files(&flags.service_account_token_file),
            egress: EgressPolicy {
                allow_http: flags.allow_http,
                allow_private_for_tenants: flags.allow_private_addresses,
                insecure_allow_loopback: flags.insecure_allow_loopback,
            },
            gate: flags.gate.read(&mut problems),
        };
        problems.none_or(config)
    }
}

/// The namespace as typed, else as the surroundings know it.
fn own_namespace(typed: Option<&str>, surroundings: &Surroundings) -> Result<String, String> {
    match given(typed).or_else(|| surroundings.namespace()) {
        Some(namespace) => parse::dns_label(namespace),
        None => Err("is not known outside a pod: give --namespace or set POD_NAMESPACE".to_owned()),
    }
}
