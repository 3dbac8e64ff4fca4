//! Against a cluster and an authorization server in memory.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::{
    controllers::{
        authorization_server::{observe::Referrers, status},
        home,
    },
    policy::Refusal,
    provider::Holder,
    testing::{INSTALLATION, Stage, stage},
};

fn object(name: &str, created: &str, registration: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": name, "uid": name, "creationTimestamp": created,
                     "finalizers": ["mcpauth.dev/cleanup"]},
        "spec": {"issuer": "https://as.example/realms/r", "keycloak": {"realm": "r"},
                 "credentials": {"secretRef": {"name": "c"}}, "clientRegistration": registration},
    })
}

fn main(registration: &Value) -> AuthorizationServer {
    serde_json::from_value(object("main", "2026-01-02T00:00:00Z", registration)).unwrap()
}

fn dynamic() -> Value {
    json!({"dynamic": {"trustedRedirectHosts": ["localhost"]}})
}

fn documents() -> Value {
    json!({"metadataDocuments": {"allowedDomains": ["claude.ai"]}})
}

/// An McpServer that is open with `read`, and not with `write`.
fn orders(namespace: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": namespace, "name": "orders", "uid": "orders", "finalizers": ["mcpauth.dev/cleanup"]},
        "spec": {
            "authorizationServerRef": {"name": "main", "namespace": "platform"},
            "resource": "https://orders.example/mcp", "enforcement": {"mode": "External"},
            "scopes": [{"name": "read", "challenge": true}, {"name": "write"}],
            "allowedClients": [{"selfRegistered": true}],
        },
    })
}

fn able(capabilities: &[Capability]) -> Access {
    Access {
        capabilities: capabilities.iter().copied().collect(),
        ..Access::default()
    }
}

fn both() -> Access {
    able(&[Capability::SelfRegistration, Capability::MetadataDocuments])
}

/// One pass, after which the object has the status that came of it.
async fn pass(stage: &Stage, server: &mut AuthorizationServer, access: Access) -> Result<(), Halt> {
    let before = stage.ctx.connections.get("platform", "main").unwrap();
    let connection = Connection {
        server: before.server.clone(),
        side: before.side.clone(),
        metadata: before.metadata.clone(),
        discovered: before.discovered.clone(),
        access,
        ca_bundle: None,
        made_from: String::new(),
        checked: Mutex::new(stage.ctx.clock.instant()),
    };
    let mut progress = Progress::new(server, &Referrers::default());
    progress.discovered(&connection.metadata);
    progress.signed_in(&connection.access);
    let result = keep(server, &connection, &stage.ctx, &mut progress).await;
    let halt = result.as_ref().err();
    server.status = Some(status::status(server, progress, halt, stage.ctx.now()).0);
    result
}

fn reason(result: Result<(), Halt>) -> &'static str {
    match result {
        Err(Halt::Refused(Refusal { reason, .. }) | Halt::Waiting(Refusal { reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

fn condition(server: &AuthorizationServer, type_: &str) -> Option<(String, String)> {
    let conditions = &server.status.as_ref().unwrap().conditions;
    mcp_auth_crds::condition::find(conditions, type_)
        .map(|found| (found.status.clone(), found.reason.clone()))
}

/// Scopes at the server that are of this McpServer.
fn hold(stage: &Stage, namespace: &str, scopes: &[&str]) {
    let server: McpServer = serde_json::from_value(orders(namespace)).unwrap();
    for scope in scopes {
        let mark = home::mark(&server, INSTALLATION);
        stage.server.put_scope(scope, Holder::Marked(mark));
    }
}

#[tokio::test]
async fn it_is_opened_after_it_is_proved_with_the_scopes_that_servers_open() {
    let stage = stage(&[orders("platform")]).await;
    hold(&stage, "platform", &["read", "write"]);
    let mut server = main(&dynamic());
    assert_eq!(reason(pass(&stage, &mut server, both()).await), "Waiting");
    assert_eq!(stage.server.registration(), Value::Null, "status comes first");
    assert!(!stored(&server).unwrap().open);
    pass(&stage, &mut server, both()).await.unwrap();
    assert_eq!(
        stage.server.registration(),
        json!({"guards": true, "open": ["read"]})
    );
    assert_eq!(stored(&server).unwrap().scopes, ["read"]);
    assert!(stored(&server).unwrap().open);
    assert_eq!(
        condition(&server, "Accepted"),
        Some(("True".into(), "Proved".into()))
    );
}

#[tokio::test]
async fn without_the_proof_what_was_open_is_shut_and_said_so() {
    let stage = stage(&[orders("platform")]).await;
    hold(&stage, "platform", &["read"]);
    let mut server = main(&dynamic());
    let _ = pass(&stage, &mut server, both()).await;
    pass(&stage, &mut server, both()).await.unwrap();
    stage.server.refuse_proofs();
    assert_eq!(
        reason(pass(&stage, &mut server, both()).await),
        "ClosedScopesUnproved"
    );
    assert_eq!(stage.server.registration(), json!({"guards": true, "open": null}));
    assert_eq!(
        condition(&server, "Accepted"),
        Some(("False".into(), "ClosedScopesUnproved".into()))
    );
    assert!(!stored(&server).unwrap().open);
}

#[tokio::test]
async fn a_scope_counts_only_if_it_is_the_servers_and_the_server_may_have_it() {
    for (what, namespace, held_by, change, open) in [
        ("its own", "platform", "platform", json!({}), true),
        ("of a namespace without a grant", "team", "team", json!({}), false),
        ("of another server", "platform", "other", json!({}), false),
        (
            "of one that is not registered",
            "platform",
            "platform",
            json!({"finalizers": []}),
            false,
        ),
        (
            "of one that is paused and was not open",
            "platform",
            "platform",
            json!({"annotations": {"mcpauth.dev/reconcile": "paused"}}),
            false,
        ),
    ] {
        let mut object = orders(namespace);
        for (name, value) in change.as_object().unwrap() {
            object["metadata"][name] = value.clone();
        }
        let stage = stage(&[object]).await;
        hold(&stage, held_by, &["read"]);
        let mut server = main(&documents());
        let _ = pass(&stage, &mut server, both()).await;
        pass(&stage, &mut server, both()).await.unwrap();
        let expected = if open { json!(["read"]) } else { json!([]) };
        assert_eq!(stage.server.registration()["open"], expected, "{what}");
    }
}

#[tokio::test]
async fn it_is_refused_where_it_cannot_be_done() {
    let anybody = json!({"dynamic": {"anyRedirectHost": true}});
    let withheld = Access {
        withheld: [(Capability::SelfRegistration, "manage-realm")].into(),
        ..Access::default()
    };
    let stage = stage(&[]).await;
    for (spec, access, expected) in [
        (dynamic(), able(&[]), "SelfRegistrationUnsupported"),
        (anybody, both(), "RedirectHostsNeeded"),
        (
            documents(),
            able(&[Capability::SelfRegistration]),
            "MetadataDocumentsUnsupported",
        ),
    ] {
        assert_eq!(reason(pass(&stage, &mut main(&spec), access).await), expected);
    }
    let mut server = main(&dynamic());
    let Err(Halt::Failed(error)) = pass(&stage, &mut server, withheld).await else {
        panic!("it was accepted");
    };
    assert_eq!(error.reason(), "PermissionMissing");
    assert_eq!(stage.server.registration(), Value::Null);
    pass(
        &stage,
        &mut main(&dynamic()),
        able(&[Capability::SelfRegistration]),
    )
    .await
    .unwrap_err();
}

#[tokio::test]
async fn switched_off_it_is_undone_and_forgotten() {
    let stage = stage(&[]).await;
    let mut server = main(&dynamic());
    let _ = pass(&stage, &mut server, both()).await;
    pass(&stage, &mut server, both()).await.unwrap();
    server.spec.client_registration = None;
    pass(&stage, &mut server, both()).await.unwrap();
    assert_eq!(stage.server.registration(), Value::Null);
    assert!(stored(&server).is_none() && condition(&server, "Accepted").is_none());
    let writes = stage.writes.made();
    pass(&stage, &mut server, both()).await.unwrap();
    assert_eq!(stage.writes.made(), writes, "nothing is left to do");
}

#[tokio::test]
async fn one_that_is_paused_opens_nothing() {
    let stage = stage(&[]).await;
    let mut server = main(&dynamic());
    let _ = pass(&stage, &mut server, both()).await;
    let paused = ("mcpauth.dev/reconcile".to_owned(), "paused".to_owned());
    server.metadata.annotations = Some([paused].into());
    assert!(matches!(
        pass(&stage, &mut server, both()).await,
        Err(Halt::Paused)
    ));
    assert_eq!(stage.server.registration(), Value::Null);
}

#[tokio::test]
async fn the_second_authorization_server_of_a_realm_leaves_it_to_the_first() {
    let stage = stage(&[object("first", "2026-01-01T00:00:00Z", &dynamic())]).await;
    let connection = stage.ctx.connections.get("platform", "main").unwrap();
    stage.ctx.connections.set("platform", "first", connection);
    let mut server = main(&documents());
    assert_eq!(
        reason(pass(&stage, &mut server, both()).await),
        "RegistrationTaken"
    );
    assert_eq!(stage.server.registration(), Value::Null);
}

mod tenant;
