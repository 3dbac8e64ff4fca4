//! What the operator counts, in the OpenMetrics text format, every name beginning with `mcp_auth_operator_`.
//!
//! Labels come from enums and from `&'static str`, so that nothing that a user or an authorization server writes can
//! become a label: the number of series is bounded by this program's source.

use std::{
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

#[cfg(test)]
mod tests;

/// The `Content-Type` of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kinds of objects that have a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A connection to an authorization server.
    AuthorizationServer,
    /// A protected MCP server.
    McpServer,
    /// A client of MCP servers.
    McpClient,
    /// A permission to exchange tokens.
    TokenExchangePolicy,
    /// An annotated Service.
    Service,
}

impl Kind {
    /// The kind as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationServer => "AuthorizationServer",
            Self::McpServer => "McpServer",
            Self::McpClient => "McpClient",
            Self::TokenExchangePolicy => "TokenExchangePolicy",
            Self::Service => "Service",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

/// How a call to an authorization server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// An answer with this HTTP status.
    Status(u16),
    /// No answer: unreachable, timed out, refused, unreadable.
    NoAnswer,
}

impl CallOutcome {
    /// The class of the status; statuses outside of 200 to 599 are no usable answer.
    const fn class(self) -> &'static str {
        match self {
            Self::Status(200..=299) => "2xx",
            Self::Status(300..=399) => "3xx",
            Self::Status(400..=499) => "4xx",
            Self::Status(500..=599) => "5xx",
            Self::Status(_) | Self::NoAnswer => "error",
        }
    }
}

/// Why a deletion was finished without cleaning up at the authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GivenUp {
    /// A person asked for it with the annotation `mcpauth.dev/abandon`.
    Abandon,
    /// The deletion timeout passed.
    Timeout,
}

impl GivenUp {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abandon => "abandon",
            Self::Timeout => "timeout",
        }
    }
}

/// How many objects of a kind have which status of their condition `Ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadyCounts {
    /// `Ready=True`.
    pub ready: usize,
    /// `Ready=False`.
    pub not_ready: usize,
    /// `Ready=Unknown`, or no such condition yet.
    pub unknown: usize,
}

impl ReadyCounts {
    /// Counts the statuses of `Ready` of all objects of a kind; `None` stands for an object without that condition.
    pub fn of<'a>(statuses: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            match status {
                Some("True") => counts.ready += 1,
                Some("False") => counts.not_ready += 1,
                _ => counts.unknown += 1,
            }
        }
        counts
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindResult {
    kind: Kind,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindReason {
    kind: Kind,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindWhat {
    kind: Kind,
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindReady {
    kind: Kind,
    ready: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationClass {
    operation: &'static str,
    status_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The families; a clone shares them.
#[derive(Clone, Debug)]
struct Families {
    reconciles: Family<KindResult, Counter>,
    reconcile_duration: Family<OfKind, Histogram>,
    reconcile_errors: Family<KindReason, Counter>,
    calls: Family<OperationClass, Counter>,
    call_duration: Family<Operation, Histogram>,
    drift_repaired: Family<KindWhat, Counter>,
    rotations: Family<Reason, Counter>,
    deletions_given_up: Family<KindReason, Counter>,
    denials_left_out: Counter,
    registrations_unreachable: Family<Reason, Counter>,
    objects: Family<KindReady, Gauge>,
    leader: Gauge,
}

/// All metrics of the process. Cheap to clone; every clone counts into the same series.
#[derive(Clone, Debug)]
pub struct Metrics {
    families: Families,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let families = Families {
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(seconds),
            reconcile_errors: Family::default(),
            calls: Family::default(),
            call_duration: Family::new_with_constructor(seconds),
            drift_repaired: Family::default(),
            rotations: Family::default(),
            deletions_given_up: Family::default(),
            denials_left_out: Counter::default(),
            registrations_unreachable: Family::default(),
            objects: Family::default(),
            leader: Gauge::default(),
        };
        let registry = Arc::new(registry_of(&families));
        Self { families, registry }
    }
}

impl Metrics {
    /// A reconcile of an object of `kind` took `elapsed` and did what it could.
    pub fn reconcile_succeeded(&self, kind: Kind, elapsed: Duration) {
        self.reconciled(kind, "success", elapsed);
    }

    /// A reconcile of an object of `kind` took `elapsed` and failed for `reason` (the error's category).
    pub fn reconcile_failed(&self, kind: Kind, reason: &'static str, elapsed: Duration) {
        self.reconciled(kind, "error", elapsed);
        self.families
            .reconcile_errors
            .get_or_create(&KindReason { kind, reason })
            .inc();
    }

    fn reconciled(&self, kind: Kind, result: &'static str, elapsed: Duration) {
        self.families
            .reconciles
            .get_or_create(&KindResult { kind, result })
            .inc();
        self.families
            .reconcile_duration
            .get_or_create(&OfKind { kind })
            .observe(elapsed.as_secs_f64());
    }

    /// One HTTP call of `operation` to an authorization server ended after `elapsed`.
    pub fn authorization_server_called(
        &self,
        operation: &'static str,
        outcome: CallOutcome,
        elapsed: Duration,
    ) {
        let class = OperationClass {
            operation,
            status_class: outcome.class(),
        };
        self.families.calls.get_or_create(&class).inc();
        self.families
            .call_duration
            .get_or_create(&Operation { operation })
            .observe(elapsed.as_secs_f64());
    }

    /// Something that others changed was put right again; `what` names the thing, as `secret` or `redirect-uris`.
    pub fn drift_repaired(&self, kind: Kind, what: &'static str) {
        self.families
            .drift_repaired
            .get_or_create(&KindWhat { kind, what })
            .inc();
    }

    /// A credential was replaced for `reason`.
    pub fn rotated(&self, reason: &'static str) {
        self.families.rotations.get_or_create(&Reason { reason }).inc();
    }

    /// An object of `kind` was let go with something of it left at the authorization server.
    pub fn deletion_given_up(&self, kind: Kind, why: GivenUp) {
        self.families
            .deletions_given_up
            .get_or_create(&KindReason {
                kind,
                reason: why.as_str(),
            })
            .inc();
    }

    /// The policy of a gate could not name every client that is to be denied.
    pub fn denials_left_out(&self) {
        self.families.denials_left_out.inc();
    }

    /// A registration may be left at an authorization server that nobody can reach any more.
    pub fn registration_unreachable(&self, reason: &'static str) {
        self.families
            .registrations_unreachable
            .get_or_create(&Reason { reason })
            .inc();
    }

    /// How many objects of `kind` there are now, counted over a whole store.
    pub fn set_objects(&self, kind: Kind, counts: ReadyCounts) {
        let ReadyCounts {
            ready,
            not_ready,
            unknown,
        } = counts;
        for (status, count) in [("True", ready), ("False", not_ready), ("Unknown", unknown)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.families
                .objects
                .get_or_create(&KindReady { kind, ready: status })
                .set(count);
        }
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.families.leader.set(i64::from(leads));
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail, but the encoder's signature says that it may.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Buckets from 5 ms to about 80 s, each twice the one before.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
        0.005, 2.0, 15,
    ))
}

/// Registers every family under the operator's prefix. Counters get their suffix `_total` from the encoder.
fn registry_of(families: &Families) -> Registry {
    let mut registry = Registry::with_prefix("mcp_auth_operator");
    let families = families.clone();
    registry.register("reconciles", "Reconciles by kind and result", families.reconciles);
    registry.register(
        "reconcile_duration_seconds",
        "How long reconciles took, by kind",
        families.reconcile_duration,
    );
    registry.register(
        "reconcile_errors",
        "Failed reconciles by kind and reason",
        families.reconcile_errors,
    );
    registry.register(
        "authorization_server_calls",
        "HTTP calls to authorization servers by operation and class of the status",
        families.calls,
    );
    registry.register(
        "authorization_server_call_duration_seconds",
        "How long HTTP calls to authorization servers took, by operation",
        families.call_duration,
    );
    registry.register(
        "drift_repaired",
        "Changes made by others that were put right, by kind and what had changed",
        families.drift_repaired,
    );
    registry.register("rotations", "Replaced credentials by reason", families.rotations);
    registry.register(
        "deletions_given_up",
        "Objects let go with something of them left at the authorization server, by kind and reason",
        families.deletions_given_up,
    );
    registry.register(
        "denials_left_out",
        "Passes in which the policy of a gate could not name every client that is to be denied",
        families.denials_left_out,
    );
    registry.register(
        "registrations_unreachable",
        "Registrations that may be left at an authorization server and that nobody can reach any more, by reason",
        families.registrations_unreachable,
    );
    registry.register(
        "objects",
        "Objects by kind and status of their condition Ready",
        families.objects,
    );
    registry.register("leader", "Whether this process leads", families.leader);
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The running version", version);
    registry
}
