//! When a gate counts as ready.

use mcp_auth_crds::condition::Status;
use serde_json::{Value, json};

use super::*;

fn deployment(status: Value) -> Deployment {
    let generation = 2;
    serde_json::from_value(json!({
        "metadata": {"name": "notes-gate", "generation": generation},
        "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status,
    }))
    .unwrap()
}

fn done() -> Value {
    json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2})
}

fn pod(uid: &str, status: Value) -> PodFacts {
    serde_json::from_value(
        json!({"metadata": {"name": format!("notes-gate-1-{uid}"), "uid": uid}, "status": status}),
    )
    .unwrap()
}

fn ready(uid: &str) -> PodFacts {
    pod(uid, json!({"conditions": [{"type": "Ready", "status": "True"}]}))
}

fn in_force(policy: &str) -> InForce {
    InForce {
        policy: policy.into(),
        credentials: "c".into(),
        keys: true,
    }
}

/// With the policy `p`.
fn report(
    deployment: Option<&Deployment>,
    generation: Option<i64>,
    pods: &[&PodFacts],
    said: &Said,
) -> Report {
    let wanted = Wanted {
        in_force: &in_force("p"),
        jwks_uri: "https://login.example/certs",
    };
    super::report(deployment, generation, pods, said, wanted)
}

#[test]
fn pods_without_keys_serve_nobody() {
    let keyless = |policy: &str| InForce {
        keys: false,
        ..in_force(policy)
    };
    let pods = [&ready("a"), &ready("b")];
    for (said, status, reason) in [
        ([in_force("p"), in_force("p")], Status::True, "InForce"),
        ([in_force("p"), keyless("p")], Status::Unknown, "KeysNotFetched"),
        ([keyless("p"), keyless("p")], Status::Unknown, "KeysNotFetched"),
        (
            [in_force("p"), keyless("old")],
            Status::Unknown,
            "PolicyNotLoaded",
        ),
        (
            [in_force("old"), keyless("p")],
            Status::Unknown,
            "PolicyNotLoaded",
        ),
    ] {
        let said = ["a", "b"].map(str::to_owned).into_iter().zip(said).collect();
        let report = report(Some(&deployment(done())), None, &pods, &said);
        assert_eq!((report.status, report.reason), (status, reason), "{said:?}");
        assert_eq!(
            report.message.contains("https://login.example/certs"),
            reason == "KeysNotFetched",
            "{}",
            report.message
        );
    }
    let older: InForce = serde_json::from_value(json!({"policy": "p", "credentials": "c"})).unwrap();
    assert_eq!(older, in_force("p"), "a gate that does not say");
}

#[test]
fn every_pod_has_to_say_that_it_has_the_policy() {
    let waiting = |reason: &str| {
        pod(
            "b",
            json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}),
        )
    };
    let unschedulable = pod(
        "b",
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}),
    );
    let with = |field: &str, value: Value| {
        let mut status = done();
        status[field] = value;
        status
    };
    let failure = json!([{"type": "ReplicaFailure", "status": "True"}]);
    let both = [("a", "p"), ("b", "p")];
    let (fine, two) = (done(), || vec![ready("a"), ready("b")]);
    for (status, pods, said, reason) in [
        (&fine, two(), &both[..], "InForce"),
        (&fine, two(), &[("a", "p"), ("b", "old")], "PolicyNotLoaded"),
        (&fine, two(), &[("a", "p")], "PodsNotAsked"),
        (&fine, vec![], &both, "RollingOut"),
        (&fine, vec![ready("a")], &both, "RollingOut"),
        (&with("observedGeneration", json!(1)), two(), &both, "RollingOut"),
        (&with("updatedReplicas", json!(1)), two(), &both, "RollingOut"),
        (&with("availableReplicas", json!(1)), two(), &both, "RollingOut"),
        (&with("replicas", json!(3)), two(), &both, "RollingOut"),
        (&with("conditions", failure), two(), &both, "PodsNotCreated"),
        (
            &fine,
            vec![waiting("ImagePullBackOff")],
            &both,
            "ImageNotAvailable",
        ),
        (
            &fine,
            vec![ready("a"), waiting("CrashLoopBackOff")],
            &both,
            "CrashLooping",
        ),
        (
            &fine,
            vec![waiting("CreateContainerConfigError")],
            &both,
            "ContainerNotStarted",
        ),
        (&fine, vec![waiting("ContainerCreating")], &both, "RollingOut"),
        (&fine, vec![unschedulable], &both, "Unschedulable"),
    ] {
        let said = said
            .iter()
            .map(|(pod, policy)| ((*pod).to_owned(), in_force(policy)))
            .collect();
        let pods: Vec<_> = pods.iter().collect();
        let deployment = deployment(status.clone());
        let report = report(Some(&deployment), Some(2), &pods, &said);
        assert_eq!(report.reason, reason, "{status} {said:?}: {}", report.message);
    }
    let report = report(None, None, &[], &Said::default());
    assert_eq!(report.reason, "RollingOut");
}

#[test]
fn credentials_count_as_the_policy_does() {
    let old = InForce {
        credentials: "old".into(),
        ..in_force("p")
    };
    let said = [("a".to_owned(), old)].into();
    let mut one = done();
    for field in ["replicas", "updatedReplicas", "availableReplicas"] {
        one[field] = json!(2);
    }
    let pods = [&ready("a"), &ready("b")];
    let report = report(Some(&deployment(one)), None, &pods, &said);
    assert_eq!(report.reason, "PolicyNotLoaded");
}

#[test]
fn pods_of_an_older_generation_say_nothing_of_the_one_that_was_just_written() {
    let said = ["a", "b"].map(|pod| (pod.to_owned(), in_force("p"))).into();
    let pods = [&ready("a"), &ready("b")];
    for (generation, reason) in [(None, "InForce"), (Some(2), "InForce"), (Some(3), "RollingOut")] {
        let report = report(Some(&deployment(done())), generation, &pods, &said);
        assert_eq!(report.reason, reason, "{generation:?}");
    }
}

#[test]
fn only_pods_of_the_deployment_count() {
    for (owner, expected) in [
        (
            json!({"kind": "ReplicaSet", "name": "notes-gate-7d4b9c", "controller": true}),
            true,
        ),
        (
            json!({"kind": "ReplicaSet", "name": "notes-gate-b-7d4b9c", "controller": true}),
            false,
        ),
        (
            json!({"kind": "ReplicaSet", "name": "notes-gate", "controller": true}),
            false,
        ),
        (
            json!({"kind": "ReplicaSet", "name": "notes-gate-7d4b9c", "controller": false}),
            false,
        ),
        (
            json!({"kind": "StatefulSet", "name": "notes-gate-7d4b9c", "controller": true}),
            false,
        ),
    ] {
        let mut pod = serde_json::to_value(ready("a")).unwrap();
        let mut owner = owner;
        owner["apiVersion"] = json!("apps/v1");
        owner["uid"] = json!("1");
        pod["metadata"]["ownerReferences"] = json!([owner]);
        let pod: PodFacts = serde_json::from_value(pod).unwrap();
        assert_eq!(belongs(&pod, "notes-gate"), expected, "{owner}");
    }
}
