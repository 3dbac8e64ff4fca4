//! `make bench-operator`: what the operator costs with thousands of objects. COUNT=100 is a try with fewer, LONG=1
//! tells what changes with ten times as many.

use std::process::ExitCode;

use mcp_auth_e2e::{bench::operator, lengths, process, progress};

fn main() -> ExitCode {
    let count = std::env::var("COUNT").ok().filter(|count| !count.is_empty());
    let clients = match count.map_or(Ok(operator::COUNT), |count| count.parse()) {
        Ok(clients) if (10..=100_000).contains(&clients) => clients,
        _ => {
            progress::say("COUNT is how many McpClients to make: 10 to 100000");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress::say(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(operator::run(clients, lengths::of(false, true)));
    process::kill_everything();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("not everything was measured: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
