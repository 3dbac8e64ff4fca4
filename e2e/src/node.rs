//! A real node beside the control plane: kubelet with containerd, kube-scheduler, kube-proxy, CoreDNS, and
//! kube-router for NetworkPolicies. Pods run, have names and Services, and are probed.
//!
//! It needs root on a Debian-like Linux, because containers do. [`problem`] says why there can be none.

mod config;
mod place;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{bail, ensure};
use futures::future::select_all;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use tokio::sync::Mutex;

use crate::{
    control_plane::{ControlPlane, NODE_NAME, Part},
    image::Image,
    pki::Authority,
    prerequisites,
    process::{Guarded, capture},
    progress,
    tools::NodeTools,
    wait::{Seen, wait_for},
};

use config::Config;

pub use place::Place;

/// `off`: no node, whatever the machine could do. `on`: a node even if no story needs it.
const VARIABLE: &str = "MCP_AUTH_NODE";
const START_TIMEOUT: Duration = Duration::from_mins(2);
const LOAD_TIMEOUT: Duration = Duration::from_mins(3);
const SHORT: Duration = Duration::from_secs(20);

/// Whether a node is asked for, whatever the stories need.
pub fn is_asked_for() -> bool {
    variable_is("on")
}

fn variable_is(expected: &str) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == expected)
}

/// Why this machine can have no node, in one line.
pub async fn problem() -> Option<String> {
    if variable_is("off") {
        return Some(format!("{VARIABLE}=off says that there is none"));
    }
    if !rustix::process::geteuid().is_root() || !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("a node needs root on Linux with 64-bit x86".to_owned());
    }
    let missing = prerequisites::missing(&prerequisites::NODE);
    if !missing.is_empty() && !prerequisites::can_install() {
        return Some(format!(
            "a node needs what is missing here: {}",
            missing.join(", ")
        ));
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]);
    match capture(&unshare, "", SHORT).await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "a node needs namespaces of its own, and: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("a node needs namespaces of its own, and: {error:#}")),
    }
}

/// A running node.
pub struct Node {
    config: Config,
    loaded: Mutex<HashSet<String>>,
    processes: Vec<Guarded>,
    // Last: everything above runs in it.
    place: Place,
}

/// The parts that everything else needs.
struct Daemons<'a> {
    config: &'a Config,
    place: &'a Place,
    cluster: &'a ControlPlane,
    tools: &'a NodeTools,
}

impl Node {
    /// Starts a node of `cluster` at `place`, with its files in `dir`, and waits until it is ready.
    pub async fn start(
        dir: &Path,
        tools: &NodeTools,
        authority: &Authority,
        place: Place,
        cluster: &ControlPlane,
    ) -> anyhow::Result<Self> {
        progress::during(
            "starting the node",
            Self::launch(dir, tools, authority, place, cluster),
        )
        .await
    }

    async fn launch(
        dir: &Path,
        tools: &NodeTools,
        authority: &Authority,
        place: Place,
        cluster: &ControlPlane,
    ) -> anyhow::Result<Self> {
        let pause = Image::pause()?;
        let config = Config::write(dir, authority, &place, cluster, &pause.reference()?)?;
        place.make_cgroups()?;
        let daemons = Daemons {
            config: &config,
            place: &place,
            cluster,
            tools,
        };
        let mut processes = daemons.start()?;
        wait_until_ready(&processes, &cluster.client()).await?;
        // It looks for its node once, when it starts.
        processes.push(daemons.spawn("kube-router", &daemons.router())?);
        let node = Self {
            config,
            loaded: Mutex::default(),
            processes,
            place,
        };
        node.load(&pause).await?;
        Ok(node)
    }

    /// The address of this machine for pods.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Makes an image known to the node. Gives the reference that a pod names it by, together with
    /// `imagePullPolicy: Never`.
    pub async fn load(&self, image: &Image) -> anyhow::Result<String> {
        let reference = image.reference()?;
        let mut loaded = self.loaded.lock().await;
        if loaded.contains(&reference) {
            return Ok(reference);
        }
        let step = format!("loading the image {}", image.name());
        progress::during(&step, self.import(image, &reference)).await?;
        loaded.insert(reference.clone());
        Ok(reference)
    }

    async fn import(&self, image: &Image, reference: &str) -> anyhow::Result<()> {
        let archive = self.config.dir.join(format!("{}.tar", image.file_name()?));
        let (copy, path) = (image.clone(), archive.clone());
        tokio::task::spawn_blocking(move || copy.write_archive(&path)).await??;
        self.wait_for_containerd().await?;
        let mut import = self.ctr();
        import.args(["images", "import"]).arg(&archive);
        let output = capture(&import, "", LOAD_TIMEOUT).await?;
        let _ = std::fs::remove_file(&archive);
        ensure!(
            output.status.success(),
            "cannot load the image {reference}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.wait_until_known(reference).await
    }

    /// The part of containerd that the kubelet asks learns of an image a moment after it was loaded.
    async fn wait_until_known(&self, reference: &str) -> anyhow::Result<()> {
        wait_for("the image to be known", SHORT, async || {
            let mut list = self.ctr();
            list.args(["images", "list", "--quiet"]).arg(format!(
                "name=={reference},labels.\"io.cri-containerd.image\"==managed"
            ));
            let output = capture(&list, "", SHORT).await?;
            Ok(if String::from_utf8_lossy(&output.stdout).contains(reference) {
                Seen::Done(())
            } else {
                Seen::NotYet(String::from_utf8_lossy(&output.stderr).into_owned())
            })
        })
        .await
    }

    /// Stops it with everything that runs on it.
    pub async fn stop(&self) -> anyhow::Result<()> {
        // The kernel ends the others with it.
        self.place.stop().await?;
        for process in &self.processes {
            process.kill_hard().await?;
        }
        Ok(())
    }

    fn ctr(&self) -> Command {
        let mut ctr = self.place.command("ctr", &self.config.dir);
        ctr.arg("--address").arg(self.config.socket());
        ctr.args(["--namespace", "k8s.io"]);
        ctr
    }

    async fn wait_for_containerd(&self) -> anyhow::Result<()> {
        wait_for("containerd", START_TIMEOUT, async || {
            let mut version = self.ctr();
            version.arg("version");
            let output = capture(&version, "", SHORT).await?;
            Ok(if output.status.success() {
                Seen::Done(())
            } else {
                Seen::NotYet(String::from_utf8_lossy(&output.stderr).into_owned())
            })
        })
        .await
    }
}

/// Ready is what the kubelet says. A part that ends is an error at once.
async fn wait_until_ready(processes: &[Guarded], client: &Client) -> anyhow::Result<()> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let ready = wait_for("the node to be ready", START_TIMEOUT, async || {
        let node = nodes.get(NODE_NAME).await?;
        let conditions = node
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        Ok(match ready {
            Some(ready) if ready.status == "True" => Seen::Done(()),
            Some(ready) => Seen::NotYet(ready.message.clone().unwrap_or_default()),
            None => Seen::NotYet("no condition".to_owned()),
        })
    });
    let ended = select_all(processes.iter().map(|process| Box::pin(process.succeed())));
    tokio::select! {
        ready = ready => ready,
        (outcome, index, _) = ended => {
            outcome?;
            bail!("a part of the node ended; its last lines:\n{}", processes[index].log_tail())
        }
    }
}

impl Daemons<'_> {
    fn start(&self) -> anyhow::Result<Vec<Guarded>> {
        let commands: [(&str, Command); 5] = [
            ("containerd", self.containerd()),
            ("kubelet", self.kubelet()),
            ("kube-scheduler", self.scheduler()),
            ("kube-proxy", self.proxy()),
            ("coredns", self.coredns()),
        ];
        commands
            .iter()
            .map(|(name, command)| self.spawn(name, command))
            .collect()
    }

    fn spawn(&self, name: &str, command: &Command) -> anyhow::Result<Guarded> {
        Guarded::spawn(name, command, self.config.dir.join(format!("{name}.log")))
    }

    fn command(&self, program: PathBuf) -> Command {
        self.place.command(program, &self.config.dir)
    }

    fn kubeconfig(&self, part: Part) -> String {
        format!("--kubeconfig={}", self.cluster.part_kubeconfig(part).display())
    }

    fn containerd(&self) -> Command {
        let mut command = self.command(PathBuf::from("containerd"));
        command.arg("--config").arg(self.config.containerd());
        command
    }

    fn kubelet(&self) -> Command {
        let mut command = self.command(self.tools.kubelet());
        command
            .arg(self.kubeconfig(Part::Kubelet))
            .arg(format!("--config={}", self.config.kubelet().display()))
            .arg(format!(
                "--root-dir={}",
                self.config.dir.join("kubelet").display()
            ))
            .arg(format!("--hostname-override={NODE_NAME}"))
            .arg(format!("--node-ip={}", self.place.node()));
        command
    }

    fn scheduler(&self) -> Command {
        let mut command = self.command(self.tools.kube_scheduler());
        command
            .arg(self.kubeconfig(Part::Scheduler))
            .args([
                "--leader-elect=false",
                "--secure-port=0",
                "--authentication-skip-lookup",
            ])
            .args(["--kube-api-qps=300", "--kube-api-burst=600"]);
        command
    }

    fn proxy(&self) -> Command {
        let mut command = self.command(self.tools.kube_proxy());
        command
            .arg(self.kubeconfig(Part::Proxy))
            .args(["--proxy-mode=nftables", "--conntrack-max-per-core=0"])
            .arg(format!("--hostname-override={NODE_NAME}"))
            // Both are of use to nobody; in a network of their own they cannot collide.
            .args([
                "--healthz-bind-address=127.0.0.1:10256",
                "--metrics-bind-address=127.0.0.1:10249",
            ]);
        command
    }

    fn coredns(&self) -> Command {
        let mut command = self.command(self.tools.coredns());
        command.arg("-conf").arg(self.config.corefile());
        command
    }

    /// Only its firewall: the rest is the work of kube-proxy and of the CNI plugin.
    fn router(&self) -> Command {
        let mut command = self.command(self.tools.kube_router());
        command
            .arg(self.kubeconfig(Part::AddOn))
            .args([
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
            ])
            .args([
                "--run-loadbalancer=false",
                "--enable-cni=false",
                "--health-port=0",
            ])
            .arg(format!("--hostname-override={NODE_NAME}"))
            .arg(format!("--service-cluster-ip-range={}", self.place.services()));
        command
    }
}
