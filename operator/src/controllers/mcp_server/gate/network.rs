//! Who may reach the pods of the server and of its gate: pure.
//!
//! A NetworkPolicy only allows, and several add up: "this port only from the gate, all others from anywhere" is said by
//! listing all other ports, as ranges around it. Where somebody else's policy already lets nobody in, only what the gate
//! needs is said: whoever closed the rest does not want it opened again. Where it lets nothing out, the ways between server
//! and gate are opened; those to anything else, such as the authorization server, only its author can know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    isolation::{Direction, closed_beside, isolates},
    parts::{ADMIN_PORT, GATE, ORIGIN, PROXY_PORT, TOKENS_PORT, labels, metadata, options, pods},
    services::Origin,
};
use crate::policy::names;

/// The last port that there is.
const LAST: i32 = 65_535;

/// Label by which every namespace has its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// What else there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// All NetworkPolicies of the namespace, also our own.
    pub(super) policies: &'a [Arc<NetworkPolicy>],
    /// The namespace of the operator.
    pub(super) operator: &'a str,
    /// Labels that the platform gives to the pods of gates.
    pub(super) gate_labels: &'a BTreeMap<String, String>,
}

impl Surroundings<'_> {
    fn isolate(&self, direction: Direction, labels: &BTreeMap<String, String>) -> bool {
        let mut policies = self.policies.iter();
        policies.any(|policy| isolates(policy, direction, labels))
    }

    /// These ways out, if pods with these labels have none without them. Of others they would take away all the rest.
    fn ways_out(
        &self,
        labels: &BTreeMap<String, String>,
        ways: Vec<NetworkPolicyEgressRule>,
    ) -> Option<Vec<NetworkPolicyEgressRule>> {
        self.isolate(Direction::Egress, labels).then_some(ways)
    }
}

/// Whether NetworkPolicies are wanted.
pub(super) fn wanted(server: &McpServer) -> bool {
    options(server).network_policy.unwrap_or(true)
}

/// Lets only the gate reach the target port of the server's pods, and anybody every other port. `None` while it is not
/// known which pods these are, or which number the port has.
///
/// Policies over the same pods add up, so a port that is closed for another server is not opened here.
pub(super) fn around_server(
    server: &McpServer,
    origin: &Origin,
    around: &Surroundings<'_>,
) -> Option<NetworkPolicy> {
    let numbers = origin.port.numbers();
    let labels = server_labels(origin)?;
    if numbers.is_empty() {
        return None;
    }
    let name = names::gate_origin(&server.name_any());
    let gate = rule(
        Some(vec![peer(pods(server))]),
        numbers.iter().map(|number| port("TCP", *number, None)),
    );
    let beside = around.policies.iter();
    let closed = beside
        .flat_map(|policy| closed_beside(policy, &name, &labels))
        .chain(numbers.iter().copied())
        .collect();
    let others = (!around.isolate(Direction::Ingress, &labels)).then(|| all_but(&closed));
    let egress = around.ways_out(&labels, vec![out(pods(server), [TOKENS_PORT])]);
    Some(policy(
        server,
        (name, ORIGIN),
        selecting(labels),
        [gate].into_iter().chain(others).collect(),
        egress,
    ))
}

/// Lets anybody reach the gate, but only the server and the gate itself the port where tokens are bought. Where it is
/// asked how it is, it tells nothing that is secret, and monitoring may run anywhere.
///
/// Where the platform lets nobody in, it also says who is to reach gates; only the operator may always ask them.
pub(super) fn around_gate(server: &McpServer, origin: &Origin, around: &Surroundings<'_>) -> NetworkPolicy {
    // Of a Service without labels nobody knows which pods are the server's: those of its namespace may be.
    let own = server_labels(origin).map(selecting);
    let buyers = own.clone().unwrap_or_default();
    let mut gate = around.gate_labels.clone();
    gate.extend(labels(server, GATE));
    let open = if around.isolate(Direction::Ingress, &gate) {
        rule(
            Some(vec![namespace(around.operator)]),
            [port("TCP", ADMIN_PORT, None)],
        )
    } else {
        rule(
            None,
            [PROXY_PORT, ADMIN_PORT].map(|number| port("TCP", number, None)),
        )
    };
    let tokens = rule(
        Some(vec![peer(buyers), peer(pods(server))]),
        [port("TCP", TOKENS_PORT, None)],
    );
    let numbers = origin.port.numbers();
    let to_server = own.filter(|_| !numbers.is_empty()).map(|own| out(own, numbers));
    let to_gate = out(pods(server), [TOKENS_PORT]);
    let egress = around.ways_out(&gate, to_server.into_iter().chain([to_gate]).collect());
    policy(
        server,
        (names::gate(&server.name_any()), GATE),
        pods(server),
        vec![open, tokens],
        egress,
    )
}

/// Labels of the server's own pods, as far as its Service tells.
fn server_labels(origin: &Origin) -> Option<BTreeMap<String, String>> {
    origin.service.as_ref()?.spec.as_ref()?.selector.clone()
}

fn selecting(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

/// Lets anybody reach every port but these.
fn all_but(closed: &BTreeSet<i32>) -> NetworkPolicyIngressRule {
    let others = gaps(closed)
        .into_iter()
        .map(|(first, last)| port("TCP", first, Some(last)));
    let whole = ["UDP", "SCTP"].map(|protocol| port(protocol, 1, Some(LAST)));
    rule(None, others.chain(whole))
}

/// The ranges of ports that leave these out.
fn gaps(numbers: &BTreeSet<i32>) -> Vec<(i32, i32)> {
    let mut ranges = Vec::new();
    let mut next = 1;
    for number in numbers {
        if next < *number {
            ranges.push((next, number - 1));
        }
        next = number + 1;
    }
    if next <= LAST {
        ranges.push((next, LAST));
    }
    ranges
}

fn port(protocol: &str, first: i32, last: Option<i32>) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(first)),
        end_port: last.filter(|last| *last > first),
    }
}

/// From whom, `None` for anybody, to which ports.
fn rule(
    from: Option<Vec<NetworkPolicyPeer>>,
    ports: impl IntoIterator<Item = NetworkPolicyPort>,
) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(ports.into_iter().collect()),
    }
}

/// To these pods, at these ports.
fn out(to: LabelSelector, numbers: impl IntoIterator<Item = i32>) -> NetworkPolicyEgressRule {
    let ports = numbers.into_iter().map(|number| port("TCP", number, None));
    NetworkPolicyEgressRule {
        to: Some(vec![peer(to)]),
        ports: Some(ports.collect()),
    }
}

/// Pods of the same namespace.
fn peer(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(pods),
        ..NetworkPolicyPeer::default()
    }
}

/// All pods of a namespace.
fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selecting([(NAMESPACE.to_owned(), name.to_owned())].into())),
        ..NetworkPolicyPeer::default()
    }
}

fn policy(
    server: &McpServer,
    (name, component): (String, &str),
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Option<Vec<NetworkPolicyEgressRule>>,
) -> NetworkPolicy {
    let directions = [
        Some(Direction::Ingress),
        egress.as_ref().map(|_| Direction::Egress),
    ];
    let directions = directions.into_iter().flatten();
    NetworkPolicy {
        metadata: metadata(server, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(directions.map(|direction| direction.name().to_owned()).collect()),
            ingress: Some(ingress),
            egress,
        }),
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
