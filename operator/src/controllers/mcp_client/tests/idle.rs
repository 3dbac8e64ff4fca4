//! What a pass costs that has nothing to do.

use super::*;
use crate::provider::Read;

/// Passes until nothing is written, in a process that has just started and whose caches then catch up.
async fn rested(stage: &mut Stage) {
    stage.settle().await;
    stage.restart().await;
    stage.settle().await;
    stage.cluster.reads();
}

#[tokio::test]
async fn it_reads_nothing_of_the_cluster() {
    let mut stage = at_work().await;
    stage.settle().await;
    let proofs = stage.server.proofs().len();
    stage.restart().await;
    stage.cluster.reads();
    stage.writes.live();
    assert!(stage.pass().await);
    assert_eq!(stage.writes.made(), 0, "a start writes nothing");
    assert_eq!(stage.server.proofs().len(), proofs, "nor does it prove again");
    let mut first = stage.cluster.reads();
    first.sort();
    assert_eq!(first, [journal_path(), SECRET.to_owned()], "it remembers nothing");
    for _ in 0..3 {
        assert!(stage.pass().await);
        assert_eq!(stage.cluster.reads(), [""; 0]);
    }
    stage.check();
}

#[tokio::test]
async fn a_credential_that_was_just_made_is_not_read_again_once_the_cache_shows_it() {
    let mut stage = at_work().await;
    stage.settle().await;
    stage.see().await;
    stage.cluster.reads();
    assert!(stage.pass().await);
    assert_eq!(stage.cluster.reads(), [""; 0]);
}

#[tokio::test]
async fn what_changed_is_read_and_set_right() {
    let mut stage = at_work().await;
    rested(&mut stage).await;
    let secret = stage.value(SECRET, "client-secret");
    for change in ["Secret", "Secret gone", "journal gone", "labels"] {
        let mut found = stage.cluster.get(SECRET).unwrap();
        match change {
            "Secret" => found["data"]["client-secret"] = json!("aHVudGVyMg=="),
            "labels" => found["metadata"]["labels"] = json!({}),
            _ => {}
        }
        match change {
            "Secret gone" => stage.cluster.remove(SECRET),
            "journal gone" => stage.cluster.remove(&journal_path()),
            _ => stage.cluster.put(found),
        }
        stage.see().await;
        stage.settle().await;
        stage.check();
        assert_eq!(stage.value(SECRET, "client-secret"), secret, "{change}");
        let labels = &stage.cluster.get(SECRET).unwrap()["metadata"]["labels"];
        assert_eq!(
            labels["app.kubernetes.io/managed-by"], "mcp-auth-operator",
            "{change}"
        );
        stage.see().await;
        stage.settle().await;
        assert_eq!(stage.cluster.get(SECRET).unwrap()["metadata"]["labels"], *labels);
    }
}

#[tokio::test]
async fn another_wish_is_written_although_the_secret_did_not_change() {
    let mut stage = at_work().await;
    rested(&mut stage).await;
    let mut client = stage.cluster.get(CLIENT).unwrap();
    client["spec"]["secret"] = json!({"labels": {"team": "a"}});
    stage.cluster.put(client);
    stage.settle().await;
    assert_eq!(
        stage.cluster.get(SECRET).unwrap()["metadata"]["labels"]["team"],
        "a"
    );
}

/// The cache of a replica that has just begun to lead may be behind the one that led before.
#[tokio::test]
async fn a_journal_that_the_cache_does_not_show_yet_counts_all_the_same() {
    let mut stage = at_work().await;
    stage.settle().await;
    let journal = stage.cluster.get(&journal_path()).unwrap();
    let secret = stage.value(SECRET, "client-secret");
    stage.cluster.remove(&journal_path());
    stage.restart().await;
    stage.cluster.put(journal);
    stage.server.remove_client(ID);
    stage.cluster.reads();
    assert!(!stage.pass().await, "it may not write over what it has not read");
    assert!(
        stage.server.clients().is_empty(),
        "nothing was done without a journal"
    );
    stage.settle().await;
    stage.check();
    assert_eq!(stage.value(SECRET, "client-secret"), secret);
}

/// An operator that starts has no connection yet.
#[tokio::test]
async fn a_start_leaves_what_is_ready_as_it_is_until_it_is_known_to_be_otherwise() {
    const HOME: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";
    let mut stage = at_work().await;
    stage.settle().await;
    for (ready, expected) in [
        ("True", ("True", "Ready")),
        ("Unknown", ("Unknown", "AuthorizationServerNotReady")),
    ] {
        let mut home = stage.cluster.get(HOME).unwrap();
        home["status"]["conditions"] = json!([{
            "type": "Ready", "status": ready, "reason": "Why", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        stage.cluster.put(home);
        stage.restart_alone().await;
        stage.writes.live();
        assert!(stage.pass().await);
        assert_eq!(stage.writes.made() > 0, ready != "True", "{ready}");
        assert_eq!(stage.ready(), (expected.0.into(), expected.1.into()));
    }
}

/// The status that a pass sees may be older than what the pass before it wrote, and so may the caches.
#[tokio::test]
async fn a_pass_that_comes_at_once_writes_no_secret_again() {
    let mut stage = at_work().await;
    stage.settle().await;
    let mut seen = stage.cluster.get(CLIENT).unwrap();
    seen["status"] = json!({});
    let before = stage.cluster.get(SECRET).unwrap();
    for caches in ["behind", "caught up"] {
        if caches == "caught up" {
            stage.see().await;
        }
        let client: McpClient = serde_json::from_value(seen.clone()).unwrap();
        run(Arc::new(client), Arc::clone(&stage.ctx)).await.unwrap();
        assert_eq!(stage.cluster.get(SECRET).unwrap(), before, "{caches}");
    }
}

#[tokio::test]
async fn only_a_new_one_is_asked_for_without_the_others() {
    let stage = at_work().await;
    let mut how = Vec::new();
    for _ in 0..2 {
        stage.server.reads();
        assert!(stage.pass().await);
        how.push(
            stage
                .server
                .reads()
                .iter()
                .any(|(_, read)| matches!(read, Read::Alone(_))),
        );
        stage.settle().await;
    }
    assert_eq!(how, [true, false]);
}
