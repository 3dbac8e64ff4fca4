//! Waking objects for reasons that no watch shows.

use std::sync::{Mutex, PoisonError};

use futures::{
    Stream,
    channel::mpsc::{UnboundedSender, unbounded},
};
use kube::{Resource, runtime::reflector::ObjectRef};

/// Those who want to know which objects to look at again.
#[derive(Debug)]
pub struct Wakes<K: Resource<DynamicType = ()>>(Mutex<Vec<UnboundedSender<ObjectRef<K>>>>);

impl<K: Resource<DynamicType = ()>> Default for Wakes<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Wakes<K> {
    /// Tells everyone who subscribed.
    pub fn wake(&self, object: &ObjectRef<K>) {
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.unbounded_send(object.clone()).is_ok());
    }

    /// The objects that are woken from now on.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        let (sender, receiver) = unbounded();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}
