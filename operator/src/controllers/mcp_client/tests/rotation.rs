//! Rotation of a client's credential, with and without overlap.

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    connections::Connection,
    provider::{Access, Capability},
};

const HOUR: Duration = Duration::from_hours(1);

/// Lets two secrets of a client be valid at the server.
fn let_overlap(stage: &Stage) {
    let connection = stage.ctx.connections.get("platform", "main").unwrap();
    let access = Access {
        capabilities: [Capability::SecretOverlap].into(),
        ..Access::default()
    };
    let connection = Connection {
        server: connection.server.clone(),
        side: connection.side.clone(),
        metadata: connection.metadata.clone(),
        discovered: connection.discovered.clone(),
        access,
        ca_bundle: None,
        made_from: String::new(),
        checked: Mutex::new(stage.ctx.clock.instant()),
    };
    stage
        .ctx
        .connections
        .set("platform", "main", Arc::new(connection));
}

async fn with_overlap() -> Stage {
    let stage = at_work().await;
    let_overlap(&stage);
    stage.settle().await;
    stage
}

impl Stage {
    fn annotate(&self, annotations: &Value) {
        let mut client = self.cluster.get(CLIENT).unwrap();
        for (name, value) in annotations.as_object().unwrap() {
            client["metadata"]["annotations"][name] = value.clone();
        }
        self.cluster.put(client);
    }

    fn status(&self) -> Value {
        self.cluster.get(CLIENT).unwrap()["status"].clone()
    }

    fn secret(&self) -> String {
        self.value(SECRET, "client-secret").unwrap()
    }

    /// Whether the server accepts this secret of the client.
    fn accepts(&self, secret: &str) -> bool {
        let client = self.server.clients()[ID].clone();
        let now = self.ctx.now().as_second();
        client.secret == secret
            || client
                .previous
                .is_some_and(|(old, until)| old == secret && now < until)
    }
}

fn rotate(value: &str) -> Value {
    json!({"mcpauth.dev/rotate-requested-at": value})
}

fn revoke(value: &str) -> Value {
    json!({"mcpauth.dev/revoke-requested-at": value})
}

#[tokio::test]
async fn the_old_secret_is_valid_until_the_overlap_is_over() {
    let stage = with_overlap().await;
    let first = stage.secret();
    assert_eq!(stage.status()["rotation"]["phase"], "Settled");
    stage.annotate(&rotate("1"));
    stage.settle().await;
    stage.check();
    let second = stage.secret();
    assert_ne!(first, second);
    let rotation = stage.status()["rotation"].clone();
    assert_eq!(
        (&rotation["phase"], &rotation["overlap"]),
        (&json!("Overlapping"), &json!("Supported"))
    );
    let until = (stage.ctx.now() + k8s_openapi::jiff::SignedDuration::from_hours(1)).as_second();
    assert_eq!(
        stage.server.clients()[ID].previous,
        Some((first.clone(), until)),
        "an hour, not the 30 days of one that is not proved"
    );
    assert!(stage.accepts(&first) && stage.accepts(&second));

    // Another request waits.
    stage.annotate(&rotate("2"));
    stage.settle().await;
    assert_eq!(stage.secret(), second);
    assert_eq!(stage.status()["lastHandledRotateRequest"], "1");

    stage.clock.advance(HOUR);
    stage.settle().await;
    stage.check();
    assert_ne!(stage.secret(), second);
    assert_eq!(stage.status()["lastHandledRotateRequest"], "2");
    assert!(!stage.accepts(&first) && stage.accepts(&second));
    stage.clock.advance(HOUR);
    stage.settle().await;
    assert_eq!(
        stage.server.clients()[ID].previous,
        None,
        "it is taken out, not only over"
    );
    assert_eq!(stage.status()["rotation"]["phase"], "Settled");
    assert_eq!(stage.value(&journal_path(), "previous"), None);
}

/// That the old one is to end sooner, and then has ended, says nothing new of the new one.
#[tokio::test]
async fn a_credential_is_proved_once_however_often_the_old_one_is_written() {
    let stage = with_overlap().await;
    let before = stage.server.proofs().len();
    stage.annotate(&rotate("1"));
    stage.settle().await;
    assert_eq!(stage.server.proofs().len(), before + 1);
    stage.clock.advance(HOUR);
    stage.settle().await;
    assert_eq!(stage.server.clients()[ID].previous, None);
    assert_eq!(stage.server.proofs().len(), before + 1);

    let mut changed = stage.server.clients()[ID].clone();
    changed.spec = "somebody else's idea".to_owned();
    stage.server.put_client(ID, changed);
    stage.settle().await;
    assert_eq!(
        stage.server.proofs().len(),
        before + 2,
        "after drift it is proved again"
    );
}

/// The workload is not left with a secret that is not valid any more.
#[tokio::test]
async fn a_server_that_throws_the_old_secret_away_does_not_keep_the_new_one_from_the_workload() {
    let stage = with_overlap().await;
    stage.server.drop_previous();
    let first = stage.secret();
    stage.annotate(&rotate("now"));
    stage.settle().await;
    stage.check();
    assert_ne!(stage.secret(), first);
    let status = stage.status();
    assert_eq!(
        status["rotation"]["phase"], "Settled",
        "only one is valid, and the status says so"
    );
    assert_eq!(status["lastHandledRotateRequest"], "now");
}

/// Killed at every write of a rotation, and left alone for two days: what the Secret holds is accepted at all times, and
/// so is what it held an hour ago.
#[tokio::test]
async fn killed_at_any_write_nobody_is_refused() {
    let mut points = 0;
    for death in 0.. {
        let stage = with_overlap().await;
        let first = stage.secret();
        stage.annotate(&rotate("now"));
        stage.writes.die_after(death);
        stage.pass().await;
        assert!(stage.accepts(&stage.secret()), "death at {death}");
        let current = stage.value(&journal_path(), "current");
        let was_proved = current.is_some_and(|current| current != first);
        stage.clock.advance(48 * HOUR);
        assert!(stage.accepts(&stage.secret()), "two days after death at {death}");
        stage.settle().await;
        stage.check();
        assert_ne!(stage.secret(), first);
        // Where it was not proved before, a workload may have read the first one until just now.
        assert_eq!(stage.accepts(&first), !was_proved, "death at {death}");
        if was_proved {
            break;
        }
        points += 1;
    }
    assert!(points >= 4, "only {points} points of death were found");
}

#[tokio::test]
async fn a_revocation_ends_all_that_was_valid_and_answers_a_request_that_waited() {
    let stage = with_overlap().await;
    let first = stage.secret();
    stage.annotate(&rotate("1"));
    stage.settle().await;
    let second = stage.secret();
    stage.annotate(&rotate("2"));
    stage.annotate(&revoke("leaked"));
    stage.settle().await;
    stage.check();
    assert!(!stage.accepts(&first) && !stage.accepts(&second));
    let status = stage.status();
    assert_eq!(status["lastHandledRevokeRequest"], "leaked");
    assert_eq!(status["lastHandledRotateRequest"], "2");
    assert_eq!(status["rotation"]["phase"], "Settled");
    let third = stage.secret();
    stage.settle().await;
    assert_eq!(stage.secret(), third, "once");
}

/// Neither a pause, nor an access that cannot be given, nor a window that is none.
#[tokio::test]
async fn a_revocation_waits_for_nothing() {
    for obstacle in ["paused", "window"] {
        for death in 0.. {
            let stage = with_overlap().await;
            let first = stage.secret();
            if obstacle == "paused" {
                stage.annotate(&json!({"mcpauth.dev/reconcile": "paused"}));
            } else {
                let mut client = stage.cluster.get(CLIENT).unwrap();
                let window = json!({"schedule": "0 2 30 2 *", "duration": "1h"});
                client["spec"]["rotation"] = json!({"interval": "1h", "window": window});
                stage.cluster.put(client);
            }
            stage.annotate(&revoke("leaked"));
            stage.writes.die_after(death);
            let lived = stage.pass().await && stage.writes.made() < death;
            stage.settle().await;
            let now = stage.secret();
            assert!(
                now != first && stage.accepts(&now) && !stage.accepts(&first),
                "{obstacle}, death at {death}"
            );
            assert_eq!(stage.status()["lastHandledRevokeRequest"], "leaked", "{obstacle}");
            assert_eq!(stage.value(&journal_path(), "pending"), None);
            stage.settle().await;
            assert_eq!(stage.secret(), now, "once");
            if lived {
                break;
            }
        }
    }
}

/// A thousand clients of one age are replaced one after another.
#[tokio::test]
async fn what_is_due_waits_for_its_turn() {
    let stage = at_work().await;
    let mut aging = stage.cluster.get(CLIENT).unwrap();
    aging["spec"]["rotation"] = json!({"interval": "1h"});
    stage.cluster.put(aging);
    stage.settle().await;
    let first = stage.secret();
    stage.clock.advance(HOUR);
    let (spacing, now) = (stage.ctx.config.rotation_spacing, stage.ctx.clock.instant());
    stage.ctx.pace.take("realm", spacing, now).unwrap();
    stage.settle().await;
    assert_eq!(
        stage.secret(),
        first,
        "another one of the realm was replaced just now"
    );
    stage.annotate(&rotate("now"));
    stage.settle().await;
    assert_ne!(stage.secret(), first, "what is asked for does not wait");
}
