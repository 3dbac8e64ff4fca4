//! etcd, kube-apiserver, kube-controller-manager and kubectl, built from the Go module in `cluster/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    cache::{Cache, Entry, Key},
    process::Guarded,
    progress,
    tools::source_folder,
};

/// The package of each program. The name of the file is ours: etcd's package would build a file called `v3`.
const PROGRAMS: [(&str, &str); 4] = [
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    (
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
];

/// No symbol tables, and the version: without it clients cannot tell what the API server can do.
const LINKER_FLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=";

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
            let version = kubernetes_version()?;
            progress::say(&format!(
                "building the control plane of Kubernetes {version}; with an empty Go build cache this takes about \
                 8 minutes on two cores, and only once"
            ));
            for (number, (program, package)) in PROGRAMS.iter().enumerate() {
                let step = format!("building {program} ({} of {})", number + 1, PROGRAMS.len());
                let command = go_build(folder, program, package, &version, logs);
                let log = logs.join(format!("build-{program}.log"));
                progress::during(&step, async { Guarded::spawn(*program, &command, log)?.succeed().await }).await?;
            }
            Ok(())
        })
        .await?;
    Ok(ClusterTools {
        folder: entry.path().to_owned(),
    })
}

fn go_build(folder: &Path, program: &str, package: &str, version: &str, scratch: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .arg("build")
        .arg("-o")
        .arg(folder.join(program))
        .arg("-ldflags")
        .arg(format!("{LINKER_FLAGS}{version}"))
        .arg(package)
        .current_dir(source_folder("cluster"))
        // The lock files decide, whatever the user's environment says.
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        // A compiler that is killed leaves its files behind; there they go with the run.
        .env("GOTMPDIR", scratch);
    command
}

/// The version of Kubernetes that the module requires, with its leading `v`.
fn kubernetes_version() -> anyhow::Result<String> {
    let module = source_folder("cluster").join("go.mod");
    let text = fs::read_to_string(&module).with_context(|| format!("cannot read {}", module.display()))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("{} does not require k8s.io/kubernetes", module.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_comes_from_the_module() {
        let version = super::kubernetes_version().unwrap();
        assert!(version.starts_with("v1."), "{version}");
    }
}
