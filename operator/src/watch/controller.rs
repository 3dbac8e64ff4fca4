//! Running a reconciler over the objects of a [`Feed`](super::Feed).

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    runtime::{
        controller::{Action, Config, Error as ApplierError, applier},
        reflector::{ObjectRef, Store},
    },
};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};
use tracing::Instrument;

use crate::{metrics::Kind, telemetry::reconcile_span};

/// Why a controller ended although nobody asked it to.
#[derive(Debug, Error)]
#[error("the controller of {kind} ended by itself: {why}")]
pub struct ControllerError {
    /// What it reconciles.
    pub kind: Kind,
    /// What happened.
    pub why: String,
}

/// What a controller works on.
#[derive(Debug)]
pub struct Work<K: Resource<DynamicType = ()> + 'static, Q> {
    /// For logs and metrics.
    pub kind: Kind,
    /// Where the objects are found; nothing is reconciled before it is complete.
    pub store: Store<K>,
    /// Which objects to look at, in no particular order and as often as anybody likes: an object that is asked for
    /// several times before its turn comes is reconciled once, and never twice at the same time.
    pub queue: Q,
    /// How many objects at a time.
    pub concurrency: u16,
}

/// Reconciles what `work.queue` names until `shutdown` completes; then starts nothing more, finishes what is running,
/// and returns. Each reconcile runs in a span with a trace id of its own. Dropped, it aborts what is running.
///
/// # Errors
/// When the queue or the store ends before `shutdown`.
pub async fn run_controller<K, Q, C, R, F, E>(
    work: Work<K, Q>,
    shutdown: impl Future<Output = ()> + Send + 'static,
    context: Arc<C>,
    reconcile: R,
    error_policy: impl Fn(Arc<K>, &E, Arc<C>) -> Action,
) -> Result<(), ControllerError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    Q: Stream<Item = ObjectRef<K>> + Send + 'static,
    R: Fn(Arc<K>, Arc<C>) -> F,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let Work {
        kind,
        store,
        queue,
        concurrency,
    } = work;
    let (asked, was_asked) = watch::channel(false);
    let stop = async move {
        shutdown.await;
        asked.send_replace(true);
    };
    let queue = queue.map(Ok::<_, Infallible>).take_until(Box::pin(stop));
    let spawn = |object: Arc<K>, context: Arc<C>| {
        let span = reconcile_span(kind.as_str(), &ObjectRef::from_obj(&*object));
        Spawned(tokio::spawn(reconcile(object, context).instrument(span)))
    };
    let config = Config::default().concurrency(concurrency);
    let mut results = Box::pin(applier(spawn, error_policy, context, store, queue, config));
    let mut why = "its queue ended".to_owned();
    while let Some(result) = results.next().await {
        match result {
            // Reconcilers report for themselves, with more knowledge.
            Ok(_) | Err(ApplierError::ReconcilerFailed(..)) => {}
            // Deleted since it was named: nothing to do.
            Err(ApplierError::ObjectNotFound(object)) => tracing::debug!(%object, "gone before its turn"),
            Err(error) => why = error.to_string(),
        }
    }
    if *was_asked.borrow() {
        Ok(())
    } else {
        Err(ControllerError { kind, why })
    }
}

/// A reconcile on a task of its own, so that many can use several processors. Aborted when dropped.
struct Spawned<T>(JoinHandle<T>);

impl<T> Future for Spawned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(result) => Poll::Ready(result),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Aborted: only `drop` and a runtime that is going away do that, and neither needs the result.
                Err(_) => Poll::Pending,
            },
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
