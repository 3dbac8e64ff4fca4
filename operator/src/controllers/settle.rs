//! Carrying out plans: what McpServers, McpClients and AuthorizationServers do alike once they know what they want.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, ResourceExt as _, runtime::events::EventType};
use mcp_auth_crds::annotations;

use super::{
    halt::Halt,
    pass::{key, tell},
};
use crate::{
    cluster::{Owned, Ownership, ownership},
    context::Context,
    metrics::Kind,
    policy::names,
    provider::{Plan, Provider, ProviderError},
};

/// How often a plan is made anew from what was read back, before the server is said not to follow.
const ROUNDS: u32 = 3;

/// Between the key of an object and the name of a part of it, such as a ConfigMap. No name holds it.
pub const PART: char = '#';

/// What was last found in force, by object: a difference from *this* is drift, any other is a change of mind.
#[derive(Debug, Default)]
pub struct Applied(Mutex<HashMap<(Kind, String), String>>);

impl Applied {
    /// Notes that `version` is in force. Returns whether it was so before.
    pub fn note(&self, kind: Kind, object: &str, version: &str) -> bool {
        let version = names::hash(version.as_bytes(), 16);
        let mut applied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert((kind, object.to_owned()), version.clone()) == Some(version)
    }

    /// Forgets the object, and the parts of it that are noted apart.
    pub fn forget(&self, kind: Kind, object: &str) {
        self.retain(|noted, name| noted != kind || name != object);
    }

    /// Forgets the objects for which `exists` says no.
    pub fn retain(&self, exists: impl Fn(Kind, &str) -> bool) {
        let mut applied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        applied.retain(|(kind, noted), _| exists(*kind, noted.split(PART).next().unwrap_or(noted)));
    }
}

/// Whether the user paused the object. Revocation, deletion and loss of permission are never delayed by it.
pub fn is_paused<K: Resource>(object: &K) -> bool {
    let annotations = object.meta().annotations.as_ref();
    annotations
        .and_then(|all| all.get(annotations::RECONCILE))
        .is_some_and(|v| v == annotations::RECONCILE_PAUSED)
}

/// Carries out `plan`, reads back with `replan`, and repeats until nothing is left to do: what the server says
/// counts, not what it was told. `version` is what the plan puts in force, as text. Returns whether anything was
/// written.
///
/// The caller has put the finalizer on the object, so that there is never anything at the server which nobody would
/// clean up.
pub async fn settle<'a, K: Owned + Sync>(
    kind: Kind,
    object: &K,
    provider: &dyn Provider,
    plan: Plan,
    version: &str,
    // Boxed: the compiler cannot see yet that the futures of an async closure are Send.
    replan: impl Fn() -> BoxFuture<'a, Result<Plan, ProviderError>> + Sync + Send,
    ctx: &Context,
) -> Result<bool, Halt> {
    if plan.calls.is_empty() {
        ctx.applied.note(kind, &key(object), version);
        return Ok(false);
    }
    let summary = plan.summary();
    let mut left = plan;
    for _ in 0..ROUNDS {
        provider.execute(&left).await?;
        left = replan().await?;
        if left.is_empty() {
            tracing::info!(changes = %summary, "changed at the authorization server");
            if ctx.applied.note(kind, &key(object), version) {
                ctx.metrics.drift_repaired(kind, "AuthorizationServer");
                let note = format!("Set right what was changed at the authorization server: {summary}");
                tell(object, EventType::Warning, "DriftRepaired", note, ctx).await;
            }
            return Ok(true);
        }
    }
    Err(ProviderError::Malformed {
        operation: "read back",
        why: "the authorization server does not keep what it was told",
    }
    .into())
}

/// Carries out the removal of what is ours, and looks whether it is gone: an answer that says so is no proof.
pub async fn remove<'a>(
    provider: &dyn Provider,
    plan: Plan,
    replan: impl FnOnce() -> BoxFuture<'a, Result<Plan, ProviderError>> + Send,
) -> Result<(), Halt> {
    if plan.calls.is_empty() {
        return Ok(());
    }
    provider.execute(&plan).await?;
    if replan().await?.calls.is_empty() {
        return Ok(());
    }
    Err(ProviderError::Malformed {
        operation: "read back",
        why: "the authorization server does not let go of what it was told to delete",
    }
    .into())
}

/// Makes a ConfigMap of ours hold `wanted`. Keys that others added stay; a ConfigMap that is not ours is never
/// overwritten. Returns whether anything was written.
pub async fn config_map<K: Owned>(
    kind: Kind,
    owner: &K,
    wanted: &ConfigMap,
    existing: Option<&ConfigMap>,
    ctx: &Context,
) -> Result<bool, Halt> {
    let Some(reference) = owner.controller_owner_ref(&()) else {
        return Ok(false);
    };
    let name = wanted.name_any();
    let part = format!("{}{PART}{name}", key(owner));
    match ownership(existing.map(|found| &found.metadata), &reference) {
        Ownership::Foreign => {
            return Err(Halt::refused(
                "ConfigMapNotOwned",
                format!("ConfigMap {name} exists and does not belong to this {kind}: delete it or rename it"),
            ));
        }
        Ownership::Ours { alive: true } if existing.is_some_and(|found| holds(found, wanted)) => {
            ctx.applied.note(kind, &part, &version(wanted));
            return Ok(false);
        }
        Ownership::Ours { alive: false } => {
            if let Some(found) = existing {
                ctx.cluster.delete(found).await?;
            }
        }
        Ownership::Ours { alive: true } | Ownership::Absent => {}
    }
    ctx.cluster.apply(wanted).await?;
    if ctx.applied.note(kind, &part, &version(wanted)) {
        ctx.metrics.drift_repaired(kind, "ConfigMap");
    }
    Ok(true)
}

fn version(wanted: &ConfigMap) -> String {
    format!("{:?}", wanted.data)
}

fn holds(found: &ConfigMap, wanted: &ConfigMap) -> bool {
    let within = |wanted: Option<&std::collections::BTreeMap<String, String>>,
                  found: Option<&std::collections::BTreeMap<String, String>>| {
        wanted
            .into_iter()
            .flatten()
            .all(|(key, value)| found.is_some_and(|found| found.get(key) == Some(value)))
    };
    within(wanted.data.as_ref(), found.data.as_ref())
        && within(wanted.metadata.labels.as_ref(), found.metadata.labels.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_version_again_is_drift_and_another_is_not() {
        let applied = Applied::default();
        assert!(!applied.note(Kind::McpClient, "a/b", "1"), "never seen");
        assert!(applied.note(Kind::McpClient, "a/b", "1"));
        assert!(!applied.note(Kind::McpClient, "a/b", "2"), "a change of mind");
        applied.forget(Kind::McpClient, "a/b");
        assert!(!applied.note(Kind::McpClient, "a/b", "2"));
    }

    #[test]
    fn what_is_gone_is_forgotten_with_its_parts_and_nothing_else() {
        let applied = Applied::default();
        let all = ["a/b", "a/b#map", "a/bc", "a/bc#map"];
        for object in all {
            applied.note(Kind::McpServer, object, "1");
        }
        applied.note(Kind::McpClient, "a/b", "1");
        applied.forget(Kind::McpServer, "a/b");
        let known = all.map(|object| applied.note(Kind::McpServer, object, "1"));
        assert_eq!(known, [false, false, true, true]);
        assert!(applied.note(Kind::McpClient, "a/b", "1"), "another kind");
        applied.retain(|kind, object| kind == Kind::McpServer && object == "a/bc");
        let known = all.map(|object| applied.note(Kind::McpServer, object, "1"));
        assert_eq!(known, [false, false, true, true]);
    }
}
