//! Objects that an object of ours owns, whatever their kind: kept as they are wanted, and taken away.

use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::annotations::WANTED;
use serde_json::Value;

use super::{halt::Halt, pass::key, settle::PART};
use crate::{
    cluster::{Owned, Ownership, ownership},
    context::Context,
    error::Error,
    metrics::Kind,
    policy::names,
    watch::Feed,
};

/// The reason of an object of somebody else that stands in the way.
pub const NOT_OWNED: &str = "GateObjectNotOwned";

/// Makes an object of `owner` be as `wanted`, which carries the owner reference. What others added to it stays, but not
/// where it changes of whom something holds; what is not wanted any more goes. One of this name that is not the owner's is
/// never overwritten. The cache tells that nothing is to be done; before a write the API server is asked, because a cache
/// by label does not show what lacks the label. Returns its generation as it is then.
///
/// # Errors
/// When it belongs to somebody else, or cannot be read or written.
pub async fn keep<O: Owned, K: Owned + k8s_openapi::Resource + Sync + Send>(
    kind: Kind,
    owner: &O,
    wanted: &K,
    feed: &Feed<K>,
    ctx: &Context,
) -> Result<Option<i64>, Halt> {
    let Some(reference) = owner.controller_owner_ref(&()) else {
        return Ok(None);
    };
    let mut wanted = marked(wanted);
    let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
    let part = format!("{}{PART}{}/{name}", key(owner), K::KIND);
    let version = format!("{wanted:?}");
    let is_kept = |found: &K| {
        ownership(Some(found.meta()), &reference) == (Ownership::Ours { alive: true })
            && holds(found, &wanted)
    };
    let cached = feed.store().get(&ObjectRef::new(&name).within(&namespace));
    if let Some(found) = cached.filter(|found| is_kept(found)) {
        ctx.applied.note(kind, &part, &version);
        return Ok(found.meta().generation);
    }
    let api: Api<K> = ctx.cluster.api(&namespace);
    let existing = api.get_opt(&name).await?;
    let applied = match (
        ownership(existing.as_ref().map(kube::Resource::meta), &reference),
        &existing,
    ) {
        (Ownership::Foreign, _) => return Err(foreign::<K>(&name, kind)),
        (Ownership::Ours { alive: true }, Some(found)) if is_kept(found) => {
            return Ok(found.meta().generation);
        }
        // The garbage collector would take it with its dead owner.
        (Ownership::Ours { alive: false }, Some(found)) => {
            ctx.cluster.delete(found).await?;
            ctx.cluster.apply_new(&wanted).await?
        }
        // Of this one alone it is known that it is ours.
        (Ownership::Ours { alive: true }, Some(found)) => {
            wanted.meta_mut().uid = found.uid();
            ctx.cluster.apply(&wanted).await?
        }
        _ => ctx.cluster.apply_new(&wanted).await?,
    };
    if ctx.applied.note(kind, &part, &version) {
        ctx.metrics.drift_repaired(kind, K::KIND);
    }
    Ok(applied.meta().generation)
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
fn foreign<K: Owned>(name: &str, kind: Kind) -> Halt {
    let what = K::kind(&());
    Halt::refused(
        NOT_OWNED,
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
