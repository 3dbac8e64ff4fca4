//! What is counted about purchases.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::metrics::OutcomeLabels;

/// A clone counts into the same.
#[derive(Clone, Debug, Default)]
pub struct Purchases(Family<OutcomeLabels, Counter>);

impl Purchases {
    /// Puts the metrics of purchases into `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Purchases of tokens with handles by outcome";
        registry.register("purchases", help, self.0.clone());
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    #[cfg(test)]
    pub(super) fn counted(&self, outcome: &'static str) -> u64 {
        self.0.get_or_create(&OutcomeLabels { outcome }).get()
    }
}
