//! Where a node lives: namespaces of the kernel for its network, its mounts and its processes.
//!
//! When the process that holds them ends, however it ends, the kernel kills every container and every daemon in
//! them, undoes every mount, and removes the network with its rules and routes. Only folders of the cgroup file
//! system stay, see [`remove_cgroups`]. A pair of network devices leads from the machine into the node, so that
//! everything that runs on the machine reaches pods and Services, and pods reach what listens on [`Place::host`].

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::{
    process::{Guarded, capture},
    wait::{Seen, wait_for},
};

/// So many nodes can be on one machine at the same time.
const PLACES: u8 = 8;
/// A folder that only root can write in, unlike the one for locks.
const LOCKS: &str = "/run/mcp-auth-nodes";
const CGROUPS: &str = "/sys/fs/cgroup";
const TIMEOUT: Duration = Duration::from_secs(20);

/// The first process in the namespaces. Some programs have fixed folders: there they get empty ones of their own. Then
/// it waits for processes that lost their parent.
const FIRST: &str = r#"
set -e
mount -t tmpfs none /run
for folder in /var/lib/cni /var/lib/kubelet /var/lib/containerd /var/log/containers; do
    mkdir -p "$folder"
    mount -t tmpfs none "$folder"
done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
touch "$1"
set +e
while :; do sleep 3600 & wait $!; done
"#;

/// The namespaces of one node, and its addresses.
pub struct Place {
    number: u8,
    holder: Guarded,
    process: i32,
    /// Held as long as this exists: tells other runs that the number is taken.
    _lock: File,
}

impl Place {
    /// Makes the namespaces, with notes in `dir`, and connects them with the machine.
    pub async fn make(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let (number, lock) = free_number()?;
        remove_cgroups(number);
        let ready = dir.join("ready");
        let mut unshare = Command::new("unshare");
        unshare
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child=KILL",
            ])
            .args(["sh", "-c", FIRST, "sh"])
            .arg(&ready);
        let holder = Guarded::spawn("the namespaces of the node", &unshare, dir.join("place.log"))?;
        let made = wait_for("the namespaces of the node", TIMEOUT, async || {
            ensure!(holder.is_running(), "ended:\n{}", holder.log_tail());
            Ok(if ready.exists() {
                Seen::Done(())
            } else {
                Seen::NotYet("no sign of it".to_owned())
            })
        });
        made.await?;
        let place = Self {
            number,
            process: holder.pid().context("the namespaces of the node are gone")?,
            holder,
            _lock: lock,
        };
        place.connect().await?;
        Ok(place)
    }

    /// The address of the machine for pods.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second() + 1, 0, 1)
    }

    /// The address of the node.
    pub fn node(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second() + 1, 0, 2)
    }

    /// The addresses of pods, in CIDR notation.
    pub fn pods(&self) -> String {
        format!("10.{}.1.0/24", self.second() + 1)
    }

    /// The addresses of Services, in CIDR notation.
    pub fn services(&self) -> String {
        format!("10.{}.0.0/16", self.second())
    }

    /// The address of the Service `kubernetes`.
    pub fn api_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second(), 0, 1)
    }

    /// The process that holds the namespaces, as the machine numbers it.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// What the node's cgroups are under.
    pub fn cgroup(&self) -> String {
        cgroup(self.number)
    }

    /// A command that runs in the namespaces.
    pub fn command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.process))
            .args(["--net", "--mount"])
            .arg(format!("--pid=/proc/{}/ns/pid_for_children", self.process))
            .arg(format!("--wd={}", folder.display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Makes the cgroup that all of the node's are under.
    pub fn make_cgroups(&self) -> anyhow::Result<()> {
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(self.cgroup().trim_start_matches('/'));
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    }

    /// Ends everything that runs in the namespaces.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.holder.kill_hard().await?;
        remove_cgroups(self.number);
        Ok(())
    }

    /// The second number of its addresses: each place has 10.N.0.0 and 10.N+1.0.0.
    fn second(&self) -> u8 {
        second(self.number)
    }

    fn device(&self) -> String {
        format!("mcpauth{}", self.number)
    }

    async fn connect(&self) -> anyhow::Result<()> {
        let (device, host, node) = (self.device(), self.host(), self.node());
        // A run that was killed a moment ago may not be quite gone.
        let mut stale = Command::new("ip");
        stale.args(["link", "delete", &device]);
        let _ = capture(&stale, "", TIMEOUT).await?;
        let outside = format!(
            "link add {device} type veth peer name eth0 netns {}\n\
             address add {host}/30 dev {device}\n\
             link set {device} up\n",
            self.process
        );
        let inside =
            format!("address add {node}/30 dev eth0\nlink set eth0 up\nroute add default via {host}\n");
        let routes = format!(
            "route add {} via {node}\nroute add {} via {node}\n",
            self.pods(),
            self.services()
        );
        let ip = || {
            let mut ip = Command::new("ip");
            ip.args(["-batch", "-"]);
            ip
        };
        let mut within = Command::new("nsenter");
        within.arg(format!("--target={}", self.process));
        within.args(["--net", "--", "ip", "-batch", "-"]);
        for (command, input) in [(ip(), outside), (within, inside), (ip(), routes)] {
            let output = capture(&command, &input, TIMEOUT).await?;
            ensure!(
                output.status.success(),
                "the node's network: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

fn second(number: u8) -> u8 {
    200 + 2 * number
}

fn cgroup(number: u8) -> String {
    format!("/mcpauth{number}")
}

/// A number that no other run has, and whose addresses lead nowhere yet.
fn free_number() -> anyhow::Result<(u8, File)> {
    let routes = fs::read_to_string("/proc/net/route").context("cannot read the machine's routes")?;
    fs::create_dir_all(LOCKS)?;
    for number in 0..PLACES {
        let path = PathBuf::from(LOCKS).join(number.to_string());
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) if !is_taken(&routes, number) => return Ok((number, file)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock a place for the node"),
        }
    }
    bail!(
        "no place for a node: {PLACES} runs have one, or the machine has routes to every address from 10.{}.0.0 on",
        second(0)
    )
}

/// Whether a route of the machine, in the format of `/proc/net/route`, leads to addresses of a place by a device that is
/// not one of ours.
fn is_taken(routes: &str, number: u8) -> bool {
    let ours = second(number);
    routes.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        let (Some(device), Some(destination)) = (words.next(), words.next()) else {
            return false;
        };
        // Little-endian: 0001C90A is 10.201.1.0.
        let address = u32::from_str_radix(destination, 16).unwrap_or(0).to_le_bytes();
        address[0] == 10 && (address[1] == ours || address[1] == ours + 1) && !device.starts_with("mcpauth")
    })
}

/// Why no cgroups can be made here.
pub(super) fn cgroups_problem() -> Option<String> {
    let hierarchies = hierarchies();
    if hierarchies.is_empty() {
        return Some(format!("there is nothing in {CGROUPS}"));
    }
    hierarchies.iter().find_map(|hierarchy| {
        let trial = hierarchy.join(format!("mcpauth-trial-{}", std::process::id()));
        let made = fs::create_dir(&trial);
        remove_tree(&trial);
        made.err()
            .map(|error| format!("cannot write in {}: {error}", hierarchy.display()))
    })
}

/// The folders of the cgroup file system that have groups of their own: one for each controller in version 1.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let folders = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    folders
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

/// Removes the cgroups of a node whose processes are gone.
fn remove_cgroups(number: u8) {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(cgroup(number).trim_start_matches('/')));
    }
}

/// Folders of this file system are removed one by one, from below; their files are not files.
fn remove_tree(folder: &Path) {
    let children = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&child.path());
    }
    // What is still in use belongs to a process that is just ending; the next run finds it.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_use_are_seen() {
        let header = "Iface\tDestination\tGateway\n";
        for (line, taken, why) in [
            (
                "eth0\t00000000\t010200C0",
                false,
                "the default route leads everywhere",
            ),
            ("eth0\t0000C80A\t00000000", true, "10.200.0.0 is for Services"),
            ("eth0\t0001C90A\t00000000", true, "10.201.1.0 is for pods"),
            ("eth0\t0000CA0A\t00000000", false, "10.202.0.0 is another place's"),
            ("mcpauth0\t0001C90A\t00000000", false, "a run that is just ending"),
        ] {
            assert_eq!(is_taken(&format!("{header}{line}\n"), 0), taken, "{why}");
        }
    }
}
