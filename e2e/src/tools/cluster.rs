//! etcd, kube-apiserver, kube-controller-manager and kubectl, built from the Go module in `cluster/`.

use std::path::{Path, PathBuf};

use crate::{
    cache::{Cache, Entry, Key},
    progress,
    tools::{
        go::{self, LINKER_FLAGS, Program},
        source_folder,
    },
};

const PROGRAMS: [Program; 4] = [
    program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    program("etcd", "go.etcd.io/etcd/server/v3"),
    program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    program(
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
];

const fn program(name: &'static str, package: &'static str) -> Program {
    Program {
        name,
        package,
        module: "cluster",
    }
}

/// The built programs of a control plane.
#[derive(Clone, Debug)]
pub struct ClusterTools {
    folder: PathBuf,
}

impl ClusterTools {
    /// etcd.
    pub fn etcd(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    /// kube-apiserver.
    pub fn kube_apiserver(&self) -> PathBuf {
        self.folder.join("kube-apiserver")
    }

    /// kube-controller-manager.
    pub fn kube_controller_manager(&self) -> PathBuf {
        self.folder.join("kube-controller-manager")
    }

    /// kubectl.
    pub fn kubectl(&self) -> PathBuf {
        self.folder.join("kubectl")
    }
}

/// The place in the cache that belongs to the module's present lock files.
pub(super) fn entry(cache: &Cache) -> anyhow::Result<Entry> {
    let module = source_folder("cluster");
    let key = Key::new()
        .with(format!("{PROGRAMS:?} {LINKER_FLAGS}"))
        .with_file(&module.join("go.mod"))?
        .with_file(&module.join("go.sum"))?;
    Ok(cache.entry("control-plane", key))
}

/// Builds what is not in the cache.
pub(super) async fn build(entry: &Entry, logs: &Path) -> anyhow::Result<ClusterTools> {
    entry
        .build(async |folder: &Path| {
            let version = go::kubernetes_version()?;
            progress::say(&format!(
                "building the control plane of Kubernetes {version}; with an empty Go build cache this takes about \
                 8 minutes on two cores, and only once"
            ));
            go::build(&PROGRAMS, folder, logs).await
        })
        .await?;
    Ok(ClusterTools {
        folder: entry.path().to_owned(),
    })
}
