use tokio::{
    sync::oneshot,
    time::{advance, sleep, timeout},
};

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

/// Runs an elector until the returned sender is used.
fn start(
    elector: Elector,
) -> (
    oneshot::Sender<()>,
    tokio::task::JoinHandle<Result<(), LeaseError>>,
) {
    let (release, released) = oneshot::channel();
    let task = tokio::spawn(elector.run(std::future::ready(()), async move {
        let _ = released.await;
    }));
    (release, task)
}

/// Waits for leadership, at most for `limit`.
async fn acquired(leadership: &Leadership, limit: u64) -> bool {
    timeout(Duration::from_secs(limit), leadership.acquired())
        .await
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_creates_the_lease_and_renews_it() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    assert!(!leadership.is_held());
    let (_release, _task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    sleep(Duration::from_mins(1)).await;
    assert!(leadership.is_held());
    let server = server.lock().unwrap();
    // One creation and twelve renewals in a minute, one every third of 15 s.
    assert!((12..=14).contains(&server.holders.len()), "{:?}", server.holders);
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_taken_no_earlier_than_a_duration_after_it_was_seen() {
    let server = ApiServer::shared();
    // By the holder's clock this expired years ago; that must not count.
    server
        .lock()
        .unwrap()
        .put(lease_of("gone", "2001-01-01T00:00:00Z"));
    let (elector, leadership) = candidate(&server, "me");
    let (_release, _task) = start(elector);
    sleep(Duration::from_millis(14_900)).await;
    assert!(!leadership.is_held());
    assert!(acquired(&leadership, 3).await);
    let spec = server.lock().unwrap().lease.clone().unwrap().spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some("me"), Some(1))
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_that_see_it_expire_one_gets_it() {
    let server = ApiServer::shared();
    server.lock().unwrap().put(lease_of("gone", NOW));
    let (one, first) = candidate(&server, "one");
    let (two, second) = candidate(&server, "two");
    let (_a, _task_a) = start(one);
    let (_b, _task_b) = start(two);
    sleep(Duration::from_mins(1)).await;
    assert!(first.is_held() ^ second.is_held());
    let holders = server.lock().unwrap().holders.clone();
    let changes = holders.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 1, "{holders:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_api_server_ends_leadership_before_the_lease_expires() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    let (_release, task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    server.lock().unwrap().silent = true;
    sleep(Duration::from_millis(9_900)).await;
    assert!(leadership.is_held(), "two thirds have not passed yet");
    sleep(Duration::from_millis(200)).await;
    assert!(!leadership.is_held(), "the fence falls by itself");
    let lost = timeout(Duration::from_secs(6), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&lost, LeaseError::NotRenewed { problem, .. } if problem.contains("did not answer")),
        "{lost}"
    );
    assert!(!lost.to_string().contains('\n'));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    let (_release, task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    for _ in 0..5 {
        server.lock().unwrap().refuse_with = Some(503);
        for _ in 0..40 {
            sleep(Duration::from_millis(100)).await;
            assert!(leadership.is_held());
        }
        server.lock().unwrap().refuse_with = None;
        sleep(Duration::from_secs(8)).await;
        assert!(leadership.is_held());
    }
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_is_lost_at_once() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    let (_release, task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    server.lock().unwrap().put(lease_of("thief", NOW));
    let lost = timeout(Duration::from_secs(7), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&lost, LeaseError::Taken { holder, .. } if holder == "thief"),
        "{lost}"
    );
    assert!(!leadership.is_held());
    let holder = Record::of(server.lock().unwrap().lease.as_ref().unwrap()).holder;
    assert_eq!(holder.as_deref(), Some("thief"), "nothing was overwritten");
}

#[tokio::test(start_paused = true)]
async fn a_lease_edited_by_others_is_kept() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    let (_release, task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    {
        let mut server = server.lock().unwrap();
        let mut edited = server.lease.clone().unwrap();
        edited.metadata.annotations = Some([("note".to_owned(), "mine".to_owned())].into());
        server.put(edited);
    }
    sleep(Duration::from_secs(30)).await;
    assert!(leadership.is_held() && !task.is_finished());
    let lease = server.lock().unwrap().lease.clone().unwrap();
    assert_eq!(lease.metadata.annotations.unwrap()["note"], "mine");
    server.lock().unwrap().lease = None;
    sleep(Duration::from_secs(30)).await;
    assert!(leadership.is_held(), "a deleted lease is made again");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again_by_its_holder_or_taken_a_duration_later() {
    let server = ApiServer::shared();
    let (one, first) = candidate(&server, "one");
    let (two, second) = candidate(&server, "two");
    let (_keep, task) = start(one);
    assert!(acquired(&first, 1).await);
    let (_release, _task) = start(two);
    sleep(Duration::from_secs(3)).await;
    server.lock().unwrap().delete();
    sleep(Duration::from_secs(30)).await;
    assert!(first.is_held() && !second.is_held());

    task.abort();
    server.lock().unwrap().delete();
    sleep(Duration::from_secs(14)).await;
    assert!(!second.is_held());
    assert!(acquired(&second, 5).await);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_goes_to_the_next_at_once() {
    let server = ApiServer::shared();
    let (one, first) = candidate(&server, "one");
    let (two, second) = candidate(&server, "two");
    let (release, task) = start(one);
    assert!(acquired(&first, 1).await);
    let (_keep, _task) = start(two);
    sleep(Duration::from_secs(20)).await;
    assert!(!second.is_held());
    release.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert!(!first.is_held());
    assert!(acquired(&second, 2).await, "well before the duration of 15 s");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_stops_touches_nothing() {
    let server = ApiServer::shared();
    server.lock().unwrap().put(lease_of("other", NOW));
    let (elector, leadership) = candidate(&server, "me");
    let (release, task) = start(elector);
    sleep(Duration::from_secs(3)).await;
    release.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert!(!leadership.is_held());
    assert_eq!(server.lock().unwrap().holders.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_said_in_one_line() {
    let server = ApiServer::shared();
    server.lock().unwrap().refuse_with = Some(403);
    let (elector, leadership) = candidate(&server, "me");
    let ended = timeout(
        Duration::from_mins(1),
        elector.run(std::future::ready(()), std::future::pending()),
    )
    .await;
    let denied = ended.unwrap().unwrap_err();
    assert_eq!(
        denied.to_string(),
        "cannot use the lease leader in namespace operators: Forbidden"
    );
    assert!(!leadership.is_held());
}

#[tokio::test(start_paused = true)]
async fn metrics_and_readiness_follow() {
    let server = ApiServer::shared();
    let (elector, leadership) = candidate(&server, "me");
    let (metrics, health) = (elector.election.metrics.clone(), elector.election.health.clone());
    assert!(health.unready().unwrap().contains("has not answered yet"));
    let (release, task) = start(elector);
    assert!(acquired(&leadership, 1).await);
    assert!(metrics.encode().unwrap().contains("mcp_auth_operator_leader 1\n"));
    assert_eq!(health.unready(), None);
    release.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert!(metrics.encode().unwrap().contains("mcp_auth_operator_leader 0\n"));
    advance(Duration::from_secs(31)).await;
    assert!(health.unready().unwrap().contains("has not answered for 31 s"));
}

#[tokio::test(start_paused = true)]
async fn an_uncontested_leadership_is_always_held() {
    let leadership = Leadership::uncontested();
    assert!(acquired(&leadership, 1).await);
    sleep(Duration::from_hours(24)).await;
    assert!(leadership.is_held());
}
