//! Whether a way leads to the server past its gate: pure.
//!
//! What counts is whether the server's pods take connections from elsewhere, which is tried from the operator's own pod.
//! A Service changes where a connection goes, not who may make it, so the target's own Service is as open as the pods are.
//! Another Service to the same port is held against the server in any case: nobody needs it, and routes get to use it. Only
//! the headless Service that gives the pods of a StatefulSet their names is not: they cannot do without. So
//! is, while pods were not tried, a target that is reachable from outside of the cluster.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use mcp_auth_crds::condition::{Report, types};

use super::{isolation::is_of_a_gate, services::PodPort};
use crate::kinds::PodFacts;

/// The reasons of what is open.
pub(super) const OPEN: [&str; 3] = ["OtherService", "PodsReachable", "TargetExposed"];

/// How many names a message lists.
const MOST_NAMED: usize = 4;

/// What came of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The pod took the connection.
    Taken,
    /// It did not.
    Refused,
    /// It could not be tried: an address of a node, or none.
    Untried,
}

/// What attempts at all addresses of a pod come to: one that is open is a way in, and of one that was not tried nobody
/// knows.
pub(super) fn of_all(attempts: &[Attempt]) -> Attempt {
    if attempts.contains(&Attempt::Taken) {
        Attempt::Taken
    } else if attempts.is_empty() || attempts.contains(&Attempt::Untried) {
        Attempt::Untried
    } else {
        Attempt::Refused
    }
}

/// The number of the server's port at a pod.
pub(super) fn number(pod: &PodFacts, port: &PodPort) -> Option<i32> {
    match port {
        PodPort::Number(number) => Some(*number),
        PodPort::Named(name, _) => pod.port(name),
    }
}

/// The condition `BypassClosed`. `target` is the Service of the target, `attempts` go with `pods`.
pub(super) fn report(
    target: &Service,
    services: &[Arc<Service>],
    pods: &[PodFacts],
    port: &PodPort,
    attempts: &[Attempt],
) -> Report {
    let type_ = types::BYPASS_CLOSED;
    let others: Vec<String> = services
        .iter()
        .filter(|service| service.name_any() != target.name_any() && !is_of_a_gate(&***service))
        .filter(|service| {
            pods.iter()
                .any(|pod| leads_to(service, pod, port) && !governs(service, pod))
        })
        .map(|service| described(service))
        .take(MOST_NAMED)
        .collect();
    if !others.is_empty() {
        return Report::no(
            type_,
            "OtherService",
            format!(
                "Past the gate, the server can be reached by {}: delete what nobody needs, or say enforcement.allowBypass: true",
                others.join(", ")
            ),
        );
    }
    let count = |wanted| attempts.iter().filter(|attempt| **attempt == wanted).count();
    if count(Attempt::Taken) > 0 {
        return Report::no(
            type_,
            "PodsReachable",
            format!(
                "{} of {} pods of the server took a connection past the gate: the network does not enforce the NetworkPolicy, another one allows it, or there is none",
                count(Attempt::Taken),
                attempts.len()
            ),
        );
    }
    let tried = count(Attempt::Refused);
    match (exposure(target), tried) {
        (Some(exposure), 0) => Report::no(
            type_,
            "TargetExposed",
            format!(
                "Service {} is a {exposure}, and nobody could try whether its pods take connections: make it a ClusterIP, or say enforcement.allowBypass: true",
                target.name_any()
            ),
        ),
        (None, 0) => Report::pending(
            type_,
            "NotTried",
            "No ready pod of the server was found whose address could be tried",
        ),
        _ if tried < attempts.len() => Report::pending(
            type_,
            "NotTried",
            format!(
                "{} of {} pods of the server have addresses that are not tried, such as those of nodes",
                attempts.len() - tried,
                attempts.len()
            ),
        ),
        _ => Report::yes(
            type_,
            "Closed",
            format!("No pod of the server takes connections past the gate; tried: {tried}"),
        ),
    }
}

/// Whether a Service leads to the server's port at a pod.
fn leads_to(service: &Service, pod: &PodFacts, port: &PodPort) -> bool {
    let Some(spec) = &service.spec else { return false };
    let selects = |selector: &BTreeMap<String, String>| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
    };
    let Some(wanted) = number(pod, port) else {
        return false;
    };
    let same = |port: &ServicePort| match &port.target_port {
        None => port.port == wanted,
        Some(IntOrString::Int(target)) => *target == wanted,
        Some(IntOrString::String(name)) => pod.port(name) == Some(wanted),
    };
    // By the address of a headless Service every port can be reached.
    let headless = spec.cluster_ip.as_deref() == Some("None");
    spec.selector.as_ref().is_some_and(selects) && (headless || spec.ports.iter().flatten().any(same))
}

/// Whether it is the Service that gives the pod its name, as every StatefulSet has one: it is headless, and leads to the
/// addresses of pods alone, which are tried.
fn governs(service: &Service, pod: &PodFacts) -> bool {
    let headless = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
    headless && exposure(service).is_none() && pod.spec.subdomain.as_ref() == Some(&service.name_any())
}

/// How a Service can be reached from outside of the cluster.
fn exposure(service: &Service) -> Option<&'static str> {
    let spec = service.spec.as_ref()?;
    match spec.type_.as_deref() {
        Some("NodePort") => Some("NodePort"),
        Some("LoadBalancer") => Some("LoadBalancer"),
        _ if spec
            .external_ips
            .as_ref()
            .is_some_and(|addresses| !addresses.is_empty()) =>
        {
            Some("Service with externalIPs")
        }
        _ => None,
    }
}

fn described(service: &Service) -> String {
    match exposure(service) {
        Some(exposure) => format!(
            "Service {} ({exposure}, also from outside of the cluster)",
            service.name_any()
        ),
        None => format!("Service {}", service.name_any()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, spec: Value) -> Arc<Service> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn pod() -> PodFacts {
        serde_json::from_value(json!({
            "metadata": {"labels": {"app": "notes", "tier": "mcp"}},
            "spec": {"containers": [{"ports": [{"name": "mcp", "containerPort": 3000}]}]},
        }))
        .unwrap()
    }

    fn said(target: Value, others: &[Arc<Service>], attempts: &[Attempt]) -> Report {
        let pods = vec![pod(); attempts.len().max(1)];
        let target = service("notes", target);
        let all: Vec<_> = others.iter().cloned().chain([Arc::clone(&target)]).collect();
        report(
            &target,
            &all,
            &pods,
            &PodPort::Named("mcp".into(), [].into()),
            attempts,
        )
    }

    #[test]
    fn another_service_to_the_same_port_is_named() {
        let plain = json!({"selector": {"app": "notes"}, "ports": [{"port": 80, "targetPort": "mcp"}]});
        let with = |selector: Value, port: Value| json!({"selector": selector, "ports": [port]});
        for (spec, found, why) in [
            (plain.clone(), true, "by name"),
            (
                with(json!({"app": "notes"}), json!({"port": 80, "targetPort": 3000})),
                true,
                "by number",
            ),
            (
                with(json!({"app": "notes"}), json!({"port": 3000})),
                true,
                "the same number",
            ),
            (
                with(json!({"tier": "mcp"}), json!({"port": 1, "targetPort": "mcp"})),
                true,
                "other labels of the pods",
            ),
            (
                with(json!({"app": "notes"}), json!({"port": 9090})),
                false,
                "another port",
            ),
            (
                with(json!({"app": "other"}), json!({"port": 3000})),
                false,
                "other pods",
            ),
            (with(json!({}), json!({"port": 3000})), false, "no pods"),
            (
                json!({"selector": {"app": "notes"}, "clusterIP": "None", "ports": [{"port": 9090}]}),
                true,
                "any port",
            ),
        ] {
            let report = said(plain.clone(), &[service("second", spec)], &[Attempt::Refused]);
            assert_eq!(report.reason == "OtherService", found, "{why}");
            assert_eq!(report.message.contains("Service second"), found, "{why}");
        }
        let node = json!({"type": "NodePort", "selector": {"app": "notes"}, "ports": [{"port": 3000}]});
        let report = said(plain, &[service("second", node)], &[Attempt::Refused]);
        assert!(
            report.message.contains("Service second (NodePort"),
            "{}",
            report.message
        );
    }

    #[test]
    fn the_service_that_names_the_pods_is_as_open_as_they_are() {
        let plain = json!({"selector": {"app": "notes"}, "ports": [{"port": 3000}]});
        let headless = json!({"selector": {"app": "notes"}, "clusterIP": "None", "ports": [{"port": 3000}]});
        let mut exposed = headless.clone();
        exposed["externalIPs"] = json!(["203.0.113.1"]);
        for (subdomain, spec, attempt, reason, why) in [
            (
                Some("second"),
                headless.clone(),
                Attempt::Refused,
                "Closed",
                "it governs the pods",
            ),
            (
                Some("second"),
                headless.clone(),
                Attempt::Taken,
                "PodsReachable",
                "the pods decide",
            ),
            (
                Some("second"),
                headless.clone(),
                Attempt::Untried,
                "NotTried",
                "the pods decide",
            ),
            (
                Some("other"),
                headless.clone(),
                Attempt::Refused,
                "OtherService",
                "another one does",
            ),
            (None, headless, Attempt::Refused, "OtherService", "none does"),
            (
                Some("second"),
                plain.clone(),
                Attempt::Refused,
                "OtherService",
                "it has an address of its own",
            ),
            (
                Some("second"),
                exposed,
                Attempt::Refused,
                "OtherService",
                "and others",
            ),
        ] {
            let mut pod = pod();
            pod.spec.subdomain = subdomain.map(str::to_owned);
            let (target, second) = (service("notes", plain.clone()), service("second", spec));
            let all = [Arc::clone(&target), second];
            let port = PodPort::Number(3000);
            let report = report(&target, &all, &[pod], &port, &[attempt]);
            assert_eq!(report.reason, reason, "{why}: {subdomain:?}");
        }
    }

    #[test]
    fn services_of_gates_are_no_ways_past_them() {
        let mut origin = (*service(
            "notes-gate-origin",
            json!({"selector": {"app": "notes"}, "clusterIP": "None"}),
        ))
        .clone();
        let owner = json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "name": "notes", "uid": "u", "controller": true}]);
        origin.metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
        let plain = json!({"selector": {"app": "notes"}, "ports": [{"port": 3000}]});
        assert_eq!(
            said(plain, &[Arc::new(origin)], &[Attempt::Refused]).reason,
            "Closed"
        );
    }

    #[test]
    fn every_address_of_a_pod_counts() {
        use Attempt::{Refused, Taken, Untried};
        for (attempts, all) in [
            (&[][..], Untried),
            (&[Refused], Refused),
            (&[Refused, Refused], Refused),
            (&[Refused, Taken], Taken),
            (&[Untried, Taken], Taken),
            (&[Refused, Untried], Untried),
        ] {
            assert_eq!(of_all(attempts), all, "{attempts:?}");
        }
    }

    #[test]
    fn pods_that_take_connections_are_a_way_and_what_was_not_tried_is_not_known() {
        use Attempt::{Refused, Taken, Untried};
        let plain = json!({"selector": {"app": "notes"}, "ports": [{"port": 3000}]});
        let exposed =
            |type_: &str| json!({"type": type_, "selector": {"app": "notes"}, "ports": [{"port": 3000}]});
        let external = json!({"externalIPs": ["203.0.113.1"], "selector": {"app": "notes"}});
        for (target, attempts, reason) in [
            (plain.clone(), &[Refused, Refused][..], "Closed"),
            (plain.clone(), &[Refused, Taken], "PodsReachable"),
            (plain.clone(), &[], "NotTried"),
            (plain.clone(), &[Untried], "NotTried"),
            (plain, &[Refused, Untried], "NotTried"),
            (exposed("NodePort"), &[], "TargetExposed"),
            (exposed("LoadBalancer"), &[Untried], "TargetExposed"),
            (external, &[], "TargetExposed"),
            (exposed("NodePort"), &[Refused], "Closed"),
            (exposed("NodePort"), &[Taken], "PodsReachable"),
        ] {
            assert_eq!(
                said(target.clone(), &[], attempts).reason,
                reason,
                "{target} {attempts:?}"
            );
        }
    }
}
