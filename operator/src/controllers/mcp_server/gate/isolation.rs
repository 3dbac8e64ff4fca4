//! What other NetworkPolicies do to the same pods, and which pods a Service must not lead to: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{NetworkPolicy, NetworkPolicySpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{Resource, ResourceExt as _};
use mcp_auth_crds::{
    annotations::{MANAGED_BY, MANAGER, SERVER},
    v1alpha1::McpServer,
};

use super::parts::{COMPONENT, GATE, NAME, ORIGIN};
use crate::policy::Refusal;

/// Labels of pods.
type Labels = BTreeMap<String, String>;

/// Whether the operator made the object for a gate.
pub(super) fn is_of_a_gate<K: Resource>(object: &K) -> bool {
    let owners = object.owner_references();
    owners
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.kind == McpServer::kind(&()))
}

/// Which connections of a pod a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// As a policy names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    /// Whether a policy is about it. One that does not say is about what it has rules for, and about ingress in any case.
    fn is_of(self, spec: &NetworkPolicySpec) -> bool {
        match &spec.policy_types {
            Some(types) => types.iter().any(|type_| type_ == self.name()),
            None => self == Self::Ingress || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        }
    }
}

/// Whether somebody else's policy already lets nobody in, or nothing out, but what it names, at every pod with these
/// labels.
pub(super) fn isolates(policy: &NetworkPolicy, direction: Direction, labels: &Labels) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let all = LabelSelector::default();
    direction.is_of(spec)
        && policy.metadata.deletion_timestamp.is_none()
        && !is_of_a_gate(policy)
        && selects(spec.pod_selector.as_ref().unwrap_or(&all), labels)
}

/// Whether every pod that has these labels is selected, whatever other labels it has.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    let expressions = selector.match_expressions.iter().flatten();
    selector.match_labels.iter().flatten().all(has)
        && expressions.into_iter().all(|expression| {
            let value = labels.get(&expression.key);
            let is_listed = value.is_some_and(|value| expression.values.iter().flatten().any(|v| v == value));
            match expression.operator.as_str() {
                "In" => is_listed,
                "NotIn" => value.is_some() && !is_listed,
                "Exists" => value.is_some(),
                // That a label is missing is not known.
                _ => false,
            }
        })
}

/// The ports that a policy of another server's closes to all but its gate, at pods that may be those with these labels.
pub(super) fn closed_beside(policy: &NetworkPolicy, own: &str, labels: &Labels) -> BTreeSet<i32> {
    let is_around_server = policy.labels().get(COMPONENT).is_some_and(|part| part == ORIGIN);
    let counts = is_around_server
        && policy.name_any() != own
        && policy.metadata.deletion_timestamp.is_none()
        && is_of_a_gate(policy);
    let Some(spec) = policy.spec.as_ref().filter(|_| counts) else {
        return BTreeSet::new();
    };
    let theirs = spec
        .pod_selector
        .as_ref()
        .and_then(|selector| selector.match_labels.as_ref());
    if theirs.is_some_and(|theirs| !may_be_one(theirs, labels)) {
        return BTreeSet::new();
    }
    let rules = spec.ingress.iter().flatten();
    let for_its_gate = rules.filter(|rule| rule.from.is_some());
    let ports = for_its_gate.flat_map(|rule| rule.ports.iter().flatten());
    ports
        .filter_map(|port| match &port.port {
            Some(IntOrString::Int(number)) => Some(*number),
            _ => None,
        })
        .collect()
}

/// Whether a pod can have the labels of both.
fn may_be_one(one: &Labels, other: &Labels) -> bool {
    one.iter()
        .all(|(key, value)| other.get(key).is_none_or(|v| v == value))
}

/// Why a target's Service is none: it leads to gates, whose ports a server must not come to open. `given` are the labels
/// that the platform gives to gates.
///
/// # Errors
/// When it was made for a gate, or selects pods of one.
pub(super) fn check_target(service: &Service, given: &Labels) -> Result<(), Refusal> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    if is_of_a_gate(service) || selector.is_some_and(|selector| finds_gates(selector, given)) {
        return Err(Refusal::new(
            "TargetIsGate",
            format!(
                "Service {} leads to the pods of a gate: let target.service name one with a selector that only the server's own pods have",
                service.name_any()
            ),
        ));
    }
    Ok(())
}

fn finds_gates(selector: &Labels, given: &Labels) -> bool {
    let fixed = [NAME, (MANAGED_BY, MANAGER), (COMPONENT, GATE)];
    // One of a server, or of a version of its Deployment.
    let any = [SERVER, "pod-template-hash"];
    let of_gate = |key: &str, value: &str| {
        any.contains(&key) || fixed.contains(&(key, value)) || given.get(key).is_some_and(|v| v == value)
    };
    let is_named = selector.contains_key(SERVER) || selector.get(NAME.0).is_some_and(|name| name == NAME.1);
    is_named || !selector.is_empty() && selector.iter().all(|(key, value)| of_gate(key, value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn labels(labels: &Value) -> Labels {
        serde_json::from_value(labels.clone()).unwrap()
    }

    #[test]
    fn a_policy_isolates_pods_if_it_selects_them_for_sure() {
        let owner = json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "name": "n", "uid": "u", "controller": true}]);
        for (metadata, spec, expected, why) in [
            (
                json!({}),
                json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
                true,
                "all pods",
            ),
            (
                json!({}),
                json!({"podSelector": {}}),
                true,
                "ingress is meant when nothing is said",
            ),
            (
                json!({}),
                json!({"podSelector": {}, "policyTypes": ["Egress"]}),
                false,
                "the way out",
            ),
            (
                json!({}),
                json!({"podSelector": {"matchLabels": {"app": "notes"}}}),
                true,
                "a label of theirs",
            ),
            (
                json!({}),
                json!({"podSelector": {"matchLabels": {"app": "other"}}}),
                false,
                "other pods",
            ),
            (
                json!({}),
                json!({"podSelector": {"matchLabels": {"app": "notes", "x": "y"}}}),
                false,
                "some of them",
            ),
            (json!({}), expression("In", &["notes", "b"]), true, "one of these"),
            (json!({}), expression("NotIn", &["b"]), true, "none of these"),
            (json!({}), expression("NotIn", &["notes"]), false, "one of these"),
            (json!({}), expression("Exists", &[]), true, "whatever value"),
            (json!({}), expression("DoesNotExist", &[]), false, "they have it"),
            (
                json!({"ownerReferences": owner}),
                json!({"podSelector": {}}),
                false,
                "our own",
            ),
            (
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
                json!({"podSelector": {}}),
                false,
                "it goes",
            ),
        ] {
            let policy = json!({"metadata": metadata, "spec": spec});
            let policy: NetworkPolicy = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(
                isolates(&policy, Direction::Ingress, &labels(&json!({"app": "notes"}))),
                expected,
                "{why}: {policy:?}"
            );
        }
    }

    #[test]
    fn a_policy_is_about_the_directions_that_it_names_or_has_rules_for() {
        use Direction::{Egress, Ingress};
        let rule = json!([{}]);
        for (spec, ingress, egress) in [
            (json!({}), true, false),
            (json!({"egress": []}), true, false),
            (json!({"egress": rule}), true, true),
            (json!({"policyTypes": ["Ingress"], "egress": rule}), true, false),
            (json!({"policyTypes": ["Egress"]}), false, true),
            (json!({"policyTypes": ["Ingress", "Egress"]}), true, true),
        ] {
            let policy: NetworkPolicy =
                serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let found = [Ingress, Egress].map(|direction| isolates(&policy, direction, &Labels::new()));
            assert_eq!(found, [ingress, egress], "{spec}");
        }
    }

    fn expression(operator: &str, values: &[&str]) -> Value {
        json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}})
    }

    #[test]
    fn a_target_that_leads_to_gates_is_none() {
        let gate = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes"});
        for (selector, refused, why) in [
            (json!({"app": "notes"}), false, "pods of its own"),
            (json!({}), false, "no pods"),
            (gate, true, "a gate"),
            (
                json!({"mcpauth.dev/server": "notes", "app": "notes"}),
                true,
                "nobody else has this label",
            ),
            (
                json!({"app.kubernetes.io/name": "mcp-auth-gate"}),
                true,
                "every gate",
            ),
            (json!({"app.kubernetes.io/component": "gate"}), true, "every gate"),
            (
                json!({"app.kubernetes.io/component": "gate", "app": "notes"}),
                false,
                "no gate is labelled so",
            ),
            (
                json!({"team": "platform"}),
                true,
                "what the platform gives to every gate",
            ),
            (
                json!({"team": "platform", "app": "notes"}),
                false,
                "and a label that no gate has",
            ),
        ] {
            let service = json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
            let found = check_target(
                &serde_json::from_value(service).unwrap(),
                &labels(&json!({"team": "platform"})),
            );
            assert_eq!(found.is_err(), refused, "{why}: {selector}");
        }
        let owner = json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "name": "n", "uid": "u", "controller": true}]);
        let origin = json!({"metadata": {"name": "s", "ownerReferences": owner}, "spec": {"selector": {"app": "notes"}}});
        let refusal = check_target(&serde_json::from_value(origin).unwrap(), &Labels::new()).unwrap_err();
        assert_eq!(refusal.reason, "TargetIsGate");
    }
}
