//! A gate as a process.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses some of it, and may fail loudly"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-auth-gate");

/// A policy whose authorization server nobody can reach.
pub(crate) const POLICY: &str = r#"{
    "version": 1,
    "server": {"namespace": "team-a", "name": "notes"},
    "resource": "https://mcp.example.com/mcp",
    "authorizationServer": {
        "issuer": "https://as.invalid",
        "jwksUri": "https://as.invalid/keys",
        "tokenEndpoint": "https://as.invalid/token",
        "tokenTypes": [{"header": "at+jwt"}]
    },
    "scopes": [{"name": "mcp:use", "challenge": true}],
    "upstream": {"url": "http://127.0.0.1:1/mcp"}
}"#;

/// A gate that runs.
pub(crate) struct Gate {
    pub(crate) folder: TempDir,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gate {
    /// Starts one with this policy, in a folder of its own; without a policy file when that is empty.
    pub(crate) fn start(policy: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if !policy.is_empty() {
            fs::write(folder.path().join("policy.json"), policy).unwrap();
        }
        let mut child = Command::new(PROGRAM)
            .current_dir(folder.path())
            .env_clear()
            .args([
                "--policy=policy.json",
                "--proxy-address=127.0.0.1:0",
                "--admin-address=127.0.0.1:0",
            ])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *written.lock().unwrap() += &(line + "\n");
            }
        });
        Self { folder, child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where a face listens.
    pub(crate) fn address(&self, face: &str) -> SocketAddr {
        let mut found = None;
        until(|| {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| line.contains(&format!("\"face\":\"{face}\"")));
            found = line.map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["address"].as_str().unwrap().parse().unwrap()
            });
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until(|| {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }

    /// Asks it to stop, and gives all that it logged.
    pub(crate) fn stop(mut self) -> String {
        self.address("proxy");
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0));
        // The last lines may still be on their way through the pipe.
        until(|| self.log().contains("stopping"));
        self.log()
    }
}

/// Waits until something holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came about");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Status and body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}
