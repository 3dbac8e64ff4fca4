//! The operator's binary: everything is in the library.

use std::io::{self, Write};
use std::process::ExitCode;

use mcp_auth_operator::config::{Config, Surroundings};
use mcp_auth_operator::{run, telemetry};

fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os(), &Surroundings::read()) {
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
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(run::run(config));
            // A name resolution that hangs must not hold up the end.
            runtime.shutdown_background();
            ended.map_or_else(|error| fail(&error.to_string()), |()| ExitCode::SUCCESS)
        }
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

/// Says why in one line: in the log if it is written, else to whoever watches.
fn fail(why: &str) -> ExitCode {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{why}");
    } else {
        // If even that cannot be written, the exit code has to do.
        let _ = writeln!(io::stderr(), "mcp-auth-operator: {why}");
    }
    ExitCode::FAILURE
}
