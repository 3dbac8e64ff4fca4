//! What a feed keeps: the cache, and who wants to know of its changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use tokio::time::Instant;

use super::{
    Touch,
    index::Follower,
    merge::Change,
    state::States,
    touches::{Subscriber, Touches, queue},
};
use crate::telemetry::in_one_line;

/// The cache and who wants to know of its changes: behind one lock, so that a new subscriber misses nothing.
pub(super) struct Hub<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    store: Store<K>,
    filled: bool,
    subscribers: Vec<Subscriber<K>>,
    followers: Vec<Follower<K>>,
    unreadable: HashMap<ObjectRef<K>, String>,
    /// How each watch is.
    pub(super) states: States,
    stopped: bool,
}

impl<K> Hub<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// An empty one.
    pub(super) fn new(states: States) -> Self {
        let writer = Writer::default();
        Self {
            store: writer.as_reader(),
            writer,
            filled: false,
            subscribers: Vec::new(),
            followers: Vec::new(),
            unreadable: HashMap::new(),
            states,
            stopped: false,
        }
    }

    /// The cache.
    pub(super) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// See [`super::Feed::subscribe`].
    pub(super) fn subscribe(&mut self) -> Touches<K> {
        let (subscriber, touches) = queue();
        if self.filled {
            for object in self.store.state() {
                subscriber.push(&ObjectRef::from_obj(&*object), &Touch::there(object));
            }
        }
        if !self.stopped {
            self.subscribers.push(subscriber);
        }
        touches
    }

    /// See [`super::Feed::index`].
    pub(super) fn follow(&mut self, follower: Follower<K>) {
        for object in self.store.state() {
            follower(&ObjectRef::from_obj(&*object), Some(&object));
        }
        self.followers.push(follower);
    }

    /// Whether it is certain that there is no such object, or that what there is `is_going`.
    pub(super) fn lacks(&self, object: &ObjectRef<K>, is_going: impl Fn(&K) -> bool) -> bool {
        self.missing().is_none()
            && !self.unreadable.contains_key(object)
            && self.store.get(object).is_none_or(|object| is_going(&object))
    }

    /// See [`super::Feed::unreadable`].
    pub(super) fn unreadable(&self, object: &ObjectRef<K>) -> Option<String> {
        self.unreadable.get(object).cloned()
    }

    /// See [`super::Feed::unread`].
    pub(super) fn unread(&self) -> Vec<ObjectRef<K>> {
        let unknown = |object: &&ObjectRef<K>| self.store.get(object).is_none();
        self.unreadable.keys().filter(unknown).cloned().collect()
    }

    /// Notes that a watch was interrupted.
    pub(super) fn failed(&mut self, scope: usize, error: &watcher::Error) {
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

    /// Changes the cache, and tells the subscribers.
    pub(super) fn apply(&mut self, changes: Vec<Change<K>>) {
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
            self.tell(&ObjectRef::from_obj(&*object), &Touch::there(object));
        }
    }

    fn applied(&mut self, object: K) {
        let reference = ObjectRef::from_obj(&object);
        self.unreadable.remove(&reference);
        self.writer.apply_watcher_event(&Event::Apply(object));
        if let Some(object) = self.store.get(&reference) {
            self.tell(&reference, &Touch::there(object));
        }
    }

    fn gone(&mut self, reference: &ObjectRef<K>, last: Option<K>) {
        self.unreadable.remove(reference);
        let Some(object) = last.map(Arc::new).or_else(|| self.store.get(reference)) else {
            return;
        };
        self.writer.apply_watcher_event(&Event::Delete((*object).clone()));
        self.tell(reference, &Touch::gone(object));
    }

    fn tell(&mut self, object: &ObjectRef<K>, touch: &Touch<K>) {
        let there = (!touch.deleted).then_some(&*touch.object);
        for follower in &self.followers {
            follower(object, there);
        }
        self.subscribers
            .retain(|subscriber| subscriber.push(object, touch));
    }

    /// Ends the subscribers' streams, and wakes those who wait for a cache that will never be complete.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.subscribers.clear();
        self.writer = Writer::default();
    }

    /// See [`super::Feed::probe`].
    pub(super) fn missing(&self) -> Option<String> {
        let kind = kind::<K>();
        if self.stopped {
            return Some(format!("the watch of {kind} ended"));
        }
        self.states.missing(&kind, Instant::now())
    }
}

/// The plural name of a kind, for people.
pub(super) fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::plural(&()).into_owned()
}

/// Locks the hub of a feed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The cache is whole after each event; a panic between two of them leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
