//! Running reconcilers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{channel::mpsc, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{
    controller::Action,
    reflector::{ObjectRef, Store, store::Writer},
    watcher::Event,
};
use thiserror::Error;
use tokio::{sync::oneshot, time::sleep};

use super::{
    super::{Work, run_controller},
    config_map, reference, value,
};
use crate::metrics::Kind;

#[derive(Debug, Error)]
#[error("as asked")]
struct Failed;

/// A complete cache of `a`, `b` and `c`.
fn store() -> (Store<ConfigMap>, Writer<ConfigMap>) {
    let mut writer = Writer::default();
    writer.apply_watcher_event(&Event::Init);
    for (value, name) in [(1, "a"), (2, "b"), (3, "c")] {
        writer.apply_watcher_event(&Event::InitApply(config_map("n", name, value)));
    }
    writer.apply_watcher_event(&Event::InitDone);
    (writer.as_reader(), writer)
}

fn work<Q>(store: Store<ConfigMap>, queue: Q, concurrency: u16) -> Work<ConfigMap, Q> {
    Work {
        kind: Kind::Service,
        store,
        queue,
        lane: Arc::new(|_| String::new()),
        concurrency,
    }
}

/// Counts reconciles; each takes a second.
#[derive(Debug, Default)]
struct Counts {
    started: Mutex<Vec<u32>>,
    running: AtomicUsize,
    most: AtomicUsize,
    finished: AtomicUsize,
}

async fn count(object: Arc<ConfigMap>, counts: Arc<Counts>) -> Result<Action, Failed> {
    counts.started.lock().unwrap().push(value(&object));
    let running = counts.running.fetch_add(1, Ordering::SeqCst) + 1;
    counts.most.fetch_max(running, Ordering::SeqCst);
    sleep(Duration::from_secs(1)).await;
    counts.running.fetch_sub(1, Ordering::SeqCst);
    counts.finished.fetch_add(1, Ordering::SeqCst);
    Ok(Action::await_change())
}

fn retry(_: Arc<ConfigMap>, _: &Failed, _: Arc<Counts>) -> Action {
    Action::requeue(Duration::from_secs(10))
}

fn named(names: &[&str]) -> Vec<ObjectRef<ConfigMap>> {
    names.iter().map(|name| reference("n", name)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_starts_nothing_more_and_finishes_what_runs() {
    let (store, _writer) = store();
    let (queue, requests) = mpsc::unbounded();
    let (stop, stopped) = oneshot::channel::<()>();
    let counts = Arc::new(Counts::default());
    let shutdown = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(run_controller(
        work(store, requests, 1),
        shutdown,
        Arc::clone(&counts),
        count,
        retry,
    ));
    for object in named(&["a", "b", "c"]) {
        queue.unbounded_send(object).unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(counts.started.lock().unwrap().len(), 1, "the others never began");
    assert_eq!(
        counts.finished.load(Ordering::SeqCst),
        1,
        "the first was finished"
    );
}

#[tokio::test(start_paused = true)]
async fn objects_are_worked_on_at_once_but_each_only_once() {
    let (store, _writer) = store();
    let counts = Arc::new(Counts::default());
    let queue = stream::iter(named(&["a", "b", "c", "a", "b", "unknown"]));
    let queue = futures::StreamExt::chain(queue, stream::pending());
    let shutdown = sleep(Duration::from_secs(10));
    run_controller(work(store, queue, 2), shutdown, Arc::clone(&counts), count, retry)
        .await
        .unwrap();
    let mut started = counts.started.lock().unwrap().clone();
    started.sort_unstable();
    assert_eq!(
        started,
        [1, 2, 3],
        "asked for twice before its turn is once; what is gone is skipped"
    );
    assert_eq!(counts.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_as_the_policy_says() {
    let (store, _writer) = store();
    let counts = Arc::new(Counts::default());
    let fail = |object: Arc<ConfigMap>, counts: Arc<Counts>| async move {
        count(object, counts).await?;
        Err(Failed)
    };
    let queue = futures::StreamExt::chain(stream::iter(named(&["a"])), stream::pending());
    let shutdown = sleep(Duration::from_secs(40));
    run_controller(work(store, queue, 4), shutdown, Arc::clone(&counts), fail, retry)
        .await
        .unwrap();
    // At 0, 11, 22 and 33 s: each takes a second, and the next comes ten after.
    assert_eq!(counts.started.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_ends_by_itself_is_an_error() {
    let (store, _writer) = store();
    let queue = stream::iter(named(&["a"]));
    let counts = Arc::new(Counts::default());
    let ended = run_controller(
        work(store, queue, 4),
        std::future::pending(),
        Arc::clone(&counts),
        count,
        retry,
    );
    let ended = ended.await.unwrap_err();
    assert_eq!(
        ended.to_string(),
        "the controller of Service ended by itself: its queue ended"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_reconciler_is_not_swallowed() {
    let (store, _writer) = store();
    let queue = futures::StreamExt::chain(stream::iter(named(&["a"])), stream::pending());
    let explode = |_: Arc<ConfigMap>, _: Arc<Counts>| async { panic!("on purpose") };
    let counts = Arc::new(Counts::default());
    let task = tokio::spawn(run_controller(
        work(store, queue, 4),
        std::future::pending(),
        counts,
        explode,
        retry,
    ));
    assert!(task.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_controller_aborts_its_reconciles() {
    let (store, _writer) = store();
    let counts = Arc::new(Counts::default());
    let queue = futures::StreamExt::chain(stream::iter(named(&["a"])), stream::pending());
    let task = tokio::spawn(run_controller(
        work(store, queue, 4),
        std::future::pending(),
        Arc::clone(&counts),
        count,
        retry,
    ));
    sleep(Duration::from_millis(500)).await;
    task.abort();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(counts.running.load(Ordering::SeqCst), 1, "it began");
    assert_eq!(counts.finished.load(Ordering::SeqCst), 0, "and never ended");
}

#[tokio::test(start_paused = true)]
async fn a_slow_lane_holds_up_no_other() {
    let (store, _writer) = store();
    let counts = Arc::new(Counts::default());
    let queue = futures::StreamExt::chain(stream::iter(named(&["a", "b", "c"])), stream::pending());
    let slow = |object: Arc<ConfigMap>, counts: Arc<Counts>| async move {
        if value(&object) != 3 {
            sleep(Duration::from_secs(60)).await;
        }
        count(object, counts).await
    };
    let lane = |object: &ConfigMap| if value(object) == 3 { "quick" } else { "slow" }.to_owned();
    let work = Work {
        lane: Arc::new(lane),
        ..work(store, queue, 1)
    };
    let shutdown = sleep(Duration::from_secs(10));
    run_controller(work, shutdown, Arc::clone(&counts), slow, retry)
        .await
        .unwrap();
    // Of the slow ones one was under way at the end, whichever came first, and the other never began.
    let started = counts.started.lock().unwrap().clone();
    assert_eq!((started[0], started.len()), (3, 2), "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_lanes_is_worked_on_once_at_a_time() {
    let (store, _writer) = store();
    let counts = Arc::new(Counts::default());
    let (queue, requests) = mpsc::unbounded();
    let moved = Arc::new(AtomicUsize::new(0));
    let lane = {
        let moved = Arc::clone(&moved);
        move |_: &ConfigMap| moved.load(Ordering::SeqCst).to_string()
    };
    let work = Work {
        lane: Arc::new(lane),
        ..work(store, requests, 4)
    };
    let shutdown = sleep(Duration::from_secs(60));
    let task = tokio::spawn(run_controller(work, shutdown, Arc::clone(&counts), count, retry));
    queue.unbounded_send(reference("n", "a")).unwrap();
    sleep(Duration::from_millis(500)).await;
    moved.store(1, Ordering::SeqCst);
    queue.unbounded_send(reference("n", "a")).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(counts.most.load(Ordering::SeqCst), 1);
    assert_eq!(
        *counts.started.lock().unwrap(),
        [1, 1],
        "once in each lane, one after the other"
    );
}
