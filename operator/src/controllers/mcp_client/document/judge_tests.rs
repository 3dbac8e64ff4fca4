use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::provider::Mark;

const URL: &str = "https://app.example.com/client.json";
const CALLBACK: &str = "https://app.example.com/callback";

fn server() -> AuthorizationServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": "main"},
        "spec": {
            "issuer": "https://t.auth0.com/", "auth0": {"domain": "t.auth0.com"},
            "credentials": {"secretRef": {"name": "c"}},
            "grants": [{
                "namespaces": {"from": "All"}, "clients": {"redirectHosts": ["app.example.com", "cursor:"]},
            }],
        },
    }))
    .unwrap()
}

fn client(more: serde_json::Value) -> McpClient {
    let mut spec = json!({
        "authorizationServerRef": {"name": "main", "namespace": "platform"},
        "metadataDocument": {"url": URL},
    });
    spec.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": {"namespace": "team", "name": "app", "uid": "1"}, "spec": spec,
    }))
    .unwrap()
}

fn set(uris: &[&str]) -> BTreeSet<String> {
    uris.iter().map(|uri| (*uri).to_owned()).collect()
}

fn seen(in_force: &[&str], reading: Reading) -> ObservedDocument {
    ObservedDocument {
        callbacks: set(in_force),
        reading,
        ..ObservedDocument::unknown()
    }
}

fn says(callbacks: &[&str]) -> Reading {
    Reading::Valid {
        callbacks: set(callbacks),
    }
}

fn judged(namespace: &str, observed: &ObservedDocument) -> Option<&'static str> {
    let labels = BTreeMap::new();
    let tenant = Tenant {
        namespace,
        labels: &labels,
    };
    let judged = callbacks(&server(), tenant, observed);
    judged.err().map(|refusal| refusal.reason)
}

/// Both what is in force and what would come into force: a document may say one thing to who looks and another to who
/// registers.
#[test]
fn every_callback_has_to_be_granted_wherever_it_is_said() {
    let evil = "https://evil.example/callback";
    let not_granted = Some("RedirectHostNotGranted");
    for (observed, refused) in [
        (seen(&[], says(&[CALLBACK])), None),
        (seen(&[CALLBACK], says(&[CALLBACK, "cursor://x/y"])), None),
        (seen(&[], says(&[CALLBACK, evil])), not_granted),
        (seen(&[CALLBACK], says(&[evil])), not_granted),
        (seen(&[CALLBACK, evil], says(&[CALLBACK])), not_granted),
        (seen(&[evil], Reading::Unreachable), not_granted),
        (seen(&[evil], Reading::Invalid), not_granted),
        (seen(&[CALLBACK], Reading::Unreachable), None),
    ] {
        assert_eq!(judged("team", &observed), refused, "{observed:?}");
    }
}

/// Not even in the namespace that may do everything.
#[test]
fn no_document_gets_a_callback_that_nobody_may_have() {
    for uri in [
        "javascript:alert(1)",
        "http://app.example.com/callback",
        "https://*.example.com/callback",
        "https://app.example.com/callback#x",
    ] {
        let observed = seen(&[], says(&[uri]));
        assert_eq!(judged("platform", &observed), Some("RedirectUriRefused"), "{uri}");
    }
    let anywhere = seen(&[], says(&["https://anywhere.example/callback"]));
    assert_eq!(judged("platform", &anywhere), None);
}

#[test]
fn what_is_withdrawn_or_suspended_is_wanted_without_anything() {
    let document = |client: &McpClient| client.spec.metadata_document.clone().unwrap();
    let granted = desired::Granted::default();
    let plain = client(json!({}));
    let want = |client: &McpClient, access| spec(client, &document(client), access, false, "prod");
    assert!(want(&plain, Some(&granted)).enabled);
    assert!(!want(&plain, None).enabled);
    assert!(!want(&client(json!({"suspended": true})), Some(&granted)).enabled);
    let both = [Grant::AuthorizationCode, Grant::RefreshToken].into();
    assert_eq!(want(&plain, Some(&granted)).grants, both);
    let one = client(json!({"metadataDocument": {"url": URL, "grantTypes": ["authorization_code"]}}));
    assert_eq!(
        want(&one, Some(&granted)).grants,
        [Grant::AuthorizationCode].into()
    );
}

#[test]
fn what_a_document_lacks_is_said() {
    let want = spec(
        &client(json!({})),
        &client(json!({})).spec.metadata_document.unwrap(),
        Some(&desired::Granted::default()),
        false,
        "prod",
    );
    let mark = Mark {
        installation: "prod".into(),
        kind: "McpClient".into(),
        namespace: "team".into(),
        name: "app".into(),
        uid: "1".into(),
    };
    let there = |grants: &[Grant], reading: Reading| ObservedDocument {
        presence: Presence::Held(Holder::Marked(mark.clone())),
        grants: grants.iter().copied().collect(),
        ..seen(&[CALLBACK], reading)
    };
    let code = [Grant::AuthorizationCode];
    for (observed, reason) in [
        (there(&code, says(&[CALLBACK])), None),
        (there(&code, Reading::Unreachable), None),
        (there(&[], Reading::Unreachable), Some("DocumentUnreachable")),
        (seen(&[], Reading::Unreachable), Some("DocumentUnreachable")),
        (there(&code, Reading::Invalid), Some("DocumentInvalid")),
        (there(&[], says(&[CALLBACK])), Some("GrantTypesMissing")),
    ] {
        let halt = shortcoming(&want, &observed);
        assert_eq!(halt.map(|halt| halt.reason()), reason, "{observed:?}");
    }
    assert!(owns(&mark, &there(&code, Reading::Invalid)));
    assert!(!owns(&mark, &seen(&[], Reading::Invalid)));
}
