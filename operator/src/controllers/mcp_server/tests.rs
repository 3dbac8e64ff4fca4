//! Passes over an McpServer against a cluster and an authorization server in memory.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mcp_auth_crds::v1alpha1::McpServer;
use serde_json::{Value, json};

use super::run;
use crate::{
    provider::{Holder, Mark, Read},
    testing::{INSTALLATION, OPERATOR, Stage, exchanged, resource, stage},
};

mod gates;

const MAIN: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";
const NOTES: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpservers/notes";
const ORDERS: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/other/mcpservers/orders";
const POLICY: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/team/tokenexchangepolicies/orders";
const SECRET: &str = "/api/v1/namespaces/team/secrets/notes-mcp-auth";
/// Nobody answers there, and nobody is asked: an address of the operator's own machine.
const RESOURCE: &str = "https://127.0.0.1/notes";

fn journal() -> String {
    format!("/api/v1/namespaces/{OPERATOR}/secrets/mcpserver.team.notes")
}

fn mark(namespace: &str, name: &str) -> Mark {
    Mark {
        installation: INSTALLATION.into(),
        kind: "McpServer".into(),
        namespace: namespace.into(),
        name: name.into(),
        uid: "u".into(),
    }
}

fn server(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut server = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": namespace, "name": name, "uid": name, "generation": 1},
        "spec": {"authorizationServerRef": {"namespace": "platform", "name": "main"},
                 "resource": format!("https://127.0.0.1/{name}"), "enforcement": {"mode": "External"}},
    });
    let fields = server["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    server
}

fn policy() -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": {"namespace": "team", "name": "orders", "uid": "p", "finalizers": ["mcpauth.dev/cleanup"]},
        "spec": {"serverRef": {"name": "notes"}, "mcpServerRef": {"namespace": "other", "name": "orders"},
                 "scopes": [{"name": "orders:read"}], "delivery": "Secret"},
    })
}

/// The server `notes` of a team, and the server `orders` of another, which lets it exchange tokens for its own.
struct Team(Stage);

impl Team {
    async fn new(objects: &[Value]) -> Self {
        let grants =
            json!([{"namespaces": {"from": "All"}, "servers": {"hosts": ["*"], "scopePrefixes": [""]}}]);
        let mut all = vec![
            json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
                "metadata": {"namespace": "platform", "name": "main", "uid": "as"},
                "spec": {"issuer": "https://as.example/realms/r", "keycloak": {"realm": "r"},
                         "credentials": {"secretRef": {"name": "c"}}, "grants": grants},
            }),
            server(
                "other",
                "orders",
                &json!({"scopes": [{"name": "orders:read"}],
                "allowedClients": [{"namespaces": {"from": "All"}, "exchange": true}]}),
            ),
            server("team", "notes", &json!({"scopes": [{"name": "notes:read"}]})),
        ];
        all.extend_from_slice(objects);
        let team = Self(stage(&all).await);
        let server = &team.0.server;
        server.put_scope("orders:read", Holder::Marked(mark("other", "orders")));
        team
    }

    /// `notes` exchanges tokens for `orders`, and says so.
    async fn exchanging() -> Self {
        let team = Self::new(&[policy()]).await;
        team.settle().await;
        assert_eq!(team.exchanged(), ["orders:read".to_owned()].into());
        assert_eq!(team.status()["exchangeScopes"], json!(["orders:read"]));
        team
    }

    /// Changes an object as a user would.
    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.0.cluster.get(path).unwrap();
        change(&mut object);
        self.0.cluster.put(object);
    }

    /// `orders` does not let anybody exchange tokens any more. The caches know.
    async fn forbid(&mut self) {
        self.change(ORDERS, |orders| orders["spec"]["allowedClients"] = json!([]));
        self.0.restart().await;
    }

    /// One pass over the server as it is stored. Whether it ended well.
    async fn pass(&self) -> bool {
        let stored = self.0.cluster.get(NOTES).unwrap();
        let server: McpServer = serde_json::from_value(stored).unwrap();
        run(Arc::new(server), Arc::clone(&self.0.ctx)).await.is_ok()
    }

    /// Passes until nothing is written any more.
    async fn settle(&self) {
        for _ in 0..10 {
            self.0.writes.live();
            if self.pass().await && self.0.writes.made() == 0 {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn exchanged(&self) -> BTreeSet<String> {
        self.0
            .server
            .clients()
            .get(RESOURCE)
            .map(exchanged)
            .unwrap_or_default()
    }

    fn status(&self) -> Value {
        self.0.cluster.get(NOTES).unwrap()["status"].clone()
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == type_).unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }

    fn ready(&self) -> (String, String) {
        self.condition("Ready")
    }
}

/// What a server team can write to be refused, and the reason.
fn refusals() -> [(&'static str, Value, &'static str); 3] {
    [
        (
            "a spec that cannot be honoured",
            json!({"allowedClients": [{"selfRegistered": true}]}),
            "SelfRegistrationOff",
        ),
        (
            "a resource in another spelling",
            json!({"resource": "https://127.1/notes"}),
            "ResourceNotCanonical",
        ),
        (
            "a scope of another server",
            json!({"scopes": [{"name": "notes:read"}, {"name": "orders:read"}]}),
            "AlreadyHeld",
        ),
    ]
}

#[tokio::test]
async fn servers_that_come_at_once_are_made_from_one_list_of_scopes() {
    let team = Team::new(&[]).await;
    team.0.server.reads();
    assert!(team.pass().await);
    let reads = team.0.server.reads();
    let read_back = reads.iter().position(|(_, read)| *read == Read::Fresh).unwrap();
    let scopes = |reads: &[(&str, Read)]| {
        reads
            .iter()
            .rfind(|(what, _)| *what == "scopes")
            .map(|(_, read)| *read)
    };
    let written_on = scopes(&reads[..read_back]);
    assert_eq!(
        written_on,
        Some(Read::Within(Duration::from_secs(1))),
        "{reads:?}"
    );
    assert_ne!(scopes(&reads), Some(Read::Fresh), "one list does for all");
    assert!(team.pass().await);
    assert_eq!(team.0.server.fresh_reads(), [""; 0]);
    for scope in team.0.server.scopes() {
        team.0
            .server
            .put_scope(&scope, Holder::Unmarked { adopter: None });
    }
    team.pass().await;
    assert_eq!(
        team.0.server.fresh_reads(),
        [""; 0],
        "nothing is written of what others hold"
    );
}

#[tokio::test]
async fn no_refusal_keeps_a_right_that_was_taken_back() {
    for (what, spec, reason) in refusals() {
        if spec.get("resource").is_some() {
            continue;
        }
        for paused in [false, true] {
            let mut team = Team::exchanging().await;
            team.change(NOTES, |notes| {
                let fields = notes["spec"].as_object_mut().unwrap();
                fields.extend(spec.as_object().unwrap().clone());
                if paused {
                    notes["metadata"]["annotations"] = json!({"mcpauth.dev/reconcile": "paused"});
                }
            });
            team.settle().await;
            assert_eq!(team.ready(), ("False".into(), reason.into()), "{what}");
            assert_eq!(team.exchanged().len(), 1, "{what}: nothing was taken back yet");
            assert_eq!(team.status()["exchangeScopes"], json!(["orders:read"]), "{what}");
            team.forbid().await;
            team.settle().await;
            assert_eq!(team.ready(), ("False".into(), reason.into()), "{what}");
            assert_eq!(team.exchanged(), [].into(), "{what}");
            assert_eq!(team.status().get("exchangeScopes"), None, "{what}");
        }
    }
}

#[tokio::test]
async fn no_refusal_keeps_what_the_namespace_is_not_granted_any_more() {
    for (what, spec, _) in refusals() {
        let mut team = Team::exchanging().await;
        team.change(NOTES, |notes| {
            let fields = notes["spec"].as_object_mut().unwrap();
            fields.extend(spec.as_object().unwrap().clone());
            // Resources do not change: only another version of the operator can find one that it would not accept.
            notes["spec"]["resource"] = json!(RESOURCE);
        });
        team.change(MAIN, |main| main["spec"]["grants"] = json!([]));
        team.0.restart().await;
        team.settle().await;
        assert_eq!(
            team.ready(),
            ("False".into(), "NamespaceNotGranted".into()),
            "{what}"
        );
        assert_eq!(team.exchanged(), [].into(), "{what}");
    }
}

#[tokio::test]
async fn a_new_server_that_is_refused_changes_nothing() {
    for (what, spec, reason) in refusals() {
        let team = Team::new(&[policy()]).await;
        // What another incarnation of it left, or an administrator made for it.
        team.0
            .server
            .put_client(RESOURCE, resource(Some(mark("team", "notes")), &["profile"]));
        team.change(NOTES, |notes| {
            let fields = notes["spec"].as_object_mut().unwrap();
            fields.extend(spec.as_object().unwrap().clone());
        });
        team.settle().await;
        assert_eq!(team.ready(), ("False".into(), reason.into()), "{what}");
        assert_eq!(team.exchanged(), ["profile".to_owned()].into(), "{what}");
    }
}

#[tokio::test]
async fn a_resource_that_somebody_else_holds_is_never_written() {
    let mut team = Team::exchanging().await;
    let theirs = resource(Some(mark("victim", "notes")), &["orders:read"]);
    team.0.server.put_client(RESOURCE, theirs);
    team.forbid().await;
    team.settle().await;
    assert_eq!(team.ready(), ("False".into(), "AlreadyHeld".into()));
    assert_eq!(team.exchanged(), ["orders:read".to_owned()].into());
    assert_eq!(
        team.status().get("exchangeScopes"),
        None,
        "it is not this server that can exchange"
    );
}

#[tokio::test]
async fn a_start_forgets_no_answer_without_a_token() {
    let mut team = Team::new(&[]).await;
    team.settle().await;
    assert_eq!(team.ready(), ("True".into(), "Ready".into()));
    team.change(NOTES, |notes| {
        let conditions = notes["status"]["conditions"].as_array_mut().unwrap();
        let enforced = conditions.iter_mut().find(|c| c["type"] == "Enforced").unwrap();
        enforced["status"] = json!("False");
        enforced["reason"] = json!("AnswersWithoutToken");
    });
    let served = ("False".to_owned(), "AnswersWithoutToken".to_owned());
    team.0.restart().await;
    // The first pass stops early, and the next ones get no answer.
    for (clients, ready) in [
        (
            json!([{"selfRegistered": true}]),
            ("False".to_owned(), "SelfRegistrationOff".to_owned()),
        ),
        (json!([]), served),
    ] {
        team.change(NOTES, |notes| notes["spec"]["allowedClients"] = clients);
        team.settle().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        team.settle().await;
        assert_eq!(team.ready(), ready);
    }
}

/// Killed at every write in turn while it gets credentials of its own, and then no policy needs them any more.
#[tokio::test]
async fn credentials_that_are_not_needed_go_wherever_it_was_killed() {
    for death in 0.. {
        let mut team = Team::new(&[policy()]).await;
        team.0.writes.die_after(death);
        let lived = team.pass().await;
        let made = team.0.cluster.get(SECRET).is_some();
        assert!(made || !lived, "death at {death}");
        team.0.cluster.remove(POLICY);
        team.0.restart().await;
        team.settle().await;
        assert!(team.0.cluster.get(SECRET).is_none(), "death at {death}");
        assert!(team.0.cluster.get(&journal()).is_none(), "death at {death}");
        assert_eq!(team.exchanged(), [].into(), "death at {death}");
        assert_eq!(team.ready(), ("True".into(), "Ready".into()));
        if lived {
            assert!(death >= 6, "only {death} points of death were found");
            return;
        }
    }
}

#[tokio::test]
async fn a_secret_of_somebody_else_stays() {
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "notes-mcp-auth"},
        "data": {"password": "aHVudGVyMg=="}});
    for objects in [vec![theirs.clone()], vec![theirs.clone(), policy()]] {
        let mut team = Team::new(&objects).await;
        team.settle().await;
        team.0.cluster.remove(POLICY);
        team.0.restart().await;
        team.settle().await;
        let left = team.0.cluster.get(SECRET).unwrap();
        assert_eq!(left["data"], theirs["data"]);
        assert_eq!(team.ready(), ("True".into(), "Ready".into()));
    }
}

#[tokio::test]
async fn a_pass_with_nothing_to_do_reads_nothing_of_the_cluster() {
    for exchanges in [false, true] {
        let mut team = if exchanges {
            Team::exchanging().await
        } else {
            Team::new(&[]).await
        };
        team.settle().await;
        team.0.restart().await;
        assert!(team.pass().await);
        team.0.cluster.reads();
        assert!(team.pass().await);
        assert_eq!(team.0.cluster.reads(), [""; 0], "exchanges: {exchanges}");
        let map = "/api/v1/namespaces/team/configmaps/notes-mcp-auth";
        let before = team.0.cluster.get(map).unwrap();
        team.change(map, |map| {
            map["data"]["MCP_AUTH_ISSUER"] = json!("https://evil.example");
        });
        team.0.see().await;
        team.settle().await;
        assert_eq!(team.0.cluster.get(map).unwrap()["data"], before["data"]);
    }
}
