//! Tries whether a way leads to a server past its gate.

use std::{
    io::ErrorKind::{AddrNotAvailable, NetworkUnreachable},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt as _, api::ListParams, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    condition::{Report, Status, types},
    v1alpha1::McpServer,
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    super::probe::{self, key},
    isolation::is_of_a_gate,
    network,
    services::PodPort,
    ways_in::{self, Attempt},
};
use crate::{
    context::Context,
    egress::Audience,
    kinds::PodFacts,
    policy::{enforcement, names::hash},
};

/// How many pods of a server are tried: the rest are like them.
const MOST_PODS: usize = 10;
/// A connection that is dropped on the way is not answered at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often pods are tried that take a connection in spite of a NetworkPolicy, or take none without one, and the pause
/// between: what enforces them takes a moment to learn of one, of its end, or of a new pod.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// How soon it is tried again where a way was found, or where nobody could tell: no watch sees what a network lets pass.
const AGAIN: Duration = Duration::from_secs(30);

/// What is surveyed.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// The Service of the target.
    pub(super) target: Arc<Service>,
    /// The port of the server's pods.
    pub(super) port: PodPort,
    /// A pod of the gate was reached from here: else it says nothing that those of the server are not.
    pub(super) reaches_pods: bool,
}

/// The condition `BypassClosed`, by the last survey. `version` changes when the outcome may.
pub(super) fn ways_in(server: &Arc<McpServer>, ground: &Ground, version: &str, ctx: &Arc<Context>) -> Report {
    let services = services(server, ctx);
    let specs: Vec<_> = services
        .iter()
        .map(|service| (service.name_any(), &service.spec))
        .collect();
    let version = hash(format!("{version} {ground:?} {specs:?}").as_bytes(), 16);
    let (now, resync) = (ctx.clock.instant(), ctx.config.resync_interval);
    let last = |age| ctx.probes.ways_in.last(&key(server), &version, now, age);
    let Some((report, mut due)) = last(resync) else {
        return not_tried();
    };
    if !due && report.status != Status::True && !enforcement::allows_bypass(server) {
        due = last(resync.min(AGAIN)).is_some_and(|(_, due)| due);
    }
    if due {
        let (server, ground, ctx) = (Arc::clone(server), ground.clone(), Arc::clone(ctx));
        tokio::spawn(async move { survey(&server, &ground, &services, &ctx).await });
    }
    report
}

/// What the status tells of the last survey.
pub(in crate::controllers::mcp_server) fn stored(server: &McpServer) -> Report {
    let type_ = types::BYPASS_CLOSED;
    let open = ways_in::OPEN.map(|reason| Report::no(type_, reason, ""));
    let known: Vec<_> = open
        .into_iter()
        .chain([Report::yes(type_, "Closed", "")])
        .collect();
    probe::stored(server, type_, &known).unwrap_or_else(not_tried)
}

fn not_tried() -> Report {
    Report::pending(
        types::BYPASS_CLOSED,
        "NotTried",
        "Nobody tried yet whether a way leads past the gate",
    )
}

fn services(server: &McpServer, ctx: &Context) -> Vec<Arc<Service>> {
    let namespace = server.namespace();
    let mut services = ctx.feeds.services.store().state();
    // Those of gates lead to gates: what changes about another server's changes nothing here.
    services.retain(|service| service.namespace() == namespace && !is_of_a_gate(&**service));
    services.sort_unstable_by_key(|service| service.name_any());
    services
}

async fn survey(server: &McpServer, ground: &Ground, services: &[Arc<Service>], ctx: &Context) {
    let mut report = None;
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        report = look(server, ground, services, ctx).await;
        let found = report.as_ref().map(|report: &Report| report.reason);
        if !may_change_yet(found, network::wanted(server)) {
            break;
        }
    }
    if ctx.probes.ways_in.conclude(&key(server), report) {
        ctx.probes.wakes.wake(&ObjectRef::from_obj(server));
    }
}

/// Whether what was found is not what our NetworkPolicy, or its absence, will lead to.
fn may_change_yet(found: Option<&str>, has_policy: bool) -> bool {
    match found {
        Some("PodsReachable") => has_policy,
        Some("Closed") => !has_policy,
        _ => false,
    }
}

/// One round over the pods. `None`: no telling.
async fn look(
    server: &McpServer,
    ground: &Ground,
    services: &[Arc<Service>],
    ctx: &Context,
) -> Option<Report> {
    let namespace = server.namespace().unwrap_or_default();
    let _turn = ctx.probes.ways_in.turn(&namespace).await;
    let pods = pods(server, &ground.target, ctx).await?;
    let attempts = join_all(pods.iter().map(|pod| attempt(pod, ground, ctx))).await;
    Some(ways_in::report(
        &ground.target,
        services,
        &pods,
        &ground.port,
        &attempts,
    ))
}

/// Some pods of the server that take requests; one that takes none would refuse any connection. `None`: no telling.
async fn pods(server: &McpServer, target: &Service, ctx: &Context) -> Option<Vec<PodFacts>> {
    let selector = target
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.clone())
        .unwrap_or_default();
    if selector.is_empty() {
        return Some(Vec::new());
    }
    let labels: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let api: Api<PodFacts> = ctx.cluster.api(&server.namespace().unwrap_or_default());
    let found = api
        .list(&ListParams::default().labels(&labels.join(",")))
        .await
        .ok()?;
    Some(
        found
            .items
            .into_iter()
            .filter(PodFacts::is_ready)
            .take(MOST_PODS)
            .collect(),
    )
}

/// Tries to connect to the server's port at a pod, at each of its addresses: a network may close one family alone. They
/// are the pod's own, as its node wrote them into its status.
async fn attempt(pod: &PodFacts, ground: &Ground, ctx: &Context) -> Attempt {
    let number = ways_in::number(pod, &ground.port).and_then(|number| u16::try_from(number).ok());
    let Some(number) = number.filter(|_| !pod.spec.host_network) else {
        return Attempt::Untried;
    };
    let addresses = pod.status.addresses();
    let attempts = join_all(addresses.map(|address| connect(address, number, ground, ctx))).await;
    ways_in::of_all(&attempts)
}

async fn connect(address: &str, port: u16, ground: &Ground, ctx: &Context) -> Attempt {
    let address = address.parse().ok();
    let Some(address) = address.filter(|address| ctx.egress.allows(Audience::Pod, *address)) else {
        return Attempt::Untried;
    };
    match timeout(PATIENCE, TcpStream::connect(SocketAddr::new(address, port))).await {
        Ok(Ok(_)) => Attempt::Taken,
        // There is no way from here to addresses of this family: that says nothing of the pod.
        Ok(Err(error)) if matches!(error.kind(), NetworkUnreachable | AddrNotAvailable) => Attempt::Untried,
        Ok(Err(_)) | Err(_) if ground.reaches_pods => Attempt::Refused,
        Ok(Err(_)) | Err(_) => Attempt::Untried,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        egress::{Egress, EgressPolicy},
        testing::stage,
    };

    fn pod(address: &str, port: u16, host_network: bool) -> PodFacts {
        serde_json::from_value(json!({
            "status": {"podIP": address},
            "spec": {"hostNetwork": host_network, "containers": [{"ports": [{"name": "mcp", "containerPort": port}]}]},
        }))
        .unwrap()
    }

    #[test]
    fn what_a_network_has_not_heard_of_is_looked_at_again() {
        for (found, has_policy, again) in [
            (Some("PodsReachable"), true, true),
            (Some("PodsReachable"), false, false),
            (Some("Closed"), true, false),
            (Some("Closed"), false, true),
            (Some("OtherService"), true, false),
            (None, false, false),
        ] {
            assert_eq!(may_change_yet(found, has_policy), again, "{found:?} {has_policy}");
        }
    }

    /// A pod in both families.
    fn dual(addresses: [&str; 2], port: u16) -> PodFacts {
        let mut pod = pod(addresses[0], port, false);
        pod.status.pod_ips = serde_json::from_value(json!(addresses.map(|ip| json!({"ip": ip})))).unwrap();
        pod
    }

    fn ground(reaches_pods: bool) -> Ground {
        Ground {
            target: Arc::new(Service::default()),
            port: PodPort::Named("mcp".into(), [].into()),
            reaches_pods,
        }
    }

    #[tokio::test]
    async fn only_a_connection_that_is_taken_proves_a_way_and_only_where_pods_can_be_reached_proves_none() {
        let unheard = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0))
            .await
            .unwrap();
        let taken = listener.local_addr().unwrap().port();
        let mut ctx = Arc::into_inner(stage(&[]).await.ctx).unwrap();
        let here = "127.0.0.1";
        assert_eq!(
            attempt(&pod(here, taken, false), &ground(true), &ctx).await,
            Attempt::Untried,
            "not for tenants"
        );
        ctx.egress = Egress::new(EgressPolicy {
            insecure_allow_loopback: true,
            ..EgressPolicy::default()
        });
        for (pod, reaches_pods, expected, why) in [
            (pod(here, taken, false), true, Attempt::Taken, "it listens"),
            (
                pod(here, taken, false),
                false,
                Attempt::Taken,
                "that is proof enough",
            ),
            (
                pod(here, unheard, false),
                true,
                Attempt::Refused,
                "nobody listens any more",
            ),
            (
                pod(here, unheard, false),
                false,
                Attempt::Untried,
                "it may be the way there that is missing",
            ),
            (pod(here, taken, true), true, Attempt::Untried, "that is the node"),
            (
                pod("169.254.169.254", 80, false),
                true,
                Attempt::Untried,
                "a metadata service",
            ),
            (
                pod("not an address", taken, false),
                true,
                Attempt::Untried,
                "nothing to try",
            ),
            (pod(here, 0, false), false, Attempt::Untried, "no port"),
            (
                dual(["127.0.0.2", here], taken),
                true,
                Attempt::Taken,
                "its other address is open",
            ),
            (
                dual(["127.0.0.2", "127.0.0.3"], taken),
                true,
                Attempt::Refused,
                "both are closed",
            ),
            (
                dual(["127.0.0.2", "fe80::1"], taken),
                true,
                Attempt::Untried,
                "of one of them nobody knows",
            ),
        ] {
            assert_eq!(
                attempt(&pod, &ground(reaches_pods), &ctx).await,
                expected,
                "{why}"
            );
        }
    }
}
