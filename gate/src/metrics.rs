//! What the gate counts, in the OpenMetrics text format, every name beginning with `mcp_auth_gate_`.
//!
//! Labels come from this program's source, so that nothing that a caller, a server or an authorization server writes can
//! become one. The exception is the hash of the policy in force, of which there is one at a time.

use std::{fmt, time::Duration};

use mcp_auth_gate_core::answer::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The `Content-Type` of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "mcp_auth_gate";
/// In seconds: from what a gate adds to what tools take.
const BUCKETS: [f64; 13] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0,
];

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Through the gate.
    Proxy,
    /// Envoy asks.
    ExtAuthz,
    /// Traefik asks.
    ForwardAuth,
}

impl Face {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::ExtAuthz => "ext_authz",
            Self::ForwardAuth => "forward_auth",
        }
    }
}

/// What is read from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The policy.
    Policy,
    /// Credentials.
    Credentials,
    /// Certificate and key.
    Certificate,
}

impl Input {
    /// The value of the label, and the word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Credentials => "credentials",
            Self::Certificate => "certificate",
        }
    }
}

/// What went wrong between gate and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// Its name led to no address.
    Resolve,
    /// No connection.
    Connect,
    /// The connection broke before the answer began.
    Broken,
    /// No answer in time.
    Timeout,
    /// An answer that must not reach a client.
    Answer,
    /// The connection broke within the answer.
    Cut,
    /// The answer fell silent.
    Idle,
}

impl UpstreamFailure {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Answer => "answer",
            Self::Cut => "cut",
            Self::Idle => "idle",
        }
    }
}

/// The labels of what is counted by nothing but how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    face: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    failure: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InputLabels {
    input: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HashLabels {
    hash: String,
}

/// All counters of the process. A clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    decisions: Family<DecisionLabels, Counter>,
    overhead: Histogram,
    duration: Histogram,
    upstream_failures: Family<FailureLabels, Counter>,
    /// Connections of clients.
    pub connections: Gauge,
    /// Requests whose answer has not ended, streams among them.
    pub requests: Gauge,
    /// Event streams that are open.
    pub streams: Gauge,
    /// Connections that were closed because there were too many.
    pub connections_refused: Counter,
    policy: Family<HashLabels, Gauge>,
    reload_failures: Family<InputLabels, Counter>,
    stale: Family<InputLabels, Gauge>,
}

impl Metrics {
    /// Counters at zero, in `registry`, which others may add to.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            decisions: Family::default(),
            overhead: Histogram::new(BUCKETS),
            duration: Histogram::new(BUCKETS),
            upstream_failures: Family::default(),
            connections: Gauge::default(),
            requests: Gauge::default(),
            streams: Gauge::default(),
            connections_refused: Counter::default(),
            policy: Family::default(),
            reload_failures: Family::default(),
            stale: Family::default(),
        };
        metrics.register(registry);
        metrics
    }

    /// A registry whose names all begin with `mcp_auth_gate_`.
    pub fn registry() -> Registry {
        Registry::with_prefix(PREFIX)
    }

    fn register(&self, registry: &mut Registry) {
        let decisions = self.decisions.clone();
        registry.register("decisions", "Requests, by face, outcome and reason", decisions);
        let overhead = self.overhead.clone();
        registry.register(
            "overhead_seconds",
            "Time from the head of a request until it was judged, its body included",
            overhead,
        );
        let duration = self.duration.clone();
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request until the answer began",
            duration,
        );
        let failures = self.upstream_failures.clone();
        registry.register(
            "upstream_failures",
            "Failures of the MCP server, by kind",
            failures,
        );
        let connections = self.connections.clone();
        registry.register("connections", "Connections of clients", connections);
        let requests = self.requests.clone();
        registry.register("requests", "Requests whose answer has not ended", requests);
        let streams = self.streams.clone();
        registry.register("streams", "Event streams that are open", streams);
        let refused = self.connections_refused.clone();
        registry.register("connections_refused", "Connections beyond the limit", refused);
        let policy = self.policy.clone();
        registry.register("policy_info", "The hash of the policy in force", policy);
        let failures = self.reload_failures.clone();
        registry.register("reload_failures", "Files that were read and not taken", failures);
        let stale = self.stale.clone();
        registry.register(
            "stale",
            "Whether what is in force is not what the file says",
            stale,
        );
    }

    /// A request was decided about.
    pub fn decided(&self, face: Face, reason: Reason, status: u16) {
        let outcome = match reason {
            Reason::Allowed => "allowed",
            Reason::Metadata | Reason::Preflight => "answered",
            _ if status >= 500 => "failed",
            _ => "refused",
        };
        let labels = DecisionLabels {
            face: face.as_str(),
            outcome,
            reason: reason.as_str(),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// How long it took until a request was judged.
    pub fn judged(&self, after: Duration) {
        self.overhead.observe(after.as_secs_f64());
    }

    /// How long it took until an answer began.
    pub fn answered(&self, after: Duration) {
        self.duration.observe(after.as_secs_f64());
    }

    /// The server failed.
    pub fn upstream_failed(&self, failure: UpstreamFailure) {
        let failure = failure.as_str();
        self.upstream_failures
            .get_or_create(&FailureLabels { failure })
            .inc();
    }

    /// This policy is in force.
    pub fn policy_in_force(&self, hash: &str) {
        self.policy.clear();
        let hash = hash.to_owned();
        self.policy.get_or_create(&HashLabels { hash }).set(1);
    }

    /// A file was read, and taken or not.
    pub fn read(&self, input: Input, failed: bool) {
        let labels = InputLabels {
            input: input.as_str(),
        };
        self.stale.get_or_create(&labels).set(i64::from(failed));
        let failures = self.reload_failures.get_or_create(&labels);
        if failed {
            failures.inc();
        }
    }
}

/// All of a registry as text.
///
/// # Errors
/// Never, for text in memory.
pub fn encode(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}
