//! `make bench-gate`: what a gate costs, beside Envoy with the same checks.

use std::process::ExitCode;

use mcp_auth_e2e::{bench, process, progress};

fn main() -> ExitCode {
    if let Some(ended) = bench::serve_upstream() {
        return ended;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress::say(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(bench::run());
    process::kill_everything();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("nothing was measured: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
