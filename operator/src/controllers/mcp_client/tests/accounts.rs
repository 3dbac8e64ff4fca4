//! Clients that authenticate with tokens of a ServiceAccount.

use super::*;

const MAP: &str = "/api/v1/namespaces/team/configmaps/agent-mcp-client";
const HOME: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";

impl Stage {
    fn authenticate_by(&self, authentication: &Value) {
        let mut client = self.cluster.get(CLIENT).unwrap();
        client["spec"]["managed"]["authentication"] = authentication.clone();
        self.cluster.put(client);
    }

    /// The AuthorizationServer is to trust ServiceAccounts, and does or does not yet. The caches see it.
    async fn trust(&mut self, spec: Value, status: Value) {
        let mut home = self.cluster.get(HOME).unwrap();
        home["spec"]["keycloak"]["serviceAccountIssuer"] = spec;
        home["status"] = json!({"serviceAccountIssuer": status});
        self.cluster.put(home);
        self.restart().await;
    }

    /// What must hold whenever nothing is left to do.
    fn check_account(&self) {
        let clients = self.server.clients();
        assert!(clients[ID].spec.contains("system:serviceaccount:team:robot"));
        assert!(self.cluster.get(SECRET).is_none(), "there is nothing secret");
        for key in ["current", "pending"] {
            assert_eq!(self.value(&journal_path(), key), None, "{key}");
        }
        let map = self.cluster.get(MAP).unwrap();
        for (key, value) in [
            ("client-id", ID),
            ("issuer", "https://as.example/realms/r"),
            ("audience", "https://as.example/realms/r"),
            ("token-endpoint", "https://as.example/token"),
            ("scope", "orders:read"),
            ("resource", "https://orders.example/mcp"),
        ] {
            assert_eq!(map["data"][key], value, "{key}");
        }
        assert_eq!(self.ready(), ("True".into(), "Ready".into()));
        let status = self.cluster.get(CLIENT).unwrap()["status"].clone();
        assert_eq!(status["configMapName"], "agent-mcp-client");
        assert_eq!(status.get("secretName"), None);
        assert_eq!(status.get("rotation"), None);
        assert_eq!(self.condition("CredentialsReady").1, "ServiceAccountTrusted");
        let said = self.said_of("Ready", "message");
        assert!(said.contains("the workload proves them itself"), "{said}");
    }

    /// The status and the reason of a condition.
    fn condition(&self, type_: &str) -> (String, String) {
        (self.said_of(type_, "status"), self.said_of(type_, "reason"))
    }

    fn said_of(&self, type_: &str, field: &str) -> String {
        let status = self.cluster.get(CLIENT).unwrap()["status"].clone();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == type_);
        let text = found.and_then(|found| found[field].as_str());
        text.unwrap_or_default().to_owned()
    }
}

fn robot() -> Value {
    json!({"method": "ServiceAccountToken", "serviceAccount": {"name": "robot"}})
}

fn trusted() -> Value {
    json!({"identityProvider": "k", "trusted": true})
}

async fn by_account() -> Stage {
    let mut stage = at_work().await;
    stage.trust(json!({}), trusted()).await;
    stage.authenticate_by(&robot());
    stage
}

/// Creation, a change to a ServiceAccount and back, each killed at every write.
#[tokio::test]
async fn killed_at_any_write_it_converges() {
    let mut points = 0;
    let secret = json!({"method": "ClientSecret"});
    for (from, to) in [
        (None, robot()),
        (Some(secret.clone()), robot()),
        (Some(robot()), secret),
    ] {
        for death in 0.. {
            let stage = by_account().await;
            if let Some(from) = &from {
                stage.authenticate_by(from);
                stage.settle().await;
            }
            stage.authenticate_by(&to);
            stage.writes.die_after(death);
            let lived = stage.pass().await;
            stage.settle().await;
            if to == robot() {
                stage.check_account();
            } else {
                stage.check();
                assert!(stage.cluster.get(MAP).is_none(), "death at {death}");
            }
            assert_eq!(stage.server.clients()[ID].created, 1);
            if lived {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 10, "only {points} points of death were found");
}

#[tokio::test]
async fn nobody_trusts_an_account_unasked() {
    for (spec, status, reason, ready) in [
        (Value::Null, Value::Null, "ServiceAccountsNotTrusted", "False"),
        (Value::Null, trusted(), "ServiceAccountsNotTrusted", "False"),
        (json!({}), Value::Null, "ServiceAccountsNotReady", "Unknown"),
        (
            json!({}),
            json!({"identityProvider": "k", "trusted": false}),
            "ServiceAccountsNotReady",
            "Unknown",
        ),
    ] {
        let mut stage = by_account().await;
        stage.trust(spec, status).await;
        stage.settle().await;
        assert_eq!(stage.condition("Accepted"), (ready.into(), reason.into()));
        assert!(stage.server.clients().is_empty() && stage.cluster.get(MAP).is_none());
    }
}

#[tokio::test]
async fn what_is_taken_away_does_not_wait_for_trust() {
    let mut stage = by_account().await;
    stage.settle().await;
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["spec"]["access"] = json!([]);
    stage.cluster.put(client);
    let not_yet = json!({"identityProvider": "k", "trusted": false});
    stage.trust(json!({}), not_yet).await;
    stage.settle().await;
    assert_eq!(stage.condition("Accepted").1, "ServiceAccountsNotReady");
    assert!(stage.server.clients()[ID].scopes.is_empty());
}

/// What it is to have instead is not in force, and holds up nothing.
#[tokio::test]
async fn a_secret_is_revoked_also_while_an_account_is_not_trusted() {
    let stage = at_work().await;
    stage.settle().await;
    let first = stage.value(SECRET, "client-secret").unwrap();
    stage.authenticate_by(&robot());
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["metadata"]["annotations"]["mcpauth.dev/revoke-requested-at"] = json!("now");
    stage.cluster.put(client);
    stage.settle().await;
    assert_eq!(stage.condition("Accepted").1, "ServiceAccountsNotTrusted");
    let second = stage.value(SECRET, "client-secret").unwrap();
    assert_ne!(second, first);
    assert_eq!(stage.server.clients()[ID].secret, second);
}

#[tokio::test]
async fn an_account_that_an_older_client_takes_stands_for_nobody_else() {
    let mut stage = by_account().await;
    stage.settle().await;
    stage.check_account();
    let mut older = client(&json!({}));
    older["metadata"]["name"] = json!("a-first");
    older["spec"]["managed"]["authentication"] = robot();
    stage.cluster.put(older.clone());
    stage.restart().await;
    stage.settle().await;
    assert_eq!(
        stage.condition("Accepted"),
        ("False".into(), "ServiceAccountTaken".into())
    );
    let registered = stage.server.clients()[ID].clone();
    assert!(!registered.enabled && registered.scopes.is_empty());
    assert!(
        !registered.spec.contains("robot"),
        "tokens of the account do not find it"
    );

    older["spec"]["managed"]["authentication"] = json!({"method": "ClientSecret"});
    stage.cluster.put(older);
    stage.restart().await;
    stage.settle().await;
    stage.check_account();
    assert!(stage.server.clients()[ID].enabled);
}

#[tokio::test]
async fn a_map_of_somebody_else_is_never_overwritten() {
    let stage = by_account().await;
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "team", "name": "agent-mcp-client"}, "data": {"theirs": "1"}});
    stage.cluster.put(theirs.clone());
    stage.settle().await;
    assert_eq!(stage.ready(), ("False".into(), "ConfigMapNotOwned".into()));
    assert_eq!(stage.cluster.get(MAP).unwrap()["data"], theirs["data"]);
}

#[tokio::test]
async fn a_suspended_client_and_a_deleted_one_end_as_all_do() {
    let stage = by_account().await;
    stage.settle().await;
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["spec"]["suspended"] = json!(true);
    stage.cluster.put(client.clone());
    stage.settle().await;
    assert!(!stage.server.clients()[ID].enabled);
    assert_eq!(stage.ready(), ("False".into(), "Suspended".into()));
    client = stage.cluster.get(CLIENT).unwrap();
    client["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    stage.cluster.put(client);
    stage.pass().await;
    assert!(stage.server.clients().is_empty());
    assert_eq!(
        stage.cluster.get(CLIENT).unwrap()["metadata"]["finalizers"],
        json!([])
    );
}
