//! The gate as a process, outside of a cluster.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    operator, ports,
    process::Guarded,
    wait::{Seen, wait_for},
};

const BINARY: &str = "mcp-auth-gate";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running gate. It is killed when it is dropped.
pub struct Gate {
    process: Guarded,
    address: SocketAddr,
    policy: PathBuf,
}

impl Gate {
    /// Starts a gate by this policy in front of the server at `upstream`, which in a cluster would be where the policy
    /// says, and waits until it is ready. Policy and log are in `folder`.
    pub async fn start(folder: &Path, policy: &str, upstream: SocketAddr) -> anyhow::Result<Self> {
        let file = folder.join("policy.json");
        fs::write(&file, policy)?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let admin = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let mut command = Command::new(operator::built(BINARY, "MCP_AUTH_GATE_BIN")?);
        command
            .arg(format!("--policy={}", file.display()))
            .arg(format!("--proxy-address={address}"))
            .arg(format!("--admin-address={admin}"))
            .arg(format!("--upstream-address={upstream}"))
            .args(["--log-format=json", "--log-level=debug"])
            .env("RUST_BACKTRACE", "1");
        let gate = Self {
            process: Guarded::spawn("gate", &command, folder.join("gate.log"))?,
            address,
            policy: file,
        };
        let url = format!("http://{admin}/readyz");
        let ready = wait_for("the gate to be ready", START_TIMEOUT, async || {
            let answer = reqwest::get(&url).await.context("no answer")?;
            let status = answer.status();
            Ok(if status.is_success() {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{status}: {}", answer.text().await?))
            })
        });
        tokio::select! {
            ready = ready => ready.with_context(|| gate.process.log_tail())?,
            status = gate.process.wait() => bail!("the gate ended ({}):\n{}", status?, gate.process.log_tail()),
        }
        Ok(gate)
    }

    /// Where its proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, to look at or to signal.
    pub fn process(&self) -> &Guarded {
        &self.process
    }

    /// The file with its policy.
    pub fn policy(&self) -> &Path {
        &self.policy
    }
}
