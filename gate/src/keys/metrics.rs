//! What is counted about keys.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Refetched;
use crate::metrics::OutcomeLabels;

#[derive(Debug, Default)]
pub(super) struct KeyMetrics {
    fetches: Family<OutcomeLabels, Counter>,
    fetched_at: Gauge,
}

impl KeyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "keys_fetches",
            "Fetches of the authorization server's keys by outcome",
            self.fetches.clone(),
        );
        registry.register(
            "keys_fetched_timestamp_seconds",
            "When the keys in use were last confirmed by the authorization server, in Unix time; 0 if never",
            self.fetched_at.clone(),
        );
    }

    /// There are no keys any more.
    pub(super) fn forgotten(&self) {
        self.fetched_at.set(0);
    }

    pub(super) fn fetched(&self, outcome: Refetched, now: i64) {
        let label = match outcome {
            Refetched::Yes => "success",
            Refetched::No => "failure",
        };
        self.fetches
            .get_or_create(&OutcomeLabels { outcome: label })
            .inc();
        if outcome == Refetched::Yes {
            self.fetched_at.set(now);
        }
    }
}

#[cfg(test)]
impl KeyMetrics {
    pub(super) fn fetched_at(&self) -> i64 {
        self.fetched_at.get()
    }
}
