//! The configuration files of a node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::Place;
use crate::{
    control_plane::{ControlPlane, NODE_NAME, Part},
    pki::Authority,
    prerequisites,
};

/// The folder of a node with its files in it.
pub(super) struct Config {
    pub(super) dir: PathBuf,
}

impl Config {
    pub(super) fn write(
        dir: &Path,
        authority: &Authority,
        place: &Place,
        cluster: &ControlPlane,
        pause: &str,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("cni"))?;
        let config = Self { dir: dir.to_owned() };
        fs::write(dir.join("ca.pem"), authority.pem())?;
        authority
            .server_certificate_for(&[&place.node().to_string()])?
            .write(&dir.join("kubelet.pem"), &dir.join("kubelet.key"))?;
        fs::write(config.containerd(), config.containerd_file(pause))?;
        fs::write(
            dir.join("cni/10-stories.conflist"),
            config.cni_file(place).to_string(),
        )?;
        fs::write(config.kubelet(), config.kubelet_file(place).to_string())?;
        fs::write(
            config.proxy(),
            proxy_file(&cluster.part_kubeconfig(Part::Proxy)).to_string(),
        )?;
        fs::write(
            config.corefile(),
            corefile(place, &cluster.part_kubeconfig(Part::AddOn)),
        )?;
        Ok(config)
    }

    /// Where containerd listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    pub(super) fn containerd(&self) -> PathBuf {
        self.dir.join("containerd.toml")
    }

    pub(super) fn kubelet(&self) -> PathBuf {
        self.dir.join("kubelet.json")
    }

    pub(super) fn proxy(&self) -> PathBuf {
        self.dir.join("kube-proxy.json")
    }

    pub(super) fn corefile(&self) -> PathBuf {
        self.dir.join("Corefile")
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn containerd_file(&self, pause: &str) -> String {
        let Self { dir } = self;
        let (dir, plugins) = (dir.display(), prerequisites::cni_plugins().display().to_string());
        format!(
            r#"version = 2
root = "{dir}/containerd"
state = "{dir}/containerd-state"

[grpc]
address = "{dir}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/containerd-opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE nobody may lower the score.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{dir}/cni"
"#
        )
    }

    /// Each pod has a cable of its own to the node, so that all its packets are routed and pass the rules of kube-proxy
    /// and of NetworkPolicies. Between ports of a bridge they would do so only with a setting of the whole machine.
    fn cni_file(&self, place: &Place) -> Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "stories",
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.path("cni-addresses"),
                    "ranges": [[{ "subnet": place.pods() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        })
    }

    fn kubelet_file(&self, place: &Place) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": place.node(),
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": false },
                "x509": { "clientCAFile": self.path("ca.pem") },
            },
            // Whoever has a certificate of the run's authority for clients, which is the API server only.
            "authorization": { "mode": "AlwaysAllow" },
            "tlsCertFile": self.path("kubelet.pem"),
            "tlsPrivateKeyFile": self.path("kubelet.key"),
            "healthzPort": 0,
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "podLogsDir": self.path("pod-logs"),
            "clusterDNS": [place.node()],
            "clusterDomain": "cluster.local",
            // Nothing of the machine's own resolver.
            "resolvConf": "",
            "failCgroupV1": false,
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": place.cgroup(),
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": false,
            "evictionHard": { "memory.available": "1Mi" },
            "serializeImagePulls": false,
            "maxPods": 200,
            "nodeStatusUpdateFrequency": "2s",
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
            // ConfigMaps and Secrets that change are seen in seconds, not in a minute.
            "syncFrequency": "5s",
        })
    }
}

fn proxy_file(kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": NODE_NAME,
        "mode": "nftables",
        // A pod that is ready is reached through its Service at once, not up to a second later.
        "nftables": { "minSyncPeriod": "100ms" },
        "conntrack": { "maxPerCore": 0 },
        // Both are of use to nobody; in a network of their own they cannot collide.
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

/// Names of the cluster only: a name of the world outside does not exist.
fn corefile(place: &Place, kubeconfig: &Path) -> String {
    let (address, kubeconfig) = (place.node(), kubeconfig.display());
    format!(
        "cluster.local in-addr.arpa {{
    bind {address}
    errors
    kubernetes {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
. {{
    bind {address}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}
