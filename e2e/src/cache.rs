//! Built tools, kept outside the checkout and named by the hash of what they are built from, so that a second
//! clone starts in seconds and a changed lock file never meets an old tool.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::progress;

/// The cache folder: `$MCP_AUTH_CACHE`, or `mcp-auth-operator` in `$XDG_CACHE_HOME` or `~/.cache`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What an entry is built from. Any difference leads to another entry.
pub struct Key(Sha256);

impl Key {
    /// The key of nothing yet.
    pub fn new() -> Self {
        // Part of every key: a tool is not shared between machines of different kinds.
        Self(Sha256::new())
            .with(std::env::consts::OS)
            .with(std::env::consts::ARCH)
    }

    /// Adds one thing that the entry depends on.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        // The length keeps ("ab", "c") apart from ("a", "bc").
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// Adds the content of a file.
    pub fn with_file(self, path: &Path) -> anyhow::Result<Self> {
        Ok(self.with(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?))
    }

    /// The key as the end of a name.
    pub(crate) fn hex(self) -> String {
        use std::fmt::Write;
        self.0
            .finalize()
            .iter()
            .take(8)
            .fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

/// One folder of the cache, there or still to be built.
#[derive(Clone, Debug)]
pub struct Entry {
    name: &'static str,
    path: PathBuf,
}

impl Cache {
    /// The cache of this user, made when it does not exist.
    pub fn open() -> anyhow::Result<Self> {
        let root = if let Some(chosen) = variable("MCP_AUTH_CACHE") {
            chosen
        } else if let Some(base) = variable("XDG_CACHE_HOME") {
            base.join("mcp-auth-operator")
        } else {
            let home = variable("HOME").context("neither MCP_AUTH_CACHE, XDG_CACHE_HOME nor HOME is set")?;
            home.join(".cache/mcp-auth-operator")
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make the cache {}", root.display()))?;
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot use the cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// The entry of this name built from what `key` says.
    pub fn entry(&self, name: &'static str, key: Key) -> Entry {
        Entry {
            name,
            path: self.root.join(format!("{name}-{}", key.hex())),
        }
    }
}

impl Entry {
    /// Whether it is built.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Where it is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Builds the entry unless it is there. `build` fills an empty folder that becomes the entry only when it is
    /// complete; of several processes one builds and the others wait for it.
    pub async fn build(&self, build: impl AsyncFnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if self.exists() {
            return Ok(());
        }
        let _lock = self.lock().await?;
        if self.exists() {
            return Ok(());
        }
        // The lock is ours: a folder that is here was left by a process that was killed.
        let unfinished = self.path.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        build(&unfinished).await?;
        fs::rename(&unfinished, &self.path)
            .with_context(|| format!("cannot put {} in its place", self.path.display()))
    }

    /// Held until the file is dropped, at the latest when this process ends.
    async fn lock(&self) -> anyhow::Result<File> {
        let path = self.path.with_extension("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
            Err(TryLockError::WouldBlock) => {}
        }
        progress::say(&format!("another run is preparing {}; waiting for it", self.name));
        tokio::task::spawn_blocking(move || file.lock().map(|()| file))
            .await?
            .context("cannot lock the cache")
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        let one = Key::new().with("ab").with("c").hex();
        let other = Key::new().with("a").with("bc").hex();
        assert_ne!(one, other);
        assert_eq!(one, Key::new().with("ab").with("c").hex());
        assert_eq!(one.len(), 16);
    }

    #[tokio::test]
    async fn an_entry_is_built_once_and_never_half() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Cache {
            root: folder.path().to_owned(),
        }
        .entry("tool", Key::new());

        let failed = entry.build(async |_: &Path| anyhow::bail!("no compiler")).await;
        assert_eq!(failed.unwrap_err().to_string(), "no compiler");
        assert!(!entry.exists());

        entry
            .build(async |path: &Path| Ok(fs::write(path.join("tool"), "built")?))
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(entry.path().join("tool")).unwrap(), "built");
        entry
            .build(async |_: &Path| anyhow::bail!("built a second time"))
            .await
            .unwrap();
    }
}
