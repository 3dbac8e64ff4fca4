//! The temporary folder of one run.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

use crate::progress;

const PREFIX: &str = "mcp-auth-run-";
const LOCK: &str = "lock";

/// A folder that is removed at the end of the run; if the run was killed, at the start of the next one. With
/// `MCP_AUTH_KEEP` set it stays, with the logs of every part in it.
pub struct RunFolder {
    folder: TempDir,
    /// Held as long as the run lives: tells other runs that the folder is in use. None when it is kept for good.
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes a new one and removes what killed runs left.
    pub fn create() -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        remove_abandoned(&base);
        let mut folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&base)
            .context("no temporary folder")?;
        if std::env::var_os("MCP_AUTH_KEEP").is_some() {
            folder.disable_cleanup(true);
            progress::say(&format!(
                "keeping the folder of this run: {}",
                folder.path().display()
            ));
            return Ok(Self { folder, _lock: None });
        }
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            folder,
            _lock: Some(lock),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a folder in it.
    pub fn subfolder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// Removes folders of runs that no longer hold their lock. Whatever cannot be removed is somebody else's.
fn remove_abandoned(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A folder without a lock file is just being made, or was kept and is the user's.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
