//! Programs built from Go modules of this crate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{process::Guarded, progress, tools::source_folder};

/// No symbol tables, and the version: without it clients cannot tell what the API server can do.
pub(super) const LINKER_FLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=";

/// One program of a module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// The name of the file, ours: some packages would build a file called `v3`.
    pub(super) name: &'static str,
    /// The package.
    pub(super) package: &'static str,
    /// The folder of the module in this crate.
    pub(super) module: &'static str,
}

/// Builds programs into a folder. What the compiler prints goes to files in `logs`.
pub(super) async fn build(programs: &[Program], folder: &Path, logs: &Path) -> anyhow::Result<()> {
    let version = kubernetes_version()?;
    for (number, program) in programs.iter().enumerate() {
        let name = program.name;
        let step = format!("building {name} ({} of {})", number + 1, programs.len());
        let command = go_build(folder.join(name), *program, &version, logs);
        let log = logs.join(format!("build-{name}.log"));
        progress::during(&step, async {
            Guarded::spawn(name, &command, log)?.succeed().await
        })
        .await?;
    }
    Ok(())
}

fn go_build(file: PathBuf, program: Program, version: &str, scratch: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .arg("build")
        .arg("-o")
        .arg(file)
        .arg("-ldflags")
        .arg(format!("{LINKER_FLAGS}{version}"))
        .arg(program.package)
        .current_dir(source_folder(program.module))
        // The lock files decide, whatever the user's environment says.
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        // A compiler that is killed leaves its files behind; there they go with the run.
        .env("GOTMPDIR", scratch);
    command
}

/// The version of Kubernetes that the module `cluster` requires, with its leading `v`.
pub(super) fn kubernetes_version() -> anyhow::Result<String> {
    let module = source_folder("cluster").join("go.mod");
    let text = fs::read_to_string(&module).with_context(|| format!("cannot read {}", module.display()))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("{} does not require k8s.io/kubernetes", module.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_comes_from_the_module() {
        let version = super::kubernetes_version().unwrap();
        assert!(version.starts_with("v1."), "{version}");
    }
}
