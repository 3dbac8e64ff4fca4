//! The node: real pods with Services, names, probes and policies.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    process::capture,
    runner::Story,
    tools::{EngineTools, NpmTools},
    world::World,
};

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("node::tools_from_npm_and_pip_run", tools_run)]
}

/// Each program says its version: it is there, complete, and right for this machine.
async fn tools_run(world: Arc<World>) -> anyhow::Result<()> {
    let npm = NpmTools::prepare(world.folder().path()).await?;
    let engines = EngineTools::prepare(world.folder().path()).await?;
    let mut inspector = npm.inspector();
    inspector.args(["--cli", "--version"]);
    let mut conformance = npm.conformance();
    conformance.arg("--version");
    let mut envoy = std::process::Command::new(engines.envoy());
    envoy.arg("--version");
    let mut traefik = std::process::Command::new(engines.traefik());
    traefik.arg("version");
    for (command, version) in [
        (inspector, "2.12.0"),
        (conformance, "0.2.0-alpha.12"),
        (envoy, "1.40.0"),
        (traefik, "3.7.15"),
    ] {
        let output = capture(&command, "", Duration::from_secs(30)).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && text.contains(version),
            "{command:?}: {text}"
        );
    }
    Ok(())
}
