//! Running a reconciler over the objects of a [`Feed`](super::Feed).

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{
    FutureExt as _, Stream, StreamExt as _,
    channel::mpsc,
    future::{BoxFuture, Shared},
    stream::{BoxStream, SelectAll},
};
use kube::{
    Resource,
    runtime::{
        controller::{Action, Config, Error as ApplierError, applier},
        reflector::{ObjectRef, Store},
    },
};
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::FeedStopped;
use crate::{metrics::Kind, telemetry::reconcile_span};

/// Why the controllers cannot go on although nobody asked them to stop.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// One ended.
    #[error("the controller of {kind} ended by itself: {why}")]
    Ended {
        /// What it reconciles.
        kind: Kind,
        /// What happened.
        why: String,
    },
    /// A cache does not change any more, so that what it says is not so.
    #[error(transparent)]
    Feed(#[from] FeedStopped),
}

/// What a controller works on.
pub struct Work<K: Resource<DynamicType = ()> + 'static, Q> {
    /// For logs and metrics.
    pub kind: Kind,
    /// Where the objects are found; nothing is reconciled before it is complete.
    pub store: Store<K>,
    /// Which objects to look at, in no particular order and as often as anybody likes: an object that is asked for
    /// several times before its turn comes is reconciled once, and never twice at the same time.
    pub queue: Q,
    /// The lane of an object, by name. Objects wait only for others of their lane, so that one authorization server
    /// that is slow holds up nobody else's. There are to be few: a lane stays once it is there.
    pub lane: Arc<dyn Fn(&K) -> String + Send + Sync>,
    /// How many objects at a time, in each lane.
    pub concurrency: u16,
}

/// What happened to one request.
type Outcome<K, E> = Result<(ObjectRef<K>, Action), ApplierError<E, Infallible>>;

/// Reconciles what `work.queue` names until `shutdown` completes; then starts nothing more, finishes what is running,
/// and returns. Each reconcile runs in a span with a trace id of its own. Dropped, it aborts what is running.
///
/// # Errors
/// When the queue or the store ends before `shutdown`.
pub async fn run_controller<K, Q, C, R, F, P, E>(
    work: Work<K, Q>,
    shutdown: impl Future<Output = ()> + Send + 'static,
    context: Arc<C>,
    reconcile: R,
    error_policy: P,
) -> Result<(), ControllerError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    Q: Stream<Item = ObjectRef<K>> + Send + 'static,
    C: Send + Sync + 'static,
    R: Fn(Arc<K>, Arc<C>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    P: Fn(Arc<K>, &E, Arc<C>) -> Action + Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
{
    let shutdown = shutdown.boxed().shared();
    let (kind, ended) = (work.kind, |why: String| ControllerError::Ended {
        kind: work.kind,
        why,
    });
    tokio::select! {
        ready = work.store.wait_until_ready() => ready.map_err(|error| ended(error.to_string()))?,
        () = shutdown.clone() => return Ok(()),
    }
    let mut queue = Box::pin(work.queue.take_until(shutdown.clone()).fuse());
    let mut lanes = Lanes {
        kind,
        store: work.store.clone(),
        lane: work.lane,
        concurrency: work.concurrency,
        shutdown: shutdown.clone(),
        context,
        reconcile: Arc::new(reconcile),
        error_policy: Arc::new(error_policy),
        turns: Turns::default(),
        entrances: HashMap::new(),
        results: SelectAll::new(),
    };
    let mut why = "its queue ended".to_owned();
    let mut open = true;
    loop {
        tokio::select! {
            // The queue first: what is asked for again before its turn is then done once.
            biased;
            object = queue.next(), if open => {
                open = object.is_some();
                match object {
                    Some(object) => lanes.enter(object),
                    // What is running ends, and the lanes with it.
                    None => lanes.entrances.clear(),
                }
            }
            Some(outcome) = lanes.results.next(), if !lanes.results.is_empty() => match outcome {
                // Reconcilers report for themselves, with more knowledge.
                Ok(_) | Err(ApplierError::ReconcilerFailed(..)) => {}
                // Deleted since it was named: nothing to do.
                Err(ApplierError::ObjectNotFound(object)) => tracing::debug!(%object, "gone before its turn"),
                Err(error) => why = error.to_string(),
            },
            else => break,
        }
    }
    match shutdown.now_or_never() {
        Some(()) => Ok(()),
        None => Err(ended(why)),
    }
}

/// The lanes of one controller: each has a queue and workers of its own.
struct Lanes<K: Resource<DynamicType = ()> + 'static, C, R, P, E: std::error::Error + 'static> {
    kind: Kind,
    store: Store<K>,
    lane: Arc<dyn Fn(&K) -> String + Send + Sync>,
    concurrency: u16,
    shutdown: Shared<BoxFuture<'static, ()>>,
    context: Arc<C>,
    reconcile: Arc<R>,
    error_policy: Arc<P>,
    turns: Turns<K>,
    entrances: HashMap<String, mpsc::UnboundedSender<ObjectRef<K>>>,
    results: SelectAll<BoxStream<'static, Outcome<K, E>>>,
}

impl<K, C, R, F, P, E> Lanes<K, C, R, P, E>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    C: Send + Sync + 'static,
    R: Fn(Arc<K>, Arc<C>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    P: Fn(Arc<K>, &E, Arc<C>) -> Action + Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
{
    /// Puts an object into its lane. One that is gone has none.
    fn enter(&mut self, object: ObjectRef<K>) {
        let Some(found) = self.store.get(&object) else {
            tracing::debug!(%object, "gone before its turn");
            return;
        };
        let lane = (self.lane)(&found);
        if !self.entrances.contains_key(&lane) {
            let (entrance, queue) = mpsc::unbounded();
            self.results.push(self.open(lane.clone(), queue));
            self.entrances.insert(lane.clone(), entrance);
        }
        if let Some(entrance) = self.entrances.get(&lane) {
            // The lane takes everything as long as its entrance exists.
            let _ = entrance.unbounded_send(object);
        }
    }

    fn open(
        &self,
        own: String,
        queue: mpsc::UnboundedReceiver<ObjectRef<K>>,
    ) -> BoxStream<'static, Outcome<K, E>> {
        let (kind, lane, turns) = (self.kind, Arc::clone(&self.lane), self.turns.clone());
        let (reconcile, error_policy) = (Arc::clone(&self.reconcile), Arc::clone(&self.error_policy));
        let spawn = move |object: Arc<K>, context: Arc<C>| {
            let reference = ObjectRef::from_obj(&*object);
            let span = reconcile_span(kind.as_str(), &reference);
            // One that has moved since is another lane's, which was told.
            let moved = lane(&object) != own;
            let (turns, reconcile) = (turns.clone(), Arc::clone(&reconcile));
            let pass = async move {
                if moved {
                    return Ok(Action::await_change());
                }
                let Some(_turn) = turns.take(reference) else {
                    return Ok(Action::requeue(NOT_YET));
                };
                reconcile(object, context).await
            };
            Spawned(tokio::spawn(pass.instrument(span)))
        };
        let queue = queue.map(Ok::<_, Infallible>).take_until(self.shutdown.clone());
        let config = Config::default().concurrency(self.concurrency);
        applier(
            spawn,
            move |object, error: &E, context| error_policy(object, error, context),
            Arc::clone(&self.context),
            self.store.clone(),
            queue,
            config,
        )
        .boxed()
    }
}

/// When to ask again for an object that another lane, in which it was before, still works on.
const NOT_YET: Duration = Duration::from_millis(100);

/// The objects that are worked on, in whichever lane.
struct Turns<K: Resource<DynamicType = ()>>(Arc<Mutex<HashSet<ObjectRef<K>>>>);

/// An object is worked on until this is dropped.
struct Turn<K: Resource<DynamicType = ()>>(Turns<K>, ObjectRef<K>);

impl<K: Resource<DynamicType = ()>> Turns<K> {
    /// `None`: it is worked on already.
    fn take(&self, object: ObjectRef<K>) -> Option<Turn<K>> {
        let taken = self.lock().insert(object.clone());
        taken.then(|| Turn(self.clone(), object))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ObjectRef<K>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> Drop for Turn<K> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl<K: Resource<DynamicType = ()>> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> Default for Turns<K> {
    fn default() -> Self {
        Self(Arc::default())
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
