//! What is done from time to time beside the passes: gauges are set, and what is known of objects that are gone is
//! forgotten.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kube::{Resource, ResourceExt as _};
use mcp_auth_crds::condition::{self, Conditioned, types};
use tokio::time::{MissedTickBehavior, interval};

use super::pass::key;
use crate::{
    cluster::Owned,
    context::{Context, find},
    credential::journal,
    metrics::{Kind, Metrics, ReadyCounts},
    watch::Feed,
};

/// How often the gauges of objects are set.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// After how many of these what is gone is forgotten.
const COUNTS_PER_SWEEP: u64 = 12;

/// Never ends by itself.
pub(super) async fn run(ctx: Arc<Context>) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        ticks.tick().await;
        count(&ctx);
        if number % COUNTS_PER_SWEEP == 0 {
            sweep(&ctx);
        }
    }
}

fn count(ctx: &Context) {
    let (feeds, metrics) = (&ctx.feeds, &ctx.metrics);
    count_kind(
        Kind::AuthorizationServer,
        &feeds.authorization_servers,
        |object| object.status.as_ref(),
        metrics,
    );
    count_kind(
        Kind::McpServer,
        &feeds.servers,
        |object| object.status.as_ref(),
        metrics,
    );
    count_kind(
        Kind::McpClient,
        &feeds.clients,
        |object| object.status.as_ref(),
        metrics,
    );
    count_kind(
        Kind::TokenExchangePolicy,
        &feeds.policies,
        |object| object.status.as_ref(),
        metrics,
    );
}

fn count_kind<K, S>(kind: Kind, feed: &Feed<K>, status: impl Fn(&K) -> Option<&S>, metrics: &Metrics)
where
    K: Owned + Send + Sync + 'static,
    S: Conditioned,
{
    let objects = feed.store().state();
    let ready = |object: &K| {
        let condition = condition::find(status(object)?.conditions(), types::READY)?;
        Some(match condition.status.as_str() {
            "True" => "True",
            "False" => "False",
            _ => "Unknown",
        })
    };
    metrics.set_objects(kind, ReadyCounts::of(objects.iter().map(|object| ready(object))));
}

/// Forgets objects that are gone: some vanish without a last pass, and their number is bounded by nothing.
fn sweep(ctx: &Context) {
    let feeds = &ctx.feeds;
    let mut known = HashSet::new();
    collect(
        Kind::AuthorizationServer,
        &feeds.authorization_servers,
        &mut known,
    );
    collect(Kind::McpServer, &feeds.servers, &mut known);
    collect(Kind::McpClient, &feeds.clients, &mut known);
    collect(Kind::TokenExchangePolicy, &feeds.policies, &mut known);
    collect(Kind::Service, &feeds.services, &mut known);
    let exists = |kind: &'static str, object: &str| known.contains(&(kind, object.to_owned()));
    ctx.applied.retain(|kind, object| exists(kind.as_str(), object));
    ctx.backoff.retain(exists);
    ctx.refusals
        .retain(|object| exists(Kind::McpClient.as_str(), object));
    let journals = known.iter().filter_map(|(kind, object)| {
        let (namespace, name) = object.split_once('/')?;
        Some(journal::name(kind, namespace, name))
    });
    let journals: HashSet<String> = journals.collect();
    let memory = &ctx.memory;
    memory.journals.retain(|_, name| journals.contains(name));
    memory.books.retain(|_, name| journals.contains(name));
    memory.missed.retain(|name| journals.contains(name));
    let (secrets, maps) = (feeds.secrets.store(), feeds.config_maps.store());
    let is_secret = |namespace: &str, name: &str| find(&secrets, namespace, name).is_some();
    memory.secrets.retain(is_secret);
    memory.whole_secrets.retain(is_secret);
    let is_map = |namespace: &str, name: &str| find(&maps, namespace, name).is_some();
    memory.config_maps.retain(is_map);
    memory.whole_config_maps.retain(is_map);
    let servers = uids(&feeds.servers);
    ctx.probes.retain(|uid| servers.contains(uid));
    let homes = uids(&feeds.authorization_servers);
    ctx.connections
        .retain(|uid| uid.is_some_and(|uid| homes.contains(uid)));
}

fn uids<K>(feed: &Feed<K>) -> HashSet<String>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let objects = feed.store().state();
    objects.iter().filter_map(|object| object.uid()).collect()
}

fn collect<K>(kind: Kind, feed: &Feed<K>, known: &mut HashSet<(&'static str, String)>)
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    known.extend(
        feed.store()
            .state()
            .iter()
            .map(|object| (kind.as_str(), key(&**object))),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stage;

    #[tokio::test]
    async fn what_is_gone_is_forgotten_and_what_is_there_is_not() {
        let client = serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": {"namespace": "n", "name": "here", "uid": "u"},
            "spec": {"authorizationServerRef": {"name": "main"}},
        });
        let ctx = stage(&[client]).await.ctx;
        for object in ["n/here", "n/gone"] {
            ctx.applied.note(Kind::McpClient, object, "1");
            ctx.backoff.failed("McpClient", object);
        }
        sweep(&ctx);
        let known = |object| ctx.applied.note(Kind::McpClient, object, "1");
        assert!(known("n/here") && !known("n/gone"));
        let failures = |object| ctx.backoff.failures("McpClient", object);
        assert_eq!((failures("n/here"), failures("n/gone")), (1, 0));
        assert!(
            ctx.connections.get("platform", "main").is_none(),
            "its AuthorizationServer does not exist"
        );
    }
}
