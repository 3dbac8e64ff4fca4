//! The command line, as it is typed.

use clap::{ArgAction, Parser, builder::BoolishValueParser};

/// Stands in front of one MCP server: publishes its metadata, checks the tokens of its callers, and lets through what
/// they may call.
///
/// What it protects, and how, is in the policy file that mcp-auth-operator writes. Every flag can also be given as an
/// environment variable. Durations are written as 90s, 10m or 1h30m, sizes as 32Ki or 1Mi.
#[derive(Clone, Debug, Parser)]
#[command(name = "mcp-auth-gate", version, max_term_width = 110)]
pub struct Flags {
    /// The policy file. It is looked at every second, and taken when it changed and is good.
    #[arg(long, env = "MCP_AUTH_GATE_POLICY", value_name = "FILE")]
    pub(super) policy: Option<String>,

    /// The directory of credentials: the server's own at the authorization server, and keys of sessions. Looked at
    /// every second, too.
    #[arg(long, env = "MCP_AUTH_GATE_CREDENTIALS", value_name = "DIRECTORY")]
    pub(super) credentials: Option<String>,

    /// Where MCP clients are served, and the metadata. [::] is every address of this machine, also for IPv4, and where
    /// there is no IPv6 for IPv4 alone; so it is for every face.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_PROXY_ADDRESS",
        value_name = "IP:PORT",
        default_value = "[::]:8080"
    )]
    pub(super) proxy_address: String,

    /// Where /livez, /readyz, /policy and /metrics are served.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_ADMIN_ADDRESS",
        value_name = "IP:PORT",
        default_value = "[::]:8081"
    )]
    pub(super) admin_address: String,

    /// Where to connect instead of to what the host of the policy's upstream resolves to. For running outside of the
    /// cluster; the request itself stays the same.
    #[arg(long, env = "MCP_AUTH_GATE_UPSTREAM_ADDRESS", value_name = "IP:PORT")]
    pub(super) upstream_address: Option<String>,

    /// Where the MCP server gets exchanged tokens for the handles of its requests. Off unless given.
    #[arg(long, env = "MCP_AUTH_GATE_TOKENS_ADDRESS", value_name = "IP:PORT")]
    pub(super) tokens_address: Option<String>,

    /// Where Envoy's ext_authz (gRPC) is answered. Off unless given.
    #[arg(long, env = "MCP_AUTH_GATE_EXT_AUTHZ_ADDRESS", value_name = "IP:PORT")]
    pub(super) ext_authz_address: Option<String>,

    /// Where forward-auth requests of Traefik are answered. Off unless given.
    #[arg(long, env = "MCP_AUTH_GATE_FORWARD_AUTH_ADDRESS", value_name = "IP:PORT")]
    pub(super) forward_auth_address: Option<String>,

    /// The other replicas of this gate: name and port of the headless Service of their --tokens-address. A handle that
    /// another replica gave out is taken there.
    #[arg(long, env = "MCP_AUTH_GATE_PEERS", value_name = "HOST:PORT")]
    pub(super) peers: Option<String>,

    /// The address of this replica, by which the others find it. Needed with --peers.
    #[arg(long, env = "MCP_AUTH_GATE_POD_ADDRESS", value_name = "IP")]
    pub(super) pod_address: Option<String>,

    /// The certificate chain of the proxy, in PEM; read again when it changes. Without it the proxy speaks plain HTTP.
    #[arg(long, env = "MCP_AUTH_GATE_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<String>,

    /// The private key of that certificate, in PEM.
    #[arg(long, env = "MCP_AUTH_GATE_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<String>,

    /// The largest body of a request.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_MAX_BODY_SIZE",
        value_name = "SIZE",
        default_value = "1Mi"
    )]
    pub(super) max_body_size: String,

    /// How much of bodies, and of lists and events that are filtered, is kept in memory at a time, in all. More is
    /// answered with 503.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_MAX_BUFFERED_SIZE",
        value_name = "SIZE",
        default_value = "64Mi"
    )]
    pub(super) max_buffered_size: String,

    /// The largest head of a request: its first line and its headers. 8Ki to 256Ki.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_MAX_HEADER_SIZE",
        value_name = "SIZE",
        default_value = "32Ki"
    )]
    pub(super) max_header_size: String,

    /// How many requests are served at a time, open streams included. More are answered with 503.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_MAX_CONCURRENT_REQUESTS",
        value_name = "COUNT",
        default_value = "4096"
    )]
    pub(super) max_concurrent_requests: String,

    /// How many requests one caller, a subject with a client, may have open at a time, open streams included. More are
    /// answered with 503. Default: a quarter of --max-concurrent-requests.
    #[arg(long, env = "MCP_AUTH_GATE_MAX_REQUESTS_PER_CALLER", value_name = "COUNT")]
    pub(super) max_requests_per_caller: Option<String>,

    /// How many connections of clients are kept at a time. More are closed at once.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_MAX_CONNECTIONS",
        value_name = "COUNT",
        default_value = "8192"
    )]
    pub(super) max_connections: String,

    /// How long a connection may take to send the head of its next request; so long may it be idle, too. Longer than
    /// what a load balancer in front keeps idle connections for.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_HEADER_READ_TIMEOUT",
        value_name = "DURATION",
        default_value = "75s"
    )]
    pub(super) header_read_timeout: String,

    /// How long a request may take to send its body.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_BODY_READ_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s"
    )]
    pub(super) body_read_timeout: String,

    /// How long connecting to an address of the MCP server may take.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_CONNECT_TIMEOUT",
        value_name = "DURATION",
        default_value = "3s"
    )]
    pub(super) connect_timeout: String,

    /// How long the MCP server may take until its answer begins.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_UPSTREAM_HEADER_TIMEOUT",
        value_name = "DURATION",
        default_value = "5m"
    )]
    pub(super) upstream_header_timeout: String,

    /// How long an answer that has begun may be silent. 0s: for ever.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_STREAM_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "0s"
    )]
    pub(super) stream_idle_timeout: String,

    /// How long an answer may go on after the token of its request has expired.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_STREAM_GRACE",
        value_name = "DURATION",
        default_value = "1m"
    )]
    pub(super) stream_grace: String,

    /// How long requests and streams that are open may go on after the gate was asked to stop.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "25s"
    )]
    pub(super) drain_timeout: String,

    /// Development only: reach the authorization server over plain HTTP where the policy says so. Tokens and the
    /// server's secret then travel in the clear. Loopback hosts may always be reached that way.
    #[arg(long, env = "MCP_AUTH_GATE_INSECURE_ALLOW_HTTP", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new(), hide_possible_values = true, value_name = "BOOL")]
    pub(super) insecure_allow_http: bool,

    /// How many threads serve requests. Default: as many as there are processors for this process.
    #[arg(long, env = "MCP_AUTH_GATE_THREADS", value_name = "COUNT")]
    pub(super) threads: Option<String>,

    /// How log lines are written, to the standard error stream: json or text.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "json"
    )]
    pub(super) log_format: String,

    /// What is logged: a level (error, warn, info, debug, trace, off) for the gate's own code, or directives such as
    /// debug,hyper=debug. Libraries stay at info or less unless a directive names them.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(super) log_level: String,

    /// A line for each request: off, hashed (subject and client under a key of this process) or plain.
    #[arg(
        long,
        env = "MCP_AUTH_GATE_ACCESS_LOG",
        value_name = "FORM",
        default_value = "hashed"
    )]
    pub(super) access_log: String,
}
