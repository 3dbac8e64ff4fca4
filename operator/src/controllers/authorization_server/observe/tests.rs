use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::{
    provider::key,
    testing::{OPERATOR, Stage, stage},
};

#[test]
fn what_cannot_be_read_holds_an_authorization_server_too() {
    let mut referrers = Referrers::default();
    assert_eq!(referrers.count(), 0);
    referrers.unread = 2;
    assert_eq!(referrers.count(), 2);
    assert!(referrers.message().contains("2 objects cannot be read"));
}

fn server(namespace: &str, credentials: &Value) -> AuthorizationServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": namespace, "name": "main"},
        "spec": {"issuer": "https://as/realms/r", "credentials": credentials},
    }))
    .unwrap()
}

/// With a Secret `own` that holds this.
async fn holding(data: &[(&str, &str)]) -> Stage {
    let data: Value = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"namespace": "platform", "name": "own"}, "data": data});
    stage(&[secret]).await
}

fn reason(found: Result<Inputs, Halt>) -> Option<&'static str> {
    match found {
        Ok(_) => None,
        Err(Halt::Refused(refusal) | Halt::Waiting(refusal)) => Some(refusal.reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_secret_must_hold_what_the_way_to_sign_in_needs() {
    let pem = key::make().unwrap();
    let pem = pem.expose();
    let jwk = PrivateKey::read(pem).unwrap().jwk();
    let (secret, key) = ("secretRef", "privateKeyJwtRef");
    let id = ("client-id", "op");
    for (way, data, expected) in [
        (secret, vec![id, ("client-secret", "s\n")], None),
        (
            secret,
            vec![id, ("client-key.pem", pem)],
            Some("SecretIncomplete"),
        ),
        (secret, vec![("client-secret", "s")], Some("SecretIncomplete")),
        (key, vec![id, ("client-key.pem", pem)], None),
        (key, vec![id, ("client-key.jwk", jwk.as_str())], None),
        (key, vec![id, ("client-secret", "s")], Some("SecretIncomplete")),
        (
            key,
            vec![id, ("client-key.pem", "none")],
            Some("SecretIncomplete"),
        ),
        (key, vec![("client-key.pem", pem)], Some("SecretIncomplete")),
    ] {
        let stage = holding(&data).await;
        let found = inputs(&server("platform", &json!({way: {"name": "own"}})), &stage.ctx).await;
        let keys: Vec<_> = data.iter().map(|(key, _)| *key).collect();
        if let Ok(found) = &found {
            let expected = match way {
                "secretRef" => SignIn::Secret(Credential::new("s")),
                _ => SignIn::Key(Credential::new(data[1].1.trim_end())),
            };
            assert_eq!(found.credentials, as_client("op", expected));
            assert!(!format!("{found:?}").contains("MII"), "it prints nothing of it");
        }
        assert_eq!(reason(found), expected, "{way} {keys:?}");
        let other = server("platform", &json!({way: {"name": "other"}}));
        assert_eq!(reason(inputs(&other, &stage.ctx).await), Some("SecretNotFound"));
    }
}

fn as_client(client_id: &str, sign_in: SignIn) -> Credentials {
    Credentials::Client {
        client_id: client_id.into(),
        sign_in,
    }
}

/// An AuthorizationServer at which one registers.
fn registering(registration: &serde_json::Value) -> AuthorizationServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": "main", "uid": "as"},
        "spec": {"issuer": "https://as.example", "dynamicRegistration": registration},
    }))
    .unwrap()
}

#[tokio::test]
async fn an_initial_access_token_is_read_where_there_is_one_and_kept_for_the_clean_up() {
    let stage = holding(&[("initial-access-token", "t\n"), ("other", "u")]).await;
    let token = |token: &str| Credentials::Registration(Some(Credential::new(token)));
    let own = |key: Option<&str>| json!({"initialAccessTokenRef": {"name": "own", "key": key}});
    for (registration, expected) in [
        (json!({}), Ok(Credentials::Registration(None))),
        (own(None), Ok(token("t"))),
        (own(Some("other")), Ok(token("u"))),
        (own(Some("none")), Err("SecretIncomplete")),
        (
            json!({"initialAccessTokenRef": {"name": "gone"}}),
            Err("SecretNotFound"),
        ),
    ] {
        let found = inputs(&registering(&registration), &stage.ctx).await;
        match expected {
            Err(expected) => assert_eq!(reason(found), Some(expected), "{registration}"),
            Ok(expected) => {
                let found = found.unwrap();
                assert_eq!(found.credentials, expected, "{registration}");
                let gone = registering(&json!({"initialAccessTokenRef": {"name": "gone"}}));
                kept::keep(&gone, &found, &stage.ctx).await.unwrap();
                assert_eq!(inputs_for_cleanup(&gone, &stage.ctx).await.unwrap(), found);
            }
        }
    }
}

/// Killed or not, what was kept is what was given.
#[tokio::test]
async fn each_way_to_sign_in_is_kept_for_the_clean_up() {
    let stage = holding(&[("client-id", "op"), ("client-secret", "s")]).await;
    let pem = key::make().unwrap();
    for sign_in in [
        SignIn::Secret(Credential::new("s")),
        SignIn::Key(pem),
        SignIn::Token,
        SignIn::Secret(Credential::new("t")),
    ] {
        let given = Inputs {
            credentials: as_client("op", sign_in),
            ca_bundle: None,
        };
        let gone = server("platform", &json!({"secretRef": {"name": "gone"}}));
        kept::keep(&gone, &given, &stage.ctx).await.unwrap();
        assert_eq!(inputs_for_cleanup(&gone, &stage.ctx).await.unwrap(), given);
        stage.writes.live();
        kept::keep(&gone, &given, &stage.ctx).await.unwrap();
        assert_eq!(stage.writes.made(), 0, "it is kept already");
    }
}

#[tokio::test]
async fn the_token_of_the_operator_is_for_its_own_namespace() {
    let stage = stage(&[]).await;
    let by_token = json!({"serviceAccountToken": {"clientId": "op"}});
    let found = inputs(&server(OPERATOR, &by_token), &stage.ctx).await.unwrap();
    assert_eq!(found.credentials, as_client("op", SignIn::Token));
    let found = inputs(&server("platform", &by_token), &stage.ctx).await;
    assert_eq!(reason(found), Some("NotInOperatorNamespace"));
}

/// A Secret and a ConfigMap.
fn objects() -> [serde_json::Value; 2] {
    let metadata = |name: &str| json!({"namespace": "platform", "name": name});
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("c"),
               "data": {"client-id": "aWQ=", "client-secret": "b25l"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("ca"),
               "data": {"ca.crt": "bundle"}}),
    ]
}

#[tokio::test]
async fn what_a_connection_is_made_from_is_read_again_only_when_it_changed() {
    let server: AuthorizationServer = serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": "main"},
        "spec": {"issuer": "https://as.example/realms/r", "credentials": {"secretRef": {"name": "c"}},
                 "caBundleRef": {"name": "ca"}},
    }))
    .unwrap();
    let [mut secret, map] = objects();
    let mut stage = stage(&[secret.clone(), map]).await;
    let (path, first) = (
        "/api/v1/namespaces/platform/secrets/c",
        inputs(&server, &stage.ctx).await.unwrap(),
    );
    assert_eq!(stage.cluster.reads().len(), 2);
    assert_eq!(inputs(&server, &stage.ctx).await.unwrap(), first);
    assert_eq!(stage.cluster.reads(), [""; 0]);

    secret["data"]["client-secret"] = json!("dHdv");
    stage.cluster.put(secret);
    stage.see().await;
    let second = inputs(&server, &stage.ctx).await.unwrap();
    let two = SignIn::Secret(Credential::new("two"));
    assert_eq!(second.credentials, as_client("id", two));
    assert_eq!(stage.cluster.reads(), [path]);

    stage.cluster.remove(path);
    stage.see().await;
    let gone = inputs(&server, &stage.ctx).await;
    assert!(
        matches!(&gone, Err(Halt::Waiting(refusal)) if refusal.reason == "SecretNotFound"),
        "{gone:?}"
    );
}

/// An AuthorizationServer is in use by a client that is to be there, is there, or has not been removed there yet.
#[tokio::test]
async fn a_client_that_moved_away_counts_until_it_is_removed() {
    let home = |name: &str| json!({"namespace": "platform", "name": name});
    let registered = json!({"authorizationServerRef": home("main"), "issuer": "i"});
    let elsewhere = json!({"authorizationServerRef": home("next"), "issuer": "n"});
    let previous = |more: Value| {
        let mut previous = json!({"authorizationServerRef": home("main"), "issuer": "i", "clientId": "c"});
        let fields = previous.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        json!({"previous": [previous]})
    };
    for (what, reference, status, is_deleted, counts) in [
        ("it is to be there", "main", Value::Null, false, 1),
        ("it is elsewhere", "next", json!({}), true, 0),
        (
            "it has not moved yet",
            "next",
            json!({"registeredAt": registered}),
            false,
            1,
        ),
        ("it is kept there", "next", previous(json!({})), false, 1),
        (
            "its end was not reached",
            "next",
            previous(json!({"validUntil": "2020-01-01T00:00:00Z"})),
            false,
            1,
        ),
        (
            "it is gone",
            "next",
            previous(json!({"tokensUntil": "2099-01-01T00:00:00Z"})),
            false,
            0,
        ),
        // Of who names it and has something elsewhere that is nothing, unless a grant lets it come.
        (
            "it names it in vain",
            "main",
            json!({"registeredAt": elsewhere}),
            true,
            0,
        ),
        ("it names it in vain, and is nowhere", "main", json!({}), true, 0),
        (
            "it is there, as was said before",
            "main",
            json!({"clientId": "c"}),
            true,
            1,
        ),
        ("nobody knows yet", "next", Value::Null, false, 0),
        ("nobody knows yet, and it is to go", "next", Value::Null, true, 1),
    ] {
        let client = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": {"namespace": "team", "name": "c", "finalizers": ["mcpauth.dev/cleanup"]},
            "spec": {"authorizationServerRef": home(reference)}, "status": status,
        });
        let stage = stage(&[client]).await;
        let mut server = server("platform", &json!({"secretRef": {"name": "own"}}));
        if is_deleted {
            server.metadata.deletion_timestamp =
                serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        }
        assert_eq!(referrers(&server, &stage.ctx).clients, counts, "{what}");
    }
}
