//! The programs that stories run against, built or fetched on first use and then taken from the cache.

mod cluster;
mod engines;
mod keycloak;
mod npm;

use std::path::{Path, PathBuf};

use crate::{
    cache::Cache,
    prerequisites::{self, Prerequisite},
    setting::Setting,
};

pub use cluster::ClusterTools;
pub use engines::EngineTools;
pub use keycloak::{ADMIN_CLIENT, KeycloakTools, Launch};
pub use npm::NpmTools;

/// What a [`World`](crate::world::World) is started from; None for parts that exist already.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The control plane.
    pub cluster: Option<ClusterTools>,
    /// The authorization server.
    pub keycloak: Option<KeycloakTools>,
}

impl Tools {
    /// Takes from the cache what `setting` needs, building what is missing: several minutes on a new machine, nothing
    /// after. What the builds print goes to files in `logs`.
    pub async fn prepare(setting: &Setting, logs: &Path) -> anyhow::Result<Self> {
        let cache = Cache::open()?;
        let cluster = (!setting.existing_cluster)
            .then(|| cluster::entry(&cache))
            .transpose()?;
        let keycloak = setting
            .keycloak
            .is_none()
            .then(|| keycloak::entry(&cache))
            .transpose()?;
        let mut needed = Vec::new();
        if cluster.as_ref().is_some_and(|entry| !entry.exists()) {
            needed.push(Prerequisite::Go);
        }
        if let Some(entry) = &keycloak {
            needed.push(Prerequisite::Java);
            needed.extend((!entry.exists()).then_some(Prerequisite::Maven));
        }
        prerequisites::provide(&needed, &logs.join("apt.log")).await?;
        let cluster = async {
            match &cluster {
                Some(entry) => cluster::build(entry, logs).await.map(Some),
                None => Ok(None),
            }
        };
        let keycloak = async {
            match &keycloak {
                Some(entry) => keycloak::build(&cache, entry, logs).await.map(Some),
                None => Ok(None),
            }
        };
        let (cluster, keycloak) = tokio::try_join!(cluster, keycloak)?;
        Ok(Self { cluster, keycloak })
    }
}

/// A folder of this crate in the checkout.
fn source_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
