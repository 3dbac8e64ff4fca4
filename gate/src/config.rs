//! Flags and environment variables, in two stages: [`Flags`] is what was typed, [`Config`] is what it means.
//!
//! The first stage holds plain strings, so that the second can report everything that is wrong at once, one line per
//! flag, in words that say what to write instead.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Parser as _;
use mcp_auth_cli::{
    flags::{FlagError, Problems, Unusable, address, duration_within, given, number_within},
    logs::{LogFilter, LogFormat, LogTargets},
};

use crate::access_log::AccessLogForm;

mod flags;
mod parse;
#[cfg(test)]
mod tests;

pub use flags::Flags;

/// What a placeholder for an address that was refused looks like.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const KIBI: usize = 1 << 10;
const MEBI: usize = 1 << 20;

/// What the gate knows about its log lines.
pub(crate) const LOGS: LogTargets = LogTargets {
    example: "mcp_auth_gate::watch=debug",
    quieter: &[],
};

/// What the gate was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The policy file.
    pub policy: PathBuf,
    /// The directory of credentials.
    pub credentials: Option<PathBuf>,
    /// Where each face listens.
    pub addresses: Addresses,
    /// Where the other replicas of this gate are found.
    pub replicas: Option<Replicas>,
    /// Certificate and key of the proxy.
    pub tls: Option<TlsFiles>,
    /// What a client gets at most.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Whether the authorization server may be reached over plain HTTP.
    pub insecure_allow_http: bool,
    /// Threads that serve requests; `None`: as many as there are processors.
    pub threads: Option<usize>,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: LogFilter,
    /// What the line of a request says about who called.
    pub access_log: AccessLogForm,
}

/// Where each face listens, and where the server is.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The reverse proxy, and the metadata.
    pub proxy: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
    /// Exchanged tokens for handles.
    pub tokens: Option<SocketAddr>,
    /// Envoy's ext_authz.
    pub ext_authz: Option<SocketAddr>,
    /// Traefik's and nginx's forward-auth.
    pub forward_auth: Option<SocketAddr>,
    /// The MCP server, if it is not where its host resolves to.
    pub upstream: Option<SocketAddr>,
}

/// The replicas of a gate, to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// `host:port` of the headless Service of their token faces.
    pub peers: String,
    /// The address of this one.
    pub own: IpAddr,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// What a client gets at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of bodies, lists and events that are in memory, in all.
    pub buffered: usize,
    /// Bytes of a head.
    pub header: usize,
    /// Requests at a time, in all.
    pub requests: usize,
    /// Requests at a time of one subject with one client.
    pub per_caller: usize,
    /// Connections at a time, in all.
    pub connections: usize,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the head of a connection's next request is there.
    pub header_read: Duration,
    /// Until the body is there.
    pub body_read: Duration,
    /// Until a connection to the server is there.
    pub connect: Duration,
    /// Until the server's answer begins.
    pub upstream_header: Duration,
    /// Until the next piece of an answer comes; `None`: for ever.
    pub stream_idle: Option<Duration>,
    /// For an answer to go on after the token has expired.
    pub stream_grace: Duration,
    /// For all that is open to end once the gate was asked to stop.
    pub drain: Duration,
}

impl Config {
    /// Reads the command line (program name first) and environment variables.
    pub fn load<I>(arguments: I) -> Result<Self, Unusable>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let flags = Flags::try_parse_from(arguments).map_err(Unusable::CommandLine)?;
        Self::from_flags(&flags).map_err(Unusable::Values)
    }

    /// Gives the flags their meaning, or names every flag that has none.
    pub fn from_flags(flags: &Flags) -> Result<Self, Vec<FlagError>> {
        let mut problems = Problems::default();
        let config = Self {
            policy: problems.keep("--policy", parse::file(flags.policy.as_deref())),
            credentials: given(flags.credentials.as_deref()).map(PathBuf::from),
            addresses: addresses(flags, &mut problems),
            replicas: replicas(flags, &mut problems),
            tls: tls(flags, &mut problems),
            limits: limits(flags, &mut problems),
            timeouts: timeouts(flags, &mut problems),
            insecure_allow_http: flags.insecure_allow_http,
            threads: given(flags.threads.as_deref())
                .map(|text| problems.keep("--threads", number_within(text, 1, 1024))),
            log_format: problems.keep("--log-format", flags.log_format.parse()),
            log_filter: problems.keep("--log-level", LOGS.filter(&flags.log_level)),
            access_log: problems.keep("--access-log", flags.access_log.parse()),
        };
        problems.none_or(config)
    }
}

fn addresses(flags: &Flags, problems: &mut Problems) -> Addresses {
    let mut read = |flag, text: &str| problems.keep_or(flag, address(text), NOWHERE);
    Addresses {
        proxy: read("--proxy-address", &flags.proxy_address),
        admin: read("--admin-address", &flags.admin_address),
        tokens: given(flags.tokens_address.as_deref()).map(|text| read("--tokens-address", text)),
        ext_authz: given(flags.ext_authz_address.as_deref()).map(|text| read("--ext-authz-address", text)),
        forward_auth: given(flags.forward_auth_address.as_deref())
            .map(|text| read("--forward-auth-address", text)),
        upstream: given(flags.upstream_address.as_deref()).map(|text| read("--upstream-address", text)),
    }
}

fn replicas(flags: &Flags, problems: &mut Problems) -> Option<Replicas> {
    let own = given(flags.pod_address.as_deref())
        .map(|text| problems.keep_or("--pod-address", parse::ip(text), NOWHERE.ip()));
    let peers =
        given(flags.peers.as_deref()).map(|text| problems.keep("--peers", parse::host_and_port(text)))?;
    let own = problems.keep_or(
        "--pod-address",
        own.ok_or("is needed with --peers: the address of this replica"),
        NOWHERE.ip(),
    );
    Some(Replicas { peers, own })
}

fn tls(flags: &Flags, problems: &mut Problems) -> Option<TlsFiles> {
    let certificate = given(flags.tls_certificate.as_deref());
    let key = given(flags.tls_key.as_deref());
    if certificate.is_none() && key.is_none() {
        return None;
    }
    Some(TlsFiles {
        certificate: problems.keep("--tls-certificate", parse::file(certificate)),
        key: problems.keep("--tls-key", parse::file(key)),
    })
}

fn limits(flags: &Flags, problems: &mut Problems) -> Limits {
    let body = parse::size_within(&flags.max_body_size, KIBI, 64 * MEBI);
    let buffered = parse::size_within(&flags.max_buffered_size, MEBI, 16 * KIBI * MEBI);
    let header = parse::size_within(&flags.max_header_size, 8 * KIBI, 256 * KIBI);
    let requests = number_within(&flags.max_concurrent_requests, 1, 1_000_000);
    let per_caller =
        given(flags.max_requests_per_caller.as_deref()).map(|text| number_within(text, 1, 1_000_000));
    let connections = number_within(&flags.max_connections, 1, 1_000_000);
    let body = problems.keep("--max-body-size", body);
    let buffered = problems.keep("--max-buffered-size", buffered);
    if buffered != 0 && buffered < body {
        let problem = "is less than --max-body-size: no body of that size could be read";
        problems.keep::<(), _>("--max-buffered-size", Err(problem));
    }
    let requests = problems.keep("--max-concurrent-requests", requests);
    let per_caller = match per_caller {
        Some(given) => problems.keep("--max-requests-per-caller", given),
        None => (requests / 4).max(1),
    };
    Limits {
        body,
        buffered,
        header: problems.keep("--max-header-size", header),
        requests,
        per_caller,
        connections: problems.keep("--max-connections", connections),
    }
}

fn timeouts(flags: &Flags, problems: &mut Problems) -> Timeouts {
    const DAY: u64 = 24 * 3600;
    let mut within = |flag, text: &str, min, max| problems.keep(flag, duration_within(text, min, Some(max)));
    let idle = within("--stream-idle-timeout", &flags.stream_idle_timeout, 0, DAY);
    Timeouts {
        header_read: within("--header-read-timeout", &flags.header_read_timeout, 1, 3600),
        body_read: within("--body-read-timeout", &flags.body_read_timeout, 1, 3600),
        connect: within("--connect-timeout", &flags.connect_timeout, 1, 300),
        upstream_header: within(
            "--upstream-header-timeout",
            &flags.upstream_header_timeout,
            1,
            DAY,
        ),
        stream_idle: (!idle.is_zero()).then_some(idle),
        stream_grace: within("--stream-grace", &flags.stream_grace, 0, DAY),
        drain: within("--drain-timeout", &flags.drain_timeout, 1, 3600),
    }
}
