//! MCP servers without authorization of their own.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::Scripts;
use crate::{
    ports,
    process::Guarded,
    wait::{Seen, wait_for},
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server, with its MCP endpoint at `/mcp`. It is killed when it is dropped.
pub struct McpServer {
    process: Guarded,
    address: SocketAddr,
}

impl McpServer {
    /// The reference server with every feature, which speaks revisions up to 2025-11-25.
    pub async fn everything(scripts: &Scripts) -> anyhow::Result<Self> {
        let mut command = scripts.npm().server_everything();
        command.arg("streamableHttp");
        Self::start("server-everything", command, scripts).await
    }

    /// A server of ours that speaks the stateless wire of 2026-07-28 too, with everything that the conformance suite
    /// looks for.
    pub async fn both_wires(scripts: &Scripts) -> anyhow::Result<Self> {
        Self::start("both-wires", scripts.command("servers/both-wires.mjs"), scripts).await
    }

    async fn start(name: &str, mut command: Command, scripts: &Scripts) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        command.env("PORT", address.port().to_string());
        let log = scripts.folder().join(format!("{name}.log"));
        let server = Self {
            process: Guarded::spawn(name, &command, log)?,
            address,
        };
        let what = format!("{name} to listen");
        let listens = wait_for(&what, START_TIMEOUT, async || {
            TcpStream::connect(address).await.context("not yet")?;
            Ok(Seen::Done(()))
        });
        tokio::select! {
            listens = listens => listens.with_context(|| server.process.log_tail())?,
            status = server.process.wait() => bail!("{name} ended ({}):\n{}", status?, server.process.log_tail()),
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its MCP endpoint, without a gate before it.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}
