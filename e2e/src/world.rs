//! What all stories of one run share.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    control_plane::ControlPlane, keycloak::Keycloak, pki::Authority, progress, run_folder::RunFolder,
    tools::Tools, use_aws_lc,
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
        use_aws_lc();
        let folder = RunFolder::create()?;
        let tools = Tools::prepare(folder.path()).await?;
        let authority = Authority::new()?;
        let (control_plane_dir, keycloak_dir) = (
            folder.path().join("control-plane"),
            folder.path().join("keycloak"),
        );
        let cluster = async {
            let cluster = ControlPlane::start(&control_plane_dir, &tools.cluster, &authority).await?;
            install(&cluster).await?;
            Ok(cluster)
        };
        let keycloak = Keycloak::start(&keycloak_dir, &tools.keycloak, &authority);
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

/// Installs what a platform admin installs, except the operator itself.
async fn install(cluster: &ControlPlane) -> anyhow::Result<()> {
    let checkout = checkout();
    cluster.install_manifests(&checkout.join("crds/yaml")).await?;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mcp-auth-system\n";
    cluster.kubectl().apply(namespace).await?;
    for folder in ["config/rbac", "config/admission"] {
        cluster.install_manifests(&checkout.join(folder)).await?;
    }
    Ok(())
}

/// The root of the checkout that this was built from.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
