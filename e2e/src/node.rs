//! A real node beside the control plane: kubelet with containerd, kube-scheduler, kube-proxy, CoreDNS, and
//! kube-router for NetworkPolicies. Pods run, have names and Services, and are probed.
//!
//! It needs root on a Debian-like Linux, because containers do. [`problem`] says why there can be none.

mod config;
mod daemons;
mod place;

use std::{collections::HashSet, future::Future, path::Path, process::Command, time::Duration};

use anyhow::{bail, ensure};
use futures::future::select_all;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use tokio::sync::Mutex;

use crate::{
    control_plane::{ControlPlane, NODE_NAME},
    image::Image,
    pki::Authority,
    prerequisites,
    process::{Guarded, capture},
    progress,
    tools::NodeTools,
    wait::{Seen, wait_for},
};

use config::Config;
use daemons::Daemons;

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
    if let Some(problem) = place::cgroups_problem() {
        return Some(format!("a node needs control groups, and {problem}"));
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
            Box::pin(Self::launch(dir, tools, authority, place, cluster)),
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
        let mut node = Self {
            config,
            loaded: Mutex::default(),
            processes: Vec::new(),
            place,
        };
        let containerd = Daemons::new(&node, cluster, tools).containerd();
        node.spawn("containerd", &containerd)?;
        // The kubelet does not wait for containerd: it ends. This does.
        node.load(&pause).await?;
        for (name, command) in Daemons::new(&node, cluster, tools).commands() {
            node.spawn(name, &command)?;
        }
        wait_until_ready(&node.processes, &cluster.client()).await?;
        // It looks for its node once, when it starts.
        let router = Daemons::new(&node, cluster, tools).router();
        node.spawn("kube-router", &router)?;
        Ok(node)
    }

    fn spawn(&mut self, name: &str, command: &Command) -> anyhow::Result<()> {
        let log = self.config.dir.join(format!("{name}.log"));
        self.processes.push(Guarded::spawn(name, command, log)?);
        Ok(())
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
        let answers = wait_for("containerd", START_TIMEOUT, async || {
            let mut version = self.ctr();
            version.arg("version");
            let output = capture(&version, "", SHORT).await?;
            Ok(if output.status.success() {
                Seen::Done(())
            } else {
                Seen::NotYet(String::from_utf8_lossy(&output.stderr).into_owned())
            })
        });
        unless_ended(&self.processes, answers).await
    }
}

/// Ready is what the kubelet says.
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
    unless_ended(processes, ready).await
}

/// Waits for something, but not once a process has ended that should not.
async fn unless_ended(
    processes: &[Guarded],
    wait: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ended = select_all(processes.iter().map(|process| Box::pin(process.succeed())));
    tokio::select! {
        outcome = wait => outcome,
        (outcome, index, _) = ended => {
            outcome?;
            bail!("a part of the node ended; its last lines:\n{}", processes[index].log_tail())
        }
    }
}
