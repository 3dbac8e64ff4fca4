//! Readers of other languages: one process each, which says of every body what it means.

use std::{
    io::{BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use anyhow::{Context, anyhow};

/// A process that reads bodies.
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

/// Starts the readers of the languages that are installed, and names those that are not.
///
/// # Errors
/// When a language is there but its reader does not start.
pub fn start() -> anyhow::Result<(Vec<Reader>, Vec<&'static str>)> {
    let mut readers = Vec::new();
    let mut missing = Vec::new();
    for (name, command) in LANGUAGES {
        if is_installed(command[0]) {
            readers.push(Reader::start(name, command).with_context(|| format!("the reader in {name}"))?);
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
    fn start(name: &'static str, command: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(command[0])
            .args(&command[1..])
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
        // It must know the simplest call before it is trusted with others.
        let probe =
            br#"{"id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1.5,true,null]}}}"#;
        let said = reader.read(&[probe.as_slice()])?;
        let expected = crate::meaning::to_serde_json(probe).context("no JSON")?;
        let expected = format!("{} {}", expected.call, expected.arguments);
        if said != [expected.as_str()] {
            return Err(anyhow!("it says {said:?} instead of {expected:?}"));
        }
        Ok(reader)
    }

    /// What each body means, as the reader says it. `!invalid` is no JSON, and any other exclamation a refusal.
    ///
    /// # Errors
    /// When the reader ended.
    pub fn read(&mut self, bodies: &[&[u8]]) -> anyhow::Result<Vec<String>> {
        let input = self.input.as_mut().context("it was stopped")?;
        let output = &mut self.output;
        // Side by side, or both would wait for the other to read once a pipe is full.
        thread::scope(|scope| {
            let writing = scope.spawn(move || -> anyhow::Result<()> {
                for body in bodies {
                    input.write_all(&u32::try_from(body.len())?.to_be_bytes())?;
                    input.write_all(body)?;
                }
                Ok(input.flush()?)
            });
            let answers: anyhow::Result<Vec<String>> = bodies.iter().map(|_| answer(output)).collect();
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
