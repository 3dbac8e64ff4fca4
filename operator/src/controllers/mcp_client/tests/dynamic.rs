//! Passes over a client at a server at which one can only register.

mod deaths;
mod trouble;

use std::time::Duration;

use super::*;
use crate::{
    connections::Side,
    testing::{FakeRegistrar, connect_side},
};

/// A stage, and the server.
struct Registering {
    stage: Stage,
    server: FakeRegistrar,
}

fn object(spec: &Value, annotations: &Value) -> Value {
    let mut client = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": {"namespace": "team", "name": "agent", "uid": "u", "generation": 1, "annotations": annotations},
        "spec": {
            "authorizationServerRef": {"namespace": "platform", "name": "main"},
            "managed": {"grantTypes": ["client_credentials"]},
            "rotation": {"overlap": "1m"},
        },
    });
    for (name, value) in spec.as_object().unwrap() {
        client["spec"][name] = value.clone();
    }
    client
}

async fn registering() -> Registering {
    let grants = json!([{"namespaces": {"from": "All"}, "clients": {"redirectHosts": ["*"]}}]);
    let objects = [
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main", "uid": "as"},
            "spec": {"issuer": "https://as.example", "dynamicRegistration": {}, "grants": grants},
        }),
        object(&json!({}), &json!({})),
    ];
    let stage = stage(&objects).await;
    let server = FakeRegistrar::new(stage.writes.clone());
    let registering = Registering { stage, server };
    registering.connect();
    registering
}

impl Registering {
    fn connect(&self) {
        connect_side(&self.stage.ctx, Side::Registering(Arc::new(self.server.clone())));
    }

    /// The client is to be this, keeping what is stored of it.
    fn put(&self, spec: &Value, annotations: &Value) {
        let mut next = object(spec, annotations);
        let stored = self.stage.cluster.get(CLIENT).unwrap();
        next["status"] = stored["status"].clone();
        next["metadata"]["finalizers"] = stored["metadata"]["finalizers"].clone();
        self.stage.cluster.put(next);
    }

    fn delete(&self) {
        let mut deleted = self.stage.cluster.get(CLIENT).unwrap();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.stage.cluster.put(deleted);
    }

    /// Passes until nothing is written any more; the pauses between attempts pass too.
    async fn settle(&self) {
        for _ in 0..20 {
            self.stage.writes.live();
            if self.stage.pass().await && self.stage.writes.made() == 0 {
                let waits = self.book()["notBefore"].is_string() && self.book()["current"].is_null();
                if !waits {
                    return;
                }
            }
            self.stage.clock.advance(Duration::from_secs(5));
        }
        panic!("it does not settle: {}", self.book());
    }

    /// Nothing is remembered, and all overlaps pass.
    async fn rest(&mut self) {
        self.settle().await;
        self.stage.clock.advance(Duration::from_secs(120));
        self.settle().await;
    }

    fn book(&self) -> Value {
        let text = self.stage.value(&journal_path(), "registrations");
        text.map(|text| serde_json::from_str(&text).unwrap())
            .unwrap_or_default()
    }

    fn unreachable(&self) -> usize {
        usize::try_from(self.book()["unreachable"].as_u64().unwrap_or_default()).unwrap()
    }

    /// The numbers of what cannot be reached.
    fn left(&self) -> Vec<u64> {
        let left = self.book()["left"].as_array().cloned().unwrap_or_default();
        left.iter().filter_map(Value::as_u64).collect()
    }

    /// Whether an Event names the registration of this number.
    fn is_told(&self, number: u64) -> bool {
        let named = format!("software_id {ID}, software_version {number})");
        self.stage
            .cluster
            .notes()
            .iter()
            .any(|note| note.contains(&named))
    }

    fn workload(&self) -> (String, String) {
        let value = |key| self.stage.value(SECRET, key).unwrap_or_default();
        (value("client-id"), value("client-secret"))
    }

    /// Whether what the workload has works.
    fn works(&self) -> bool {
        let (id, secret) = self.workload();
        let clients = self.server.clients();
        clients.get(&id).is_some_and(|client| client.secret == secret)
    }

    /// What must hold whenever nothing is left to do.
    fn check(&self, what: &str) {
        assert!(
            self.works(),
            "{what}: {} {:?}",
            self.book(),
            self.server.clients()
        );
        let (id, _) = self.workload();
        assert_eq!(self.book()["current"]["clientId"], json!(id), "{what}");
        assert_eq!(self.book()["old"], json!([]), "{what}");
        assert!(
            self.book()["fresh"].is_null() && self.book()["intent"].is_null(),
            "{what}"
        );
        let left = self.server.clients().len() - 1;
        assert!(
            left <= self.unreachable(),
            "{what}: {left} are left, and not all are counted"
        );
        assert_eq!(self.left().len(), self.unreachable(), "{what}");
        for number in self.left() {
            assert!(self.is_told(number), "{what}: nobody was told of {number}");
        }
        assert_eq!(self.stage.ready(), ("True".into(), "Ready".into()), "{what}");
    }
}

#[tokio::test]
async fn a_client_is_registered_once_and_then_rests() {
    let registering = registering().await;
    registering.settle().await;
    registering.check("created");
    let clients = registering.server.clients();
    assert_eq!(clients.len(), 1);
    let client = clients.values().next().unwrap();
    assert_eq!(client.asked.software_id, ID);
    assert_eq!(client.asked.software_version, "1");
    let secret = registering.stage.cluster.get(SECRET).unwrap()["data"].to_string();
    assert!(!secret.contains("registration"), "{secret}");
    let status = registering.stage.cluster.get(CLIENT).unwrap()["status"].clone();
    assert_eq!(
        status["registration"],
        json!({"number": 1, "managed": true}),
        "{status}"
    );
    assert_eq!(status["clientId"], json!(registering.workload().0));
}

/// One thing that is done to a client that is at work.
type Change = (&'static str, fn(&Registering));

const CHANGES: [Change; 4] = [
    ("rotated", |registering| {
        let asked = json!({"mcpauth.dev/rotate-requested-at": "1"});
        registering.put(&json!({}), &asked);
    }),
    ("revoked", |registering| {
        let asked = json!({"mcpauth.dev/revoke-requested-at": "1"});
        registering.put(&json!({}), &asked);
    }),
    ("changed", |registering| {
        let managed = json!({"managed": {"grantTypes": ["client_credentials"], "displayName": "Other"}});
        registering.put(&managed, &json!({}));
    }),
    ("made public", |registering| {
        let managed = json!({"managed": {
            "grantTypes": ["authorization_code"], "redirectUris": ["https://app.example/callback"],
        }});
        registering.put(&managed, &json!({}));
    }),
];

#[tokio::test]
async fn the_old_one_works_for_the_overlap_and_a_revoked_one_does_not() {
    let registering = registering().await;
    for (annotation, overlaps) in [
        ("mcpauth.dev/rotate-requested-at", true),
        ("mcpauth.dev/revoke-requested-at", false),
    ] {
        registering.settle().await;
        registering.stage.clock.advance(Duration::from_secs(120));
        registering.settle().await;
        let (old, _) = registering.workload();
        registering.put(&json!({}), &json!({ annotation: "now" }));
        registering.settle().await;
        let has_old = registering.server.clients().contains_key(&old);
        assert_eq!(has_old, overlaps, "{annotation}");
        assert_ne!(registering.workload().0, old);
        registering.stage.clock.advance(Duration::from_secs(120));
        registering.settle().await;
        assert!(!registering.server.clients().contains_key(&old), "{annotation}");
        registering.check(annotation);
        let passes = registering.workload();
        registering.settle().await;
        assert_eq!(registering.workload(), passes, "once for each request");
    }
}

#[tokio::test]
async fn a_secret_is_replaced_before_it_ends() {
    let registering = registering().await;
    let now = registering.stage.ctx.now();
    let after = |seconds| now + k8s_openapi::jiff::SignedDuration::from_secs(seconds);
    registering.server.let_expire(after(300));
    registering.settle().await;
    let first = registering.workload();
    registering.server.let_expire(after(100_000));
    registering.stage.clock.advance(Duration::from_secs(150));
    registering.settle().await;
    assert_eq!(registering.workload(), first, "not before its time");
    registering.stage.clock.advance(Duration::from_secs(60));
    registering.settle().await;
    assert_ne!(registering.workload(), first, "a third of its life is left");
    assert!(
        registering.server.clients().contains_key(&first.0),
        "and it overlaps"
    );
}

#[tokio::test]
async fn a_client_that_loses_its_grant_or_is_suspended_has_no_registration() {
    let registering = registering().await;
    registering.settle().await;
    registering.put(&json!({"suspended": true}), &json!({}));
    for _ in 0..3 {
        registering.stage.pass().await;
    }
    assert_eq!(registering.server.clients().len(), 0);
    assert_eq!(registering.stage.ready(), ("False".into(), "Suspended".into()));
    registering.put(&json!({}), &json!({}));
    registering.settle().await;
    registering.check("no longer suspended");
}

/// A pause holds what is new, and nothing that takes something away.
#[tokio::test]
async fn a_pause_holds_a_change_and_no_revocation() {
    let registering = registering().await;
    registering.settle().await;
    let before = registering.workload();
    let paused = |more: &str| json!({"mcpauth.dev/reconcile": "paused", more: "1"});
    let managed = json!({"managed": {"grantTypes": ["client_credentials"], "displayName": "Other"}});
    registering.put(&managed, &paused("x"));
    registering.stage.pass().await;
    let name = |registering: &Registering| {
        registering.server.clients()[&registering.workload().0]
            .asked
            .name
            .clone()
    };
    assert_eq!(name(&registering), "agent");
    registering.put(&json!({}), &paused("mcpauth.dev/rotate-requested-at"));
    registering.stage.pass().await;
    assert_eq!(registering.workload(), before, "a rotation can wait");
    registering.put(&json!({}), &paused("mcpauth.dev/revoke-requested-at"));
    for _ in 0..3 {
        registering.stage.pass().await;
    }
    assert_ne!(registering.workload(), before);
    assert!(!registering.server.clients().contains_key(&before.0));
    assert!(registering.works());
}

/// It has no credential, so nothing is proved and nothing is rotated; one that comes to have a secret is another client.
#[tokio::test]
async fn a_public_client_has_an_id_and_nothing_else() {
    let public = |method: &str| {
        json!({"managed": {
            "grantTypes": ["authorization_code"], "redirectUris": ["http://127.0.0.1/callback"],
            "applicationType": "native", "authentication": {"method": method},
        }})
    };
    let mut registering = registering().await;
    registering.put(&public("None"), &json!({"mcpauth.dev/rotate-requested-at": "1"}));
    registering.rest().await;
    let (id, secret) = registering.workload();
    assert_eq!(secret, "");
    let clients = registering.server.clients();
    assert_eq!(clients.keys().collect::<Vec<_>>(), [&id]);
    assert_eq!(
        clients[&id].asked.document()["token_endpoint_auth_method"],
        "none"
    );
    assert_eq!(clients[&id].asked.document()["application_type"], "native");
    assert_eq!(registering.stage.ready(), ("True".into(), "Ready".into()));
    let status = registering.stage.cluster.get(CLIENT).unwrap()["status"].clone();
    assert!(status["rotation"].is_null(), "{status}");

    registering.put(&public("ClientSecret"), &json!({}));
    registering.rest().await;
    registering.check("confidential");
    assert_ne!(registering.workload().0, id);
    registering.put(&public("None"), &json!({}));
    registering.rest().await;
    assert_eq!(
        registering.workload().1,
        "",
        "the secret is gone from the Secret too"
    );
    assert_eq!(registering.server.clients().len(), 1);
    assert_eq!(registering.unreachable(), 0);
}

#[tokio::test]
async fn no_document_is_registered() {
    let registering = registering().await;
    let url = "https://app.example.com/client.json";
    let spec = json!({"managed": null, "rotation": null, "metadataDocument": {"url": url}});
    registering.put(&spec, &json!({}));
    registering.settle().await;
    let client = registering.stage.cluster.get(CLIENT).unwrap();
    let conditions = client["status"]["conditions"].as_array().unwrap();
    let accepted = conditions.iter().find(|one| one["type"] == "Accepted").unwrap();
    assert_eq!(accepted["status"], "False");
    assert_eq!(accepted["reason"], "MetadataDocumentUnsupported");
    assert!(registering.server.clients().is_empty());
}
