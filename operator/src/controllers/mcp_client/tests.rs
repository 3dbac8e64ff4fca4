//! Passes over an McpClient against a cluster and an authorization server in memory.

mod accounts;
mod closed;
mod documents;
mod dynamic;
mod existing;
mod held_back;
mod idle;
mod keys;
mod migration;
mod rotation;

use std::sync::Arc;

use mcp_auth_crds::v1alpha1::McpClient;
use serde_json::{Value, json};

use super::run;
use crate::{
    provider::{Holder, Mark},
    testing::{INSTALLATION, OPERATOR, Stage, stage},
};

const CLIENT: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpclients/agent";
const SECRET: &str = "/api/v1/namespaces/team/secrets/agent-mcp-client";
const ID: &str = "i.team.agent";

fn journal_path() -> String {
    format!("/api/v1/namespaces/{OPERATOR}/secrets/mcpclient.team.agent")
}

fn mark(kind: &str, namespace: &str, name: &str) -> Mark {
    Mark {
        installation: INSTALLATION.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: "u".into(),
    }
}

fn client(annotations: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": {"namespace": "team", "name": "agent", "uid": "u", "generation": 1, "annotations": annotations},
        "spec": {
            "authorizationServerRef": {"namespace": "platform", "name": "main"},
            "managed": {"grantTypes": ["client_credentials"]},
            "access": [{"server": {"name": "orders"}}],
        },
    })
}

async fn at_work() -> Stage {
    at_work_beside(&[]).await
}

/// With more objects in the cluster.
async fn at_work_beside(more: &[Value]) -> Stage {
    let grants = json!([{"namespaces": {"from": "All"}, "clients": {}}]);
    let objects = [
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main", "uid": "as"},
            "spec": {"issuer": "https://as.example/realms/r", "keycloak": {"realm": "r"},
                     "credentials": {"secretRef": {"name": "c"}}, "grants": grants},
        }),
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team", "name": "orders", "uid": "s"},
            "spec": {"authorizationServerRef": {"namespace": "platform", "name": "main"},
                     "resource": "https://orders.example/mcp", "enforcement": {"mode": "External"},
                     "scopes": [{"name": "orders:read"}]},
        }),
        client(&json!({})),
    ];
    let stage = stage(&[&objects, more].concat()).await;
    stage
        .server
        .put_scope("orders:read", Holder::Marked(mark("McpServer", "team", "orders")));
    stage
}

impl Stage {
    /// One pass over the client as it is stored. Whether it ended well.
    async fn pass(&self) -> bool {
        let Some(stored) = self.cluster.get(CLIENT) else {
            return true;
        };
        let client: McpClient = serde_json::from_value(stored).unwrap();
        run(Arc::new(client), Arc::clone(&self.ctx)).await.is_ok()
    }

    /// Passes until nothing is written any more.
    async fn settle(&self) {
        for _ in 0..10 {
            self.writes.live();
            if self.pass().await && self.writes.made() == 0 {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn value(&self, path: &str, key: &str) -> Option<String> {
        let data = self.cluster.get(path)?["data"][key].as_str()?.to_owned();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    fn ready(&self) -> (String, String) {
        let status = self.cluster.get(CLIENT).unwrap()["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|c| c["type"] == "Ready")
            .cloned()
            .unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&ready["status"]), text(&ready["reason"]))
    }

    /// What must hold whenever nothing is left to do.
    fn check(&self) {
        let clients = self.server.clients();
        assert_eq!(clients.len(), 1, "one client: {:?}", clients.keys());
        let secret = self.value(SECRET, "client-secret").unwrap();
        assert_eq!(clients[ID].secret, secret, "the workload's credential works");
        assert_eq!(self.value(&journal_path(), "current").unwrap(), secret);
        assert_eq!(self.value(&journal_path(), "pending"), None);
        assert_eq!(self.ready(), ("True".into(), "Ready".into()));
    }
}

#[tokio::test]
async fn a_client_turns_ready_only_after_its_proof_and_then_rests() {
    let stage = at_work().await;
    stage.settle().await;
    stage.check();
    assert_eq!(stage.server.proofs(), [ID], "proved once");
    assert_eq!(stage.value(SECRET, "scope").as_deref(), Some("orders:read"));
    assert_eq!(
        stage.value(SECRET, "resource").as_deref(),
        Some("https://orders.example/mcp")
    );
}

/// Killed at every write in turn, of creation and of a rotation on request: afterwards there is one client, one
/// working credential, and at most one rotation.
#[tokio::test]
async fn killed_at_any_write_it_converges() {
    let mut points = 0;
    for rotates in [false, true] {
        for death in 0.. {
            let stage = at_work().await;
            if rotates {
                stage.settle().await;
                let before = stage.value(SECRET, "client-secret");
                stage.cluster.put(merged(stage.cluster.get(CLIENT).unwrap()));
                stage.writes.die_after(death);
                let lived = stage.pass().await;
                stage.settle().await;
                stage.check();
                assert_ne!(
                    stage.value(SECRET, "client-secret"),
                    before,
                    "rotated, death at {death}"
                );
                assert_eq!(
                    stage.value(&journal_path(), "handled-request").as_deref(),
                    Some("now")
                );
                let after = stage.value(SECRET, "client-secret");
                stage.settle().await;
                assert_eq!(stage.value(SECRET, "client-secret"), after, "rotated once");
                if lived {
                    break;
                }
            } else {
                stage.writes.die_after(death);
                let lived = stage.pass().await;
                stage.settle().await;
                stage.check();
                assert_eq!(stage.server.clients()[ID].created, 1, "death at {death}");
                if lived {
                    break;
                }
            }
            points += 1;
        }
    }
    assert!(points >= 8, "only {points} points of death were found");
}

fn merged(mut client: Value) -> Value {
    client["metadata"]["annotations"] = json!({"mcpauth.dev/rotate-requested-at": "now"});
    client
}

#[tokio::test]
async fn what_was_lost_comes_back_with_the_same_credential() {
    let stage = at_work().await;
    stage.settle().await;
    let secret = stage.value(SECRET, "client-secret");
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
        stage.check();
        assert_eq!(stage.value(SECRET, "client-secret"), secret, "{loss}");
    }
}

#[tokio::test]
async fn a_secret_that_another_replica_wrote_meanwhile_is_not_overwritten() {
    let stage = at_work().await;
    stage.settle().await;
    stage.cluster.put(merged(stage.cluster.get(CLIENT).unwrap()));
    let mut theirs = stage.cluster.get(SECRET).unwrap();
    theirs["data"]["client-secret"] = json!("bmV3ZXI=");
    stage.cluster.put_once_read(theirs);
    assert!(!stage.pass().await, "it looks again");
    assert_eq!(stage.value(SECRET, "client-secret").as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_never_overwritten() {
    let stage = at_work().await;
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "agent-mcp-client"},
        "data": {"password": "aHVudGVyMg=="}});
    stage.cluster.put(theirs);
    stage.settle().await;
    assert_eq!(stage.ready(), ("False".into(), "SecretNotOwned".into()));
    assert_eq!(stage.value(SECRET, "password").as_deref(), Some("hunter2"));
    assert_eq!(stage.value(SECRET, "client-secret"), None);
}

#[tokio::test]
async fn a_client_of_somebody_else_is_never_touched() {
    for holder in [
        None,
        Some(mark("McpClient", "victim", "agent")),
        Some(Mark {
            installation: "other".into(),
            ..mark("McpClient", "team", "agent")
        }),
    ] {
        let stage = at_work().await;
        let theirs = crate::testing::FakeClient {
            mark: holder.clone(),
            secret: "theirs".into(),
            previous: None,
            spec: "theirs".into(),
            scopes: [].into(),
            enabled: true,
            created: 0,
        };
        stage.server.put_client(ID, theirs);
        stage.settle().await;
        assert_eq!(stage.ready().0, "False", "{holder:?}");
        assert_eq!(stage.server.clients()[ID].spec, "theirs");
        assert!(stage.cluster.get(SECRET).is_none() && stage.cluster.get(&journal_path()).is_none());
    }
}

#[tokio::test]
async fn a_deleted_client_leaves_nothing_behind() {
    for death in 0..6 {
        let stage = at_work().await;
        stage.settle().await;
        let mut client = stage.cluster.get(CLIENT).unwrap();
        client["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        stage.cluster.put(client);
        stage.writes.die_after(death);
        stage.pass().await;
        stage.writes.live();
        stage.pass().await;
        assert!(stage.server.clients().is_empty(), "death at {death}");
        assert!(stage.cluster.get(&journal_path()).is_none(), "death at {death}");
        assert_eq!(
            stage.cluster.get(CLIENT).unwrap()["metadata"]["finalizers"],
            json!([]),
            "death at {death}"
        );
    }
}

#[tokio::test]
async fn a_credential_that_reached_its_age_is_replaced() {
    let stage = at_work().await;
    let mut aging = stage.cluster.get(CLIENT).unwrap();
    aging["spec"]["rotation"] = json!({"interval": "1h"});
    stage.cluster.put(aging);
    stage.settle().await;
    let first = stage.value(SECRET, "client-secret");
    stage.clock.advance(std::time::Duration::from_mins(59));
    stage.settle().await;
    assert_eq!(stage.value(SECRET, "client-secret"), first);
    stage.clock.advance(std::time::Duration::from_mins(2));
    stage.settle().await;
    stage.check();
    assert_ne!(stage.value(SECRET, "client-secret"), first);
}
