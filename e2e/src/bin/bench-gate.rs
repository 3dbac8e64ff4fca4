//! `make bench-gate`: what a gate costs, beside Envoy with the same checks. ONLY=memory measures memory alone, which takes
//! seconds.

use std::process::ExitCode;

use mcp_auth_e2e::{bench, process, progress};

fn main() -> ExitCode {
    if let Some(ended) = bench::serve_upstream() {
        return ended;
    }
    let only_memory = std::env::var_os("ONLY").is_some_and(|value| value == "memory");
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress::say(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(bench::run(only_memory));
    process::kill_everything();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("nothing was measured: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
