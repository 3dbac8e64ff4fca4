//! What a client loses while it gets nothing new.

use serde_json::{Value, json};

use super::{CLIENT, ID, at_work_beside};
use crate::testing::Stage;

/// An McpServer of the client's namespace that another AuthorizationServer protects.
fn elsewhere() -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": "elsewhere", "uid": "e"},
        "spec": {"authorizationServerRef": {"name": "other"}, "resource": "https://elsewhere.example/mcp",
                 "enforcement": {"mode": "External"}, "scopes": [{"name": "elsewhere:read"}]},
    })
}

impl Stage {
    /// Changes the client as its team would, and lets the operator look.
    async fn changed(&self, change: impl FnOnce(&mut Value)) {
        let mut client = self.cluster.get(CLIENT).unwrap();
        change(&mut client);
        self.cluster.put(client);
        self.settle().await;
    }

    /// The scopes of the client at the authorization server, and whether it is switched on there.
    fn powers(&self) -> (Vec<String>, bool) {
        let client = &self.server.clients()[ID];
        (client.scopes.iter().cloned().collect(), client.enabled)
    }

    fn granted(&self) -> Value {
        self.cluster.get(CLIENT).unwrap()["status"]["granted"].clone()
    }
}

fn server(name: &str) -> Value {
    json!({"server": {"name": name}})
}

#[tokio::test]
async fn a_client_that_is_refused_loses_what_it_may_not_have_any_more() {
    let stage = at_work_beside(&[elsewhere()]).await;
    stage.settle().await;
    let refused = ("False".to_owned(), "DifferentAuthorizationServer".to_owned());

    // An entry more that cannot be: what it has stays.
    let both = json!([server("orders"), server("elsewhere")]);
    stage.changed(|client| client["spec"]["access"] = both).await;
    assert_eq!(stage.ready(), refused);
    assert_eq!(stage.powers(), (vec!["orders:read".to_owned()], true));
    assert_eq!(stage.granted()[0]["scopes"], json!(["orders:read"]));

    stage
        .changed(|client| client["spec"]["suspended"] = json!(true))
        .await;
    assert_eq!(stage.ready(), refused);
    assert!(!stage.powers().1, "it is switched off");

    let other = json!([server("elsewhere")]);
    stage.changed(|client| client["spec"]["access"] = other).await;
    assert_eq!(stage.powers(), (vec![], false));
    assert_eq!(stage.granted(), json!(null));

    // Nothing comes back while it is refused.
    let both = json!([server("orders"), server("elsewhere")]);
    stage
        .changed(|client| {
            client["spec"]["access"] = both;
            client["spec"]["suspended"] = json!(false);
        })
        .await;
    assert_eq!(stage.powers(), (vec![], false));
    assert_eq!(stage.granted(), json!(null));

    stage
        .changed(|client| client["spec"]["access"] = json!([server("orders")]))
        .await;
    stage.check();
    assert_eq!(stage.powers(), (vec!["orders:read".to_owned()], true));
}

#[tokio::test]
async fn a_new_client_that_is_refused_leaves_no_trace() {
    let stage = at_work_beside(&[elsewhere()]).await;
    stage
        .changed(|client| client["spec"]["access"] = json!([server("orders"), server("elsewhere")]))
        .await;
    assert_eq!(stage.ready().1, "DifferentAuthorizationServer");
    assert!(stage.server.clients().is_empty());
    let metadata = stage.cluster.get(CLIENT).unwrap()["metadata"].clone();
    assert!(metadata["finalizers"].is_null(), "{metadata}");
}

fn pause(client: &mut Value) {
    client["metadata"]["annotations"] = json!({"mcpauth.dev/reconcile": "paused"});
}

#[tokio::test]
async fn a_paused_client_says_what_it_lost_and_nothing_else() {
    let stage = at_work_beside(&[]).await;
    stage.settle().await;
    let ready = ("True".to_owned(), "Ready".to_owned());
    let before = stage.cluster.get(CLIENT).unwrap()["status"].clone();
    stage.changed(pause).await;
    assert_eq!(stage.cluster.get(CLIENT).unwrap()["status"], before);

    let narrower = json!([{"server": {"name": "orders"}, "scopes": ["orders:gone"]}]);
    stage
        .changed(|client| {
            client["metadata"]["generation"] = json!(2);
            client["spec"]["access"] = narrower;
        })
        .await;
    assert_eq!(stage.powers(), (vec![], true));
    assert_eq!(stage.granted()[0]["scopes"], json!(null));
    assert_eq!(stage.ready(), ready);

    stage.changed(|client| client["spec"]["access"] = json!([])).await;
    assert_eq!(stage.granted(), json!(null));
    assert_eq!(stage.ready(), ready);
    let status = stage.cluster.get(CLIENT).unwrap()["status"].clone();
    assert_eq!(status["observedGeneration"], 1, "the rest was not looked at");
}

#[tokio::test]
async fn a_paused_client_that_is_suspended_is_not_ready() {
    let stage = at_work_beside(&[]).await;
    stage.settle().await;
    stage
        .changed(|client| {
            pause(client);
            client["spec"]["suspended"] = json!(true);
        })
        .await;
    assert!(!stage.powers().1, "it is switched off");
    let suspended = ("False".to_owned(), "Suspended".to_owned());
    assert_eq!(stage.ready(), suspended);
    let said = |type_: &str| {
        let conditions = stage.cluster.get(CLIENT).unwrap()["status"]["conditions"].clone();
        let found = conditions.as_array().unwrap().iter().find(|c| c["type"] == type_);
        found.map(|c| (c["status"].clone(), c["reason"].clone(), c["message"].clone()))
    };
    let types = [
        "Accepted",
        "Registered",
        "AccessGranted",
        "CredentialsReady",
        "Stalled",
        "Ready",
    ];
    let paused = types.map(said);

    // It is not switched on before the pause ends, and says the same as one that was never paused.
    stage
        .changed(|client| client["spec"]["suspended"] = json!(false))
        .await;
    assert_eq!((stage.powers().1, stage.ready()), (false, suspended));
    stage
        .changed(|client| {
            client["metadata"]["annotations"] = json!({});
            client["spec"]["suspended"] = json!(true);
        })
        .await;
    assert_eq!(types.map(said), paused);
    stage
        .changed(|client| client["spec"]["suspended"] = json!(false))
        .await;
    stage.check();
    assert_eq!(said("Stalled"), None);
}

/// As after a downgrade: what a newer version understood is still in the cluster.
#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_gone() {
    let mut stage = at_work_beside(&[]).await;
    stage.settle().await;
    let before = stage.powers();
    assert_eq!(before, (vec!["orders:read".to_owned()], true));
    let orders = "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpservers/orders";
    let mut newer = stage.cluster.get(orders).unwrap();
    newer["spec"]["enforcement"]["mode"] = json!("Some mode of the future");
    stage.cluster.put(newer);
    stage.restart().await;
    stage.settle().await;
    assert_eq!(stage.powers(), before);
    assert_eq!(
        stage.ready(),
        ("Unknown".to_owned(), "ObjectUnreadable".to_owned())
    );
}
