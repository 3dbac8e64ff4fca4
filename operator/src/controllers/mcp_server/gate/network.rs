//! Who may reach the pods of the server and of its gate: pure.
//!
//! A NetworkPolicy only allows, and several add up: "this port only from the gate, all others from anywhere" is said by
//! listing all other ports, as ranges around it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    parts::{ADMIN_PORT, GATE, ORIGIN, PROXY_PORT, TOKENS_PORT, metadata, options, pods},
    services::Origin,
};
use crate::policy::names;

/// The last port that there is.
const LAST: i32 = 65_535;

/// Whether NetworkPolicies are wanted.
pub(super) fn wanted(server: &McpServer) -> bool {
    options(server).network_policy.unwrap_or(true)
}

/// Lets only the gate reach the target port of the server's pods, and anybody every other port. `None` while it is not
/// known which pods these are, or which number the port has.
pub(super) fn around_server(server: &McpServer, origin: &Origin) -> Option<NetworkPolicy> {
    let numbers = origin.port.numbers();
    let selector = server_pods(origin)?;
    if numbers.is_empty() {
        return None;
    }
    let gate = rule(
        Some(vec![pods(server)]),
        numbers.iter().map(|number| port("TCP", *number, None)),
    );
    let others = gaps(&numbers)
        .into_iter()
        .map(|(first, last)| port("TCP", first, Some(last)));
    let whole = ["UDP", "SCTP"].map(|protocol| port(protocol, 1, Some(LAST)));
    let others = rule(None, others.chain(whole));
    Some(policy(
        server,
        names::gate_origin(&server.name_any()),
        ORIGIN,
        selector,
        vec![gate, others],
    ))
}

/// Lets anybody reach the gate, but only the server and the gate itself the port where tokens are bought. Where it is
/// asked how it is, it tells nothing that is secret, and monitoring may run anywhere.
pub(super) fn around_gate(server: &McpServer, origin: &Origin) -> NetworkPolicy {
    // Of a Service without labels nobody knows which pods are the server's: those of its namespace may be.
    let buyers = server_pods(origin).unwrap_or_default();
    let open = rule(
        None,
        [PROXY_PORT, ADMIN_PORT].map(|number| port("TCP", number, None)),
    );
    let tokens = rule(Some(vec![buyers, pods(server)]), [port("TCP", TOKENS_PORT, None)]);
    policy(
        server,
        names::gate(&server.name_any()),
        GATE,
        pods(server),
        vec![open, tokens],
    )
}

/// The server's own pods, as far as its Service tells.
fn server_pods(origin: &Origin) -> Option<LabelSelector> {
    let labels: BTreeMap<String, String> = origin.service.as_ref()?.spec.as_ref()?.selector.clone()?;
    Some(LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    })
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
    from: Option<Vec<LabelSelector>>,
    ports: impl IntoIterator<Item = NetworkPolicyPort>,
) -> NetworkPolicyIngressRule {
    let peer = |selector| NetworkPolicyPeer {
        pod_selector: Some(selector),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyIngressRule {
        from: from.map(|selectors| selectors.into_iter().map(peer).collect()),
        ports: Some(ports.into_iter().collect()),
    }
}

fn policy(
    server: &McpServer,
    name: String,
    component: &str,
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(server, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::{
        super::{
            services::{PodPort, origin},
            testing::server,
        },
        *,
    };

    fn found(port: PodPort) -> Origin {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "notes"}, "spec": {"selector": {"app": "notes"}, "ports": [{"port": 80}]},
        }))
        .unwrap();
        let server = server(&json!({}));
        Origin {
            port,
            ..origin(&server, Some(&service), &[]).unwrap()
        }
    }

    /// Whether a policy lets pods with these labels (`None`: anything elsewhere) reach a port.
    fn lets(policy: &NetworkPolicy, from: Option<&Value>, protocol: &str, number: i32) -> bool {
        let policy = serde_json::to_value(policy).unwrap();
        let rules = policy["spec"]["ingress"].as_array().unwrap().clone();
        let of = |rule: &Value| {
            rule["from"].as_array().is_none_or(|peers| {
                let matches = |peer: &Value| {
                    let wanted = peer["podSelector"]["matchLabels"]
                        .as_object()
                        .cloned()
                        .unwrap_or_default();
                    from.is_some_and(|labels| wanted.iter().all(|(key, value)| &labels[key] == value))
                };
                peers.iter().any(matches)
            })
        };
        let to = |rule: &Value| {
            rule["ports"].as_array().unwrap().iter().any(|port| {
                let first = port["port"].as_i64().unwrap();
                let last = port["endPort"].as_i64().unwrap_or(first);
                port["protocol"] == protocol && (first..=last).contains(&i64::from(number))
            })
        };
        rules.iter().any(|rule| of(rule) && to(rule))
    }

    #[test]
    fn only_the_gate_reaches_the_port_of_the_server_and_anybody_every_other() {
        let gate = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes"});
        let other = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "other"});
        for port in [
            PodPort::Number(8080),
            PodPort::Named("mcp".into(), [1, 8080, 65_535].into()),
        ] {
            let closed = port.numbers();
            let policy = around_server(&server(&json!({})), &found(port)).unwrap();
            for number in [1, 2, 8079, 8080, 8081, 65_534, 65_535] {
                let is_closed = closed.contains(&number);
                assert_eq!(lets(&policy, None, "TCP", number), !is_closed, "{number}");
                assert_eq!(lets(&policy, Some(&other), "TCP", number), !is_closed, "{number}");
                assert!(lets(&policy, Some(&gate), "TCP", number), "{number}");
                assert!(lets(&policy, None, "UDP", number), "{number}");
            }
        }
    }

    #[test]
    fn nothing_is_closed_as_long_as_it_is_not_known_what() {
        let unknown = found(PodPort::Named("mcp".into(), [].into()));
        assert_eq!(around_server(&server(&json!({})), &unknown), None);
        let nobody = Origin {
            service: None,
            ..found(PodPort::Number(80))
        };
        assert_eq!(around_server(&server(&json!({})), &nobody), None);
    }

    #[test]
    fn only_the_server_and_the_gate_buy_tokens() {
        let policy = around_gate(&server(&json!({})), &found(PodPort::Number(3000)));
        let notes = json!({"app": "notes", "more": "x"});
        let gate = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes"});
        let other = json!({"app": "other"});
        for (from, number, expected) in [
            (None, 8080, true),
            (None, 8081, true),
            (None, 8082, false),
            (Some(&other), 8082, false),
            (Some(&notes), 8082, true),
            (Some(&gate), 8082, true),
        ] {
            assert_eq!(lets(&policy, from, "TCP", number), expected, "{from:?} {number}");
        }
    }

    #[test]
    fn it_can_be_switched_off() {
        assert!(wanted(&server(&json!({}))));
        assert!(!wanted(&server(
            &json!({"enforcement": {"gate": {"networkPolicy": false}}})
        )));
    }
}
