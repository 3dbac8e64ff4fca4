//! A network of two: this machine, and a server in a network namespace that has no other way out.
//!
//! The namespace has no name and belongs to the server's process, so the kernel removes it, and the link to it, with
//! the process, which its guard ends however the stories end.

use std::{
    env,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use mcp_auth_e2e::{
    pki::Authority,
    process::{Guarded, capture},
    wait::{Seen, wait_for},
};

use super::server;

/// How long `ip` may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often another range of addresses is tried.
const ATTEMPTS: usize = 16;

/// The server at its own address. Dropped, it takes its network along.
pub(super) struct Isolated {
    /// Where it is, on port 443. An address of a private range.
    pub(super) address: Ipv4Addr,
    _server: Guarded,
}

/// Why there can be no such network here; `None`: there can.
pub(super) async fn missing() -> Option<String> {
    let probe = ["--net", "ip", "link", "add", "type", "veth"];
    match run("unshare", &probe).await {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Some(format!(
                "network namespaces with a link to them need root on Linux ({why})"
            ))
        }
        Err(error) => Some(format!("it needs unshare and ip ({error:#})")),
    }
}

impl Isolated {
    /// Starts the server, with its files in `folder`, and connects this machine to it. What it answers holds `canary`.
    pub(super) async fn start(folder: &Path, authority: &Authority, canary: &str) -> anyhow::Result<Self> {
        let (ours, address) = free_addresses().await?;
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        authority
            .server_certificate_for(&[&address.to_string()])?
            .write(&certificate, &key)?;
        let mut command = Command::new("unshare");
        command
            .arg("--net")
            .arg(env::current_exe()?)
            .envs(server::environment(&certificate, &key, canary));
        let server = Guarded::spawn("hostile server", &command, folder.join("server.log"))?;
        wait_for("the hostile server", Duration::from_secs(10), async || {
            ensure!(server.is_running(), "it ended: {}", server.log_tail());
            Ok(if server.log_tail().contains(server::LISTENING) {
                Seen::Done(())
            } else {
                Seen::NotYet(server.log_tail())
            })
        })
        .await?;
        connect(&server, ours, address).await?;
        Ok(Self {
            address,
            _server: server,
        })
    }
}

/// Two addresses that no route of this machine leads to, but perhaps the default one.
async fn free_addresses() -> anyhow::Result<(Ipv4Addr, Ipv4Addr)> {
    for _ in 0..ATTEMPTS {
        let [second, third, fourth] = rand::random::<[u8; 3]>();
        let base = u32::from(Ipv4Addr::new(10, second, third, fourth & !3));
        let (ours, theirs) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let routes = ip(&["-4", "route", "show", "match", &theirs.to_string()]).await?;
        if routes.lines().all(|route| route.starts_with("default")) {
            return Ok((ours, theirs));
        }
    }
    bail!("no free private addresses")
}

/// Puts a link between this machine and the server's namespace.
async fn connect(server: &Guarded, ours: Ipv4Addr, theirs: Ipv4Addr) -> anyhow::Result<()> {
    let pid = server.pid().context("the hostile server ended")?.to_string();
    // At most 15 characters.
    let link = format!("mcpauth{:08x}", rand::random::<u32>());
    ip(&[
        "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
    ])
    .await?;
    ip(&["address", "add", &format!("{ours}/30"), "dev", &link]).await?;
    ip(&["link", "set", &link, "up"]).await?;
    let inside = ["--target", &pid, "--net", "ip"];
    for arguments in [
        &["address", "add", &format!("{theirs}/30"), "dev", "eth0"][..],
        &["link", "set", "eth0", "up"],
    ] {
        must("nsenter", &[&inside, arguments].concat()).await?;
    }
    Ok(())
}

async fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    must("ip", arguments).await
}

async fn must(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(program, arguments).await?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments);
    capture(&command, "", TIMEOUT).await
}
