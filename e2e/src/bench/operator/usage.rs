//! What an operator uses between two moments.

use std::time::Duration;

use anyhow::Context;

use super::super::measure;
use crate::{
    operator::Operator,
    wait::{Seen, wait_for},
};

/// After so long without the end of a pass or a call none is under way.
const QUIET: Duration = Duration::from_millis(1500);

/// Processor time and memory of an operator from a moment on.
pub(super) struct Usage<'a> {
    operator: &'a Operator,
    before: Duration,
}

/// What was used.
#[derive(Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) processor: Duration,
    /// Resident memory at the end, in bytes.
    pub(super) memory: u64,
    /// The most there ever was.
    pub(super) peak: u64,
}

impl Used {
    /// And then that.
    pub(super) fn add(&mut self, next: Self) {
        *self = Self {
            processor: self.processor + next.processor,
            ..next
        };
    }
}

impl<'a> Usage<'a> {
    /// From now on.
    pub(super) fn begin(operator: &'a Operator) -> anyhow::Result<Self> {
        let before = measure::processor_time(pid(operator)?)?;
        Ok(Self { operator, before })
    }

    /// Since the operator began.
    pub(super) fn of_all(operator: &'a Operator) -> Self {
        Self {
            operator,
            before: Duration::ZERO,
        }
    }

    /// Until now.
    pub(super) fn end(&self) -> anyhow::Result<Used> {
        let pid = pid(self.operator)?;
        Ok(Used {
            processor: measure::processor_time(pid)?.saturating_sub(self.before),
            memory: measure::resident_memory(pid)?,
            peak: measure::peak_memory(pid)?,
        })
    }
}

/// How many passes over objects of a kind there were.
pub(super) async fn passes(operator: &Operator, kind: &str) -> anyhow::Result<f64> {
    operator
        .metric("mcp_auth_operator_reconciles_total", &[("kind", kind)])
        .await
}

/// Waits until no pass is made any more: the last changes wake some. Those that wait until all clients are listed end only
/// with the list, page after page.
pub(super) async fn quiet(operator: &Operator) -> anyhow::Result<()> {
    let mut seen = f64::NAN;
    loop {
        let mut now = 0.0;
        for what in ["reconciles", "authorization_server_calls"] {
            now += operator
                .metric(&format!("mcp_auth_operator_{what}_total"), &[])
                .await?;
        }
        if (now - seen).abs() < 0.5 {
            return Ok(());
        }
        seen = now;
        tokio::time::sleep(QUIET).await;
    }
}

/// Waits until there were `times` passes for each object of these kinds, of which there are so many, beyond those
/// `before`.
pub(super) async fn wait_for_passes(
    operator: &Operator,
    wanted: [(&str, u32); 2],
    before: [f64; 2],
    times: u32,
    patience: Duration,
) -> anyhow::Result<()> {
    let what = format!("{times} passes over each object");
    wait_for(&what, patience, async || {
        for ((kind, count), before) in wanted.iter().zip(before) {
            let made = passes(operator, kind).await? - before;
            if made < f64::from(count * times) {
                return Ok(Seen::NotYet(format!("{made} passes of {kind}")));
            }
        }
        Ok(Seen::Done(()))
    })
    .await
}

fn pid(operator: &Operator) -> anyhow::Result<u32> {
    Ok(u32::try_from(
        operator.process().pid().context("the operator is gone")?,
    )?)
}
