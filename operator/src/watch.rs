//! Shared, cached watches of one kind over several namespaces.
//!
//! Each kind is watched once and cached once, whoever needs it:
//!
//! ```text
//!  namespace a ── watcher ──┐                                   ┌─▶ Store<K>    (the cache)
//!  namespace b ── watcher ──┼─▶ Merger (pure) ─▶ Feed's task ───┼─▶ Index<K, Q> (the objects by what they name)
//!  namespace c ── watcher ──┘                                   └─▶ Touches<K>  (one per subscriber)
//! ```
//!
//! kube's own shared streams do not say that an object is gone, hold up every subscriber for the slowest, and take one
//! API scope each; waking those who refer to an object needs the first, and a restricted operator the last.

use std::{fmt, sync::Arc};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, runtime::watcher};

mod controller;
mod feed;
mod guard;
mod hub;
mod index;
mod merge;
mod state;
#[cfg(test)]
mod tests;
mod touches;

pub use controller::{ControllerError, Work, run_controller};
pub use feed::{Feed, FeedStopped};
pub use guard::Guarded;
pub use index::Index;
pub use touches::Touches;

/// An object that appeared, changed or went away.
#[derive(Debug)]
pub struct Touch<K> {
    /// The object as last seen.
    pub object: Arc<K>,
    /// Whether it is gone (or no longer matches the selector of the watch).
    pub deleted: bool,
}

impl<K> Touch<K> {
    const fn there(object: Arc<K>) -> Self {
        Self {
            object,
            deleted: false,
        }
    }

    const fn gone(object: Arc<K>) -> Self {
        Self {
            object,
            deleted: true,
        }
    }
}

// Derived, this would ask for `K: Clone`.
impl<K> Clone for Touch<K> {
    fn clone(&self) -> Self {
        Self {
            object: Arc::clone(&self.object),
            deleted: self.deleted,
        }
    }
}

/// The namespaces whose objects are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchScope {
    /// All of them, with one watch per kind.
    #[default]
    All,
    /// These, with one watch per kind and namespace, so that rights in these are enough.
    Namespaces(Vec<String>),
}

impl fmt::Display for WatchScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all namespaces"),
            Self::Namespaces(names) => f.write_str(&names.join(", ")),
        }
    }
}

impl WatchScope {
    /// Whether objects in `namespace` are served.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| name == namespace),
        }
    }

    /// What to watch to see all objects of a namespaced kind that `config` selects.
    pub fn of<K>(&self, client: &Client, config: &watcher::Config) -> Vec<Scope<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::All => vec![Scope::everywhere(client, config)],
            Self::Namespaces(names) => names
                .iter()
                .map(|name| Scope {
                    name: Some(name.clone()),
                    api: Api::namespaced(client.clone(), name),
                    config: config.clone(),
                })
                .collect(),
        }
    }

    /// What to watch to see the namespaces themselves: all of them, or each by its name.
    pub fn namespaces<K>(&self, client: &Client) -> Vec<Scope<K>>
    where
        K: Resource<DynamicType = ()>,
    {
        let config = watcher::Config::default();
        match self {
            Self::All => vec![Scope::everywhere(client, &config)],
            Self::Namespaces(names) => names
                .iter()
                .map(|name| Scope {
                    name: Some(name.clone()),
                    api: Api::all(client.clone()),
                    config: config.clone().fields(&format!("metadata.name={name}")),
                })
                .collect(),
        }
    }
}

/// One watch: an API and what to select from it. Two scopes of one feed must not overlap.
#[derive(Clone, Debug)]
pub struct Scope<K: Resource> {
    /// The namespace, for messages; `None` is the whole cluster.
    pub name: Option<String>,
    /// Where to list and watch.
    pub api: Api<Guarded<K>>,
    /// What to select.
    pub config: watcher::Config,
}

impl<K: Resource<DynamicType = ()>> Scope<K> {
    /// The whole cluster.
    pub fn everywhere(client: &Client, config: &watcher::Config) -> Self {
        Self {
            name: None,
            api: Api::all(client.clone()),
            config: config.clone(),
        }
    }
}
