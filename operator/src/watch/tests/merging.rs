//! The merger against the plainest model: each watch keeps its own map, and the cache must be their union.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use proptest::prelude::*;

use super::{
    super::merge::{Change, Merger, Seen},
    config_map, reference, value,
};

const SCOPES: usize = 3;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One thing that a watch may report.
#[derive(Clone, Debug)]
enum Step {
    /// A list that gets to its end: the names in it with their values; `None` stands for an unreadable object.
    List(Vec<(usize, Option<u32>)>),
    /// A list that breaks off.
    BrokenList(Vec<(usize, Option<u32>)>),
    Apply(usize, Option<u32>),
    Delete(usize),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let value = || prop_oneof![9 => (0u32..100).prop_map(Some), 1 => Just(None)];
    let entry = move || (0..NAMES.len(), value());
    let step = prop_oneof![
        2 => prop::collection::vec(entry(), 0..6).prop_map(Step::List),
        1 => prop::collection::vec(entry(), 0..6).prop_map(Step::BrokenList),
        4 => entry().prop_map(|(name, value)| Step::Apply(name, value)),
        2 => (0..NAMES.len()).prop_map(Step::Delete),
    ];
    prop::collection::vec((0..SCOPES, step), 0..60)
}

fn namespace(scope: usize) -> String {
    format!("n{scope}")
}

fn seen(scope: usize, name: usize, value: Option<u32>) -> Seen<ConfigMap> {
    match value {
        Some(value) => Seen::Object(config_map(&namespace(scope), NAMES[name], value)),
        None => Seen::Unreadable {
            object: reference(&namespace(scope), NAMES[name]),
            why: "odd".to_owned(),
        },
    }
}

/// The events that kube's watcher would emit for a step; outside of lists only once there was one.
fn events(scope: usize, step: &Step) -> Vec<Event<Seen<ConfigMap>>> {
    let listed = |entries: &[(usize, Option<u32>)]| {
        let objects = entries
            .iter()
            .map(|(name, value)| Event::InitApply(seen(scope, *name, *value)));
        std::iter::once(Event::Init).chain(objects).collect::<Vec<_>>()
    };
    match step {
        Step::List(entries) => listed(entries).into_iter().chain([Event::InitDone]).collect(),
        Step::BrokenList(entries) => listed(entries),
        Step::Apply(name, value) => vec![Event::Apply(seen(scope, *name, *value))],
        Step::Delete(name) => vec![Event::Delete(seen(scope, *name, Some(0)))],
    }
}

/// What one watch knows: its objects, and whether a list of it is under way or has ever been complete.
#[derive(Clone, Debug, Default)]
struct Model {
    objects: BTreeMap<usize, u32>,
    listed: bool,
    listing: bool,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match step {
            Step::List(entries) => {
                let names: BTreeSet<_> = entries.iter().map(|(name, _)| *name).collect();
                self.objects.retain(|name, _| names.contains(name));
                self.put(entries);
                (self.listed, self.listing) = (true, false);
            }
            Step::BrokenList(entries) => {
                self.put(entries);
                self.listing = true;
            }
            Step::Apply(name, value) => self.put(&[(*name, *value)]),
            Step::Delete(name) => {
                self.objects.remove(name);
            }
        }
    }

    /// An unreadable object leaves what was known.
    fn put(&mut self, entries: &[(usize, Option<u32>)]) {
        self.objects.extend(
            entries
                .iter()
                .filter_map(|(name, value)| Some((*name, (*value)?))),
        );
    }

    /// A watch reports changes only between lists.
    fn allows(&self, step: &Step) -> bool {
        matches!(step, Step::List(_) | Step::BrokenList(_)) || (self.listed && !self.listing)
    }
}

/// A cache that does as it is told, and checks that what it is told is well-formed.
#[derive(Debug, Default)]
struct Cache {
    objects: BTreeMap<(String, String), u32>,
    filled: bool,
}

impl Cache {
    fn take(&mut self, change: Change<ConfigMap>) {
        let key = |object: &ConfigMap| {
            (
                object.metadata.namespace.clone().unwrap(),
                object.metadata.name.clone().unwrap(),
            )
        };
        match change {
            Change::Filled(objects) => {
                assert!(!self.filled, "filled twice");
                self.filled = true;
                let total = objects.len();
                self.objects = objects
                    .iter()
                    .map(|object| (key(object), value(object)))
                    .collect();
                assert_eq!(self.objects.len(), total, "an object twice");
            }
            Change::Applied(object) => {
                assert!(self.filled, "applied before filled");
                self.objects.insert(key(&object), value(&object));
            }
            Change::Gone(object, last) => {
                assert!(self.filled, "gone before filled");
                let name = (object.namespace.clone().unwrap(), object.name.clone());
                assert!(last.is_none_or(|last| key(&last) == name));
                self.objects.remove(&name);
            }
            Change::Unreadable(..) => {}
        }
    }
}

proptest! {
    #[test]
    fn the_cache_is_the_union_of_what_the_watches_know(steps in steps()) {
        let mut merger = Merger::new(SCOPES);
        let mut models = vec![Model::default(); SCOPES];
        let mut cache = Cache::default();
        for (scope, step) in steps {
            if !models[scope].allows(&step) {
                continue;
            }
            models[scope].take(&step);
            for event in events(scope, &step) {
                for change in merger.on(scope, event) {
                    cache.take(change);
                }
            }
            let complete = models.iter().all(|model| model.listed);
            prop_assert_eq!(cache.filled, complete);
            for (number, model) in models.iter().enumerate() {
                prop_assert_eq!(merger.is_unlisted(number), !model.listed);
            }
            // While a list is under way its watch's part is in between; the others' parts are not.
            for (number, model) in models.iter().enumerate().filter(|(_, model)| complete && !model.listing) {
                let part = |(namespace, _): &&(String, String)| *namespace == super::merging::namespace(number);
                let cached: BTreeMap<_, _> = cache.objects.iter().filter(|(key, _)| part(key))
                    .map(|((_, name), value)| (name.as_str(), *value)).collect();
                let known: BTreeMap<_, _> = model.objects.iter().map(|(name, value)| (NAMES[*name], *value)).collect();
                prop_assert_eq!(cached, known);
            }
        }
    }
}

#[test]
fn a_repeated_list_deletes_what_it_lacks_and_nothing_of_other_watches() {
    let mut merger = Merger::new(2);
    let mut play = |scope: usize, step: Step| -> Vec<String> {
        let changes = events(scope, &step)
            .into_iter()
            .flat_map(|event| merger.on(scope, event))
            .collect::<Vec<_>>();
        let mut changes: Vec<_> = changes.iter().map(describe).collect();
        // What is gone has no order among itself.
        changes.sort();
        changes
    };
    assert_eq!(
        play(0, Step::List(vec![(0, Some(1)), (1, Some(1))])),
        Vec::<String>::new()
    );
    assert_eq!(
        play(1, Step::List(vec![(0, Some(7))])),
        ["filled n0/a=1 n0/b=1 n1/a=7"]
    );
    assert_eq!(
        play(0, Step::List(vec![(1, Some(2)), (2, Some(3))])),
        ["-n0/a", "n0/b=2", "n0/c=3"]
    );
    assert_eq!(play(0, Step::BrokenList(vec![(3, Some(4))])), ["n0/d=4"]);
    assert_eq!(play(0, Step::List(vec![(1, None)])), ["-n0/c", "-n0/d", "?n0/b"]);
}

/// A change in short.
fn describe(change: &Change<ConfigMap>) -> String {
    let show = |object: &ConfigMap| {
        let metadata = &object.metadata;
        format!(
            "{}/{}={}",
            metadata.namespace.as_ref().unwrap(),
            metadata.name.as_ref().unwrap(),
            value(object)
        )
    };
    let name = |object: &kube::runtime::reflector::ObjectRef<ConfigMap>| {
        format!("{}/{}", object.namespace.as_ref().unwrap(), object.name)
    };
    match change {
        Change::Filled(objects) => {
            let objects: BTreeSet<_> = objects.iter().map(show).collect();
            format!("filled {}", objects.into_iter().collect::<Vec<_>>().join(" "))
        }
        Change::Applied(object) => show(object),
        Change::Gone(object, _) => format!("-{}", name(object)),
        Change::Unreadable(object, _) => format!("?{}", name(object)),
    }
}
