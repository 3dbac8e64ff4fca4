//! Feeds whose watches are refused.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{core::PartialObjectMeta, runtime::watcher};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    super::{Feed, WatchScope},
    feeding::{Shared, client, feed, json_of, next},
};

/// A cluster with these namespaces, of which n2 may not be listed.
fn script(namespaces: &[&str]) -> Shared {
    let script = Shared::default();
    {
        let mut script = script.lock().unwrap();
        let namespaces = namespaces.iter().map(|name| {
            json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "name": name, "resourceVersion": "1" } })
        });
        script.lists.insert("*".to_owned(), namespaces.collect());
        script.lists.insert("n1".to_owned(), vec![json_of("n1", "a", 1)]);
        script.forbidden.push("n2".to_owned());
    }
    script
}

/// The ConfigMaps of n1 and n2, beside the namespaces.
fn feeds(script: &Shared) -> (Feed<PartialObjectMeta<Namespace>>, Feed<ConfigMap>) {
    let client = client(script);
    let namespaces: Feed<PartialObjectMeta<Namespace>> = Feed::start(WatchScope::All.namespaces(&client));
    let scope = WatchScope::Namespaces(vec!["n1".to_owned(), "n2".to_owned()]);
    let scopes = scope.of(&client, &watcher::Config::default());
    let config_maps = Feed::start_unless(scopes, namespaces.absence());
    (namespaces, config_maps)
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_exist_holds_nothing_up_and_is_served_once_it_does() {
    let script = script(&["n1"]);
    let (namespaces, config_maps) = feeds(&script);
    let mut touches = config_maps.subscribe();
    let soon = Duration::from_secs(30);
    let filled = timeout(soon, config_maps.wait_until_ready()).await;
    filled.unwrap().unwrap();
    assert!(namespaces.absence()("n2") && !namespaces.absence()("n1"));
    sleep(Duration::from_mins(10)).await;
    assert_eq!(config_maps.probe()(), None);
    assert_eq!(next(&mut touches).await, "a=1");
    {
        let mut script = script.lock().unwrap();
        script.lists.insert("n2".to_owned(), vec![json_of("n2", "b", 2)]);
        script.forbidden.clear();
    }
    assert_eq!(next(&mut touches).await, "b=2");
    assert_eq!(config_maps.store().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_exists_is_waited_for() {
    let script = script(&["n1", "n2"]);
    let (_namespaces, config_maps) = feeds(&script);
    let long = Duration::from_mins(10);
    assert!(timeout(long, config_maps.wait_until_ready()).await.is_err());
    let missing = config_maps.probe()().unwrap();
    assert!(missing.starts_with("configmaps in namespace n2 ("), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_of_which_nothing_is_known_is_waited_for() {
    let script = script(&["n1"]);
    script.lock().unwrap().forbidden.push("*".to_owned());
    let (namespaces, config_maps) = feeds(&script);
    let long = Duration::from_mins(10);
    assert!(timeout(long, config_maps.wait_until_ready()).await.is_err());
    assert!(!namespaces.absence()("n2"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_not_kept_up_to_date_is_named_until_it_is_again() {
    let script = script(&[]);
    script.lock().unwrap().forbidden.clear();
    let feed = feed(&script, &["n1", "n2"]);
    feed.wait_until_ready().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    {
        let mut script = script.lock().unwrap();
        script.forbidden.push("n2".to_owned());
        script.open.clear();
    }
    sleep(Duration::from_mins(1)).await;
    assert_eq!(feed.probe()(), None, "it may be a moment's trouble");
    sleep(Duration::from_mins(4)).await;
    let missing = feed.probe()().unwrap();
    assert!(
        missing.starts_with("configmaps in namespace n2 (") && missing.contains("forbidden"),
        "{missing}"
    );
    assert!(!missing.contains("n1"), "{missing}");
    script.lock().unwrap().forbidden.clear();
    // The watch goes on without a word, because nothing changes.
    sleep(Duration::from_mins(5)).await;
    assert_eq!(feed.probe()(), None);
}
