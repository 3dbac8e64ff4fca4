//! Asks the pods of a gate what they have in force.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{annotations::SERVER, v1alpha1::McpServer};
use reqwest::Method;
use url::Url;

use super::{
    super::probe::key,
    deployment::replicas,
    parts::ADMIN_PORT,
    ready::{InForce, Said, belongs},
    words::Words,
};
use crate::{
    context::Context,
    egress::{EgressClient, read_bounded},
    kinds::PodFacts,
    policy::names,
};

/// How often pods are asked in a row, and the pause between: a kubelet may take a minute to refresh what is mounted.
const ROUNDS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// How soon pods are asked again that did not come to have what they should.
const AGAIN: Duration = Duration::from_secs(30);
/// What a pod says is two hashes.
const MOST_BYTES: usize = 1024;

/// The pods of a server's gate.
pub(super) fn pods(server: &McpServer, ctx: &Context) -> Vec<Arc<PodFacts>> {
    let (namespace, name) = (server.namespace(), server.name_any());
    let gate = names::gate(&name);
    let ours = |pod: &Arc<PodFacts>| {
        pod.namespace() == namespace && pod.labels().get(SERVER) == Some(&name) && belongs(pod, &gate)
    };
    ctx.feeds
        .gates
        .pods
        .store()
        .state()
        .into_iter()
        .filter(ours)
        .collect()
}

/// The pods that are asked: those that are ready, and no more than a rollout makes. Whoever may create pods in the namespace
/// could make any number that look like the gate's.
fn asked(server: &McpServer, ctx: &Context) -> Vec<Arc<PodFacts>> {
    let mut ready = pods(server, ctx);
    ready.retain(|pod| pod.is_ready());
    ready.sort_by_cached_key(|pod| pod.uid());
    ready.truncate(2 * usize::try_from(replicas(server)).unwrap_or(0).max(1));
    ready
}

/// What the pods said last. Where one of them did not say that it has what is `wanted`, or it is long ago, they are asked.
pub(super) fn said(server: &Arc<McpServer>, wanted: &InForce, ctx: &Arc<Context>) -> Said {
    let ready = asked(server, ctx);
    let (now, key) = (ctx.clock.instant(), key(server));
    let mut uids: Vec<String> = ready.iter().filter_map(|pod| pod.uid()).collect();
    uids.sort_unstable();
    let version = format!("{wanted:?} {uids:?}");
    let resync = ctx.config.resync_interval;
    let probe = &ctx.probes.pods;
    let Some((said, mut due)) = probe.last(&key, &version, now, resync) else {
        return Said::default();
    };
    let settled = uids.iter().all(|uid| said.get(uid) == Some(wanted));
    if !due && !settled {
        due = probe
            .last(&key, &version, now, resync.min(AGAIN))
            .is_some_and(|(_, due)| due);
    }
    if due {
        let (server, ctx, wanted) = (Arc::clone(server), Arc::clone(ctx), wanted.clone());
        tokio::spawn(async move { ask(&server, &wanted, &ctx).await });
    }
    said
}

/// Asks until all say that they have what is wanted, and tells of every change.
async fn ask(server: &McpServer, wanted: &InForce, ctx: &Context) {
    let (key, probes) = (key(server), &ctx.probes);
    let mut words = Words::new(probes.pods.known(&key).unwrap_or_default());
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let ready = asked(server, ctx);
        let uids: Vec<_> = ready.iter().filter_map(|pod| pod.uid()).collect();
        let turn = probes.pods.turn(&server.namespace().unwrap_or_default()).await;
        let heard = all(&ready, ctx).await;
        drop(turn);
        words.hear(&uids, heard);
        if probes.pods.note(&key, words.said().clone()) {
            probes.wakes.wake(&ObjectRef::from_obj(server));
        }
        if words.all_have(&uids, wanted) {
            break;
        }
    }
    if probes.pods.conclude(&key, Some(words.said().clone())) {
        probes.wakes.wake(&ObjectRef::from_obj(server));
    }
}

/// What these pods say. One that does not answer says nothing.
async fn all(pods: &[Arc<PodFacts>], ctx: &Context) -> Said {
    let Ok(client) = ctx.probes.pod_client(&ctx.egress).await else {
        return Said::default();
    };
    let one = |pod: Arc<PodFacts>| async move { Some((pod.uid()?, in_force(client, &pod).await?)) };
    join_all(pods.iter().cloned().map(one))
        .await
        .into_iter()
        .flatten()
        .collect()
}

async fn in_force(client: &EgressClient, pod: &PodFacts) -> Option<InForce> {
    let url = address(pod)?;
    let response = client.send(client.request(Method::GET, &url).ok()?).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = read_bounded(response, MOST_BYTES).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Where a pod tells what it has in force, at the first of its addresses: its gate listens at all of them.
fn address(pod: &PodFacts) -> Option<Url> {
    // A pod with the network of its node would lead to whatever else listens there.
    if pod.spec.host_network {
        return None;
    }
    let address = pod.status.addresses().next()?.parse().ok()?;
    let address = SocketAddr::new(address, u16::try_from(ADMIN_PORT).ok()?);
    Url::parse(&format!("http://{address}/policy")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_asked_at_its_own_address_of_either_family() {
        for (status, host_network, url) in [
            (
                json!({"podIP": "10.0.0.1"}),
                false,
                Some("http://10.0.0.1:8081/policy"),
            ),
            (
                json!({"podIP": "fd00::1"}),
                false,
                Some("http://[fd00::1]:8081/policy"),
            ),
            (
                json!({"podIP": "fd00::1", "podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]}),
                false,
                Some("http://[fd00::1]:8081/policy"),
            ),
            (json!({"podIP": "10.0.0.1"}), true, None),
            (json!({"podIP": "10.0.0.1/policy?"}), false, None),
            (json!({}), false, None),
        ] {
            let pod = json!({"status": status, "spec": {"hostNetwork": host_network}});
            let found = address(&serde_json::from_value(pod).unwrap());
            assert_eq!(found.as_ref().map(Url::as_str), url, "{status}");
        }
    }
}
