//! Programs for images: those of this machine with their libraries, and our own without any.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{process::Guarded, progress, world::checkout};

/// The only kind of machine that nodes are on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The files that a program of this machine loads, as `ldd` knows them. None for a static one.
pub(super) fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        !text.contains("not found"),
        "{} lacks libraries on this machine:\n{text}",
        program.display()
    );
    Ok(listed(&text))
}

/// Of `libc.so.6 => /lib/libc.so.6 (0x0)` and of `/lib64/ld.so (0x0)`: the path.
fn listed(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        path.starts_with('/').then(|| path.split_whitespace().next())?
    });
    lines.map(PathBuf::from).collect()
}

/// Builds a program of this workspace that needs no libraries, so that it runs in an image without any. Gives its path.
/// It has a target folder of its own: other flags would make cargo build everything anew in the usual one. What cargo
/// prints goes to a file in `logs`.
pub async fn static_program(package: &str, program: &str, logs: &Path) -> anyhow::Result<PathBuf> {
    let folder = checkout().canonicalize()?.join("target/static");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--package", package, "--bin", program])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&folder)
        .current_dir(checkout())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Names of functions stay for panics; the rest is most of the file.
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    let log = logs.join(format!("build-static-{program}.log"));
    let step = format!("building {program} without libraries, for an image");
    progress::during(&step, async {
        Guarded::spawn("cargo", &cargo, log)?.succeed().await
    })
    .await?;
    Ok(folder.join(TARGET).join("debug").join(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_as_ldd_prints_them() {
        let text = "\tlinux-vdso.so.1 (0x00007f21)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f20)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f22)\n";
        assert_eq!(
            listed(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert!(listed("\tstatically linked\n").is_empty());
    }
}
