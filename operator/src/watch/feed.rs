//! The task behind one watched kind: it keeps the cache and tells the subscribers.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use kube::{
    Resource,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher as watch,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{sync::watch as signal, task::JoinHandle, time::Instant};

use super::{
    Scope, Touch,
    guard::Guarded,
    merge::{Change, Merger, Seen},
    state::States,
    touches::{Subscriber, Touches, queue},
};
use crate::telemetry::in_one_line;

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

/// The cache and who wants to know of its changes: behind one lock, so that a new subscriber misses nothing.
struct Hub<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    store: Store<K>,
    filled: bool,
    subscribers: Vec<Subscriber<K>>,
    unreadable: HashMap<ObjectRef<K>, String>,
    states: States,
    stopped: bool,
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
        let store = hub.store.clone();
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
        let (subscriber, touches) = queue();
        let mut hub = lock(&self.hub);
        if hub.filled {
            for object in hub.store.state() {
                subscriber.push(
                    &ObjectRef::from_obj(&*object),
                    &Touch {
                        object,
                        deleted: false,
                    },
                );
            }
        }
        if !hub.stopped {
            hub.subscribers.push(subscriber);
        }
        touches
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
        move |name| {
            let (hub, object) = (lock(&hub), ObjectRef::new(name));
            hub.missing().is_none()
                && !hub.unreadable.contains_key(&object)
                && hub.store.get(&object).is_none_or(|object| is_going(&object))
        }
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
        lock(&self.hub).unreadable.get(object).cloned()
    }

    /// The objects that exist and are not in the cache, because they could not be read.
    pub fn unread(&self) -> Vec<ObjectRef<K>> {
        let hub = lock(&self.hub);
        let unknown = |object: &&ObjectRef<K>| hub.store.get(object).is_none();
        hub.unreadable.keys().filter(unknown).cloned().collect()
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
        let mut hub = lock(&self.0);
        hub.stopped = true;
        hub.subscribers.clear();
        // Wakes those who wait for a cache that will never be complete.
        hub.writer = Writer::default();
    }
}

impl<K> Hub<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn new(states: States) -> Self {
        let writer = Writer::default();
        Self {
            store: writer.as_reader(),
            writer,
            filled: false,
            subscribers: Vec::new(),
            unreadable: HashMap::new(),
            states,
            stopped: false,
        }
    }

    fn failed(&mut self, scope: usize, error: &watcher::Error) {
        let problem = in_one_line(error);
        if self.states.failed(scope, problem.clone(), Instant::now()) {
            let (kind, namespace) = (kind::<K>(), self.states.name(scope).unwrap_or("*"));
            tracing::warn!(
                kind,
                namespace,
                problem,
                "a watch was interrupted and will be resumed"
            );
        }
    }

    fn apply(&mut self, changes: Vec<Change<K>>) {
        for change in changes {
            match change {
                Change::Filled(objects) => self.fill(objects),
                Change::Applied(object) => self.applied(object),
                Change::Gone(object, last) => self.gone(&object, last),
                Change::Unreadable(object, why) => {
                    // Our own kinds hold no secrets, and of Secrets only metadata is read: `why` can be shown.
                    tracing::warn!(kind = kind::<K>(), %object, why, "an object cannot be read; what was known of it stays");
                    self.unreadable.insert(object, why);
                }
            }
        }
    }

    fn fill(&mut self, objects: Vec<K>) {
        self.writer.apply_watcher_event(&Event::Init);
        for object in objects {
            self.unreadable.remove(&ObjectRef::from_obj(&object));
            self.writer.apply_watcher_event(&Event::InitApply(object));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
        self.filled = true;
        for object in self.store.state() {
            self.tell(
                &ObjectRef::from_obj(&*object),
                &Touch {
                    object,
                    deleted: false,
                },
            );
        }
    }

    fn applied(&mut self, object: K) {
        let reference = ObjectRef::from_obj(&object);
        self.unreadable.remove(&reference);
        self.writer.apply_watcher_event(&Event::Apply(object));
        if let Some(object) = self.store.get(&reference) {
            self.tell(
                &reference,
                &Touch {
                    object,
                    deleted: false,
                },
            );
        }
    }

    fn gone(&mut self, reference: &ObjectRef<K>, last: Option<K>) {
        self.unreadable.remove(reference);
        let Some(object) = last.map(Arc::new).or_else(|| self.store.get(reference)) else {
            return;
        };
        self.writer.apply_watcher_event(&Event::Delete((*object).clone()));
        self.tell(
            reference,
            &Touch {
                object,
                deleted: true,
            },
        );
    }

    fn tell(&mut self, object: &ObjectRef<K>, touch: &Touch<K>) {
        self.subscribers
            .retain(|subscriber| subscriber.push(object, touch));
    }

    fn missing(&self) -> Option<String> {
        let kind = kind::<K>();
        if self.stopped {
            return Some(format!("the watch of {kind} ended"));
        }
        self.states.missing(&kind, Instant::now())
    }
}

/// The plural name of a kind, for people.
fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::plural(&()).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The cache is whole after each event; a panic between two of them leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
