//! From the events of several watches to the changes of one cache, without I/O.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use kube::{
    Resource,
    runtime::{
        reflector::{Lookup, ObjectRef},
        watcher::Event,
    },
};

/// What one watch says about one object.
#[derive(Clone, Debug)]
pub(super) enum Seen<K: Lookup<DynamicType = ()>> {
    /// The object.
    Object(K),
    /// The object exists, but cannot be read as a `K`.
    Unreadable {
        /// Which one.
        object: ObjectRef<K>,
        /// Why not.
        why: String,
    },
}

/// What to do to the cache.
#[derive(Clone, Debug)]
pub(super) enum Change<K: Lookup<DynamicType = ()>> {
    /// The first complete picture, once every watch has listed. Comes exactly once, before any other change of the
    /// cache.
    Filled(Vec<K>),
    /// The object is as given.
    Applied(K),
    /// The object is gone; as it last was, if the watch said so.
    Gone(ObjectRef<K>, Option<K>),
    /// The object exists but cannot be read: what the cache knows of it stays.
    Unreadable(ObjectRef<K>, String),
}

/// Merges the events of watches that do not overlap.
///
/// Before every watch has listed once, nothing comes out. Afterwards a list that is repeated (because a watch was
/// interrupted for too long) becomes an application of everything in it and a deletion of everything missing from it:
/// the cache of the other watches must not be emptied for it.
#[derive(Debug)]
pub(super) struct Merger<K: Resource<DynamicType = ()>> {
    scopes: Vec<ScopeState<K>>,
    /// What has been listed so far; `None` once everything was.
    filling: Option<HashMap<ObjectRef<K>, K>>,
}

/// What is known about one watch.
#[derive(Debug)]
struct ScopeState<K: Resource<DynamicType = ()>> {
    /// Whether its list has been complete once.
    listed: bool,
    /// What it said exists, readable or not.
    known: HashSet<ObjectRef<K>>,
    /// What the list that is under way has named so far.
    relisted: HashSet<ObjectRef<K>>,
}

impl<K> Merger<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    /// A merger of this many watches.
    pub(super) fn new(scopes: usize) -> Self {
        let empty = || ScopeState {
            listed: false,
            known: HashSet::new(),
            relisted: HashSet::new(),
        };
        Self {
            scopes: (0..scopes).map(|_| empty()).collect(),
            filling: Some(HashMap::new()),
        }
    }

    /// Whether watch number `scope` has yet to list for the first time.
    pub(super) fn is_unlisted(&self, scope: usize) -> bool {
        self.scopes.get(scope).is_some_and(|state| !state.listed)
    }

    /// What an event of watch number `scope` means for the cache.
    pub(super) fn on(&mut self, scope: usize, event: Event<Seen<K>>) -> Vec<Change<K>> {
        let Some(state) = self.scopes.get_mut(scope) else {
            return Vec::new();
        };
        let changes = match event {
            Event::Init => {
                state.relisted.clear();
                Vec::new()
            }
            Event::InitApply(seen) => {
                state.relisted.insert(reference(&seen));
                vec![state.saw(seen)]
            }
            Event::Apply(seen) => vec![state.saw(seen)],
            Event::Delete(seen) => {
                let gone = reference(&seen);
                state.known.remove(&gone);
                vec![Change::Gone(gone, seen.into_object())]
            }
            Event::InitDone => {
                state.listed = true;
                let listed = mem::take(&mut state.relisted);
                let before = mem::replace(&mut state.known, listed);
                before
                    .difference(&state.known)
                    .cloned()
                    .map(|gone| Change::Gone(gone, None))
                    .collect()
            }
        };
        self.fill(changes)
    }

    /// Keeps `changes` back while the first picture is incomplete; hands it out when it is complete.
    fn fill(&mut self, changes: Vec<Change<K>>) -> Vec<Change<K>> {
        let Some(mut picture) = self.filling.take() else {
            return changes;
        };
        let mut unreadable = Vec::new();
        for change in changes {
            match change {
                Change::Applied(object) => {
                    picture.insert(ObjectRef::from_obj(&object), object);
                }
                Change::Gone(object, _) => {
                    picture.remove(&object);
                }
                Change::Unreadable(..) => unreadable.push(change),
                Change::Filled(_) => {}
            }
        }
        if self.scopes.iter().all(|scope| scope.listed) {
            unreadable.push(Change::Filled(picture.into_values().collect()));
        } else {
            self.filling = Some(picture);
        }
        unreadable
    }
}

impl<K> ScopeState<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    fn saw(&mut self, seen: Seen<K>) -> Change<K> {
        self.known.insert(reference(&seen));
        match seen {
            Seen::Object(object) => Change::Applied(object),
            Seen::Unreadable { object, why } => Change::Unreadable(object, why),
        }
    }
}

impl<K: Lookup<DynamicType = ()>> Seen<K> {
    fn into_object(self) -> Option<K> {
        match self {
            Self::Object(object) => Some(object),
            Self::Unreadable { .. } => None,
        }
    }
}

fn reference<K>(seen: &Seen<K>) -> ObjectRef<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    match seen {
        Seen::Object(object) => ObjectRef::from_obj(object),
        Seen::Unreadable { object, .. } => object.clone(),
    }
}
