//! The scripts of `npm/`, where Node finds the packages that they import.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{pki::Authority, tools::NpmTools, world::checkout};

/// The folders of scripts.
const FOLDERS: [&str; 2] = ["clients", "servers"];

/// The scripts beside the packages, in a folder of their own. Node looks for packages where a script is, not where it
/// is started.
pub struct Scripts {
    npm: NpmTools,
    folder: PathBuf,
}

impl Scripts {
    /// Puts the scripts into a folder that does not exist yet. They trust `authority`.
    pub fn install(npm: NpmTools, folder: PathBuf, authority: &Authority) -> anyhow::Result<Self> {
        for name in FOLDERS {
            let (from, to) = (checkout().join("e2e/npm").join(name), folder.join(name));
            fs::create_dir_all(&to)?;
            for script in fs::read_dir(&from).with_context(|| from.display().to_string())? {
                let script = script?;
                fs::copy(script.path(), to.join(script.file_name()))?;
            }
        }
        symlink(npm.modules(), folder.join("node_modules"))?;
        let scripts = Self { npm, folder };
        fs::write(scripts.certificates(), authority.pem())?;
        Ok(scripts)
    }

    /// The packages.
    pub fn npm(&self) -> &NpmTools {
        &self.npm
    }

    /// The folder, for files that belong to what runs here.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate of the run's authority, for `NODE_EXTRA_CA_CERTS`.
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Runs a script, such as `clients/sdk.mjs`.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.npm.node());
        command
            .arg(self.folder.join(script))
            .env("NODE_EXTRA_CA_CERTS", self.certificates());
        command
    }
}
