//! Log lines: which libraries are quieter, and the trace id that ties the lines of one reconcile together.

use std::{error::Error, fmt};

use kube::runtime::reflector::ObjectRef;
use mcp_auth_cli::logs::LogTargets;
use rand::RngExt;
use tracing::{Span, level_filters::LevelFilter};

#[cfg(test)]
mod tests;

/// Modules of libraries that are quieter than `info` unless a directive names exactly them, with the reason.
const QUIETER: [(&str, LevelFilter); 4] = [
    // Prints, as a warning, the whole text of an answer that it cannot decode. Of a Secret, too. Its errors are those
    // that it also returns, so that each would be told twice.
    ("kube_client::client", LevelFilter::OFF),
    // Wraps each reconcile in a second span beside ours and logs nothing at `info`.
    ("kube_runtime::controller", LevelFilter::WARN),
    // Warns at each refused attempt, of which the feeds tell now and then.
    ("kube_runtime::watcher", LevelFilter::ERROR),
    // Tells as an error, at each attempt, what it also returns.
    ("rustls_platform_verifier", LevelFilter::OFF),
];

/// What the operator knows about its log lines.
pub(crate) const LOGS: LogTargets = LogTargets {
    example: "mcp_auth_operator::lease=debug",
    quieter: &QUIETER,
};

/// The span of one reconcile: which object, and a fresh trace id that every line within it carries.
///
/// Only the reference enters the span, never the object: objects may hold what must not be logged.
pub fn reconcile_span<K>(kind: &'static str, object: &ObjectRef<K>) -> Span
where
    K: kube::runtime::reflector::Lookup,
{
    tracing::info_span!(
        "reconcile",
        kind,
        namespace = object.namespace.as_deref().unwrap_or_default(),
        object = object.name,
        trace_id = %TraceId::random(),
    )
}

/// 128 random bits that identify one reconcile in the logs. Displays as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// A fresh id.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// An error with everything that caused it, as libraries tend to keep the telling part at the bottom.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
