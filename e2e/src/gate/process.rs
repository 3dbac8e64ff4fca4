//! The gate's real binary, with its files and all its faces on the loopback interface.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    ports,
    process::Guarded,
    wait::{Seen, wait_for},
};

const BINARY: &str = "mcp-auth-gate";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running gate. It is killed when this is dropped.
pub struct GateProcess {
    process: Guarded,
    folder: PathBuf,
    faces: Faces,
    http: reqwest::Client,
}

/// Where each face listens.
#[derive(Clone, Copy, Debug)]
pub struct Faces {
    /// The reverse proxy.
    pub proxy: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
    /// Exchanged tokens for handles.
    pub tokens: SocketAddr,
    /// Envoy's ext_authz.
    pub ext_authz: SocketAddr,
    /// Traefik's forward-auth.
    pub forward_auth: SocketAddr,
}

/// Free ports for the faces of a gate that is yet to be started.
pub fn faces() -> anyhow::Result<Faces> {
    let address = || anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?)));
    Ok(Faces {
        proxy: address()?,
        admin: address()?,
        tokens: address()?,
        ext_authz: address()?,
        forward_auth: address()?,
    })
}

impl GateProcess {
    /// Writes the files into `folder` and starts a gate with all faces. It need not become ready: see
    /// [`GateProcess::wait_until_ready`].
    pub fn start(
        folder: &Path,
        faces: Faces,
        policy: Option<&Value>,
        credentials: &BTreeMap<&str, String>,
        extra: &[&str],
    ) -> anyhow::Result<Self> {
        let secrets = folder.join("credentials");
        fs::create_dir_all(&secrets)?;
        for (name, content) in credentials {
            crate::pki::write_private(&secrets.join(name), content)?;
        }
        let mut command = Command::new(binary()?);
        command.env_clear().env("RUST_BACKTRACE", "1");
        command.arg("--policy").arg(folder.join("policy.json"));
        command.arg("--credentials").arg(&secrets);
        for (flag, address) in [
            ("--proxy-address", faces.proxy),
            ("--admin-address", faces.admin),
            ("--tokens-address", faces.tokens),
            ("--ext-authz-address", faces.ext_authz),
            ("--forward-auth-address", faces.forward_auth),
        ] {
            command.arg(flag).arg(address.to_string());
        }
        command.args(extra);
        let gate = Self {
            process: {
                if let Some(policy) = policy {
                    write_policy(folder, policy)?;
                }
                Guarded::spawn("the gate", &command, folder.join("gate.log"))?
            },
            folder: folder.to_owned(),
            faces,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(5))
                .build()?,
        };
        Ok(gate)
    }

    /// Where it listens.
    pub fn faces(&self) -> Faces {
        self.faces
    }

    /// Replaces the policy file at once, as a mounted ConfigMap changes. The gate takes it when it looks next.
    pub fn replace_policy(&self, policy: &Value) -> anyhow::Result<()> {
        write_policy(&self.folder, policy)
    }

    /// Waits until it says that it is ready.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = wait_for("the gate to be ready", START_TIMEOUT, async || {
            let (status, text) = self.admin("/readyz").await?;
            Ok(if status == 200 {
                Seen::Done(())
            } else {
                Seen::NotYet(text)
            })
        });
        tokio::select! {
            ready = ready => ready.with_context(|| format!("its last lines:\n{}", self.process.log_tail())),
            status = self.process.wait() => {
                bail!("the gate ended ({}); its last lines:\n{}", status?, self.process.log_tail())
            }
        }
    }

    /// What its admin face answers: status and text.
    pub async fn admin(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let answer = self
            .http
            .get(format!("http://{}{path}", self.faces.admin))
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The value of a metric, by its name and labels as they are written; 0 for one that was never counted.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (_, text) = self.admin("/metrics").await?;
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(values.next().map(str::parse).transpose()?.unwrap_or(0.0))
    }

    /// The hash of the policy in force.
    pub async fn policy_hash(&self) -> anyhow::Result<Option<String>> {
        let (_, text) = self.admin("/policy").await?;
        let reported: Value = serde_json::from_str(&text)?;
        Ok(reported["policy"].as_str().map(str::to_owned))
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// The process, to look at or to signal.
    pub fn process(&self) -> &Guarded {
        &self.process
    }
}

/// In one step, so that no half of it is ever read.
fn write_policy(folder: &Path, policy: &Value) -> anyhow::Result<()> {
    let new = folder.join("policy.json.new");
    fs::write(&new, serde_json::to_vec_pretty(policy)?)?;
    Ok(fs::rename(new, folder.join("policy.json"))?)
}

/// `$MCP_AUTH_GATE_BIN`, or the binary that cargo built beside the running program.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("MCP_AUTH_GATE_BIN") {
        return Ok(PathBuf::from(chosen));
    }
    let this = std::env::current_exe().context("cannot find the running program")?;
    let candidates = this.ancestors().skip(1).take(2).map(|folder| folder.join(BINARY));
    let mut built = candidates.filter(|candidate| candidate.is_file());
    built.next().with_context(|| {
        format!("{BINARY} is not built: run `cargo build -p {BINARY}`, or set MCP_AUTH_GATE_BIN to its path")
    })
}
