//! kubectl, as users type it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::process::capture;

/// A call that takes longer hangs.
const TIMEOUT: Duration = Duration::from_mins(3);

/// kubectl with one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

/// What one call of kubectl gave.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether it ended with 0.
    pub success: bool,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: &Path, cache: PathBuf) -> Self {
        Self {
            program,
            kubeconfig: kubeconfig.to_owned(),
            cache,
        }
    }

    /// Runs kubectl. Only a kubectl that cannot be run or hangs is an error here.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.run_with(arguments, None).await
    }

    /// Runs kubectl with something on its standard input, for `--filename -`.
    pub async fn run_stdin(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        self.run_with(arguments, Some(input)).await
    }

    /// Runs kubectl and fails unless it succeeds. Gives what it printed.
    pub async fn must(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(arguments).await?.or_fail(arguments)
    }

    /// `kubectl apply` of manifests in YAML. Fails unless it succeeds.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        let arguments = ["apply", "--server-side", "--filename", "-"];
        self.run_stdin(&arguments, manifests).await?.or_fail(&arguments)
    }

    /// `kubectl … --output json`, parsed.
    pub async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let arguments = [arguments, &["--output", "json"]].concat();
        let text = self.must(&arguments).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("kubectl {} gave no such JSON", arguments.join(" ")))
    }

    async fn run_with(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments)
            // Preferences of the person who runs the stories would change what kubectl prints.
            .env("KUBECTL_KUBERC", "false")
            .env_remove("KUBECONFIG");
        let output = capture(&command, input.unwrap_or_default(), TIMEOUT).await;
        let output = output.with_context(|| format!("kubectl {}", arguments.join(" ")))?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl Output {
    /// What it printed, or an error with what it complained about.
    pub fn or_fail(self, arguments: &[&str]) -> anyhow::Result<String> {
        if !self.success {
            bail!("kubectl {} failed: {}", arguments.join(" "), self.stderr.trim());
        }
        Ok(self.stdout)
    }
}
