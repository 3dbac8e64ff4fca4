//! Clients that somebody else registers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CLIENT, at_work, mark};
use crate::{
    provider::Mark,
    testing::{FakeClient, Stage},
};

const THEIRS: &str = "/api/v1/namespaces/team/secrets/theirs";

fn existing(more: &Value) -> Value {
    let mut client = super::client(&json!({}));
    let spec = client["spec"].as_object_mut().unwrap();
    spec.remove("managed");
    spec.insert(
        "existing".into(),
        json!({"secretRef": {"name": "theirs", "keys": {"client-id": "ID"}}, "grantTypes": ["client_credentials"]}),
    );
    spec.extend(more.as_object().unwrap().clone());
    client
}

fn secret(id: &str, secret: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let encode = |text: &str| STANDARD.encode(text);
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "theirs", "uid": "t"},
        "data": {"ID": encode(id), "client-secret": encode(&format!("{secret}\n"))}})
}

fn registered(mark: Option<Mark>, scopes: &[&str]) -> FakeClient {
    FakeClient {
        mark,
        secret: "works".into(),
        previous: None,
        spec: "theirs".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        enabled: true,
        created: 0,
    }
}

/// A client of somebody else, with its Secret, and registered with these scopes.
async fn at_hand(more: &Value, scopes: &[&str]) -> Stage {
    let stage = at_work().await;
    stage.cluster.put(existing(more));
    stage.cluster.put(secret("app", "works"));
    stage.server.put_client("app", registered(None, scopes));
    stage
}

impl Stage {
    /// Passes until nothing is written. Gives the conditions as `type=status reason`, without Ready's companions.
    pub(super) async fn said(&self) -> Vec<String> {
        self.settle().await;
        let status = &self.cluster.get(CLIENT).unwrap()["status"];
        let conditions = status["conditions"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shown = conditions
            .iter()
            .filter(|c| c["type"] != "Stalled" && c["type"] != "Reconciling");
        shown
            .map(|c| {
                format!(
                    "{}={} {}",
                    text(&c["type"]),
                    text(&c["status"]),
                    text(&c["reason"])
                )
            })
            .collect()
    }

    pub(super) async fn is_said(&self, expected: &str) {
        let said = self.said().await;
        assert!(said.iter().any(|one| one == expected), "{expected}: {said:?}");
    }

    fn client_id(&self) -> Option<String> {
        let client = self.cluster.get(CLIENT).unwrap();
        client["status"]["clientId"].as_str().map(str::to_owned)
    }

    /// Nothing but the status was written, ever.
    fn touched_nothing(&self) {
        let client = self.cluster.get(CLIENT).unwrap();
        assert_eq!(client["metadata"]["finalizers"], Value::Null);
        assert!(self.cluster.get(super::SECRET).is_none());
        assert!(self.cluster.get(&super::journal_path()).is_none());
        let clients = self.server.clients();
        assert!(clients.values().all(|client| client.spec == "theirs"));
    }
}

#[tokio::test]
async fn it_is_proved_once_and_nothing_is_written() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    let said = stage.said().await;
    assert_eq!(
        said,
        [
            "Ready=True Ready",
            "Accepted=True Accepted",
            "Registered=True NotManaged",
            "AccessGranted=True Granted",
            "CredentialsReady=True Proved",
        ]
    );
    for _ in 0..3 {
        stage.settle().await;
    }
    assert_eq!(stage.server.proofs(), ["app"], "once per Secret");
    assert_eq!(stage.client_id().as_deref(), Some("app"));
    stage.touched_nothing();
}

/// As of an operator that starts.
#[tokio::test]
async fn what_was_proved_is_not_asked_again_after_the_server_was_away() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    stage.settle().await;
    let connection = stage.ctx.connections.get("platform", "main").unwrap();
    stage.ctx.connections.remove("platform", "main");
    stage.is_said("Ready=Unknown AuthorizationServerNotReady").await;
    stage.is_said("AccessGranted=True Granted").await;
    assert_eq!(stage.client_id().as_deref(), Some("app"));
    stage.ctx.connections.set("platform", "main", connection);
    stage.is_said("Ready=True Ready").await;
    assert_eq!(stage.server.proofs(), ["app"]);

    // Unless something is another meanwhile.
    stage.ctx.connections.remove("platform", "main");
    stage.cluster.put(secret("app", "works"));
    stage.is_said("AccessGranted=Unknown Waiting").await;
}

/// The same Secret, of which other keys are read.
#[tokio::test]
async fn another_key_is_another_credential() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    stage.settle().await;
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["spec"]["existing"]["secretRef"]["keys"]["client-secret"] = json!("ID");
    stage.cluster.put(client);
    stage.is_said("CredentialsReady=False CredentialRefused").await;
    assert_eq!(stage.client_id(), None);
}

#[tokio::test]
async fn it_waits_for_its_secret_and_for_its_registration() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    stage.cluster.remove(THEIRS);
    stage.is_said("CredentialsReady=Unknown SecretNotFound").await;
    stage.is_said("Accepted=True Accepted").await;
    let mut half = secret("app", "works");
    half["data"].as_object_mut().unwrap().remove("client-secret");
    stage.cluster.put(half);
    stage.is_said("CredentialsReady=Unknown SecretIncomplete").await;
    stage.cluster.put(secret("app of theirs", "works"));
    stage.is_said("CredentialsReady=Unknown SecretIncomplete").await;
    stage.server.remove_client("app");
    stage.cluster.put(secret("app", "works"));
    stage.is_said("Registered=Unknown ClientNotFound").await;
    assert_eq!(stage.server.proofs(), [""; 0], "there was nothing to ask");
    stage.server.put_client("app", registered(None, &["orders:read"]));
    stage.is_said("Ready=True Ready").await;
    stage.touched_nothing();
}

#[tokio::test]
async fn it_speaks_for_a_client_only_while_its_secret_is_right() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    stage.cluster.put(secret("app", "wrong"));
    stage.is_said("CredentialsReady=False CredentialRefused").await;
    assert_eq!(stage.client_id(), None);
    stage.cluster.put(secret("app", "works"));
    stage.is_said("Ready=True Ready").await;
    assert_eq!(stage.client_id().as_deref(), Some("app"));

    // Rotated from outside: first there, then in the Secret.
    let mut rotated = registered(None, &["orders:read"]);
    rotated.secret = "new".into();
    stage.server.put_client("app", rotated);
    stage.is_said("CredentialsReady=False CredentialRefused").await;
    assert_eq!(stage.client_id(), None);
    stage.cluster.put(secret("app", "new"));
    stage.is_said("Ready=True Ready").await;

    // While AuthorizationServers cannot be asked, the old answer is none about another Secret.
    stage.cluster.put(secret("victim", "new"));
    stage.ctx.connections.remove("platform", "main");
    stage.settle().await;
    assert_eq!(stage.client_id(), None);
    stage.touched_nothing();
}

#[tokio::test]
async fn what_is_not_assigned_is_told_and_looked_at_again() {
    let stage = at_hand(&json!({}), &[]).await;
    stage.is_said("AccessGranted=False NotAssigned").await;
    stage.is_said("CredentialsReady=True Proved").await;
    assert_eq!(stage.client_id().as_deref(), Some("app"));
    stage.server.put_client("app", registered(None, &["orders:read"]));
    stage.is_said("AccessGranted=False NotAssigned").await;
    stage.clock.advance(Duration::from_mins(1));
    stage.is_said("Ready=True Ready").await;

    let code = json!({"secretRef": {"name": "theirs", "keys": {"client-id": "ID"}},
        "grantTypes": ["authorization_code"], "redirectUri": "https://app.example/callback"});
    let stage = at_hand(&json!({"existing": code}), &[]).await;
    stage.is_said("AccessGranted=Unknown NotManaged").await;
    stage.is_said("Ready=True Ready").await;
    let more = json!({"access": [{"server": {"name": "orders"}, "scopes": ["orders:write"]}]});
    let stage = at_hand(&more, &[]).await;
    stage.is_said("AccessGranted=False ScopesRefused").await;
}

/// Whatever wakes the operator: each question is a sign-in that fails, and somebody may count those.
#[tokio::test]
async fn what_is_refused_is_asked_once_and_then_ever_less_often() {
    for (wrong, scopes, refusal) in [
        (
            "wrong",
            &["orders:read"][..],
            "CredentialsReady=False CredentialRefused",
        ),
        ("works", &[], "AccessGranted=False NotAssigned"),
    ] {
        let stage = at_hand(&json!({}), scopes).await;
        stage.cluster.put(secret("app", wrong));
        stage.is_said(refusal).await;
        stage.is_said(refusal).await;
        assert_eq!(stage.server.proofs(), ["app"], "once: {refusal}");
        let mut asked = Vec::new();
        for minute in 1..=30 {
            stage.clock.advance(Duration::from_mins(1));
            let before = stage.server.proofs().len();
            stage.is_said(refusal).await;
            if stage.server.proofs().len() > before {
                asked.push(minute);
            }
        }
        // At most after half, at least after all of a minute, two, four and eight; then at each comparison.
        assert!((4..=8).contains(&asked.len()), "{refusal}: {asked:?}");
        assert!(asked[0] == 1 && asked[3] >= 5, "{refusal}: {asked:?}");

        // What somebody does about it is tried at once.
        let before = stage.server.proofs().len();
        stage.server.put_client("app", registered(None, &["orders:read"]));
        stage.cluster.put(secret("app", "works"));
        stage.is_said("Ready=True Ready").await;
        assert_eq!(stage.server.proofs().len(), before + 1, "{refusal}");
    }
}

#[tokio::test]
async fn a_suspended_one_is_proved_and_left_alone() {
    let stage = at_hand(&json!({"suspended": true}), &["orders:read"]).await;
    stage.is_said("CredentialsReady=False Suspended").await;
    assert_eq!(stage.client_id().as_deref(), Some("app"), "so that gates deny it");
    stage.settle().await;
    assert_eq!(stage.server.proofs(), ["app"]);
    assert!(stage.server.clients()["app"].enabled);
    stage.touched_nothing();
}

/// Also when the credential is right: it may have leaked.
#[tokio::test]
async fn nobody_speaks_for_a_client_of_ours_or_of_the_server() {
    for (id, holder, reason) in [
        ("app", Some(mark("McpClient", "victim", "agent")), "AlreadyHeld"),
        ("app", Some(mark("McpServer", "team", "orders")), "AlreadyHeld"),
        (
            "app",
            Some(Mark {
                installation: "other".into(),
                ..mark("McpClient", "team", "agent")
            }),
            "HeldByAnotherInstallation",
        ),
        ("operator", None, "BuiltIn"),
        ("i.victim.agent", None, "AlreadyHeld"),
    ] {
        let stage = at_hand(&json!({}), &["orders:read"]).await;
        // It was its own before.
        stage.is_said("Ready=True Ready").await;
        stage.cluster.put(secret(id, "works"));
        stage.server.put_client(id, registered(holder, &["orders:read"]));
        let before = stage.server.proofs();
        stage.is_said(&format!("Accepted=False {reason}")).await;
        assert_eq!(stage.client_id(), None, "{id}");
        assert_eq!(stage.server.proofs(), before, "{id}: its credential is not tried");
        let status = stage.cluster.get(CLIENT).unwrap()["status"].clone();
        assert_eq!(status["granted"], Value::Null, "{status}");
        stage.touched_nothing();
    }
}

/// Any secret works for it, so none shows whose it is.
#[tokio::test]
async fn nobody_speaks_for_a_public_client() {
    let code = json!({"secretRef": {"name": "theirs", "keys": {"client-id": "ID"}},
        "grantTypes": ["authorization_code"], "redirectUri": "https://app.example/callback"});
    let stage = at_hand(&json!({"existing": code, "suspended": true}), &[]).await;
    stage.is_said("CredentialsReady=False Suspended").await;
    assert_eq!(stage.client_id().as_deref(), Some("app"));

    let mut public = registered(None, &[]);
    public.secret = String::new();
    stage.server.put_client("app", public);
    stage.is_said("CredentialsReady=False PublicClient").await;
    assert_eq!(stage.client_id(), None, "or gates would deny it");
    assert_eq!(stage.server.proofs(), ["app"], "what shows nothing is not asked");
    stage.touched_nothing();
}

/// Whoever writes an McpClient can name any key of any Secret of the namespace.
#[tokio::test]
async fn what_the_secret_holds_is_not_shown_before_it_is_proved() {
    for registration in [
        None,
        Some(registered(None, &[])),
        Some(registered(Some(mark("McpClient", "x", "y")), &[])),
    ] {
        let stage = at_hand(&json!({}), &[]).await;
        stage.cluster.put(secret("hunter2", "hunter3"));
        if let Some(registration) = registration {
            stage.server.put_client("hunter2", registration);
        }
        stage.settle().await;
        let client = stage.cluster.get(CLIENT).unwrap().to_string();
        assert!(!client.contains("hunter"), "{client}");
    }
}

#[tokio::test]
async fn it_goes_without_a_trace() {
    let stage = at_hand(&json!({}), &["orders:read"]).await;
    stage.settle().await;
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    stage.cluster.put(client);
    stage.settle().await;
    assert_eq!(stage.server.clients()["app"].spec, "theirs");
    stage.touched_nothing();
}
