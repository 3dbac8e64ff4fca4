//! A subscriber's queue of touched objects.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use kube::{Resource, runtime::reflector::ObjectRef};

use super::Touch;

/// The stream of one subscriber: every object once at first, then each that is touched.
///
/// No touch is lost, however slow the subscriber is: touches of one object that were not taken yet become one, the
/// last. So the queue never holds more than there are objects. The stream ends when the feed does.
pub struct Touches<K: Resource<DynamicType = ()>> {
    queue: Arc<Queue<K>>,
}

/// The feed's end of a [`Touches`].
pub(super) struct Subscriber<K: Resource<DynamicType = ()>> {
    queue: Weak<Queue<K>>,
}

struct Queue<K: Resource<DynamicType = ()>> {
    pending: Mutex<Pending<K>>,
    waker: AtomicWaker,
}

struct Pending<K: Resource<DynamicType = ()>> {
    order: VecDeque<ObjectRef<K>>,
    latest: HashMap<ObjectRef<K>, Touch<K>>,
    closed: bool,
}

/// Both ends of a new queue.
pub(super) fn queue<K: Resource<DynamicType = ()>>() -> (Subscriber<K>, Touches<K>) {
    let pending = Pending {
        order: VecDeque::new(),
        latest: HashMap::new(),
        closed: false,
    };
    let queue = Arc::new(Queue {
        pending: Mutex::new(pending),
        waker: AtomicWaker::new(),
    });
    (
        Subscriber {
            queue: Arc::downgrade(&queue),
        },
        Touches { queue },
    )
}

impl<K: Resource<DynamicType = ()>> Subscriber<K> {
    /// Adds a touch, replacing an earlier one of the same object. Returns whether anybody still listens.
    pub(super) fn push(&self, object: &ObjectRef<K>, touch: &Touch<K>) -> bool {
        let Some(queue) = self.queue.upgrade() else {
            return false;
        };
        {
            let mut pending = queue.lock();
            if pending.latest.insert(object.clone(), touch.clone()).is_none() {
                pending.order.push_back(object.clone());
            }
        }
        queue.waker.wake();
        true
    }
}

impl<K: Resource<DynamicType = ()>> Drop for Subscriber<K> {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.lock().closed = true;
            queue.waker.wake();
        }
    }
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, Pending<K>> {
        // Nothing that can panic runs under this lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Resource<DynamicType = ()>> Stream for Touches<K> {
    type Item = Touch<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Registered before looking, so that a push in between is not missed.
        self.queue.waker.register(context.waker());
        let mut pending = self.queue.lock();
        match pending.order.pop_front() {
            Some(object) => Poll::Ready(pending.latest.remove(&object)),
            None if pending.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<K: Resource<DynamicType = ()>> fmt::Debug for Touches<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Touches")
            .field("pending", &self.queue.lock().order.len())
            .finish()
    }
}
