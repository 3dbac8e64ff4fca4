//! The task behind one watched kind: it keeps the cache and tells the subscribers.

use std::{
    fmt::{self, Debug},
    hash::Hash,
    sync::{Arc, Mutex},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use kube::{
    Resource,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher as watch,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{sync::watch as signal, task::JoinHandle};

use super::{
    Scope,
    guard::Guarded,
    hub::{Hub, kind, lock},
    index::Index,
    merge::{Merger, Seen},
    state::States,
    touches::Touches,
};

/// The feed's task is gone, so its cache will not change any more.
#[derive(Debug, Error)]
#[error("the watch of {kind} ended")]
pub struct FeedStopped {
    /// The plural name of the kind.
    pub kind: String,
}

/// A watched and cached kind. A clone is another handle; the watch ends with the last one.
pub struct Feed<K: Resource<DynamicType = ()> + Clone + 'static> {
    hub: Arc<Mutex<Hub<K>>>,
    store: Store<K>,
    task: Arc<Task>,
    /// Nothing is sent: it closes when the task ends.
    alive: signal::Receiver<()>,
}

/// Ends the task with its last owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Starts watching at least one scope; must run within a tokio runtime.
    pub fn start(scopes: Vec<Scope<K>>) -> Self {
        Self::start_unless(scopes, |_| false)
    }

    /// [`Self::start`], but does not wait for scopes whose namespace does not exist, as `absent` knows: they hold
    /// nothing, and the right to list them is often given within them, so that it is refused.
    pub fn start_unless(scopes: Vec<Scope<K>>, absent: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let count = scopes.len();
        let hub = Hub::new(States::new(scopes.iter().map(|scope| scope.name.clone())));
        let store = hub.store();
        let hub = Arc::new(Mutex::new(hub));
        let watches = scopes.into_iter().enumerate().map(|(number, scope)| {
            watch(scope.api, scope.config)
                .default_backoff()
                .map(move |event| (number, event.map(Guarded::open)))
                .boxed()
        });
        let (life, alive) = signal::channel(());
        let stopper = StopOnDrop(Arc::clone(&hub), life);
        let task = tokio::spawn(drive(stopper, count, absent, stream::select_all(watches)));
        Self {
            hub,
            store,
            task: Arc::new(Task(task)),
            alive,
        }
    }
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    /// The cache. Empty until the feed is ready.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Every object that there is, then every object that is touched, deletions included.
    pub fn subscribe(&self) -> Touches<K> {
        lock(&self.hub).subscribe()
    }

    /// The objects by `keys` of theirs. It follows the feed for as long as that runs.
    pub fn index<Q, I>(&self, keys: impl Fn(&K) -> I + Send + 'static) -> Index<K, Q>
    where
        Q: Clone + Eq + Hash + Send + Sync + 'static,
        I: IntoIterator<Item = Q>,
    {
        let (index, follower) = Index::new(keys);
        lock(&self.hub).follow(follower);
        index
    }

    /// Waits until the cache holds everything that every watch listed.
    ///
    /// # Errors
    /// When the feed's task ended before.
    pub async fn wait_until_ready(&self) -> Result<(), FeedStopped> {
        self.store
            .wait_until_ready()
            .await
            .map_err(|_| FeedStopped { kind: kind::<K>() })
    }

    /// Completes when the feed's task has ended, which it does by itself only by a defect: the cache is dead then.
    pub async fn stopped(&self) -> FeedStopped {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
        FeedStopped { kind: kind::<K>() }
    }

    /// Whether there is no cluster-wide object of this name. Says no as long as the cache may lack one.
    ///
    /// The closure does not keep the watch alive.
    pub fn absence(&self) -> impl Fn(&str) -> bool + Clone + Send + Sync + 'static {
        self.lacks(|_| false)
    }

    /// The same, also of an object that is being deleted.
    pub fn absence_or_deletion(&self) -> impl Fn(&str) -> bool + Clone + Send + Sync + 'static {
        self.lacks(|object| object.meta().deletion_timestamp.is_some())
    }

    fn lacks(
        &self,
        is_going: impl Fn(&K) -> bool + Clone + Send + Sync + 'static,
    ) -> impl Fn(&str) -> bool + Clone + Send + Sync + 'static {
        let hub = Arc::clone(&self.hub);
        move |name| lock(&hub).lacks(&ObjectRef::new(name), &is_going)
    }

    /// Whether the cache is complete and kept up to date.
    pub fn is_current(&self) -> bool {
        lock(&self.hub).missing().is_none()
    }

    /// What the cache lacks, in words for people; `None` if it is complete and kept up to date.
    /// The closure holds the cache but does not keep the watch alive: it is made for a readiness probe.
    pub fn probe(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let hub = Arc::clone(&self.hub);
        move || lock(&hub).missing()
    }

    /// Why this object, which exists, is not in the cache as it is now: it could not be read as a `K`.
    ///
    /// Who finds an object missing from the cache and would take something away for it should ask this first.
    pub fn unreadable(&self, object: &ObjectRef<K>) -> Option<String> {
        lock(&self.hub).unreadable(object)
    }

    /// The objects that exist and are not in the cache, because they could not be read.
    pub fn unread(&self) -> Vec<ObjectRef<K>> {
        lock(&self.hub).unread()
    }
}

/// The events of all watches, each with its number.
type Watches<K> = SelectAll<BoxStream<'static, (usize, watcher::Result<Event<Seen<K>>>)>>;

/// Applies events until the watches end, which they do only with the task.
async fn drive<K>(
    stopper: StopOnDrop<K>,
    scopes: usize,
    absent: impl Fn(&str) -> bool,
    mut watches: Watches<K>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let hub = &stopper.0;
    let mut merger = Merger::new(scopes);
    while let Some((scope, event)) = watches.next().await {
        let mut hub = lock(hub);
        match event {
            Ok(event) => {
                // A watch says that it begins to list before it knows whether it may.
                if !matches!(event, Event::Init) {
                    hub.states.fine(scope);
                }
                hub.apply(merger.on(scope, event));
            }
            Err(_) if hub.states.name(scope).is_some_and(&absent) => {
                hub.states.fine(scope);
                // What was listed stays until the watch says otherwise: it may go on without listing again.
                if merger.is_unlisted(scope) {
                    hub.apply(merger.on(scope, Event::Init));
                    hub.apply(merger.on(scope, Event::InitDone));
                }
            }
            Err(error) => hub.failed(scope, &error),
        }
        if !merger.is_unlisted(scope) {
            hub.states.listed(scope);
        }
    }
}

/// Ends the subscribers' streams, and tells who waits for it, when the task ends, however it ends.
struct StopOnDrop<K: Resource<DynamicType = ()> + Clone + 'static>(
    Arc<Mutex<Hub<K>>>,
    /// Closes with the task.
    #[expect(dead_code, reason = "it only has to be dropped")]
    signal::Sender<()>,
);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Drop for StopOnDrop<K> {
    fn drop(&mut self) {
        lock(&self.0).stop();
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Feed<K> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
            store: self.store.clone(),
            task: Arc::clone(&self.task),
            alive: self.alive.clone(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Debug for Feed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("kind", &kind::<K>())
            .field("objects", &self.store.len())
            .finish_non_exhaustive()
    }
}
