//! Objects by what they name, so that who looks for those need not look at all.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

use kube::{Resource, runtime::reflector::ObjectRef};

/// The objects of a feed by some keys of theirs. A clone is another handle. It is up to date before anybody is told of a
/// change.
pub struct Index<K: Resource<DynamicType = ()>, Q> {
    entries: Arc<RwLock<Entries<K, Q>>>,
}

struct Entries<K: Resource<DynamicType = ()>, Q> {
    by_key: HashMap<Q, HashSet<Arc<ObjectRef<K>>>>,
    /// The other way round: what is to be removed when the object changes.
    keys: HashMap<Arc<ObjectRef<K>>, Vec<Q>>,
}

/// Told of each object that is there, or is no more.
pub(super) type Follower<K> = Box<dyn Fn(&ObjectRef<K>, Option<&K>) + Send>;

impl<K, Q> Index<K, Q>
where
    K: Resource<DynamicType = ()> + 'static,
    Q: Clone + Eq + Hash + Send + Sync + 'static,
{
    /// An empty one, and what keeps it up to date: `keys` says under which keys an object is found.
    pub(super) fn new<I>(keys: impl Fn(&K) -> I + Send + 'static) -> (Self, Follower<K>)
    where
        I: IntoIterator<Item = Q>,
    {
        let entries = Arc::new(RwLock::new(Entries {
            by_key: HashMap::new(),
            keys: HashMap::new(),
        }));
        let index = Self {
            entries: Arc::clone(&entries),
        };
        let follow = move |reference: &ObjectRef<K>, object: Option<&K>| {
            let keys: Vec<Q> = object.map(&keys).into_iter().flatten().collect();
            // A panic between two changes is impossible: they only touch maps.
            let mut entries = entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.put(reference, keys);
        };
        (index, Box::new(follow))
    }

    /// The objects with this key, in no order.
    pub fn get(&self, key: &Q) -> Vec<ObjectRef<K>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let found = entries.by_key.get(key).into_iter().flatten();
        found.map(|object| ObjectRef::clone(object)).collect()
    }
}

impl<K, Q> Entries<K, Q>
where
    K: Resource<DynamicType = ()>,
    Q: Clone + Eq + Hash,
{
    fn put(&mut self, reference: &ObjectRef<K>, keys: Vec<Q>) {
        if self.keys.get(reference).map_or(&[][..], Vec::as_slice) == keys {
            return;
        }
        if let Some((reference, old)) = self.keys.remove_entry(reference) {
            for key in old {
                if let Some(objects) = self.by_key.get_mut(&key) {
                    objects.remove(&reference);
                    if objects.is_empty() {
                        self.by_key.remove(&key);
                    }
                }
            }
        }
        if keys.is_empty() {
            return;
        }
        let reference = Arc::new(reference.clone());
        for key in &keys {
            let objects = self.by_key.entry(key.clone()).or_default();
            objects.insert(Arc::clone(&reference));
        }
        self.keys.insert(reference, keys);
    }
}

impl<K: Resource<DynamicType = ()>, Q> Clone for Index<K, Q> {
    fn clone(&self) -> Self {
        Self {
            entries: Arc::clone(&self.entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    use super::*;

    /// One whose keys are those of its data.
    fn map(keys: &[u8]) -> ConfigMap {
        let data: BTreeMap<String, String> =
            keys.iter().map(|key| (key.to_string(), String::new())).collect();
        ConfigMap {
            data: Some(data),
            ..ConfigMap::default()
        }
    }

    fn keys(map: &ConfigMap) -> Vec<String> {
        map.data.iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    proptest! {
        /// Whatever comes, changes and goes: it finds what looking at everything would.
        #[test]
        fn it_finds_what_a_look_at_all_finds(
            changes in prop::collection::vec((0_u8..5, prop::option::of(prop::collection::vec(0_u8..4, 0..3))), 0..40),
        ) {
            let (index, follow) = Index::new(keys);
            let mut all = BTreeMap::new();
            for (name, there) in changes {
                let reference = ObjectRef::new(&name.to_string()).within("n");
                let object = there.map(|keys| map(&keys));
                follow(&reference, object.as_ref());
                match object {
                    Some(object) => all.insert(name, object),
                    None => all.remove(&name),
                };
                for key in 0_u8..4 {
                    let key = key.to_string();
                    let has = |object: &ConfigMap| keys(object).contains(&key);
                    let expected: Vec<_> =
                        all.iter().filter(|(_, object)| has(object)).map(|(name, _)| name.to_string()).collect();
                    let mut found: Vec<_> = index.get(&key).into_iter().map(|found| found.name).collect();
                    found.sort_unstable();
                    prop_assert_eq!(found, expected);
                }
            }
            let entries = index.entries.read().unwrap();
            let with_keys = all.values().filter(|object| !keys(object).is_empty()).count();
            prop_assert_eq!(entries.keys.len(), with_keys, "nothing of what is gone is kept");
        }
    }
}
