//! The operator's binary: everything is in the library.

use std::process::ExitCode;

use mcp_auth_cli::{logs, program::Program};
use mcp_auth_operator::{
    config::{Config, Surroundings},
    run,
};
use tokio::runtime::Runtime;

const PROGRAM: Program = Program {
    name: "mcp-auth-operator",
    log: |why| {
        tracing::error!("{why}");
        tracing::enabled!(tracing::Level::ERROR)
    },
};

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os(), &Surroundings::read()) {
        Ok(config) => config,
        Err(unusable) => return PROGRAM.refuse(&unusable),
    };
    // Before the first TLS client: with two providers in a process, rustls could not choose.
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if provider.is_err() || logs::init(config.log_format, &config.log_filter).is_err() {
        return PROGRAM.fail("cannot initialise TLS or logs");
    }
    PROGRAM.run(Runtime::new(), run::run(config))
}
