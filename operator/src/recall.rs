//! What objects were last found to hold, by the resourceVersion at which that was seen. Of Secrets and ConfigMaps only
//! metadata is cached: as long as the cache shows that very version, their content need not be read again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Resource, ResourceExt as _, api::ObjectMeta, core::PartialObjectMeta, runtime::reflector::ObjectRef,
};

use serde::de::DeserializeOwned;

use crate::{
    credential::{
        book::{Book, Missed},
        journal::Journal,
    },
    watch::Feed,
};

/// What is remembered. It lasts as long as this replica leads, so that nobody else writes what is remembered here.
#[derive(Debug, Default)]
pub struct Memory {
    /// What journals say. Holds credentials.
    pub journals: Recall<Secret, Journal>,
    /// The same of journals of registrations. Holds credentials.
    pub books: Recall<Secret, Book>,
    /// What journals of registrations were to say when writing them failed, by their names. Holds credentials.
    pub missed: Missing,
    /// Fingerprints of what Secrets were to hold, and did.
    pub secrets: Recall<Secret, String>,
    /// Fingerprints of what ConfigMaps were to hold, and did.
    pub config_maps: Recall<ConfigMap, String>,
    /// Secrets that are needed whole: of gates, and the operator's credentials. Holds credentials.
    pub whole_secrets: Recall<Secret, Arc<Secret>>,
    /// ConfigMaps that are needed whole: policies of gates, and certificates.
    pub whole_config_maps: Recall<ConfigMap, Arc<ConfigMap>>,
}

/// What could not be written, by the names of the journals.
#[derive(Default)]
pub struct Missing(Mutex<HashMap<String, Missed>>);

impl Missing {
    /// This could not be written.
    pub fn note(&self, name: &str, missed: Missed) {
        self.lock().insert(name.to_owned(), missed);
    }

    /// What could not be written of this journal.
    pub fn of(&self, name: &str) -> Option<Missed> {
        self.lock().get(name).cloned()
    }

    /// It was written, or is of no account any more.
    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Forgets the journals for whose names `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| exists(name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Missed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Missing").finish_non_exhaustive()
    }
}

/// What is remembered of objects of one kind.
pub struct Recall<K: Resource<DynamicType = ()>, T>(Mutex<HashMap<ObjectRef<K>, Entry<T>>>);

/// What is remembered of one object.
enum Entry<T> {
    /// It held this at this version.
    At(String, T),
    /// Somebody may have written it: what the cache shows may be older than that.
    Doubtful,
}

/// What can be said of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// There is none.
    Absent,
    /// It holds this.
    Held(T),
    /// Nothing: it is to be read.
    Unknown,
}

impl<K, T> Recall<K, T>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
    T: Clone,
{
    /// What `feed` and the memory together tell of an object.
    pub fn known(&self, feed: &Feed<PartialObjectMeta<K>>, namespace: &str, name: &str) -> Known<T> {
        if !feed.is_current() {
            return Known::Unknown;
        }
        let cached = feed.store().get(&ObjectRef::new(name).within(namespace));
        match (cached, self.lock().get(&ObjectRef::new(name).within(namespace))) {
            (None, None) => Known::Absent,
            (Some(cached), Some(Entry::At(version, held)))
                if cached.resource_version().as_ref() == Some(version) =>
            {
                Known::Held(held.clone())
            }
            _ => Known::Unknown,
        }
    }

    /// What an object that was just read was found or made to hold before, if it is of the same version still.
    pub fn at(&self, object: &ObjectMeta) -> Option<T> {
        let (name, namespace) = (object.name.as_deref()?, object.namespace.as_deref()?);
        match self.lock().get(&ObjectRef::new(name).within(namespace))? {
            Entry::At(version, held) if Some(version) == object.resource_version.as_ref() => {
                Some(held.clone())
            }
            _ => None,
        }
    }

    /// Notes what an object was read to hold, or was made to hold.
    pub fn note(&self, object: &ObjectMeta, held: T) {
        let (Some(name), Some(version)) = (&object.name, &object.resource_version) else {
            return;
        };
        let reference = ObjectRef::new(name).within(object.namespace.as_deref().unwrap_or_default());
        self.lock().insert(reference, Entry::At(version.clone(), held));
    }

    /// Notes that an object may be written in a moment, by us or, as it turned out, by somebody else.
    pub fn doubt(&self, namespace: &str, name: &str) {
        self.lock()
            .insert(ObjectRef::new(name).within(namespace), Entry::Doubtful);
    }

    /// Nothing is remembered of the object any more: it is not there.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&ObjectRef::<K>::new(name).within(namespace));
    }

    /// Forgets the objects, by namespace and name, for which `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str, &str) -> bool) {
        self.lock()
            .retain(|object, _| exists(object.namespace.as_deref().unwrap_or_default(), &object.name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<K>, Entry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Recall<K, Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    /// The object of this name, if there is one: read, unless it was read at the version that `feed` shows. Who writes it
    /// says so with [`Recall::doubt`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(
        &self,
        api: &Api<K>,
        feed: &Feed<PartialObjectMeta<K>>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, kube::Error> {
        if let Known::Held(found) = self.known(feed, namespace, name) {
            return Ok(Some(found));
        }
        let found = api.get_opt(name).await?.map(Arc::new);
        match &found {
            Some(found) => self.note(found.meta(), Arc::clone(found)),
            None => self.forget(namespace, name),
        }
        Ok(found)
    }
}

impl<K: Resource<DynamicType = ()>, T> Default for Recall<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Resource<DynamicType = ()>, T> fmt::Debug for Recall<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").finish_non_exhaustive()
    }
}
