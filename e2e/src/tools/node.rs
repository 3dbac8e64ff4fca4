//! What a node consists of: programs built from the Go modules in `cluster/`, `dns/` and `policy/`. Those that come
//! from Debian are prerequisites.

use std::path::{Path, PathBuf};

use crate::{
    cache::{Cache, Entry, Key},
    progress,
    tools::{
        go::{self, LINKER_FLAGS, Program},
        source_folder,
    },
};

const PROGRAMS: [Program; 5] = [
    Program {
        name: "kubelet",
        package: "k8s.io/kubernetes/cmd/kubelet",
        module: "cluster",
    },
    Program {
        name: "kube-scheduler",
        package: "k8s.io/kubernetes/cmd/kube-scheduler",
        module: "cluster",
    },
    Program {
        name: "kube-proxy",
        package: "k8s.io/kubernetes/cmd/kube-proxy",
        module: "cluster",
    },
    Program {
        name: "coredns",
        package: ".",
        module: "dns",
    },
    Program {
        name: "kube-router",
        package: "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
        module: "policy",
    },
];

/// The modules of the programs.
const MODULES: [&str; 3] = ["cluster", "dns", "policy"];

/// The built programs of a node.
#[derive(Clone, Debug)]
pub struct NodeTools {
    folder: PathBuf,
}

impl NodeTools {
    /// kubelet.
    pub fn kubelet(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    /// kube-scheduler.
    pub fn kube_scheduler(&self) -> PathBuf {
        self.folder.join("kube-scheduler")
    }

    /// kube-proxy, which makes Services work.
    pub fn kube_proxy(&self) -> PathBuf {
        self.folder.join("kube-proxy")
    }

    /// CoreDNS.
    pub fn coredns(&self) -> PathBuf {
        self.folder.join("coredns")
    }

    /// kube-router, which enforces NetworkPolicies.
    pub fn kube_router(&self) -> PathBuf {
        self.folder.join("kube-router")
    }
}

/// The place in the cache that belongs to the present modules.
pub(super) fn entry(cache: &Cache) -> anyhow::Result<Entry> {
    let mut key = Key::new()
        .with(format!("{PROGRAMS:?} {LINKER_FLAGS}"))
        .with_file(&source_folder("dns/main.go"))?;
    for module in MODULES {
        let module = source_folder(module);
        key = key
            .with_file(&module.join("go.mod"))?
            .with_file(&module.join("go.sum"))?;
    }
    Ok(cache.entry("node", key))
}

/// Builds what is not in the cache.
pub(super) async fn build(entry: &Entry, logs: &Path) -> anyhow::Result<NodeTools> {
    entry
        .build(async |folder: &Path| {
            progress::say(
                "building the programs of a node, which takes about 4 minutes on two cores, and only once",
            );
            go::build(&PROGRAMS, folder, logs).await
        })
        .await?;
    Ok(NodeTools {
        folder: entry.path().to_owned(),
    })
}
