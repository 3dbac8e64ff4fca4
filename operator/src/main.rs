//! The operator's binary: `mcp-auth-operator --help` explains its flags.

use std::process::ExitCode;

use mcp_auth_operator::{
    config::{Config, Surroundings, Unusable},
    run::run,
    telemetry,
};

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::load(std::env::args_os(), &Surroundings::read()) {
        Ok(config) => config,
        Err(unusable) => return refuse(&unusable),
    };
    if let Err(error) = telemetry::init(config.log_format, &config.log_filter) {
        return fail(&error.to_string());
    }
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// What clap or the checks say, one line for each problem: 0 for `--help`, 2 for a wrong flag.
#[expect(clippy::print_stderr, reason = "the command line is answered before logging starts")]
fn refuse(unusable: &Unusable) -> ExitCode {
    match unusable {
        Unusable::CommandLine(answer) => {
            // Help goes to the standard output; a reader that went away is no failure of ours.
            let _ = answer.print();
            ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2))
        }
        Unusable::Values(errors) => {
            for error in errors {
                eprintln!("mcp-auth-operator: {error}");
            }
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last words of the process, also when logging is off")]
fn fail(why: &str) -> ExitCode {
    eprintln!("mcp-auth-operator: {why}");
    ExitCode::FAILURE
}
