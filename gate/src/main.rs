//! The gate's binary: everything is in the library.

use std::{io, process::ExitCode};

use mcp_auth_cli::{logs, program::Program};
use mcp_auth_gate::{config::Config, run};
use tokio::runtime::{Builder, Runtime};

const PROGRAM: Program = Program {
    name: "mcp-auth-gate",
    log: |why| {
        tracing::error!("{why}");
        tracing::enabled!(tracing::Level::ERROR)
    },
};

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os()) {
        Ok(config) => config,
        Err(unusable) => return PROGRAM.refuse(&unusable),
    };
    // Before the first TLS client: with two providers in a process, rustls could not choose.
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if provider.is_err() || logs::init(config.log_format, &config.log_filter).is_err() {
        return PROGRAM.fail("cannot initialise TLS or logs");
    }
    PROGRAM.run(runtime(config.threads), run::run(config))
}

/// One thread needs no hand-over between threads.
fn runtime(threads: Option<usize>) -> io::Result<Runtime> {
    let threads = match threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    let mut builder = match threads {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()
}
