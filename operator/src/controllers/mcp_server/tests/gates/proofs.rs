//! What is said of a gate, and when it is held against the server.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use super::*;

/// An address of this machine that no other test uses, where a pod says that it has this in force.
async fn pod_that_says(octet: u8, policy: &str, credentials: &str) -> (MockServer, IpAddr) {
    let address = IpAddr::from(Ipv4Addr::new(127, 81, 0, octet));
    let listener = std::net::TcpListener::bind((address, 8081)).unwrap();
    let pod = MockServer::builder().listener(listener).start().await;
    let said = json!({"policy": policy, "credentials": credentials});
    Mock::given(path("/policy"))
        .respond_with(ResponseTemplate::new(200).set_body_json(said))
        .mount(&pod)
        .await;
    (pod, address)
}

fn pod(address: IpAddr) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "notes-gate-abc", "uid": "r", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "team", "name": "notes-gate-abc-1", "uid": "p1", "ownerReferences": [owner],
                     "labels": {"mcpauth.dev/server": "notes", "app.kubernetes.io/name": "mcp-auth-gate"}},
        "status": {"podIP": address.to_string(), "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A team whose gate of one pod is rolled out, the policy that it should have, and the credentials.
async fn rolled_out() -> (Team, String, String) {
    let mut team = Team::gated(&[]).await;
    team.change(NOTES, |notes| {
        notes["spec"]["enforcement"]["gate"] = json!({"replicas": 1});
    });
    team.calm().await;
    let policy = team.status()["gate"]["policyHash"].as_str().unwrap().to_owned();
    team.change(DEPLOYMENT, |deployment| {
        deployment["status"] =
            json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1});
        deployment["metadata"]["generation"] = json!(1);
    });
    let secret = team.0.cluster.get(GATE_SECRET).unwrap();
    let keys = STANDARD
        .decode(secret["data"]["session-keys"].as_str().unwrap())
        .unwrap();
    let files = [("session-keys".to_owned(), keys)].into();
    let credentials = mcp_auth_gate_core::document::Document::credentials_hash(&files);
    (team, policy, credentials)
}

impl Team {
    /// Passes until the gate is said to be so.
    async fn passes_until(&self, reason: &str) {
        for _ in 0..100 {
            self.pass().await;
            if self.reason("GateReady") == reason {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it is {}, not {reason}", self.reason("GateReady"));
    }
}

#[tokio::test]
async fn a_start_changes_nothing_at_a_gate_that_was_ready() {
    let (mut team, policy, credentials) = rolled_out().await;
    let (pod_that_says, address) = pod_that_says(3, &policy, &credentials).await;
    team.0.cluster.put(pod(address));
    team.start_over().await;
    team.passes_until("InForce").await;
    team.calm().await;
    drop(pod_that_says);
    team.start_over().await;
    team.0.writes.live();
    for _ in 0..5 {
        assert!(team.pass().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(team.0.writes.made(), 0, "the pods have time to answer");
    assert_eq!(team.ready(), ("True".into(), "Ready".into()));
}

#[tokio::test]
async fn one_failed_question_changes_nothing() {
    let (mut team, policy, credentials) = rolled_out().await;
    let (pod_that_says, address) = pod_that_says(4, &policy, &credentials).await;
    team.0.cluster.put(pod(address));
    team.start_over().await;
    team.passes_until("InForce").await;
    drop(pod_that_says);
    team.0.clock.advance(Duration::from_hours(1));
    for _ in 0..5 {
        assert!(team.pass().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(team.reason("GateReady"), "InForce");
}

#[tokio::test]
async fn pods_are_asked_again_when_somebody_else_wrote_their_policy() {
    let (mut team, policy, credentials) = rolled_out().await;
    let (pod_that_says, address) = pod_that_says(5, &policy, &credentials).await;
    team.0.cluster.put(pod(address));
    team.start_over().await;
    team.passes_until("InForce").await;
    drop(pod_that_says);
    for started in [false, true] {
        if started {
            team.start_over().await;
        }
        team.change(GATE_MAP, |map| map["data"]["policy.json"] = json!("{}"));
        team.0.see().await;
        assert!(team.pass().await);
        assert_eq!(team.reason("GateReady"), "PodsNotAsked", "started: {started}");
        team.change(NOTES, |notes| {
            let conditions = notes["status"]["conditions"].as_array_mut().unwrap();
            let gate = conditions.iter_mut().find(|c| c["type"] == "GateReady").unwrap();
            gate["status"] = json!("True");
            gate["reason"] = json!("InForce");
        });
    }
}

#[tokio::test]
async fn a_gate_is_ready_once_its_pods_say_so() {
    let (mut team, policy, credentials) = rolled_out().await;
    for (octet, said, reason) in [
        (1, "another policy", "PolicyNotLoaded"),
        (2, policy.as_str(), "InForce"),
    ] {
        let (_pod, address) = pod_that_says(octet, said, &credentials).await;
        team.0.cluster.put(pod(address));
        team.start_over().await;
        team.passes_until(reason).await;
        let annotation =
            team.0.cluster.get(POD).unwrap()["metadata"]["annotations"]["mcpauth.dev/gate-version"].clone();
        assert_eq!(annotation, format!("{policy}.{credentials}"));
    }
    // What could not be shown is not held against it.
    assert_eq!(
        team.condition("BypassClosed"),
        ("Unknown".into(), "NotTried".into())
    );
    assert_eq!(team.ready(), ("True".into(), "Ready".into()));
}

#[tokio::test]
async fn a_way_past_the_gate_is_held_against_the_server_unless_it_is_allowed() {
    let report = |status: &str, reason: &str| json!({"type": "BypassClosed", "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut team = Team::gated(&[]).await;
    team.change(NOTES, |notes| {
        let conditions = notes["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] != "BypassClosed");
        conditions.push(report("False", "PodsReachable"));
    });
    team.calm().await;
    assert_eq!(
        team.ready(),
        ("False".into(), "PodsReachable".into()),
        "it is not forgotten"
    );
    team.change(NOTES, |notes| {
        notes["spec"]["enforcement"]["allowBypass"] = json!(true);
    });
    team.calm().await;
    assert_eq!(
        team.condition("BypassClosed"),
        ("False".into(), "PodsReachable".into())
    );
    assert_eq!(team.ready(), ("Unknown".into(), "RollingOut".into()));
}
