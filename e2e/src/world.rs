//! What all stories of one run share.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::bail;
use serde_json::json;

use crate::{
    control_plane::ControlPlane,
    keycloak::{ExistingKeycloak, Keycloak},
    node::{Node, Place},
    pki::Authority,
    progress,
    run_folder::RunFolder,
    setting::Setting,
    tools::Tools,
    use_aws_lc,
};

/// One control plane, one Keycloak and perhaps one node, started side by side.
pub struct World {
    tools: Tools,
    authority: Authority,
    control_plane: ControlPlane,
    keycloak: Keycloak,
    node: Option<Node>,
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
        let place = match &tools.node {
            Some(_) => Some(Place::make(&folder.path().join("node")).await?),
            None => None,
        };
        let host = place.as_ref().map_or(Ipv4Addr::LOCALHOST, Place::host);
        let start = Start {
            folder: folder.path(),
            tools: &tools,
            authority: &authority,
        };
        let cluster = Box::pin(start.cluster(place));
        let keycloak = Box::pin(start.keycloak(setting.keycloak.as_ref(), host));
        let ((control_plane, node), keycloak) = tokio::try_join!(cluster, keycloak)?;
        Ok(Self {
            tools,
            authority,
            control_plane,
            keycloak,
            node,
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

    /// The node, where there is one.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The address where what the run starts listens: one that pods reach where there are pods, else that of the
    /// loopback interface.
    pub fn host(&self) -> Ipv4Addr {
        self.node
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, |node| node.place().host())
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
            if let Some(node) = &self.node {
                node.stop().await?;
            }
            tokio::try_join!(self.control_plane.stop(), self.keycloak.stop()).map(drop)
        })
        .await
    }
}

/// What the parts of a world are started from.
struct Start<'a> {
    folder: &'a Path,
    tools: &'a Tools,
    authority: &'a Authority,
}

impl Start<'_> {
    /// The control plane with what is installed in it, and its node if there is a place for one.
    async fn cluster(&self, place: Option<Place>) -> anyhow::Result<(ControlPlane, Option<Node>)> {
        let dir = self.folder.join("control-plane");
        let Some(tools) = &self.tools.cluster else {
            return Ok((ControlPlane::existing(&dir).await?, None));
        };
        let cluster = ControlPlane::start_at(&dir, tools, self.authority, place.as_ref()).await?;
        let node = async {
            let (Some(place), Some(tools)) = (place, &self.tools.node) else {
                return Ok(None);
            };
            let dir = self.folder.join("node");
            Node::start(&dir, tools, self.authority, place, &cluster)
                .await
                .map(Some)
        };
        let (node, ()) = tokio::try_join!(node, install(&cluster))?;
        Ok((cluster, node))
    }

    async fn keycloak(
        &self,
        existing: Option<&ExistingKeycloak>,
        host: Ipv4Addr,
    ) -> anyhow::Result<Keycloak> {
        match (&self.tools.keycloak, existing) {
            (_, Some(existing)) => Keycloak::existing(existing, self.authority).await,
            (Some(tools), None) => {
                let dir = self.folder.join("keycloak");
                Keycloak::start(&dir, tools, self.authority, host).await
            }
            (None, None) => bail!("there is no Keycloak to start and none to use"),
        }
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
