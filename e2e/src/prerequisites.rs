//! What must be on the machine before anything can be built, and how it gets there.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;
use rustix::process::geteuid;

use crate::{process::Guarded, progress};

/// A program that the harness needs and does not build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// The Go compiler. Any version that can fetch the one named in `go.mod` will do.
    Go,
    /// A Java runtime, for Keycloak and Maven.
    Java,
    /// Maven, which gets Keycloak.
    Maven,
    /// npm, with whatever Node it brings.
    Npm,
    /// A Node for what npm installed, on machines for which there is none in npm.
    Node,
    /// Python with pip.
    Pip,
}

const OLDEST_GO: (u32, u32) = (1, 21);
const OLDEST_JAVA: u32 = 17;
const OLDEST_NODE: u32 = 22;

/// Makes sure that everything in `needed` is there. What is missing is installed when this is root on a Debian-like
/// system; otherwise the error has one line for each missing program.
pub async fn provide(needed: &[Prerequisite], log: &Path) -> anyhow::Result<()> {
    let missing: Vec<Prerequisite> = needed
        .iter()
        .copied()
        .filter(|program| program.problem().is_some())
        .collect();
    if missing.iter().any(|program| !program.packages().is_empty()) && can_install() {
        install(&missing, log).await?;
    }
    let problems: Vec<String> = missing.iter().filter_map(|program| program.problem()).collect();
    if !problems.is_empty() {
        bail!(
            "this machine lacks what the stories need:\n{}",
            problems.join("\n")
        );
    }
    Ok(())
}

impl Prerequisite {
    /// One line for the user when the program is missing or too old.
    fn problem(self) -> Option<String> {
        let (found, wanted) = match self {
            Self::Go => (
                output("go", &["version"])
                    .map(|text| go_version(&text).is_some_and(|found| found >= OLDEST_GO)),
                "go 1.21 or newer (go.dev/doc/install)",
            ),
            Self::Java => (
                output("java", &["-version"])
                    .map(|text| java_version(&text).is_some_and(|found| found >= OLDEST_JAVA)),
                "java 17 or newer (for example the package openjdk-17-jre-headless)",
            ),
            Self::Maven => (
                output("mvn", &["-v"]).map(|_| true),
                "mvn (for example the package maven)",
            ),
            Self::Npm => (
                output("npm", &["--version"]).map(|_| true),
                "npm (for example the package npm)",
            ),
            Self::Node => (
                output("node", &["--version"])
                    .map(|text| node_version(&text).is_some_and(|found| found >= OLDEST_NODE)),
                "node 22 or newer (nodejs.org)",
            ),
            Self::Pip => (
                output("python3", &["-m", "pip", "--version"]).map(|_| true),
                "pip for python3 (for example the package python3-pip)",
            ),
        };
        match found {
            None => Some(format!("- not found: {wanted}")),
            Some(false) => Some(format!("- too old: needs {wanted}")),
            Some(true) => None,
        }
    }

    /// Debian packages that provide it, the best first. None for Go and Node: distributions carry one that is too old.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Go | Self::Node => &[],
            Self::Java => &["openjdk-21-jre-headless", "openjdk-17-jre-headless"],
            Self::Maven => &["maven"],
            Self::Npm => &["npm"],
            Self::Pip => &["python3-pip"],
        }
    }
}

fn can_install() -> bool {
    geteuid().is_root()
        && Path::new("/etc/debian_version").exists()
        && output("apt-get", &["--version"]).is_some()
}

async fn install(missing: &[Prerequisite], log: &Path) -> anyhow::Result<()> {
    apt("apt-get update", &["update"], log).await?;
    for program in missing {
        let available =
            |package: &&&str| output("apt-cache", &["show", package]).is_some_and(|text| !text.is_empty());
        if let Some(package) = program.packages().iter().find(available) {
            let step = format!("installing the Debian package {package}, because it is missing here");
            apt(
                &step,
                &["install", "--yes", "--no-install-recommends", package],
                log,
            )
            .await?;
        }
    }
    Ok(())
}

async fn apt(step: &str, arguments: &[&str], log: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    progress::during(step, async {
        Guarded::spawn("apt-get", &command, log)?.succeed().await
    })
    .await
}

/// Everything a program prints, on both streams (java prints its version on the second), if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = [output.stdout, output.stderr].concat();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Of "go version go1.26.8 linux/amd64": (1, 26).
fn go_version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."))?;
    let minor: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((1, minor.parse().ok()?))
}

/// Of `openjdk version "17.0.15" 2025-04-15`: 17. Before Java 9 the first number was 1.
fn java_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    major.parse().ok()
}

/// Of "v22.23.3": 22.
fn node_version(text: &str) -> Option<u32> {
    let major = text.trim().strip_prefix('v')?.split('.').next()?;
    major.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(go_version("go version go1.9 linux/amd64\n"), Some((1, 9)));
        assert_eq!(go_version("gccgo something else"), None);
        assert_eq!(
            java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK …"),
            Some(17)
        );
        assert_eq!(java_version("java version \"1.8.0_392\"\n"), Some(1));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("no java here"), None);
        assert_eq!(node_version("v22.23.3\n"), Some(22));
        assert_eq!(node_version("22"), None);
    }
}
