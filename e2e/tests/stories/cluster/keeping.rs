//! A gate goes on serving while its pods come and go, what is taken away comes back, and in the end nothing is left.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    caller::Caller,
    wait::{Seen, wait_for},
    world::World,
};

use super::setup::{Cluster, PODS, exactly};
use crate::fixtures::SOON;

pub(super) async fn kept(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = Cluster::new(&world, "cluster-keeping").await?;
    let all = ["GateReady", "Enforced", "BypassClosed", "Ready"];
    cluster.env().apply(&cluster.everything(2)).await?;
    cluster.open("everything").await?;
    cluster.holds("everything", &all).await?;
    cluster.client("agent").await?;
    let made = cluster.parts().await?;
    ensure!(made.len() == 9, "{made:?}");

    outlives_a_pod(&cluster).await?;
    for part in [
        "networkpolicy/everything-gate-origin",
        "configmap/everything-gate",
        "service/everything-gate-peers",
        "poddisruptionbudget/everything-gate",
        "deployment/everything-gate",
    ] {
        comes_back(&cluster, part, &made).await?;
    }
    cluster.holds("everything", &all).await?;

    let space = cluster.env().namespace();
    let delete = ["delete", "mcpserver", "everything", "--namespace", space];
    cluster.env().kubectl().must(&delete).await?;
    cluster.is_bare().await?;
    cluster.end().await
}

/// Calls go on while one pod of two ends and another comes.
async fn outlives_a_pod(cluster: &Cluster) -> anyhow::Result<()> {
    let [first, second] = exactly(cluster.gate_pods("everything").await?)?;
    let token = cluster.token("agent", "everything:use").await?;
    let (over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let calling = async {
        while !over.load(Ordering::Relaxed) {
            // Each on a connection of its own, as many clients do.
            let http = cluster.env().world().authority().http_client()?;
            let http = http.no_proxy().build()?;
            let mut caller = Caller::new(http, cluster.edge.resource()).with_token(&token);
            caller.begin().await?;
            caller.tools().await?;
            calls.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let replacing = async {
        let delete = ["delete", "pod", &first.name, "--wait=false", "--namespace"];
        let space = cluster.env().namespace();
        cluster
            .env()
            .kubectl()
            .must(&[&delete[..], &[space]].concat())
            .await?;
        wait_for("another pod", PODS, async || {
            let ready = cluster.env().get("McpServer", space, "everything").await?;
            let ready = ready.context("no server")?["status"].to_string();
            let pods = cluster.gate_pods("everything").await?;
            let gone = pods.iter().all(|pod| pod.uid != first.uid);
            Ok(if gone && pods.len() == 2 && ready.contains("\"InForce\"") {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{pods:?} {ready}"))
            })
        })
        .await?;
        // The old pod takes its time to end.
        let wait = [
            "wait",
            "--for=delete",
            &format!("pod/{}", first.name),
            "--timeout=60s",
        ];
        let wait = [&wait[..], &["--namespace", space]].concat();
        cluster.env().kubectl().must(&wait).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(calling, replacing)?;
    let calls = calls.load(Ordering::Relaxed);
    ensure!(calls > 10, "only {calls} calls were made");
    let pods = cluster.gate_pods("everything").await?;
    ensure!(pods.contains(&second), "{pods:?}");
    Ok(())
}

/// What somebody deletes is made again, by another UID.
async fn comes_back(cluster: &Cluster, part: &str, made: &BTreeSet<String>) -> anyhow::Result<()> {
    let space = cluster.env().namespace();
    let delete = ["delete", part, "--namespace", space];
    cluster.env().kubectl().must(&delete).await?;
    wait_for(part, SOON, async || {
        let now = cluster.parts().await?;
        Ok(if now == *made {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{now:?}"))
        })
    })
    .await
}
