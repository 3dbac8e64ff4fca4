//! Feeds against a small API server that lists and watches.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use http::{Request, Response};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::{Api, Client, client::Body, core::PartialObjectMeta, runtime::watcher};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower_test::mock;

use super::{
    super::{Feed, Scope, Touch, Touches, WatchScope},
    config_map, reference, value,
};

/// What the API server would answer, by namespace.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The objects of each namespace, as they are listed.
    pub(super) lists: HashMap<String, Vec<Value>>,
    /// The events that the next watch of a namespace reports before it ends; without any it stays open.
    events: HashMap<String, Vec<Value>>,
    /// Namespaces that may not be listed.
    pub(super) forbidden: Vec<String>,
    /// The watches that stay open, for as long as they are here.
    pub(super) open: Vec<mock::SendResponse<Response<Body>>>,
    /// The `Accept` header of every request.
    accepted: Vec<String>,
    /// The query of every request.
    queries: Vec<String>,
}

pub(super) type Shared = Arc<Mutex<Script>>;

/// A client of a server that follows the script.
pub(super) fn client(script: &Shared) -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let script = Arc::clone(script);
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            match answer(&script, &request) {
                Some((status, body)) => {
                    respond.send_response(Response::builder().status(status).body(Body::from(body)).unwrap());
                }
                None => script.lock().unwrap().open.push(respond),
            }
        }
    });
    Client::new(service, "default")
}

/// The answer to a request, or nothing for a watch that has nothing to say.
fn answer(script: &Shared, request: &Request<Body>) -> Option<(u16, Vec<u8>)> {
    let mut script = script.lock().unwrap();
    let accept = request
        .headers()
        .get("accept")
        .map(|accept| accept.to_str().unwrap());
    script.accepted.push(accept.unwrap_or_default().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    script.queries.push(query.clone());
    let namespace = request
        .uri()
        .path()
        .split('/')
        .skip_while(|part| *part != "namespaces")
        .nth(1);
    let namespace = namespace.unwrap_or("*").to_owned();
    if script.forbidden.contains(&namespace) {
        let refusal = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "configmaps is forbidden" });
        return Some((403, refusal.to_string().into_bytes()));
    }
    if query.contains("watch=true") {
        let events = script.events.remove(&namespace)?;
        let lines: Vec<_> = events.iter().map(|event| format!("{event}\n")).collect();
        return Some((200, lines.concat().into_bytes()));
    }
    let items = script.lists.get(&namespace).cloned().unwrap_or_default();
    let list = json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" },
        "items": items });
    Some((200, list.to_string().into_bytes()))
}

pub(super) fn json_of(namespace: &str, name: &str, value: u32) -> Value {
    serde_json::to_value(config_map(namespace, name, value)).unwrap()
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

pub(super) fn feed(script: &Shared, namespaces: &[&str]) -> Feed<ConfigMap> {
    let scope = WatchScope::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect());
    Feed::start(scope.of(&client(script), &watcher::Config::default()))
}

/// The next touch, in short; fails if there is none within simulated minutes.
pub(super) async fn next(touches: &mut Touches<ConfigMap>) -> String {
    let Touch { object, deleted } = timeout(Duration::from_mins(10), touches.next())
        .await
        .unwrap()
        .unwrap();
    let name = object.metadata.name.as_ref().unwrap();
    if deleted {
        format!("-{name}")
    } else {
        format!("{name}={}", value(&object))
    }
}

#[tokio::test(start_paused = true)]
async fn several_namespaces_fill_one_cache_and_their_changes_reach_all_subscribers() {
    let script = Shared::default();
    {
        let mut script = script.lock().unwrap();
        script.lists.insert("n1".to_owned(), vec![json_of("n1", "a", 1)]);
        script.lists.insert("n2".to_owned(), vec![json_of("n2", "b", 2)]);
        let events = vec![
            event("ADDED", &json_of("n2", "c", 3)),
            event("MODIFIED", &json_of("n2", "b", 4)),
            event("DELETED", &json_of("n2", "b", 5)),
        ];
        script.events.insert("n2".to_owned(), events);
    }
    let feed = feed(&script, &["n1", "n2"]);
    let mut early = feed.subscribe();
    feed.wait_until_ready().await.unwrap();
    assert_eq!(feed.probe()(), None);
    sleep(Duration::from_mins(1)).await;
    let names: BTreeMap<_, _> = feed
        .store()
        .state()
        .iter()
        .map(|object| (object.metadata.name.clone().unwrap(), value(object)))
        .collect();
    assert_eq!(names, BTreeMap::from([("a".to_owned(), 1), ("c".to_owned(), 3)]));
    let mut seen = vec![
        next(&mut early).await,
        next(&mut early).await,
        next(&mut early).await,
    ];
    seen.sort();
    assert_eq!(seen, ["-b", "a=1", "c=3"], "b's touches became one, its deletion");
    let mut late = feed.subscribe();
    let mut seen = vec![next(&mut late).await, next(&mut late).await];
    seen.sort();
    assert_eq!(seen, ["a=1", "c=3"], "who comes late gets what there is");
}

#[tokio::test(start_paused = true)]
async fn a_list_after_an_interruption_reports_what_went_away_meanwhile() {
    let script = Shared::default();
    {
        let mut script = script.lock().unwrap();
        script.lists.insert(
            "n1".to_owned(),
            vec![json_of("n1", "a", 1), json_of("n1", "b", 1)],
        );
        let gone = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": 410, "reason": "Expired", "message": "too old resource version" });
        script.events.insert("n1".to_owned(), vec![event("ERROR", &gone)]);
    }
    let feed = feed(&script, &["n1"]);
    let mut touches = feed.subscribe();
    let mut first = vec![next(&mut touches).await, next(&mut touches).await];
    first.sort();
    assert_eq!(first, ["a=1", "b=1"]);
    script
        .lock()
        .unwrap()
        .lists
        .insert("n1".to_owned(), vec![json_of("n1", "b", 9)]);
    assert_eq!(next(&mut touches).await, "b=9");
    assert_eq!(next(&mut touches).await, "-a");
    assert_eq!(feed.store().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_neither_stalls_the_watch_nor_counts_as_gone() {
    let script = Shared::default();
    {
        let mut script = script.lock().unwrap();
        let mut odd = json_of("n1", "odd", 1);
        odd["data"] = json!("not a map");
        let mut spoilt = json_of("n1", "a", 6);
        spoilt["data"] = json!(["neither"]);
        script
            .lists
            .insert("n1".to_owned(), vec![odd, json_of("n1", "a", 5)]);
        let events = vec![event("MODIFIED", &spoilt), event("ADDED", &json_of("n1", "z", 7))];
        script.events.insert("n1".to_owned(), events);
    }
    let feed = feed(&script, &["n1"]);
    let mut touches = feed.subscribe();
    assert_eq!(next(&mut touches).await, "a=5");
    assert_eq!(next(&mut touches).await, "z=7");
    let known = feed.store().get(&reference("n1", "a")).unwrap();
    assert_eq!(value(&known), 5, "what was known stays");
    assert!(feed.unreadable(&reference("n1", "a")).is_some());
    assert!(feed.unreadable(&reference("n1", "odd")).is_some());
    assert_eq!(feed.store().get(&reference("n1", "odd")), None);
    assert_eq!(feed.unreadable(&reference("n1", "z")), None);
    assert_eq!(
        feed.unread(),
        [reference("n1", "odd")],
        "of the other, what was known will do"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_listed_is_named_and_waited_for() {
    let script = Shared::default();
    script.lock().unwrap().forbidden.push("n2".to_owned());
    let feed = feed(&script, &["n1", "n2"]);
    assert!(
        timeout(Duration::from_mins(2), feed.wait_until_ready())
            .await
            .is_err()
    );
    let missing = feed.probe()().unwrap();
    assert!(
        missing.starts_with("configmaps in namespace n2 (") && missing.contains("forbidden"),
        "{missing}"
    );
    assert!(!missing.contains("n1"), "{missing}");
    script.lock().unwrap().forbidden.clear();
    timeout(Duration::from_mins(2), feed.wait_until_ready())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(feed.probe()(), None);
}

#[tokio::test(start_paused = true)]
async fn the_streams_end_with_the_last_handle() {
    let script = Shared::default();
    let feed = feed(&script, &["n1"]);
    let (mut touches, probe) = (feed.subscribe(), feed.probe());
    feed.wait_until_ready().await.unwrap();
    let other = feed.clone();
    drop(feed);
    assert!(
        timeout(Duration::from_mins(1), touches.next()).await.is_err(),
        "another handle is left"
    );
    drop(other);
    assert!(
        timeout(Duration::from_mins(1), touches.next())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(probe().unwrap(), "the watch of configmaps ended");
}

#[tokio::test]
async fn a_feed_whose_task_ended_says_so_to_all_who_wait() {
    // Without anything to watch, its task ends at once.
    let feed: Feed<ConfigMap> = Feed::start(Vec::new());
    let why = "the watch of configmaps ended";
    assert_eq!(feed.stopped().await.to_string(), why);
    assert_eq!(feed.wait_until_ready().await.unwrap_err().to_string(), why);
    assert_eq!(feed.probe()().unwrap(), why);
}

#[tokio::test(start_paused = true)]
async fn of_secrets_only_metadata_is_asked_for() {
    let script = Shared::default();
    let secrets = vec![
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "name": "s", "namespace": "n1", "resourceVersion": "4" } }),
    ];
    script.lock().unwrap().lists.insert("n1".to_owned(), secrets);
    let scope = WatchScope::Namespaces(vec!["n1".to_owned()]);
    let config = watcher::Config::default().labels("app.kubernetes.io/managed-by=us");
    let feed: Feed<PartialObjectMeta<Secret>> = Feed::start(scope.of(&client(&script), &config));
    let mut touches = feed.subscribe();
    let touch = touches.next().await.unwrap();
    assert_eq!(touch.object.metadata.name.as_deref(), Some("s"));
    sleep(Duration::from_secs(5)).await;
    let script = script.lock().unwrap();
    assert!(script.accepted.len() >= 2, "a list and a watch");
    assert!(
        script
            .accepted
            .iter()
            .all(|accept| accept.contains("as=PartialObjectMetadata")),
        "{script:?}"
    );
    assert!(
        script
            .queries
            .iter()
            .all(|query| query.contains("labelSelector=")),
        "{script:?}"
    );
}

/// The metadata of an object that was applied by hand, with this of it in an annotation.
fn applied_by_hand(name: &str, applied: &str) -> Value {
    json!({ "name": name, "namespace": "n1", "resourceVersion": "4", "labels": { "team": "x" },
        "annotations": { "kubectl.kubernetes.io/last-applied-configuration": applied, "mcpauth.dev/port": "http" },
        "managedFields": [{ "manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:spec": {} } }] })
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_of_an_object_is_not_kept() {
    const SECRET: &str = "aHVudGVyMg==";
    let script = Shared::default();
    let secret = |name| {
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": applied_by_hand(name, SECRET) })
    };
    {
        let mut script = script.lock().unwrap();
        script.lists.insert("n1".to_owned(), vec![secret("s")]);
        let events = vec![event("ADDED", &secret("t"))];
        script.events.insert("n1".to_owned(), events);
    }
    let scope = WatchScope::Namespaces(vec!["n1".to_owned()]);
    let config = watcher::Config::default();
    let secrets: Feed<PartialObjectMeta<Secret>> = Feed::start(scope.of(&client(&script), &config));
    secrets.wait_until_ready().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(secrets.store().len(), 2, "one was listed, the other came later");
    for secret in secrets.store().state() {
        assert_eq!(secret.metadata.annotations, None);
        assert_eq!(secret.metadata.managed_fields, None);
        assert_eq!(secret.metadata.labels.as_ref().unwrap()["team"], "x");
    }
    let shown = format!("{:?}", secrets.store().state());
    assert!(
        !shown.contains(SECRET) && !shown.contains("last-applied"),
        "{shown}"
    );

    let service = json!({ "kind": "Service", "apiVersion": "v1", "metadata": applied_by_hand("s", "{}") });
    script
        .lock()
        .unwrap()
        .lists
        .insert("n1".to_owned(), vec![service]);
    let services: Feed<Service> = Feed::start(scope.of(&client(&script), &config));
    services.wait_until_ready().await.unwrap();
    let service = &services.store().state()[0];
    let kept = service.metadata.annotations.clone().unwrap();
    assert_eq!(
        kept,
        BTreeMap::from([("mcpauth.dev/port".to_owned(), "http".to_owned())])
    );
    assert_eq!(service.metadata.managed_fields, None);
}

#[tokio::test]
async fn scopes_say_what_is_watched() {
    use k8s_openapi::api::core::v1::Namespace;
    let client = client(&Shared::default());
    let named = WatchScope::Namespaces(vec!["x".to_owned(), "y".to_owned()]);
    let urls = |scopes: &[Scope<ConfigMap>]| -> Vec<String> {
        scopes
            .iter()
            .map(|scope| scope.api.resource_url().to_owned())
            .collect()
    };
    let config = watcher::Config::default();
    assert_eq!(
        urls(&WatchScope::All.of(&client, &config)),
        ["/api/v1/configmaps"]
    );
    assert_eq!(
        urls(&named.of(&client, &config)),
        [
            "/api/v1/namespaces/x/configmaps",
            "/api/v1/namespaces/y/configmaps"
        ]
    );
    assert!(named.contains("x") && !named.contains("z") && WatchScope::All.contains("z"));
    let namespaces: Vec<Scope<Namespace>> = named.namespaces(&client);
    let fields: Vec<_> = namespaces
        .iter()
        .map(|scope| scope.config.field_selector.clone().unwrap())
        .collect();
    assert_eq!(fields, ["metadata.name=x", "metadata.name=y"]);
    assert_eq!(WatchScope::All.namespaces::<Namespace>(&client).len(), 1);
    let _: Api<super::super::Guarded<Namespace>> = namespaces[0].api.clone();
}
