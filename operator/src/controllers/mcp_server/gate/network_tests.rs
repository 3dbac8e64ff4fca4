//! Who may reach whom.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::{
    super::{
        services::{PodPort, origin},
        testing::server,
    },
    *,
};

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// With these NetworkPolicies in the namespace.
fn beside(policies: &[Arc<NetworkPolicy>]) -> Surroundings<'_> {
    Surroundings {
        policies,
        operator: "mcp-auth-system",
        gate_labels: &NO_LABELS,
    }
}

/// With no other NetworkPolicy.
fn alone() -> Surroundings<'static> {
    beside(&[])
}

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
                if !peer["namespaceSelector"].is_null() {
                    return false;
                }
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
        let policy = around_server(&server(&json!({})), &found(port), &alone()).unwrap();
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
    assert_eq!(around_server(&server(&json!({})), &unknown, &alone()), None);
    let nobody = Origin {
        service: None,
        ..found(PodPort::Number(80))
    };
    assert_eq!(around_server(&server(&json!({})), &nobody, &alone()), None);
}

#[test]
fn only_the_server_and_the_gate_buy_tokens() {
    let policy = around_gate(&server(&json!({})), &found(PodPort::Number(3000)), &alone());
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

/// A server of this name, whose Service has this selector, and whose pods listen there.
fn another(name: &str, selector: &Value, number: i32) -> (McpServer, Origin) {
    let mut server = server(&json!({}));
    server.metadata.name = Some(name.to_owned());
    let service =
        json!({"metadata": {"name": name}, "spec": {"selector": selector, "ports": [{"port": number}]}});
    let service: Service = serde_json::from_value(service).unwrap();
    let origin = origin(&server, Some(&service), &[]).unwrap();
    (server, origin)
}

/// The policies of servers, once each has seen those of the others.
fn settled(
    servers: &[(McpServer, Origin)],
    mut policies: Vec<Arc<NetworkPolicy>>,
) -> Vec<Arc<NetworkPolicy>> {
    let foreign = policies.clone();
    for _ in 0..3 {
        let made: Vec<_> = servers
            .iter()
            .map(|(server, origin)| Arc::new(around_server(server, origin, &beside(&policies)).unwrap()))
            .collect();
        policies = foreign.iter().cloned().chain(made).collect();
    }
    policies
}

#[test]
fn two_servers_in_the_same_pods_do_not_open_what_the_other_closes() {
    let gate =
        |server: &str| json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": server});
    for (second, why) in [
        (json!({"app": "notes"}), "the same labels"),
        (json!({"tier": "mcp"}), "other labels of the same pods"),
        (json!({"app": "notes", "tier": "mcp"}), "some of the pods"),
    ] {
        let servers = [
            another("a", &json!({"app": "notes"}), 3000),
            another("b", &second, 3001),
        ];
        let policies = settled(&servers, Vec::new());
        let any = |from: Option<&Value>, number| policies.iter().any(|p| lets(p, from, "TCP", number));
        for (from, number, expected) in [
            (None, 3000, false),
            (None, 3001, false),
            (None, 3002, true),
            (Some(gate("a")), 3000, true),
            (Some(gate("a")), 3001, false),
            (Some(gate("b")), 3001, true),
            (Some(gate("b")), 3000, false),
        ] {
            assert_eq!(any(from.as_ref(), number), expected, "{why}: {from:?} {number}");
        }
    }
}

#[test]
fn a_server_in_other_pods_closes_nothing_here() {
    let servers = [
        another("a", &json!({"app": "notes"}), 3000),
        another("b", &json!({"app": "orders"}), 3001),
    ];
    let policies = settled(&servers, Vec::new());
    assert!(lets(&policies[0], None, "TCP", 3001));
    assert!(!lets(&policies[0], None, "TCP", 3000));
}

fn deny(selector: &Value) -> Arc<NetworkPolicy> {
    let policy =
        json!({"metadata": {"name": "deny"}, "spec": {"podSelector": selector, "policyTypes": ["Ingress"]}});
    Arc::new(serde_json::from_value(policy).unwrap())
}

#[test]
fn what_somebody_else_closed_is_not_opened() {
    let gate = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes"});
    let notes = json!({"app": "notes"});
    for (other, server_is_closed, gate_is_closed) in [
        (json!({}), true, true),
        (json!({"matchLabels": {"app": "notes"}}), true, false),
        (
            json!({"matchLabels": {"app.kubernetes.io/name": "mcp-auth-gate"}}),
            false,
            true,
        ),
        (json!({"matchLabels": {"app": "other"}}), false, false),
    ] {
        let policies = [deny(&other)];
        let (server, origin) = (server(&json!({})), found(PodPort::Number(3000)));
        let around = around_server(&server, &origin, &beside(&policies)).unwrap();
        assert_eq!(lets(&around, None, "TCP", 9090), !server_is_closed, "{other}");
        assert_eq!(lets(&around, None, "UDP", 53), !server_is_closed, "{other}");
        assert!(lets(&around, Some(&gate), "TCP", 3000), "{other}");
        assert!(!lets(&around, None, "TCP", 3000), "{other}");

        let around = around_gate(&server, &origin, &beside(&policies));
        for number in [8080, 8081] {
            assert_eq!(
                lets(&around, None, "TCP", number),
                !gate_is_closed,
                "{other} {number}"
            );
        }
        assert!(lets(&around, Some(&notes), "TCP", 8082), "{other}");
        let text = serde_json::to_string(&around).unwrap();
        assert_eq!(
            text.contains("mcp-auth-system"),
            gate_is_closed,
            "the operator asks gates: {text}"
        );
    }
}

/// The ways out of a policy: to which labels, at which ports. `None`: it does not close any.
fn ways_out(policy: &NetworkPolicy) -> Option<Vec<(Value, Vec<i64>)>> {
    let spec = serde_json::to_value(&policy.spec).unwrap();
    let closes = spec["policyTypes"].as_array().unwrap().contains(&json!("Egress"));
    let rules = spec["egress"].as_array();
    assert_eq!(closes, rules.is_some(), "{spec}");
    let way = |rule: &Value| {
        let ports = rule["ports"].as_array().unwrap().iter();
        let ports = ports.map(|port| port["port"].as_i64().unwrap());
        (
            rule["to"][0]["podSelector"]["matchLabels"].clone(),
            ports.collect(),
        )
    };
    rules.map(|rules| rules.iter().map(way).collect())
}

#[test]
fn where_nothing_gets_out_server_and_gate_still_reach_each_other_and_elsewhere_all_stays_open() {
    let gate = json!({"app.kubernetes.io/name": "mcp-auth-gate", "mcpauth.dev/server": "notes"});
    let notes = json!({"app": "notes"});
    let to_gate = (gate.clone(), vec![8082]);
    let both = vec![(notes.clone(), vec![3000]), to_gate.clone()];
    let server = server(&json!({}));
    for (directions, selector, from_server, from_gate) in [
        (json!(["Ingress"]), json!({}), None, None),
        (
            json!(["Egress"]),
            json!({}),
            Some(vec![to_gate.clone()]),
            Some(both.clone()),
        ),
        (
            json!(["Ingress", "Egress"]),
            json!({}),
            Some(vec![to_gate.clone()]),
            Some(both.clone()),
        ),
        (
            json!(["Egress"]),
            json!({"matchLabels": notes}),
            Some(vec![to_gate.clone()]),
            None,
        ),
        (
            json!(["Egress"]),
            json!({"matchLabels": gate}),
            None,
            Some(both.clone()),
        ),
    ] {
        let policy = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": selector, "policyTypes": directions}});
        let policies = [Arc::new(serde_json::from_value(policy).unwrap())];
        let origin = found(PodPort::Number(3000));
        let around = around_server(&server, &origin, &beside(&policies)).unwrap();
        assert_eq!(ways_out(&around), from_server, "{directions} {selector}");
        let around = around_gate(&server, &origin, &beside(&policies));
        assert_eq!(ways_out(&around), from_gate, "{directions} {selector}");
    }
    // What our own policies close is no reason to close more.
    let deny = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
    let deny = Arc::new(serde_json::from_value(deny).unwrap());
    let origin = found(PodPort::Number(3000));
    let ours = Arc::new(around_gate(&server, &origin, &beside(&[deny])));
    assert_eq!(ways_out(&around_gate(&server, &origin, &beside(&[ours]))), None);
}

#[test]
fn a_gate_is_let_out_to_no_server_whose_pods_or_port_are_not_known() {
    let deny = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
    let policies = [Arc::new(serde_json::from_value(deny).unwrap())];
    let nobody = Origin {
        service: None,
        ..found(PodPort::Number(80))
    };
    for origin in [found(PodPort::Named("mcp".into(), [].into())), nobody] {
        let around = around_gate(&server(&json!({})), &origin, &beside(&policies));
        let ways = ways_out(&around).unwrap();
        assert_eq!(
            ways.iter().map(|(_, ports)| ports.as_slice()).collect::<Vec<_>>(),
            [[8082]]
        );
    }
}
