//! The programs that stories run against, built or fetched on first use and then taken from the cache.

mod cluster;
mod keycloak;

use std::path::{Path, PathBuf};

use crate::{
    cache::Cache,
    prerequisites::{self, Prerequisite},
};

pub use cluster::ClusterTools;
pub use keycloak::{ADMIN_CLIENT, KeycloakTools, Launch};

/// Everything that a [`World`](crate::world::World) is started from.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The control plane.
    pub cluster: ClusterTools,
    /// The authorization server.
    pub keycloak: KeycloakTools,
}

impl Tools {
    /// Takes the tools from the cache, building what is missing: several minutes on a new machine, nothing after.
    /// What the builds print goes to files in `logs`.
    pub async fn prepare(logs: &Path) -> anyhow::Result<Self> {
        let cache = Cache::open()?;
        let cluster = cluster::entry(&cache)?;
        let keycloak = keycloak::entry(&cache)?;
        let mut needed = vec![Prerequisite::Java];
        if !cluster.exists() {
            needed.push(Prerequisite::Go);
        }
        if !keycloak.exists() {
            needed.push(Prerequisite::Maven);
        }
        prerequisites::provide(&needed, &logs.join("apt.log")).await?;
        let (cluster, keycloak) = tokio::try_join!(
            cluster::build(&cluster, logs),
            keycloak::build(&cache, &keycloak, logs)
        )?;
        Ok(Self { cluster, keycloak })
    }
}

/// A folder of this crate in the checkout.
fn source_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
