//! `make demo`: the main job on a real API server and a real Keycloak. ONCE=1 ends with a verdict instead of staying
//! up.

use std::process::ExitCode;

use mcp_auth_e2e::{demo, process, progress};

fn main() -> ExitCode {
    let once = std::env::var_os("ONCE").is_some_and(|value| value == "1");
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            progress::say(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(demo::run(once));
    process::kill_everything();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("the demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
