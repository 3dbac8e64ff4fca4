//! What a start costs, of an operator that remembers nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    PATIENCE,
    crowd::{CLIENTS, SERVERS},
    record::{Side, Tally},
    scene::Scene,
    usage::{self, Usage, Used},
};
use crate::{bench::table::mebibytes, operator::Operator, progress, proxy::Call};

/// An operator that has looked at everything.
pub(super) struct Started {
    pub(super) operator: Operator,
    /// Until the last call that came of it.
    pub(super) took: Duration,
    pub(super) used: Used,
    pub(super) tally: Tally,
    /// Writes at the authorization server.
    writes: usize,
}

/// Starts one where there are so many McpServers and McpClients, all of them in order, and waits until it has nothing to do.
///
/// # Errors
/// When it writes anything to the authorization server but that the tokens end of whoever led before.
pub(super) async fn start(scene: &Scene, all: [u32; 2], resync: u32) -> anyhow::Result<Started> {
    scene.take();
    let began = Instant::now();
    let operator = scene.start(resync).await?;
    let what = format!("a start with {} objects", all.iter().sum::<u32>());
    let looking = async {
        passes(&operator, all, [0.0; 2], 1).await?;
        usage::quiet(&operator).await
    };
    progress::during(&what, looking).await?;
    let (calls, used) = (scene.take(), Usage::of_all(&operator).end()?);
    let of_server = |side: Side| side == Side::AuthorizationServer;
    let writes: Vec<_> = calls
        .iter()
        .filter(|sent| of_server(sent.side) && sent.call.is_write())
        .map(|sent| &sent.call)
        .collect();
    let (takeover, others): (Vec<_>, Vec<_>) = writes.into_iter().partition(|call| ends_older_tokens(call));
    ensure!(
        takeover.len() <= 1 && others.is_empty(),
        "a start wrote there: {takeover:?} {others:?}"
    );
    let last = calls.iter().rfind(|sent| !sent.is_of_time());
    let last = last.context("a start that asks nothing")?.call.at;
    let mut tally = Tally::default();
    tally.add(&calls);
    let listed = calls
        .iter()
        .any(|sent| sent.call.query("search").is_some_and(|search| search == "true"));
    ensure!(listed, "it compared no client");
    Ok(Started {
        operator,
        took: last.duration_since(began),
        used,
        tally,
        writes: takeover.len(),
    })
}

impl Started {
    /// As a line of the table.
    pub(super) fn line(&self, all: [u32; 2]) -> String {
        let each = |side| {
            let (count, all) = (self.tally.on(side), all.iter().sum::<u32>());
            format!("{count} ({:.2} each)", f64::from(count) / f64::from(all))
        };
        format!(
            "| a start, until all is as it was | {:.1} s | {} | {} | {} | {:.1} s | {} |",
            self.took.as_secs_f64(),
            each(Side::AuthorizationServer),
            self.writes,
            each(Side::ApiServer),
            self.used.processor.as_secs_f64(),
            mebibytes(self.used.memory),
        )
    }
}

/// Waits until there were so many passes for each of so many McpServers and McpClients, beyond those `before`.
pub(super) async fn passes(
    operator: &Operator,
    [servers, clients]: [u32; 2],
    before: [f64; 2],
    times: u32,
) -> anyhow::Result<()> {
    let wanted = [(SERVERS.name, servers), (CLIENTS.name, clients)];
    usage::wait_for_passes(operator, wanted, before, times, PATIENCE).await
}

/// Whether it is the one write with which an operator begins to lead: tokens of its own client from before end.
fn ends_older_tokens(call: &Call) -> bool {
    let body: Value = call.json().unwrap_or_default();
    let fields = body.as_object().into_iter().flat_map(|fields| fields.keys());
    body["notBefore"].is_number() && fields.eq(["notBefore", "webOrigins"])
}
