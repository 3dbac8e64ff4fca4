//! Readers of other languages: one process each, which says of everything that it is given what it means.

use std::{
    io::{BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use anyhow::{Context, anyhow};

use crate::subject::Subject;

/// A process that reads.
pub struct Reader {
    /// The language.
    pub name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The languages, and how their reader is started.
const LANGUAGES: [(&str, &[&str]); 3] = [
    ("Python", &["python3", "reader.py"]),
    ("Node", &["node", "reader.mjs"]),
    ("Go", &["go", "run", "reader.go"]),
];

/// Starts the readers of a subject in the languages that are installed, and names those that are not.
///
/// # Errors
/// When a language is there but its reader does not start.
pub fn start(subject: &Subject) -> anyhow::Result<(Vec<Reader>, Vec<&'static str>)> {
    let mut readers = Vec::new();
    let mut missing = Vec::new();
    for (name, command) in LANGUAGES {
        if is_installed(command[0]) {
            readers.push(
                Reader::start(name, command, subject).with_context(|| format!("the reader in {name}"))?,
            );
        } else {
            missing.push(name);
        }
    }
    Ok((readers, missing))
}

fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

impl Reader {
    fn start(name: &'static str, command: &[&str], subject: &Subject) -> anyhow::Result<Self> {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .arg(subject.name)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("readers"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        let input = child.stdin.take();
        let mut reader = Self {
            name,
            child,
            input,
            output: BufReader::new(output),
        };
        // It must know the simplest before it is trusted with others.
        let shown = (subject.shown)(subject.probe);
        let said = reader.read(&[&shown])?.concat();
        let mut views = subject.views(subject.probe);
        views.push((name.to_owned(), said.clone()));
        if said.contains('!') || !(subject.agree)(&views) {
            return Err(anyhow!("it does not see the same: {views:?}"));
        }
        Ok(reader)
    }

    /// What each means, as the reader says it. `!invalid` cannot be read, and any other exclamation is a refusal.
    ///
    /// # Errors
    /// When the reader ended.
    pub fn read(&mut self, all: &[&[u8]]) -> anyhow::Result<Vec<String>> {
        let input = self.input.as_mut().context("it was stopped")?;
        let output = &mut self.output;
        // Side by side, or both would wait for the other to read once a pipe is full.
        thread::scope(|scope| {
            let writing = scope.spawn(move || -> anyhow::Result<()> {
                for one in all {
                    input.write_all(&u32::try_from(one.len())?.to_be_bytes())?;
                    input.write_all(one)?;
                }
                Ok(input.flush()?)
            });
            let answers: anyhow::Result<Vec<String>> = all.iter().map(|_| answer(output)).collect();
            writing.join().map_err(|_| anyhow!("writing failed"))??;
            answers
        })
        .with_context(|| format!("the reader in {}", self.name))
    }
}

fn answer(output: &mut impl Read) -> anyhow::Result<String> {
    let mut length = [0; 4];
    output.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    output.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer)?)
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It ends when there is nothing more to read.
        self.input.take();
        let _ = self.child.wait();
    }
}
