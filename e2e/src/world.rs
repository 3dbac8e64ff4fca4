//! What all stories of one run share.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::bail;
use serde_json::json;

use crate::{
    control_plane::ControlPlane, keycloak::Keycloak, pki::Authority, progress, run_folder::RunFolder,
    setting::Setting, tools::Tools, use_aws_lc,
};

/// One control plane and one Keycloak, started side by side.
pub struct World {
    tools: Tools,
    authority: Authority,
    control_plane: ControlPlane,
    keycloak: Keycloak,
    notes: Mutex<Vec<String>>,
    // Last: removed when everything that writes into it is gone.
    folder: RunFolder,
}

impl World {
    /// Prepares the tools and starts both parts, with the definitions, roles and admission policies of this checkout
    /// installed.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(&Setting::default()).await
    }

    /// The same with parts that exist already, where `setting` says so. In a cluster that exists nothing is installed
    /// yet: see [`install`].
    pub async fn start_on(setting: &Setting) -> anyhow::Result<Self> {
        use_aws_lc();
        let folder = RunFolder::create()?;
        let tools = Tools::prepare(setting, folder.path()).await?;
        let authority = Authority::beside(setting.others.clone())?;
        let (control_plane_dir, keycloak_dir) = (
            folder.path().join("control-plane"),
            folder.path().join("keycloak"),
        );
        let cluster = async {
            let Some(tools) = &tools.cluster else {
                return ControlPlane::existing(&control_plane_dir).await;
            };
            let cluster = ControlPlane::start(&control_plane_dir, tools, &authority).await?;
            install(&cluster).await?;
            Ok(cluster)
        };
        let keycloak = async {
            match (&tools.keycloak, &setting.keycloak) {
                (_, Some(existing)) => Keycloak::existing(existing, &authority).await,
                (Some(tools), None) => Keycloak::start(&keycloak_dir, tools, &authority).await,
                (None, None) => bail!("there is no Keycloak to start and none to use"),
            }
        };
        let (control_plane, keycloak) = tokio::try_join!(cluster, keycloak)?;
        Ok(Self {
            tools,
            authority,
            control_plane,
            keycloak,
            notes: Mutex::default(),
            folder,
        })
    }

    /// Who signed every certificate of this run.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Keycloak.
    pub fn keycloak(&self) -> &Keycloak {
        &self.keycloak
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The folder with everything that this run writes.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Adds a line, such as a measured number, to the summary at the end of the run.
    pub fn note(&self, line: impl Into<String>) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.into());
    }

    /// The lines for the summary, sorted.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.sort();
        notes
    }

    /// Stops everything.
    pub async fn stop(&self) -> anyhow::Result<()> {
        progress::during("stopping the control plane and Keycloak", async {
            tokio::try_join!(self.control_plane.stop(), self.keycloak.stop()).map(drop)
        })
        .await
    }
}

/// What a platform admin installs, except the operator itself, in this order.
const INSTALLED: [&str; 3] = ["crds/yaml", "config/rbac", "config/admission"];

/// Where the shipped manifests put the operator.
pub(crate) const SHIPPED_NAMESPACE: &str = "mcp-auth-system";

/// Installs it.
pub async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SHIPPED_NAMESPACE } });
    for (number, folder) in INSTALLED.iter().enumerate() {
        if number == 1 {
            cluster.kubectl().apply(&namespace.to_string()).await?;
        }
        cluster.install_manifests(&checkout().join(folder)).await?;
    }
    Ok(())
}

/// Removes what [`install`] installed.
pub async fn uninstall(cluster: &ControlPlane) -> anyhow::Result<()> {
    for folder in INSTALLED.iter().rev() {
        cluster.remove_manifests(&checkout().join(folder)).await?;
    }
    cluster
        .kubectl()
        .must(&[
            "delete",
            "namespace",
            SHIPPED_NAMESPACE,
            "--ignore-not-found",
            "--timeout=60s",
        ])
        .await
        .map(drop)
}

/// The root of the checkout that this was built from.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
