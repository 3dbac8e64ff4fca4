mod leading;

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_test::mock;

use super::{preflight::check, *};

/// A client of an API server that answers each path as `answers` says.
fn client(answers: impl Fn(&str) -> (u16, Value) + Send + 'static) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            log.lock().unwrap().push(request.uri().path().to_owned());
            let (status, answer) = answers(request.uri().path());
            let body = Body::from(answer.to_string().into_bytes());
            respond.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), asked)
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status =
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message });
    (code, status)
}

/// The list of these kinds, as discovery gives it.
fn serving(plurals: &[&str]) -> (u16, Value) {
    let resource = |plural: &&str| json!({ "name": plural, "singularName": "", "namespaced": true, "kind": "K", "verbs": ["get"] });
    let resources: Vec<_> = plurals.iter().map(resource).collect();
    (
        200,
        json!({ "kind": "APIResourceList", "groupVersion": "mcpauth.dev/v1alpha1", "resources": resources }),
    )
}

const ALL: [&str; 4] = [
    "authorizationservers",
    "mcpservers",
    "mcpclients",
    "tokenexchangepolicies",
];

fn kube_system() -> (u16, Value) {
    (
        200,
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "name": "kube-system", "uid": "the-uid" } }),
    )
}

#[tokio::test]
async fn the_installation_is_named_after_kube_system_unless_told() {
    let (client, asked) = client(|path| {
        if path.starts_with("/apis/") {
            serving(&ALL)
        } else {
            kube_system()
        }
    });
    assert_eq!(check(&client, None).await.unwrap(), "the-uid");
    assert_eq!(
        asked.lock().unwrap().last().unwrap(),
        "/api/v1/namespaces/kube-system"
    );
    assert_eq!(check(&client, Some("blue")).await.unwrap(), "blue");
    assert_eq!(asked.lock().unwrap().len(), 3, "what was given is not asked for");
}

#[tokio::test]
async fn each_missing_definition_is_named_with_the_remedy() {
    let (client, _) = client(|_| serving(&["mcpservers", "mcpservers/status", "mcpclients"]));
    assert_eq!(
        check(&client, Some("x")).await.unwrap_err().to_string(),
        "the cluster lacks the custom resource definitions authorizationservers.mcpauth.dev, \
         tokenexchangepolicies.mcpauth.dev: install them with `kubectl apply --server-side -f crds/yaml/` and start again"
    );
}

#[tokio::test]
async fn all_definitions_are_missing_when_the_group_is() {
    let (client, _) = client(|_| {
        refusal(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    });
    let missing = check(&client, Some("x")).await.unwrap_err().to_string();
    for plural in ALL {
        assert!(missing.contains(&format!("{plural}.mcpauth.dev")), "{missing}");
    }
}

#[tokio::test]
async fn a_forbidden_namespace_asks_for_the_flag() {
    let (client, _) = client(|path| match path {
        "/apis/mcpauth.dev/v1alpha1" => serving(&ALL),
        _ => refusal(403, "Forbidden", "namespaces \"kube-system\" is forbidden"),
    });
    assert_eq!(
        check(&client, None).await.unwrap_err().to_string(),
        "cannot read the UID of the namespace kube-system (namespaces \"kube-system\" is forbidden): \
         give --installation, or let the operator get namespaces"
    );
}

#[test]
fn every_life_of_a_process_has_its_own_identity() {
    assert_ne!(identity(), identity());
    assert!(identity().contains('_'));
}
