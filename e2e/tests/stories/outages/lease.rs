//! Somebody else writes the lease: the operator ends, and leads again when that one is gone.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    lengths,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{
    RECOVERY,
    crowd::{Crowd, Shape},
    lease, traffic, trust,
};
use crate::fixtures::SOON;

/// So many clients there are.
fn clients() -> usize {
    lengths::of(50, 200)
}

pub(super) async fn is_held(world: Arc<World>) -> anyhow::Result<()> {
    let shape = Shape {
        name: "outages-lease",
        clients: clients(),
        lease: lease(),
    };
    Crowd::tell(&world, &shape, held).await
}

async fn held(crowd: &Crowd) -> anyhow::Result<()> {
    let (env, first) = (&crowd.env, crowd.kubelet.operator());
    let secrets = crowd.secrets().await?;
    take_lease(crowd).await?;
    let taken = Instant::now();
    // There is work to do.
    crowd.grow("new", 1).await?;
    let ended = tokio::time::timeout(trust(), first.process().wait()).await;
    let ended = ended.context("it goes on although another holds the lease")??;
    ensure!(!ended.success(), "it ended as if it had been asked to");
    let stopped = Instant::now();
    wait_for("the next to lead", SOON, async || {
        let next = crowd.kubelet.operator();
        Ok(if next.metric("mcp_auth_operator_leader", &[]).await? > 0.0 {
            Seen::Done(())
        } else {
            Seen::NotYet("it does not lead".to_owned())
        })
    })
    .await?;
    let resumed = taken.elapsed();
    let calls = [env.proxy().calls(), crowd.api_server.calls()].concat();
    let writes = traffic::writes(calls, stopped, taken + lease());
    ensure!(writes.is_empty(), "written while another leads: {writes:?}");
    let took = crowd.all_ready(RECOVERY).await?;
    crowd.unwritten(&secrets).await?;
    crowd.world.note(format!(
        "another took the lease of {} s under {} clients: the operator ended {:.1} s later, led again after {:.1} s, \
         and all was done {:.1} s after that",
        lease().as_secs(),
        clients(),
        (stopped - taken).as_secs_f64(),
        resumed.as_secs_f64(),
        took.as_secs_f64()
    ));
    Ok(())
}

/// Writes the lease as another replica would that believes that it is free.
async fn take_lease(crowd: &Crowd) -> anyhow::Result<()> {
    let env = &crowd.env;
    let name = env.operator_options().lease_name;
    let object = ["lease", &name, "-n", env.operator_namespace()];
    let kubectl = env.kubectl();
    let found: Value = kubectl.json(&[&["get"], &object[..]].concat()).await?;
    let renewed = found["spec"]["renewTime"].as_str();
    let theirs = json!({ "spec": {
        "holderIdentity": "somebody-else",
        "leaseDurationSeconds": lease().as_secs(),
        "renewTime": renewed.context("a lease that was never renewed")?,
    } });
    let patch = theirs.to_string();
    let arguments = [&["patch"], &object[..], &["--type=merge", "-p", &patch]].concat();
    kubectl.must(&arguments).await.map(drop)
}
