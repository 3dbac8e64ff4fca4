//! The files that a gate lives by, read again every second and swapped whole.
//!
//! Their content is compared instead of waiting for notices of the kernel: a mounted ConfigMap is exchanged behind two
//! symbolic links, and other files are overwritten, renamed or removed; content tells all of it alike, on every file
//! system. What is bad, half written or gone changes nothing but the report: what was good stays in force.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcp_auth_gate_core::document::Document;

use crate::metrics::{Input, Metrics};

#[cfg(test)]
mod tests;

/// How often files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// More than an object of Kubernetes can hold.
const LARGEST: u64 = 4 << 20;

/// The files of a directory, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What is in force of one input, and what is wrong with what is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The hash of what is in force.
    pub hash: Option<String>,
    /// Why what is there now is not in force.
    pub problem: Option<String>,
}

/// The reports of all inputs. A clone shows the same.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<BTreeMap<&'static str, Report>>>);

impl Reports {
    /// The report of an input.
    pub fn of(&self, input: Input) -> Report {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(input.as_str()).cloned().unwrap_or_default()
    }

    /// What is wrong with any input: its name and why.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter_map(|(name, report)| Some((*name, report.problem.clone()?)))
            .collect()
    }

    fn note(&self, input: Input, change: impl FnOnce(&mut Report)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(input.as_str()).or_default());
    }
}

/// Where an input is read from.
#[derive(Clone, Debug)]
pub enum Place {
    /// One file.
    File(PathBuf),
    /// All files of a directory, links included.
    Directory(PathBuf),
    /// These files, under the names that they are given here.
    Files(Vec<(&'static str, PathBuf)>),
}

impl Place {
    fn read(&self) -> io::Result<Files> {
        match self {
            Self::File(path) => Ok(Files::from([(String::new(), read_file(path)?)])),
            Self::Directory(path) => read_directory(path),
            Self::Files(files) => files
                .iter()
                .map(|(name, path)| Ok(((*name).to_owned(), read_file(path)?)))
                .collect(),
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    Ok(content)
}

/// What begins with a dot is the machinery of mounted volumes, or of editors.
fn read_directory(path: &Path) -> io::Result<Files> {
    // A mounted Secret is a link to the present set of files: followed once, so that all of them are of one set.
    let present = match fs::canonicalize(path.join("..data")) {
        Ok(present) => present,
        Err(_) => path.to_owned(),
    };
    let mut files = Files::new();
    for entry in fs::read_dir(present)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with('.') && fs::metadata(entry.path())?.is_file() {
            files.insert(name, read_file(&entry.path())?);
        }
    }
    Ok(files)
}

/// Takes new content into force, or says why not.
type Take = Box<dyn FnMut(&Files) -> Result<String, String> + Send>;

/// One input.
pub struct Watched {
    input: Input,
    place: Place,
    take: Take,
    seen: Option<Result<String, String>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("input", &self.input)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Watched {
    /// An input; `take` puts content into force and gives its hash, or says why it is not taken.
    pub fn new(
        input: Input,
        place: Place,
        take: impl FnMut(&Files) -> Result<String, String> + Send + 'static,
    ) -> Self {
        Self {
            input,
            place,
            take: Box::new(take),
            seen: None,
        }
    }

    /// Reads it, and takes it if it changed.
    pub fn look(&mut self, reports: &Reports, metrics: &Metrics) {
        let found = self.place.read().map_err(|error| error.to_string());
        let seen = found
            .as_ref()
            .map(Document::credentials_hash)
            .map_err(Clone::clone);
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        self.seen = Some(seen);
        let input = self.input.as_str();
        let taken = found.and_then(|files| (self.take)(&files));
        metrics.read(self.input, taken.is_err());
        match taken {
            Ok(hash) => {
                tracing::info!(input, hash, "in force");
                reports.note(self.input, |report| {
                    *report = Report {
                        hash: Some(hash),
                        problem: None,
                    };
                });
            }
            Err(problem) => {
                tracing::error!(input, problem, "not taken: what was in force stays");
                reports.note(self.input, |report| report.problem = Some(problem));
            }
        }
    }
}

/// Looks at all inputs again and again.
pub async fn run(mut all: Vec<Watched>, reports: Reports, metrics: Metrics) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // Files of a mounted volume are on a local disk, but a disk may stall.
        let (reports, metrics) = (reports.clone(), metrics.clone());
        let looked = tokio::task::spawn_blocking(move || {
            for watched in &mut all {
                watched.look(&reports, &metrics);
            }
            all
        });
        match looked.await {
            Ok(back) => all = back,
            // Only a panic ends it, and then nothing can be said about the files any more.
            Err(_) => return,
        }
    }
}
