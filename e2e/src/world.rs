//! What all stories of one run share.

use std::path::Path;

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
    // Last: removed when everything that writes into it is gone.
    folder: RunFolder,
}

impl World {
    /// Prepares the tools and starts both parts.
    pub async fn start() -> anyhow::Result<Self> {
        use_aws_lc();
        let folder = RunFolder::create()?;
        let tools = Tools::prepare(folder.path()).await?;
        let authority = Authority::new()?;
        let (control_plane_dir, keycloak_dir) = (
            folder.path().join("control-plane"),
            folder.path().join("keycloak"),
        );
        let (control_plane, keycloak) = tokio::try_join!(
            ControlPlane::start(&control_plane_dir, &tools.cluster, &authority),
            Keycloak::start(&keycloak_dir, &tools.keycloak, &authority),
        )?;
        Ok(Self {
            tools,
            authority,
            control_plane,
            keycloak,
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
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops everything.
    pub async fn stop(&self) -> anyhow::Result<()> {
        progress::during("stopping the control plane and Keycloak", async {
            tokio::try_join!(self.control_plane.stop(), self.keycloak.stop()).map(drop)
        })
        .await
    }
}
