//! What is counted about exchanges.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::ExchangeError;
use crate::metrics::OutcomeLabels;

/// A clone counts into the same.
#[derive(Clone, Debug, Default)]
pub(super) struct ExchangeMetrics {
    calls: Family<OutcomeLabels, Counter>,
    remembered: Counter,
}

impl ExchangeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "exchange_calls",
            "Calls to the token endpoint by outcome",
            self.calls.clone(),
        );
        registry.register(
            "exchange_remembered",
            "Exchanges that were answered from memory",
            self.remembered.clone(),
        );
    }

    pub(super) fn called(&self, error: Option<ExchangeError>) {
        let outcome = error.map_or("success", ExchangeError::as_str);
        self.calls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(super) fn remembered(&self) {
        self.remembered.inc();
    }
}
