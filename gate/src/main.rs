//! The gate's binary: everything is in the library.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use mcp_auth_gate::{config::Config, run, telemetry};

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os()) {
        Ok(config) => config,
        Err(unusable) => {
            let _ = unusable.report();
            return ExitCode::from(unusable.exit_code());
        }
    };
    // Before the first TLS client: with two providers in a process, rustls could not choose.
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if provider.is_err() || telemetry::init(config.log_format, &config.log_filter).is_err() {
        return fail("cannot initialise TLS or logs");
    }
    match runtime(config.threads) {
        Ok(runtime) => {
            let ended = runtime.block_on(run::run(config));
            // A name resolution that hangs must not hold up the end.
            runtime.shutdown_background();
            ended.map_or_else(|error| fail(&error.to_string()), |()| ExitCode::SUCCESS)
        }
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

/// One thread needs no hand-over between threads.
fn runtime(threads: Option<usize>) -> io::Result<tokio::runtime::Runtime> {
    let threads = match threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_all().build()
}

/// Says why in one line: in the log if it is written, else to whoever watches.
fn fail(why: &str) -> ExitCode {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{why}");
    } else {
        // If even that cannot be written, the exit code has to do.
        let _ = writeln!(io::stderr(), "mcp-auth-gate: {why}");
    }
    ExitCode::FAILURE
}
