//! Writes the custom resource definitions, one file a kind, into the folder given as the only argument.

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return fail("usage: crdgen <folder>");
    };
    for crd in mcp_auth_crds::all() {
        let path = folder.join(mcp_auth_crds::file_name(&crd));
        let written = mcp_auth_crds::to_yaml(&crd)
            .map_err(|error| error.to_string())
            .and_then(|yaml| std::fs::write(&path, yaml).map_err(|error| error.to_string()));
        if let Err(error) = written {
            return fail(&format!("cannot write {}: {error}", path.display()));
        }
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "a command-line tool speaks on stderr")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
