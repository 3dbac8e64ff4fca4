//! Clients that authenticate with a private key.

use super::*;
use crate::provider::{Credential, key::PrivateKey};

const HOUR: std::time::Duration = std::time::Duration::from_hours(1);

async fn by_key() -> Stage {
    let stage = at_work().await;
    stage.authenticate("PrivateKeyJwt");
    stage
}

impl Stage {
    fn authenticate(&self, method: &str) {
        let mut client = self.cluster.get(CLIENT).unwrap();
        client["spec"]["managed"]["authentication"] = json!({"method": method});
        self.cluster.put(client);
    }

    fn key(&self) -> Option<String> {
        self.value(SECRET, "client-key.pem")
    }

    fn phase(&self) -> Value {
        self.cluster.get(CLIENT).unwrap()["status"]["rotation"]["phase"].clone()
    }

    /// What must hold whenever nothing is left to do. Gives the key.
    fn check_key(&self) -> String {
        let pem = self.key().unwrap();
        let key = PrivateKey::of(&Credential::new(pem.clone())).unwrap();
        assert_eq!(self.value(SECRET, "client-key.jwk"), Some(key.jwk()));
        assert_eq!(self.value(SECRET, "key-id"), Some(key.id()));
        assert_eq!(self.value(SECRET, "client-secret"), None);
        assert_eq!(self.server.clients()[ID].secret, pem);
        assert_eq!(self.value(&journal_path(), "current").as_ref(), Some(&pem));
        assert_eq!(self.value(&journal_path(), "pending"), None);
        assert_eq!(self.ready(), ("True".into(), "Ready".into()));
        pem
    }
}

fn requests(stage: &Stage, annotation: &str) {
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["metadata"]["annotations"][annotation] = json!("now");
    stage.cluster.put(client);
}

/// Creation, a change to a key and back, each killed at every write.
#[tokio::test]
async fn killed_at_any_write_it_converges() {
    let mut points = 0;
    for (from, to) in [
        (None, "PrivateKeyJwt"),
        (Some("ClientSecret"), "PrivateKeyJwt"),
        (Some("PrivateKeyJwt"), "ClientSecret"),
    ] {
        for death in 0.. {
            let stage = at_work().await;
            if let Some(from) = from {
                stage.authenticate(from);
                stage.settle().await;
            }
            let before = stage.server.clients().get(ID).map(|client| client.secret.clone());
            stage.authenticate(to);
            stage.writes.die_after(death);
            let lived = stage.pass().await;
            stage.settle().await;
            if to == "PrivateKeyJwt" {
                stage.check_key();
            } else {
                stage.check();
                assert_eq!(stage.key(), None);
            }
            let client = stage.server.clients()[ID].clone();
            assert_ne!(Some(client.secret), before, "death at {death}");
            assert_eq!(client.previous, None, "nothing of another kind stays valid");
            assert_eq!(client.created, 1);
            if lived {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 12, "only {points} points of death were found");
}

#[tokio::test]
async fn the_old_key_is_accepted_until_the_overlap_is_over() {
    let stage = by_key().await;
    stage.settle().await;
    let first = stage.check_key();
    let status = stage.cluster.get(CLIENT).unwrap()["status"].clone();
    assert_eq!(
        status["rotation"]["overlap"], "Supported",
        "it needs no capability"
    );
    requests(&stage, "mcpauth.dev/rotate-requested-at");
    stage.settle().await;
    let second = stage.check_key();
    assert_ne!(first, second);
    assert_eq!(stage.phase(), "Overlapping");
    let previous = stage.server.clients()[ID].previous.clone();
    assert_eq!(previous.map(|(key, _)| key), Some(first));
    stage.clock.advance(HOUR);
    stage.settle().await;
    assert_eq!(stage.server.clients()[ID].previous, None, "it is taken out");
    assert_eq!(stage.phase(), "Settled");

    requests(&stage, "mcpauth.dev/revoke-requested-at");
    stage.settle().await;
    assert_ne!(stage.check_key(), second);
    assert_eq!(
        stage.server.clients()[ID].previous,
        None,
        "a revocation leaves none"
    );
}

#[tokio::test]
async fn what_was_lost_comes_back_with_the_same_key() {
    let stage = by_key().await;
    stage.settle().await;
    let key = stage.check_key();
    for loss in ["secret", "client", "journal", "changed at the server"] {
        match loss {
            "secret" => stage.cluster.remove(SECRET),
            "client" => stage.server.remove_client(ID),
            "journal" => stage.cluster.remove(&journal_path()),
            _ => {
                let mut client = stage.server.clients()[ID].clone();
                client.secret = "somebody's".into();
                stage.server.put_client(ID, client);
            }
        }
        stage.settle().await;
        assert_eq!(stage.check_key(), key, "{loss}");
    }
}

/// The authorization server tells no private key, and what it does not accept is not taken from a Secret.
#[tokio::test]
async fn a_lost_private_key_is_a_rotation() {
    for loss in ["secret", "another key in the Secret"] {
        let stage = by_key().await;
        stage.settle().await;
        let key = stage.check_key();
        stage.cluster.remove(&journal_path());
        if loss == "secret" {
            stage.cluster.remove(SECRET);
        } else {
            let mut secret = stage.cluster.get(SECRET).unwrap();
            let other = crate::provider::key::make().unwrap();
            let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, other.expose());
            secret["data"]["client-key.pem"] = json!(encoded);
            stage.cluster.put(secret);
            stage.settle().await;
            assert_ne!(stage.check_key(), other.expose());
            continue;
        }
        stage.settle().await;
        assert_ne!(stage.check_key(), key, "{loss}");
    }
}

/// Paused, a client keeps its method, but what was revoked ends.
#[tokio::test]
async fn a_revocation_does_not_wait_for_a_change_of_method() {
    let stage = at_work().await;
    stage.settle().await;
    let first = stage.value(SECRET, "client-secret").unwrap();
    stage.authenticate("PrivateKeyJwt");
    requests(&stage, "mcpauth.dev/revoke-requested-at");
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["metadata"]["annotations"]["mcpauth.dev/reconcile"] = json!("paused");
    stage.cluster.put(client);
    stage.settle().await;
    assert_ne!(stage.server.clients()[ID].secret, first);
}
