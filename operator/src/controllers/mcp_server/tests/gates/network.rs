//! What a pass makes of Services and NetworkPolicies around a server.

use super::*;

const ORIGIN: &str = "/api/v1/namespaces/team/services/notes-gate-origin";
const AROUND_SERVER: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate-origin";
const AROUND_GATE: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate";

/// How many rules a NetworkPolicy has.
fn rules(team: &Team, path: &str) -> usize {
    let policy = team.0.cluster.get(path).unwrap();
    policy["spec"]["ingress"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_key_that_the_target_gives_up_is_given_up_everywhere() {
    let mut team = Team::gated(&[]).await;
    team.change(SERVICE, |service| {
        service["spec"]["selector"] = json!({"app": "notes", "slot": "blue"});
        service["spec"]["publishNotReadyAddresses"] = json!(true);
    });
    team.calm().await;
    let selectors = |team: &Team| {
        let of = |path: &str, pointer: &str| team.0.cluster.get(path).unwrap().pointer(pointer).cloned();
        [
            of(ORIGIN, "/spec/selector"),
            of(AROUND_SERVER, "/spec/podSelector/matchLabels"),
            of(AROUND_GATE, "/spec/ingress/1/from/0/podSelector/matchLabels"),
        ]
    };
    let both = Some(json!({"app": "notes", "slot": "blue"}));
    assert_eq!(selectors(&team), [both.clone(), both.clone(), both]);
    team.change(SERVICE, |service| {
        service["spec"] = super::service()["spec"].clone();
    });
    team.calm().await;
    let one = Some(json!({"app": "notes"}));
    assert_eq!(selectors(&team), [one.clone(), one.clone(), one]);
    let origin = team.0.cluster.get(ORIGIN).unwrap();
    assert_eq!(origin["spec"].get("publishNotReadyAddresses"), None);
}

#[tokio::test]
async fn a_policy_that_lets_in_more_than_is_wanted_is_set_right() {
    let mut team = Team::gated(&[]).await;
    let before = team.0.cluster.get(AROUND_SERVER).unwrap()["spec"].clone();
    for (pointer, value) in [
        ("/spec/ingress/0/from/0/namespaceSelector", json!({})),
        ("/spec/ingress/0/ports/0/endPort", json!(65_535)),
    ] {
        team.change(AROUND_SERVER, |policy| {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            policy.pointer_mut(parent).unwrap()[field] = value;
        });
        team.calm().await;
        assert_eq!(
            team.0.cluster.get(AROUND_SERVER).unwrap()["spec"],
            before,
            "{pointer}"
        );
    }
}

#[tokio::test]
async fn what_somebody_else_closed_stays_closed() {
    let mut team = Team::gated(&[]).await;
    assert_eq!(rules(&team, AROUND_SERVER), 2);
    let deny = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/deny";
    team.0.cluster.put(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "team", "name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }));
    team.calm().await;
    assert_eq!(rules(&team, AROUND_SERVER), 1, "only the gate's");
    let ways_out = |team: &Team| {
        team.0.cluster.get(AROUND_GATE).unwrap()["spec"]["egress"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(
        ways_out(&team),
        Some(2),
        "to the server, and to other pods of the gate"
    );
    let around = team.0.cluster.get(AROUND_GATE).unwrap();
    let from = &around["spec"]["ingress"][0]["from"][0];
    assert_eq!(
        from["namespaceSelector"]["matchLabels"],
        json!({"kubernetes.io/metadata.name": OPERATOR})
    );
    team.0.cluster.remove(deny);
    team.calm().await;
    assert_eq!(rules(&team, AROUND_SERVER), 2);
    assert_eq!(
        ways_out(&team),
        None,
        "all that is not closed by others stays open"
    );
}

#[tokio::test]
async fn a_server_is_closed_only_once_a_gate_can_start() {
    for (enforcement, image, closed, why) in [
        (json!({}), Some("gate:1"), true, "it can"),
        (json!({}), None, false, "there is no image"),
        (
            json!({"resources": {"limits": {"memory": "1024Gi"}}}),
            Some("gate:1"),
            false,
            "it wants too much",
        ),
        (
            json!({"tls": {"secretName": "none"}}),
            Some("gate:1"),
            false,
            "there is no certificate",
        ),
    ] {
        let mut team = Team::new(&[super::service()]).await;
        team.change(NOTES, |notes| {
            notes["spec"]["target"] = json!({"service": "notes"});
            notes["spec"]["enforcement"] = json!({"gate": enforcement});
        });
        for _ in 0..3 {
            team.start_over().await;
            Arc::get_mut(&mut team.0.ctx).unwrap().config.gate.image = image.map(str::to_owned);
            team.pass().await;
        }
        assert_eq!(team.0.cluster.get(DEPLOYMENT).is_some(), closed, "{why}");
        assert_eq!(team.0.cluster.get(AROUND_SERVER).is_some(), closed, "{why}");
    }
}

#[tokio::test]
async fn a_server_that_had_a_gate_stays_closed_when_it_cannot_be_changed() {
    let mut team = Team::gated(&[]).await;
    team.0.cluster.remove(AROUND_SERVER);
    team.start_over().await;
    Arc::get_mut(&mut team.0.ctx).unwrap().config.gate.image = None;
    team.pass().await;
    assert_eq!(team.ready(), ("False".into(), "GateImageMissing".into()));
    assert!(team.0.cluster.get(AROUND_SERVER).is_some());
}

#[tokio::test]
async fn a_target_that_leads_to_a_gate_is_refused() {
    for target in ["notes-gate", "notes-gate-origin", "by-hand"] {
        let by_hand = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "team", "name": "by-hand"},
            "spec": {"selector": {"mcpauth.dev/server": "notes"}, "ports": [{"port": 80, "targetPort": 3000}]},
        });
        let mut team = Team::gated(&[by_hand]).await;
        let before = team.0.cluster.get(AROUND_SERVER).unwrap()["spec"].clone();
        team.change(NOTES, |notes| {
            notes["spec"]["target"] = json!({"service": target});
        });
        team.calm().await;
        assert_eq!(team.ready(), ("False".into(), "TargetIsGate".into()), "{target}");
        assert_eq!(
            team.0.cluster.get(AROUND_SERVER).unwrap()["spec"],
            before,
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_target_in_another_family_has_another_headless_service() {
    let mut team = Team::gated(&[]).await;
    let set = |team: &Team, families: Value| {
        team.change(SERVICE, |service| service["spec"]["ipFamilies"] = families);
    };
    let mut made = Vec::new();
    for families in [json!(["IPv4"]), json!(["IPv4", "IPv6"]), json!(["IPv6", "IPv4"])] {
        set(&team, families);
        team.calm().await;
        let origin = team.0.cluster.get(ORIGIN).unwrap();
        made.push((
            origin["spec"]["ipFamilies"].clone(),
            origin["metadata"]["annotations"]["theirs"].is_string(),
        ));
        team.change(ORIGIN, |origin| {
            origin["metadata"]["annotations"]["theirs"] = json!("x");
        });
    }
    assert_eq!(
        made,
        [
            (json!(["IPv4"]), false),
            (json!(["IPv4"]), true),
            (json!(["IPv6"]), false),
        ],
        "no Service changes its family"
    );
}
