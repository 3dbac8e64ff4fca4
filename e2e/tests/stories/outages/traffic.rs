//! Calls that a proxy wrote down, counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mcp_auth_e2e::proxy::Call;

/// The shipped limit of a realm: calls per second, a tenth of it at once. As many as are under way at a time may reach the
/// proxy later than they were let go.
const MOST_PER_SECOND: usize = 50 + 5 + 8;

/// Calls per second, counted from the first.
#[derive(Debug)]
pub(super) struct Histogram(BTreeMap<u64, usize>);

impl Histogram {
    pub(super) fn of(calls: &[Call]) -> Self {
        let mut seconds = BTreeMap::new();
        for call in calls {
            let since = calls.first().map_or(Duration::ZERO, |first| call.at - first.at);
            *seconds.entry(since.as_secs()).or_default() += 1;
        }
        Self(seconds)
    }

    /// The most calls in one second. Fails if those are more than may be.
    pub(super) fn busiest(&self) -> anyhow::Result<usize> {
        let busiest = self.0.values().copied().max().unwrap_or_default();
        ensure!(
            busiest <= MOST_PER_SECOND,
            "{busiest} calls in one second, {MOST_PER_SECOND} at most: {:?}",
            self.0
        );
        Ok(busiest)
    }
}

/// The writes among these calls in a span of time, without those of the election.
pub(super) fn writes(calls: Vec<Call>, from: Instant, until: Instant) -> Vec<Call> {
    let between = |call: &Call| call.at > from && call.at < until;
    calls
        .into_iter()
        .filter(|call| call.is_write() && between(call) && !call.path().contains("/leases"))
        .collect()
}
