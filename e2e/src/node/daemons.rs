//! The command lines of a node's daemons.

use std::{path::PathBuf, process::Command};

use super::{Config, Node, Place};
use crate::{
    control_plane::{ControlPlane, NODE_NAME, Part},
    tools::NodeTools,
};

/// What the command lines are made of.
pub(super) struct Daemons<'a> {
    config: &'a Config,
    place: &'a Place,
    cluster: &'a ControlPlane,
    tools: &'a NodeTools,
}

impl<'a> Daemons<'a> {
    /// For a moment of `node`'s start.
    pub(super) fn new(node: &'a Node, cluster: &'a ControlPlane, tools: &'a NodeTools) -> Self {
        Self {
            config: &node.config,
            place: &node.place,
            cluster,
            tools,
        }
    }

    /// Those that start once containerd answers, and run side by side.
    pub(super) fn commands(&self) -> [(&'static str, Command); 4] {
        [
            ("kubelet", self.kubelet()),
            ("kube-scheduler", self.scheduler()),
            ("kube-proxy", self.proxy()),
            ("coredns", self.coredns()),
        ]
    }

    fn command(&self, program: PathBuf) -> Command {
        self.place.command(program, &self.config.dir)
    }

    fn kubeconfig(&self, part: Part) -> String {
        format!("--kubeconfig={}", self.cluster.part_kubeconfig(part).display())
    }

    pub(super) fn containerd(&self) -> Command {
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
        command.arg(format!("--config={}", self.config.proxy().display()));
        command
    }

    fn coredns(&self) -> Command {
        let mut command = self.command(self.tools.coredns());
        command.arg("-conf").arg(self.config.corefile());
        command
    }

    /// Only its firewall: the rest is the work of kube-proxy and of the CNI plugin.
    pub(super) fn router(&self) -> Command {
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
