//! Whose tokens are refused, and for how long.

use std::time::Duration;

use super::*;

const CLIENT: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpclients/bad";

pub(super) fn granted(mut client: Value) -> Value {
    client["status"] =
        json!({"clientId": "i.team.bad", "granted": [{"server": "team/notes", "resource": RESOURCE}]});
    client
}

#[tokio::test]
async fn a_suspended_client_stays_denied_when_it_goes_while_its_tokens_can_be_valid() {
    for end in [
        "deleted",
        "without access",
        "deleted with no authorization server",
    ] {
        let mut team = Team::gated(&[granted(client(true))]).await;
        assert_eq!(team.document()["deniedClients"], json!(["i.team.bad"]), "{end}");
        team.0.clock.advance(Duration::from_hours(30));
        if end == "without access" {
            // What its own pass leaves of it.
            team.change(CLIENT, |client| {
                client["spec"]["access"] = json!([]);
                client["status"]["granted"] = json!([]);
            });
        } else {
            team.0.cluster.remove(CLIENT);
        }
        let home = team.0.cluster.get(MAIN).unwrap();
        if end.ends_with("server") {
            team.0.cluster.remove(MAIN);
        }
        team.calm().await;
        team.0.cluster.put(home);
        for hours in [0, 23] {
            team.0.clock.advance(Duration::from_hours(hours));
            team.calm().await;
            assert_eq!(
                team.document()["deniedClients"],
                json!(["i.team.bad"]),
                "{end}: {hours}"
            );
        }
        team.0.clock.advance(Duration::from_hours(2));
        team.calm().await;
        assert_eq!(team.document().get("deniedClients"), None, "{end}");
        let map = team.0.cluster.get(GATE_MAP).unwrap();
        assert_eq!(
            map["data"].as_object().unwrap().len(),
            1,
            "{end}: no times are left"
        );
    }
}

#[tokio::test]
async fn a_client_that_is_back_and_not_suspended_is_admitted() {
    let mut team = Team::gated(&[granted(client(true))]).await;
    team.0.cluster.remove(CLIENT);
    team.calm().await;
    team.0.cluster.put(client(false));
    team.calm().await;
    assert_eq!(team.document().get("deniedClients"), None);
}

#[tokio::test]
async fn a_server_that_waits_for_its_deletion_denies_as_well() {
    let mut team = Team::gated(&[granted(client(false))]).await;
    team.0.cluster.remove(MAIN);
    team.change(NOTES, |notes| {
        notes["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    team.0.cluster.put(granted(client(true)));
    team.calm().await;
    assert_eq!(team.document()["deniedClients"], json!(["i.team.bad"]));
}

#[tokio::test]
async fn a_pod_that_was_not_told_of_a_denial_is_told_later() {
    let mut team = Team::gated(&[granted(client(false))]).await;
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "notes-gate-abc", "uid": "r", "controller": true});
    team.0.cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "team", "name": "notes-gate-abc-1", "uid": "p1", "ownerReferences": [owner],
                     "labels": {"mcpauth.dev/server": "notes", "app.kubernetes.io/name": "mcp-auth-gate"}},
    }));
    team.calm().await;
    let told = |team: &Team| {
        let annotations = team.0.cluster.get(POD).unwrap()["metadata"]["annotations"].clone();
        annotations["mcpauth.dev/gate-version"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let before = told(&team);
    team.0.cluster.remove(MAIN);
    team.0.cluster.put(granted(client(true)));
    team.start_over().await;
    // It dies when the policy is written.
    team.0.writes.die_after(1);
    assert!(!team.pass().await);
    assert_eq!(team.document()["deniedClients"], json!(["i.team.bad"]));
    assert_eq!(told(&team), before);
    team.calm().await;
    let map = team.0.cluster.get(GATE_MAP).unwrap();
    let policy = map["data"]["policy.json"].as_str().unwrap();
    let hash = mcp_auth_gate_core::document::Document::hash(policy.as_bytes());
    assert!(told(&team).starts_with(&hash));
}

#[tokio::test]
async fn strangers_do_not_come_into_a_policy() {
    let mut stranger = client(true);
    stranger["metadata"]["namespace"] = json!("strangers");
    stranger["spec"]["access"][0]["server"]["namespace"] = json!("team");
    let team = Team::gated(&[stranger]).await;
    assert_eq!(team.document().get("deniedClients"), None);
}
