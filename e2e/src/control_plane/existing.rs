//! A cluster that somebody else runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{ADMIN_KUBECONFIG, ControlPlane, client, manifests};
use crate::{pki::write_private, process::capture};

/// kubectl of the person whose cluster it is.
const KUBECTL: &str = "kubectl";
const TIMEOUT: Duration = Duration::from_secs(30);

impl ControlPlane {
    /// The cluster that `kubectl` speaks to, as `KUBECONFIG` and its current context say. Notes go to `dir`.
    pub async fn existing(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        // One file for one cluster, with every certificate in it.
        let mut view = Command::new(KUBECTL);
        view.args([
            "config",
            "view",
            "--raw",
            "--flatten",
            "--minify",
            "--output",
            "json",
        ]);
        let output = capture(&view, "", TIMEOUT).await?;
        match output.status.code() {
            Some(0) => {}
            // What a shell says of a program that is not there.
            Some(127) => {
                bail!("not found: kubectl, which an existing cluster needs (kubernetes.io/docs/tasks/tools)")
            }
            _ => bail!(
                "kubectl knows no cluster: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
        let content: Value =
            serde_json::from_slice(&output.stdout).context("a kubeconfig that is no JSON")?;
        let cluster = content["clusters"][0]["cluster"].clone();
        ensure!(cluster["server"].is_string(), "the kubeconfig names no server");
        let admin_kubeconfig = dir.join(ADMIN_KUBECONFIG);
        write_private(&admin_kubeconfig, &content.to_string())?;
        let client = client(&admin_kubeconfig).await?;
        client
            .apiserver_version()
            .await
            .with_context(|| format!("the cluster at {} does not answer", cluster["server"]))?;
        Ok(Self {
            dir: dir.to_owned(),
            kubectl: PathBuf::from(KUBECTL),
            cluster,
            admin_kubeconfig,
            client,
            processes: Vec::new(),
        })
    }

    /// Removes a folder of manifests that [`ControlPlane::install_manifests`] applied.
    pub async fn remove_manifests(&self, folder: &Path) -> anyhow::Result<()> {
        let [kind, folder] = manifests(folder)?;
        let delete = ["delete", "--ignore-not-found", "--timeout=60s", kind, folder];
        self.kubectl().must(&delete).await.map(drop)
    }
}
