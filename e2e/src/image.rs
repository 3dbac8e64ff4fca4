//! Container images, written as archives without a container engine.

mod archive;
mod everything;
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::Context;

use crate::cache::Key;

pub use program::static_program;

/// A user without any right, for images that do not say otherwise.
const NOBODY: &str = "65532:65532";

/// What an image consists of. It is read from the machine's files when the image is loaded.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    files: Vec<File>,
    entrypoint: Vec<String>,
    environment: Vec<String>,
    user: String,
}

/// One file, or link, of an image.
#[derive(Clone, Debug)]
struct File {
    /// Without a leading slash.
    path: String,
    content: Content,
    mode: u32,
}

#[derive(Clone, Debug)]
enum Content {
    /// The content of a file of this machine.
    Of(PathBuf),
    /// A symbolic link to here.
    Link(PathBuf),
}

impl Image {
    /// An empty image. `name` is what pods call it, such as `mcp-auth-gate`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: Vec::new(),
            entrypoint: Vec::new(),
            environment: Vec::new(),
            user: NOBODY.to_owned(),
        }
    }

    /// An image with one static program, which is its entry point: `/NAME` for a program called NAME. See
    /// [`static_program`].
    pub fn of_static_program(program: &Path) -> anyhow::Result<Self> {
        let name = program.file_name().and_then(|name| name.to_str());
        let name = name.context("a program without a name")?;
        let path = format!("/{name}");
        Ok(Self::new(name).file(&path, program, 0o755).entrypoint([path]))
    }

    /// What holds the namespaces of a pod: it sleeps.
    pub fn pause() -> anyhow::Result<Self> {
        Ok(Self::new("pause")
            .program("/pause", Path::new("/usr/bin/sleep"))?
            .entrypoint(["/pause", "infinity"]))
    }

    /// Adds a file with a mode such as `0o755`.
    #[must_use]
    pub fn file(mut self, path: &str, source: &Path, mode: u32) -> Self {
        self.files.push(File {
            path: path.trim_start_matches('/').to_owned(),
            content: Content::Of(source.to_owned()),
            mode,
        });
        self
    }

    /// Adds a folder with everything in it, under `path`.
    pub fn tree(mut self, path: &str, source: &Path) -> anyhow::Result<Self> {
        let entries = fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().context("a file whose name is not UTF-8")?;
            let (path, source, kind) = (format!("{path}/{name}"), entry.path(), entry.file_type()?);
            self = if kind.is_dir() {
                self.tree(&path, &source)?
            } else if kind.is_symlink() {
                self.link(&path, fs::read_link(&source)?)
            } else {
                self.file(&path, &source, 0o755)
            };
        }
        Ok(self)
    }

    /// Adds a program of this machine, with the libraries that it loads.
    pub fn program(self, path: &str, source: &Path) -> anyhow::Result<Self> {
        let libraries = program::libraries(source)?;
        Ok(libraries
            .iter()
            .fold(self.file(path, source, 0o755), |image, library| {
                image.file(&library.display().to_string(), library, 0o755)
            }))
    }

    /// What runs when a pod names no command.
    #[must_use]
    pub fn entrypoint(mut self, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.entrypoint = command.into_iter().map(Into::into).collect();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Who runs it, as `user:group` in numbers.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Its name without a tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What pods name it by. It changes with what the image is made of.
    pub fn reference(&self) -> anyhow::Result<String> {
        Ok(format!("localhost/{}:{}", self.name, self.tag()?))
    }

    pub(crate) fn file_name(&self) -> anyhow::Result<String> {
        Ok(format!("{}-{}", self.name, self.tag()?))
    }

    /// Length and time tell a changed file well enough within a run, and images of one run meet no others.
    fn tag(&self) -> anyhow::Result<String> {
        let mut key = Key::new().with(format!("{self:?}"));
        for file in &self.files {
            if let Content::Of(source) = &file.content {
                let about =
                    fs::metadata(source).with_context(|| format!("cannot read {}", source.display()))?;
                let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                key = key.with(format!("{} {}", about.len(), changed.as_nanos()));
            }
        }
        Ok(key.hex())
    }

    fn link(mut self, path: &str, target: PathBuf) -> Self {
        self.files.push(File {
            path: path.trim_start_matches('/').to_owned(),
            content: Content::Link(target),
            mode: 0o777,
        });
        self
    }
}
