//! Load, from wrk.

use std::{fs, process::Command, time::Duration};

use anyhow::Context;
use serde::Deserialize;

use crate::process::capture;

/// Sends prepared requests one after another, so that the load generator has as little to do as can be.
const SCRIPT: &str = r#"
local requests, next = {}, 0
function init(arguments)
  local body = io.open(arguments[1]):read("*a")
  for token in io.lines(arguments[2]) do
    wrk.headers["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
end
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
function request()
  next = next % #requests + 1
  return requests[next]
end
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('\n{"requests":%d,"micros":%d,"failed":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
"#;

/// What one run came to. Times are in microseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Outcome {
    /// Answers.
    pub(super) requests: u64,
    /// How long it took.
    pub(super) micros: u64,
    /// Answers that were no success, and connections that failed.
    pub(super) failed: u64,
    /// Half of the answers took no longer.
    pub(super) p50: u64,
    /// All but one of a hundred took no longer.
    pub(super) p99: u64,
}

impl Outcome {
    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(super) fn throughput(&self) -> f64 {
        self.requests as f64 * 1e6 / self.micros.max(1) as f64
    }
}

/// What is sent: the same body again and again, with these tokens in turn.
pub(super) struct Load {
    folder: tempfile::TempDir,
}

impl Load {
    /// Writes down what is sent.
    pub(super) fn new(body: &str, tokens: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("load.lua"), SCRIPT)?;
        fs::write(folder.path().join("body"), body)?;
        fs::write(folder.path().join("tokens"), tokens.join("\n") + "\n")?;
        Ok(Self { folder })
    }

    /// Sends it for `duration` over so many connections.
    pub(super) async fn send(
        &self,
        url: &str,
        connections: u32,
        duration: Duration,
    ) -> anyhow::Result<Outcome> {
        let file = |name: &str| self.folder.path().join(name);
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "--timeout=10s"])
            .arg(format!("-c{connections}"))
            .arg(format!("-d{}s", duration.as_secs()))
            .arg("-s")
            .arg(file("load.lua"))
            .arg(url)
            .arg("--")
            .args([file("body"), file("tokens")]);
        let output = capture(&wrk, "", duration + Duration::from_secs(30)).await?;
        let output = String::from_utf8_lossy(&output.stdout);
        let line = output.lines().rev().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("wrk printed no result:\n{output}"))?;
        Ok(serde_json::from_str(line)?)
    }
}
