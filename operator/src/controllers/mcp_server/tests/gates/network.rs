//! What a pass makes of Services and NetworkPolicies around a server.

use super::*;

const ORIGIN: &str = "/api/v1/namespaces/team/services/notes-gate-origin";
const AROUND_SERVER: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate-origin";
const AROUND_GATE: &str = "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate";

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
        service["spec"] = super::service()["spec"].clone()
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
