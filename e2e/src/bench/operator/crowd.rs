//! Many objects, and when each turned Ready.

use std::{
    collections::HashMap,
    ops::Range,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use mcp_auth_crds::annotations::ROTATE_REQUESTED_AT;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::record::DIGITS;
use crate::{
    progress,
    story::StoryEnv,
    wait::{Seen, wait_for},
};

/// How many are made at a time.
pub(super) const AT_ONCE: usize = 8;
/// How often the number of those that are Ready is told.
const TELL: Duration = Duration::from_secs(30);

const ROTATED_WITHIN: Duration = Duration::from_mins(2);

/// A kind of which many are made.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    /// With what the names of the operator's begin.
    pub(super) prefix: &'static str,
    /// With what the names of the bare client's begin: as much text.
    pub(super) bare: &'static str,
    spec: fn(&str, u32) -> Value,
}

/// Servers with a scope of their own each.
pub(super) const SERVERS: Kind = Kind {
    name: "McpServer",
    plural: "mcpservers",
    bare: "barest",
    prefix: "server",
    spec: server,
};

/// Clients of the first server, which get tokens for themselves.
pub(super) const CLIENTS: Kind = Kind {
    name: "McpClient",
    plural: "mcpclients",
    bare: "barely",
    prefix: "client",
    spec: client,
};

/// The name of one of many: all are of one length, so that none is part of another.
pub(super) fn name(prefix: &str, number: u32) -> String {
    format!("{prefix}-{number:0DIGITS$}")
}

fn server(name: &str, _: u32) -> Value {
    json!({
        "authorizationServerRef": {"name": "main"},
        "resource": format!("https://{name}.example.com/mcp"),
        "enforcement": {"mode": "External"},
        "scopes": [{"name": format!("{name}:use")}],
        "allowedClients": [{"namespaces": {"from": "Same"}}],
    })
}

fn client(_: &str, _: u32) -> Value {
    json!({
        "authorizationServerRef": {"name": "main"},
        "managed": {"grantTypes": ["client_credentials"]},
        "access": [{"server": {"name": name(SERVERS.prefix, 0)}}],
    })
}

/// One of many objects.
pub(super) fn object(kind: &Kind, name: &str, number: u32) -> anyhow::Result<DynamicObject> {
    let object = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": kind.name,
        "metadata": {"name": name},
        "spec": (kind.spec)(name, number),
    });
    Ok(serde_json::from_value(object)?)
}

/// The API of a kind in a namespace.
pub(super) fn api(env: &StoryEnv, namespace: &str, kind: &Kind) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("mcpauth.dev", "v1alpha1", kind.name));
    Api::namespaced_with(env.client(), namespace, &resource)
}

type Times = Arc<Mutex<HashMap<String, Instant>>>;

/// Watches the objects for as long as it lives.
pub(super) struct Crowd<'a> {
    env: &'a StoryEnv,
    ready: Times,
    /// The watches end with it.
    _watches: JoinSet<()>,
}

/// How long it took.
#[derive(Default)]
pub(super) struct Turned {
    /// From the first that was made to the last that was Ready.
    pub(super) took: Duration,
    /// For each from when it was made, the shortest first.
    each: Vec<Duration>,
}

impl Turned {
    /// And then those.
    pub(super) fn add(&mut self, next: Self) {
        self.took += next.took;
        self.each.extend(next.each);
        self.each.sort_unstable();
    }

    /// How long it took for so many of all.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "far below 2^52, and not negative"
        )]
        let index = (self.each.len() as f64 * part) as usize;
        let last = self.each.len().saturating_sub(1);
        self.each.get(index.min(last)).copied().unwrap_or_default()
    }
}

impl<'a> Crowd<'a> {
    /// Begins to watch.
    pub(super) fn watch(env: &'a StoryEnv) -> Self {
        let ready = Times::default();
        let mut watches = JoinSet::new();
        for kind in [&SERVERS, &CLIENTS] {
            watches.spawn(note(api(env, env.namespace(), kind), Arc::clone(&ready)));
        }
        Self {
            env,
            ready,
            _watches: watches,
        }
    }

    /// Makes those with these numbers, `at_once` at a time, and waits until all are Ready.
    pub(super) async fn grow(
        &self,
        kind: &Kind,
        numbers: Range<u32>,
        at_once: usize,
        patience: Duration,
    ) -> anyhow::Result<Turned> {
        let (api, made) = (&api(self.env, self.env.namespace(), kind), &Times::default());
        let began = Instant::now();
        let all = numbers.len();
        let making = stream::iter(numbers)
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(at_once, |number| async move {
                let name = name(kind.prefix, number);
                let object = object(kind, &name, number)?;
                // Before it is made: it may be Ready before the answer is here.
                lock(made).insert(name, Instant::now());
                api.create(&PostParams::default(), &object).await?;
                Ok(())
            });
        let told = Mutex::new(Instant::now());
        let waiting = wait_for("all of them to be Ready", patience, async || {
            let ready = lock(&self.ready);
            let count = lock(made).keys().filter(|name| ready.contains_key(*name)).count();
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() > TELL {
                *told = Instant::now();
                progress::say(&format!("{count} of {all} are Ready"));
            }
            Ok(if count == all {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{count} of {all}"))
            })
        });
        tokio::try_join!(making, waiting)?;
        let (ready, made) = (lock(&self.ready), lock(made));
        let times = made
            .iter()
            .filter_map(|(name, made)| Some((*made, *ready.get(name)?)));
        let mut each: Vec<Duration> = times
            .clone()
            .map(|(made, ready)| ready.duration_since(made))
            .collect();
        each.sort_unstable();
        let last = times.map(|(_, ready)| ready).max().unwrap_or(began);
        Ok(Turned {
            took: last.duration_since(began),
            each,
        })
    }
}

/// Asks for another credential for each of the first clients, and waits until each has it.
pub(super) async fn rotate(env: &StoryEnv, count: u32) -> anyhow::Result<()> {
    let api = &api(env, env.namespace(), &CLIENTS);
    let asked = json!({"metadata": {"annotations": {ROTATE_REQUESTED_AT: "1"}}});
    for number in 0..count {
        api.patch(
            &name(CLIENTS.prefix, number),
            &PatchParams::default(),
            &Patch::Merge(&asked),
        )
        .await?;
    }
    for number in 0..count {
        let name = name(CLIENTS.prefix, number);
        let what = format!("another credential of {name}");
        wait_for(&what, ROTATED_WITHIN, async || {
            let client = api.get(&name).await?;
            let status = &client.data["status"];
            let done = status["lastHandledRotateRequest"] == "1" && is_ready(&client);
            Ok(if done {
                Seen::Done(())
            } else {
                Seen::NotYet(status["rotation"].to_string())
            })
        })
        .await?;
    }
    Ok(())
}

/// Notes when each object is Ready for the first time. Never ends by itself.
async fn note(api: Api<DynamicObject>, ready: Times) {
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut events = pin!(events);
    loop {
        // A watch that broke goes on by itself.
        if let Ok(Some(object)) = events.try_next().await
            && is_ready(&object)
        {
            lock(&ready).entry(object.name_any()).or_insert_with(Instant::now);
        }
    }
}

fn is_ready(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_those_that_took_longest() {
        let turned = Turned {
            took: Duration::ZERO,
            each: (1..=200).map(Duration::from_secs).collect(),
        };
        assert_eq!(turned.quantile(0.5), Duration::from_secs(101));
        assert_eq!(turned.quantile(0.99), Duration::from_secs(199));
        assert_eq!(turned.quantile(1.0), Duration::from_secs(200));
    }
}
