//! Whether every pod of a gate has the policy of this generation: pure.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::McpServer,
};

use super::super::probe;
use crate::kinds::PodFacts;

/// What a pod said that it has in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
pub(in crate::controllers::mcp_server) struct InForce {
    /// The hash of its policy.
    pub(in crate::controllers::mcp_server) policy: String,
    /// The hash of its credentials.
    pub(in crate::controllers::mcp_server) credentials: String,
    /// Whether it has keys of the authorization server: without any it can let nobody in. An older gate does not say.
    #[serde(default = "unsaid")]
    pub(in crate::controllers::mcp_server) keys: bool,
}

const fn unsaid() -> bool {
    true
}

/// What the pods should have, and where they get the keys that the policy tells of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) jwks_uri: &'a str,
}

/// What the pods said, by their UID.
pub(in crate::controllers::mcp_server) type Said = HashMap<String, InForce>;

/// Whether a pod belongs to the Deployment of this name: it is made by one of its ReplicaSets. Anybody who may create pods
/// can give one the labels of a gate.
pub(super) fn belongs(pod: &PodFacts, deployment: &str) -> bool {
    pod.owner_references().iter().any(|owner| {
        let rest = owner
            .name
            .strip_prefix(deployment)
            .and_then(|rest| rest.strip_prefix('-'));
        let is_hash = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('-'));
        owner.controller == Some(true) && owner.kind == "ReplicaSet" && is_hash
    })
}

/// The reason of pods that did not say yet what they have.
pub(super) const NOT_ASKED: &str = "PodsNotAsked";
/// The reason of pods that have what they should.
const IN_FORCE: &str = "InForce";

/// What the status tells of the gate, if it says that all pods have this policy.
pub(super) fn stored(server: &McpServer, policy: &str) -> Option<Report> {
    let gate = server.status.as_ref()?.gate.as_ref()?;
    let in_force = Report::yes(types::GATE_READY, IN_FORCE, "");
    let stored = probe::stored(server, types::GATE_READY, &[in_force]);
    stored.filter(|_| gate.policy_hash == policy)
}

/// The condition `GateReady`. `generation` is the one of the Deployment as it is wanted, where that is known better than
/// from a cache.
pub(super) fn report(
    deployment: Option<&Deployment>,
    generation: Option<i64>,
    pods: &[&PodFacts],
    said: &Said,
    wanted: Wanted<'_>,
) -> Report {
    let type_ = types::GATE_READY;
    if let Some(report) = trouble(pods) {
        return report;
    }
    let rolled_out = deployment.and_then(|deployment| rolled_out(deployment, generation));
    let Some((done, replicas)) = rolled_out else {
        return Report::pending(
            type_,
            "RollingOut",
            "Waits for the Deployment of the gate to be looked at",
        );
    };
    if deployment.is_some_and(cannot_make_pods) {
        return Report::pending(
            type_,
            "PodsNotCreated",
            "The pods of the gate cannot be made: the conditions of its Deployment say why, such as a quota",
        );
    }
    if done < replicas {
        return Report::pending(
            type_,
            "RollingOut",
            format!("{done} of {replicas} pods of the gate are up to date and ready"),
        );
    }
    let ready: Vec<_> = pods.iter().filter(|pod| pod.is_ready()).collect();
    let says = |pod: &&&&PodFacts| said.get(&pod.uid().unwrap_or_default());
    let has = |keys: bool| {
        let wanted = InForce {
            keys,
            ..wanted.in_force.clone()
        };
        ready.iter().filter(|pod| says(pod) == Some(&wanted)).count()
    };
    let keyless = has(false);
    let up_to_date = has(true) + keyless;
    let silent = ready.iter().filter(|pod| says(pod).is_none()).count();
    match ready.len() {
        0 => Report::pending(type_, "RollingOut", "No pod of the gate is ready"),
        all if i32::try_from(all).is_ok_and(|all| all < replicas) => Report::pending(
            type_,
            "RollingOut",
            format!("{all} of {replicas} pods of the gate are ready"),
        ),
        all if up_to_date == all && keyless > 0 => Report::pending(
            type_,
            "KeysNotFetched",
            format!(
                "{keyless} of {all} pods of the gate have no keys of the authorization server, and refuse every token: let them reach {}, and names be looked up, where a NetworkPolicy denies it",
                wanted.jwks_uri
            ),
        ),
        all if up_to_date == all => Report::yes(
            type_,
            IN_FORCE,
            format!("All pods of the gate have this policy: {all}"),
        ),
        all if up_to_date + silent == all => Report::pending(
            type_,
            NOT_ASKED,
            format!(
                "{silent} of {all} pods of the gate did not say yet which policy they have: the operator must reach them"
            ),
        ),
        all => Report::pending(
            type_,
            "PolicyNotLoaded",
            format!(
                "{up_to_date} of {all} pods of the gate have this policy; the others will read it within a minute"
            ),
        ),
    }
}

/// How many pods are as the Deployment now wants them and ready, and how many there should be. `None` while nobody has
/// looked at it.
fn rolled_out(deployment: &Deployment, generation: Option<i64>) -> Option<(i32, i32)> {
    let status = deployment.status.as_ref()?;
    if status.observed_generation? < deployment.metadata.generation?.max(generation.unwrap_or(0)) {
        return None;
    }
    let replicas = deployment.spec.as_ref()?.replicas.unwrap_or(1);
    let (updated, available) = (
        status.updated_replicas.unwrap_or(0),
        status.available_replicas.unwrap_or(0),
    );
    let old = status.replicas.unwrap_or(0) - updated;
    Some((updated.min(available - old.max(0)), replicas))
}

fn cannot_make_pods(deployment: &Deployment) -> bool {
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
}

/// What keeps a pod from starting, if that is known.
fn trouble(pods: &[&PodFacts]) -> Option<Report> {
    let type_ = types::GATE_READY;
    for pod in pods {
        let waits = pod
            .status
            .container_statuses
            .iter()
            .filter_map(|status| status.state.waiting.as_ref());
        for reason in waits.filter_map(|waiting| waiting.reason.as_deref()) {
            match reason {
                "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                    return Some(Report::pending(
                        type_,
                        "ImageNotAvailable",
                        format!(
                            "Pod {} cannot get the image of gates: the operator's --gate-image says which, and its events say why",
                            pod.name_any()
                        ),
                    ));
                }
                "CrashLoopBackOff" => {
                    return Some(Report::pending(
                        type_,
                        "CrashLooping",
                        format!("Pod {} ends again and again: its log says why", pod.name_any()),
                    ));
                }
                "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                    return Some(Report::pending(
                        type_,
                        "ContainerNotStarted",
                        format!(
                            "The node does not start pod {}: its events say why",
                            pod.name_any()
                        ),
                    ));
                }
                _ => {}
            }
        }
        let unschedulable = |condition: &&crate::kinds::PodCondition| {
            condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
        };
        if pod
            .status
            .conditions
            .iter()
            .any(|condition| unschedulable(&condition))
        {
            return Some(Report::pending(
                type_,
                "Unschedulable",
                format!("No node takes pod {}: its events say why", pod.name_any()),
            ));
        }
    }
    None
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
