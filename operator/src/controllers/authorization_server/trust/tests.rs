//! Against a cluster and an authorization server in memory.

use std::sync::{Arc, Mutex};

use mcp_auth_crds::v1alpha1::AuthorizationServer;
use serde_json::{Value, json};

use super::*;
use crate::{
    connections::Connection,
    controllers::authorization_server::{observe::Referrers, status},
    provider::Access,
    testing::{Stage, stage},
};

const URL: &str = "https://cluster.example";

fn object(name: &str, created: &str, issuer: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": name, "uid": name, "creationTimestamp": created,
                     "finalizers": ["mcpauth.dev/cleanup"]},
        "spec": {"issuer": "https://as.example/realms/r",
                 "keycloak": {"realm": "r", "serviceAccountIssuer": issuer},
                 "credentials": {"secretRef": {"name": "c"}}},
    })
}

fn main(issuer: &Value) -> AuthorizationServer {
    serde_json::from_value(object("main", "2026-01-02T00:00:00Z", issuer)).unwrap()
}

fn connection(stage: &Stage, access: Access) -> Arc<Connection> {
    let before = stage.ctx.connections.get("platform", "main").unwrap();
    Arc::new(Connection {
        server: before.server.clone(),
        side: before.side.clone(),
        metadata: before.metadata.clone(),
        discovered: before.discovered.clone(),
        access,
        ca_bundle: None,
        made_from: String::new(),
        checked: Mutex::new(stage.ctx.clock.instant()),
    })
}

fn allowed() -> Access {
    Access {
        capabilities: [Capability::ServiceAccountTokens].into(),
        ..Access::default()
    }
}

/// One pass, after which the object has the status that came of it.
async fn pass(stage: &Stage, server: &mut AuthorizationServer, access: Access) -> Result<(), Halt> {
    let connection = connection(stage, access);
    let mut progress = Progress::new(server, &Referrers::default());
    let result = keep(server, &connection, &stage.ctx, &mut progress).await;
    let halt = result.as_ref().err();
    server.status = Some(status::status(server, progress, halt, stage.ctx.now()).0);
    result
}

fn reason(result: Result<(), Halt>) -> &'static str {
    match result {
        Err(Halt::Refused(refusal)) => refusal.reason,
        Err(Halt::Failed(error)) => error.reason(),
        other => panic!("{other:?}"),
    }
}

fn trusted(server: &AuthorizationServer) -> Option<bool> {
    stored(server).map(|stored| stored.trusted)
}

#[tokio::test]
async fn status_says_first_what_is_made_and_last_that_it_is_gone() {
    let stage = stage(&[]).await;
    let mut server = main(&json!({"url": URL}));
    pass(&stage, &mut server, allowed()).await.unwrap();
    assert_eq!((trusted(&server), stage.server.trusts()), (Some(false), None));
    for death in [0, 1] {
        stage.writes.die_after(death);
        assert_eq!(pass(&stage, &mut server, allowed()).await.is_ok(), death > 0);
    }
    assert_eq!(
        (trusted(&server), stage.server.trusts().as_deref()),
        (Some(true), Some(URL))
    );
    stage.writes.live();
    pass(&stage, &mut server, allowed()).await.unwrap();
    assert_eq!(stage.writes.made(), 0);

    server.spec = main(&Value::Null).spec;
    stage.writes.die_after(0);
    assert!(pass(&stage, &mut server, allowed()).await.is_err());
    assert_eq!(trusted(&server), Some(true), "it is still there");
    stage.writes.live();
    pass(&stage, &mut server, Access::default()).await.unwrap();
    assert_eq!((trusted(&server), stage.server.trusts()), (None, None));
}

#[tokio::test]
async fn another_issuer_is_not_trusted_before_it_is() {
    let stage = stage(&[]).await;
    let mut server = main(&json!({"url": "https://old.example"}));
    for _ in 0..2 {
        pass(&stage, &mut server, allowed()).await.unwrap();
    }
    server.spec = main(&json!({"url": URL})).spec;
    pass(&stage, &mut server, allowed()).await.unwrap();
    assert_eq!(trusted(&server), Some(false));
    pass(&stage, &mut server, allowed()).await.unwrap();
    assert_eq!(
        (trusted(&server), stage.server.trusts().as_deref()),
        (Some(true), Some(URL))
    );
}

#[tokio::test]
async fn what_somebody_else_keeps_is_named_and_what_was_made_goes() {
    let stage = stage(&[]).await;
    let mut server = main(&json!({"url": URL}));
    for _ in 0..2 {
        pass(&stage, &mut server, allowed()).await.unwrap();
    }
    server.spec = main(&json!({"identityProvider": "theirs"})).spec;
    // It needs no permission.
    pass(&stage, &mut server, Access::default()).await.unwrap();
    assert_eq!(
        stored(&server).map(|trust| trust.identity_provider.as_str()),
        Some("theirs")
    );
    assert_eq!((trusted(&server), stage.server.trusts()), (Some(true), None));
}

#[tokio::test]
async fn without_the_permission_it_says_which() {
    let stage = stage(&[]).await;
    let withheld = Access {
        withheld: [(Capability::ServiceAccountTokens, "manage-identity-providers")].into(),
        ..Access::default()
    };
    for (access, expected) in [
        (withheld, "PermissionMissing"),
        (Access::default(), "ServiceAccountsUnsupported"),
    ] {
        let mut server = main(&json!({"url": URL}));
        assert_eq!(reason(pass(&stage, &mut server, access).await), expected);
        assert_eq!(trusted(&server), None);
    }
    assert_eq!(stage.server.trusts(), None);
}

#[tokio::test]
async fn one_realm_has_one_issuer_as_long_as_one_of_its_servers_wants_it() {
    for (url, refused) in [(URL, false), ("https://other.example", true)] {
        let mut first = object("first", "2026-01-01T00:00:00Z", &json!({"url": url}));
        first["status"] =
            json!({"serviceAccountIssuer": {"identityProvider": "i-accounts", "url": url, "trusted": true}});
        let stage = stage(&[first]).await;
        let same = connection(&stage, allowed());
        stage.ctx.connections.set("platform", "first", same);
        let mut server = main(&json!({"url": URL}));
        let made = pass(&stage, &mut server, allowed()).await;
        if refused {
            assert_eq!(reason(made), "IssuerDiffers");
            continue;
        }
        made.unwrap();
        pass(&stage, &mut server, allowed()).await.unwrap();
        server.spec = main(&Value::Null).spec;
        pass(&stage, &mut server, allowed()).await.unwrap();
        assert_eq!(stage.server.trusts().as_deref(), Some(URL), "the other needs it");
    }
}
