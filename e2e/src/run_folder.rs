//! The temporary folder of one run.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

use crate::{interrupt, progress};

const PREFIX: &str = "mcp-auth-run-";
const LOCK: &str = "lock";

/// The folders of this process that are to be removed.
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder that is removed when this is dropped; if the run was killed, at the start of the next one. With
/// `MCP_AUTH_KEEP` set, or after [`RunFolder::keep`], it stays, with the logs of every part in it.
pub struct RunFolder {
    path: PathBuf,
    /// Held as long as the run lives: tells other runs that the folder is in use.
    _lock: File,
    keep: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl RunFolder {
    /// Makes a new one and removes what killed runs left.
    pub fn create() -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        remove_abandoned(&base);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&base)
            .context("no temporary folder")?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        let path = folder.keep();
        registered().insert(path.clone());
        let keep = AtomicBool::new(false);
        let folder = Self {
            path,
            _lock: lock,
            keep,
            notes: Mutex::default(),
        };
        if std::env::var_os("MCP_AUTH_KEEP").is_some() {
            folder.keep();
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    pub fn subfolder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Adds a line, such as a measured number, to the summary at the end of the run.
    pub fn note(&self, line: impl Into<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(line.into());
    }

    /// The lines for the summary, sorted.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.sort();
        notes
    }

    /// Leaves it for a person to look at, and says so.
    pub fn keep(&self) {
        if self.keep.swap(true, Ordering::Relaxed) {
            return;
        }
        registered().remove(&self.path);
        // Without the lock file no later run takes it for abandoned.
        let _ = fs::remove_file(self.path.join(LOCK));
        progress::say(&format!(
            "logs and data of this run stay in {}",
            self.path.display()
        ));
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !interrupt::is_under_way() && registered().remove(&self.path) {
            remove(&self.path);
        }
    }
}

/// Removes every folder of this process that is not kept. For an end without drops.
pub fn remove_all() {
    for folder in std::mem::take(&mut *registered()) {
        remove(&folder);
    }
}

/// The lock goes last: should the rest not go, a later run still sees that nobody needs the folder.
fn remove(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let rest = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != LOCK);
    let removed = rest.map(|entry| entry.path()).try_for_each(|path| {
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    });
    if removed.is_ok() {
        let _ = fs::remove_dir_all(folder);
    }
}

fn registered() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes folders of runs that no longer hold their lock. Whatever cannot be removed is somebody else's.
fn remove_abandoned(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A folder without a lock file is just being made, or is kept.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            remove(&entry.path());
        }
    }
}
