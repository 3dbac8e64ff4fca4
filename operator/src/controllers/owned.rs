//! Objects that an object of ours owns, whatever their kind: kept as they are wanted, and taken away.

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, ResourceExt as _, api::ObjectMeta, runtime::reflector::ObjectRef};
use mcp_auth_crds::annotations::WANTED;
use serde_json::Value;

use super::{applied::PART, halt::Halt, pass::key};
use crate::{
    cluster::{Owned, Ownership, ownership},
    context::Context,
    error::Error,
    metrics::Kind,
    policy::names,
    recall::Known,
    watch::Feed,
};

/// The reason of an object of somebody else that stands in the way.
pub const NOT_OWNED: &str = "GateObjectNotOwned";
/// The reason of a ConfigMap of somebody else.
const MAP_NOT_OWNED: &str = "ConfigMapNotOwned";

/// An object as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its resourceVersion.
    pub version: Option<String>,
    /// Its generation as it is then: a cache may not show it yet.
    pub generation: Option<i64>,
    /// It was not so before.
    pub wrote: bool,
}

/// Makes an object of `owner` be as `wanted`, which carries the owner reference. What others added to it stays, but not
/// where it changes of whom something holds; what is not wanted any more goes. One of this name that is not the owner's is
/// never overwritten. The cache tells that nothing is to be done; before a write the API server is asked, because a cache
/// by label does not show what lacks the label.
///
/// # Errors
/// When it belongs to somebody else, or cannot be read or written.
pub async fn keep<O: Owned, K: Owned + k8s_openapi::Resource + Sync + Send>(
    kind: Kind,
    owner: &O,
    wanted: &K,
    feed: &Feed<K>,
    ctx: &Context,
) -> Result<Kept, Halt> {
    let Some(wanted) = Wanted::new(kind, owner, wanted) else {
        return Ok(Kept::default());
    };
    let (namespace, name) = wanted.place();
    let cached = feed.store().get(&ObjectRef::new(&name).within(&namespace));
    if let Some(found) = cached.filter(|found| wanted.is_kept(found)) {
        return Ok(wanted.found(&found, ctx));
    }
    let api: Api<K> = ctx.cluster.api(&namespace);
    let existing = api.get_opt(&name).await?;
    wanted.put(existing.as_ref(), ctx).await
}

/// As [`keep`], of a kind of which only metadata is cached: its content is read unless it was right at the version that
/// the cache shows.
///
/// # Errors
/// When it belongs to somebody else, or cannot be read or written.
pub async fn keep_map<O: Owned>(
    kind: Kind,
    owner: &O,
    wanted: &ConfigMap,
    ctx: &Context,
) -> Result<(), Halt> {
    let Some(wanted) = Wanted::new(kind, owner, wanted) else {
        return Ok(());
    };
    let ((namespace, name), memory) = (wanted.place(), &ctx.memory.config_maps);
    let right = names::hash(wanted.version.as_bytes(), 16);
    if memory.known(&ctx.feeds.config_maps, &namespace, &name) == Known::Held(right.clone()) {
        return Ok(());
    }
    let api: Api<ConfigMap> = ctx.cluster.api(&namespace);
    let existing = api.get_opt(&name).await?;
    let kept = wanted.put(existing.as_ref(), ctx).await?;
    let place = ObjectMeta {
        namespace: Some(namespace),
        name: Some(name),
        resource_version: kept.version,
        ..ObjectMeta::default()
    };
    memory.note(&place, right);
    Ok(())
}

/// As [`keep`], of an object that this pass has read, because no cache holds what is in it.
///
/// # Errors
/// When it belongs to somebody else, or cannot be written.
pub async fn keep_seen<O: Owned, K: Owned + k8s_openapi::Resource + Sync + Send>(
    kind: Kind,
    owner: &O,
    wanted: &K,
    existing: Option<&K>,
    ctx: &Context,
) -> Result<Kept, Halt> {
    match Wanted::new(kind, owner, wanted) {
        Some(wanted) => wanted.put(existing, ctx).await,
        None => Ok(Kept::default()),
    }
}

/// What is wanted of an object, and for whom.
struct Wanted<K> {
    kind: Kind,
    owner: OwnerReference,
    object: K,
    /// The name under which it is noted what is in force.
    part: String,
    version: String,
}

impl<K: Owned + k8s_openapi::Resource + Sync + Send> Wanted<K> {
    /// Nothing is wanted for an owner that is not in the cluster.
    fn new<O: Owned>(kind: Kind, owner: &O, wanted: &K) -> Option<Self> {
        let object = marked(wanted);
        Some(Self {
            kind,
            owner: owner.controller_owner_ref(&())?,
            part: format!("{}{PART}{}/{}", key(owner), K::KIND, object.name_any()),
            version: format!("{object:?}"),
            object,
        })
    }

    fn place(&self) -> (String, String) {
        (
            self.object.namespace().unwrap_or_default(),
            self.object.name_any(),
        )
    }

    fn is_kept(&self, found: &K) -> bool {
        ownership(Some(found.meta()), &self.owner) == (Ownership::Ours { alive: true })
            && holds(found, &self.object)
    }

    /// It is as it is to be.
    fn found(&self, found: &K, ctx: &Context) -> Kept {
        ctx.applied.note(self.kind, &self.part, &self.version);
        Kept {
            version: found.resource_version(),
            generation: found.meta().generation,
            wrote: false,
        }
    }

    /// Writes it over what there is, if need be and if that is ours.
    async fn put(mut self, existing: Option<&K>, ctx: &Context) -> Result<Kept, Halt> {
        let applied = match (
            ownership(existing.map(kube::Resource::meta), &self.owner),
            existing,
        ) {
            (Ownership::Foreign, _) => return Err(foreign::<K>(&self.object.name_any(), self.kind)),
            (Ownership::Ours { alive: true }, Some(found)) if self.is_kept(found) => {
                return Ok(self.found(found, ctx));
            }
            // The garbage collector would take it with its dead owner.
            (Ownership::Ours { alive: false }, Some(found)) => {
                ctx.cluster.delete(found).await?;
                ctx.cluster.apply_new(&self.object).await?
            }
            // Of this one alone it is known that it is ours.
            (Ownership::Ours { alive: true }, Some(found)) => {
                self.object.meta_mut().uid = found.uid();
                ctx.cluster.apply(&self.object).await?
            }
            _ => ctx.cluster.apply_new(&self.object).await?,
        };
        if ctx.applied.note(self.kind, &self.part, &self.version) {
            ctx.metrics.drift_repaired(self.kind, K::KIND);
        }
        Ok(Kept {
            version: applied.resource_version(),
            generation: applied.meta().generation,
            wrote: true,
        })
    }
}

/// Deletes the object of this name if it is the owner's: where the cache shows it, or, with `ask`, where the API server
/// does.
///
/// # Errors
/// When it cannot be read or deleted.
pub async fn remove<O: Owned, K, C>(
    owner: &O,
    name: &str,
    feed: &Feed<C>,
    ask: bool,
    ctx: &Context,
) -> Result<(), Error>
where
    K: Owned,
    // The kind itself, or as much of it as is cached.
    C: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let Some(reference) = owner.controller_owner_ref(&()) else {
        return Ok(());
    };
    let namespace = owner.namespace().unwrap_or_default();
    let cached = feed.store().get(&ObjectRef::new(name).within(&namespace));
    let ours = cached.is_some_and(|found| ownership(Some(found.meta()), &reference) != Ownership::Foreign);
    if !ours && !ask {
        return Ok(());
    }
    let api: Api<K> = ctx.cluster.api(&namespace);
    match api.get_opt(name).await? {
        Some(found) if ownership(Some(found.meta()), &reference) != Ownership::Foreign => {
            ctx.cluster.delete(&found).await
        }
        _ => Ok(()),
    }
}

/// What is said of an object that stands in the way.
fn foreign<K: k8s_openapi::Resource>(name: &str, kind: Kind) -> Halt {
    let what = K::KIND;
    Halt::refused(
        if what == <ConfigMap as k8s_openapi::Resource>::KIND {
            MAP_NOT_OWNED
        } else {
            NOT_OWNED
        },
        format!("{what} {name} exists and does not belong to this {kind}: delete it or rename it"),
    )
}

/// What is wanted, with the mark by which it is told from what was wanted before.
fn marked<K: Owned>(wanted: &K) -> K {
    let mut marked = wanted.clone();
    let text = serde_json::to_vec(wanted).unwrap_or_default();
    marked
        .annotations_mut()
        .insert(WANTED.to_owned(), names::hash(&text, 16));
    marked
}

/// Whether an object has all that is wanted of it.
fn holds<K: Owned>(found: &K, wanted: &K) -> bool {
    match (serde_json::to_value(found), serde_json::to_value(wanted)) {
        (Ok(found), Ok(wanted)) => contains(&found, &wanted),
        _ => false,
    }
}

/// Lists of a pod to which others add, such as a sidecar.
const SHARED: [&str; 4] = ["containers", "env", "volumes", "volumeMounts"];

/// Parts that say of whom something holds, or who may come in or where they may go: anything that is added changes that.
const EXACT: [&str; 5] = ["selector", "podSelector", "labelSelector", "ingress", "egress"];

/// Whether `wanted` is part of `found`: the API server fills in defaults, and others may add what is theirs. Lists are
/// compared element by element, but those of [`SHARED`], whose elements are found by name; parts of [`EXACT`] are the same
/// or they are not.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (_, Value::Null) => true,
        (Value::Object(found), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            let found = found.get(key).unwrap_or(&Value::Null);
            match (found, wanted) {
                _ if EXACT.contains(&key.as_str()) => found == wanted,
                (Value::Array(found), Value::Array(wanted)) if SHARED.contains(&key.as_str()) => wanted
                    .iter()
                    .all(|wanted| found.iter().any(|found| is_named_so(found, wanted))),
                _ => contains(found, wanted),
            }
        }),
        (Value::Null, Value::Object(wanted)) => wanted.values().all(|wanted| contains(&Value::Null, wanted)),
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| contains(found, wanted))
        }
        _ => found == wanted,
    }
}

fn is_named_so(found: &Value, wanted: &Value) -> bool {
    found["name"] == wanted["name"] && contains(found, wanted)
}

#[cfg(test)]
mod tests;
