//! For tests of reconcilers: an API server and an authorization server that live in memory, count the writes, and can
//! fail at any of them.

mod clients;
mod cluster;
mod provider;
mod registrar;
mod resources;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::{
    Client,
    runtime::{events::Reporter, watcher},
};

pub(crate) use clients::FakeClient;
pub(crate) use cluster::FakeCluster;
pub(crate) use provider::{FakeServer, Tenant};
pub(crate) use registrar::FakeRegistrar;
pub(crate) use resources::{exchanged, resource};

use crate::{
    backoff::Backoff,
    clock::ManualClock,
    cluster::Cluster,
    config::{Config, Surroundings},
    connections::{Connection, Connections, Side},
    context::{Context, Feeds, GateFeeds},
    controllers::{applied::Applied, mcp_client::Refusals, mcp_server::Probes},
    egress::Egress,
    events::Recorder,
    lease::Leadership,
    metrics::Metrics,
    provider::{Access, LimitSettings, RealmRegistry, discovery::Discovered},
    recall::Memory,
    watch::Feed,
};

/// The namespace of the operator in these tests.
pub(crate) const OPERATOR: &str = "operator";
/// The installation in these tests.
pub(crate) const INSTALLATION: &str = "i";

/// Counts writes, wherever they go, and says which of them never happens because the process dies first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    made: Arc<AtomicUsize>,
    last: Arc<AtomicUsize>,
}

impl Writes {
    /// From now on `count` writes happen, and none after them.
    pub(crate) fn die_after(&self, count: usize) {
        self.made.store(0, Ordering::SeqCst);
        self.last.store(count + 1, Ordering::SeqCst);
    }

    /// From now on all writes happen.
    pub(crate) fn live(&self) {
        self.made.store(0, Ordering::SeqCst);
        self.last.store(0, Ordering::SeqCst);
    }

    /// How many writes were tried since.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Whether the next one would happen.
    fn go_on(&self) -> bool {
        let last = self.last.load(Ordering::SeqCst);
        last == 0 || self.made() + 1 < last
    }

    /// Counts a write. Whether it happens.
    fn happens(&self) -> bool {
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let last = self.last.load(Ordering::SeqCst);
        last == 0 || number < last
    }
}

/// A cluster, an authorization server, and the context that a reconciler gets.
pub(crate) struct Stage {
    pub(crate) cluster: FakeCluster,
    pub(crate) server: FakeServer,
    pub(crate) writes: Writes,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ctx: Arc<Context>,
}

impl Stage {
    /// The process ends and another starts: its caches are filled anew, and it remembers nothing.
    pub(crate) async fn restart(&mut self) {
        self.ctx = Arc::new(context(self.cluster.client(), self.clock.clone()).await);
        connect(&self.ctx, &self.server);
    }
}

impl Stage {
    /// As after [`Stage::restart`], but nothing is connected yet.
    pub(crate) async fn restart_alone(&mut self) {
        self.ctx = Arc::new(context(self.cluster.client(), self.clock.clone()).await);
    }

    /// The watches of what is cached without its content catch up.
    pub(crate) async fn see(&mut self) {
        let client = self.cluster.client();
        // Who asks a public address holds the context meanwhile.
        while Arc::strong_count(&self.ctx) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ctx = Arc::get_mut(&mut self.ctx).unwrap();
        let (scope, watch) = (&ctx.config.watch, watcher::Config::default());
        ctx.feeds.secrets = Feed::start(scope.of(&client, &watch));
        ctx.feeds.config_maps = Feed::start(scope.of(&client, &watch));
        ctx.feeds.secrets.wait_until_ready().await.unwrap();
        ctx.feeds.config_maps.wait_until_ready().await.unwrap();
        ctx.feeds.journals = ctx.feeds.secrets.clone();
    }
}

/// A stage with these objects in the cluster; AuthorizationServer `platform/main` with the UID `as` is connected.
pub(crate) async fn stage(objects: &[serde_json::Value]) -> Stage {
    let writes = Writes::default();
    let cluster = FakeCluster::new(writes.clone());
    for object in objects {
        cluster.put(object.clone());
    }
    let server = FakeServer::new(writes.clone());
    let clock = ManualClock::at("2026-01-01T00:00:00Z");
    let ctx = Arc::new(context(cluster.client(), clock.clone()).await);
    connect(&ctx, &server);
    Stage {
        cluster,
        server,
        writes,
        clock,
        ctx,
    }
}

fn connect(ctx: &Context, server: &FakeServer) {
    connect_side(ctx, Side::Administered(Arc::new(server.clone())));
}

/// Connects AuthorizationServer `platform/main` in this way.
pub(crate) fn connect_side(ctx: &Context, side: Side) {
    connect_as(ctx, "main", "as", "https://as.example/realms/r", side);
}

/// Connects an AuthorizationServer of the namespace `platform` in this way.
pub(crate) fn connect_as(ctx: &Context, name: &str, uid: &str, issuer: &str, side: Side) {
    let origin = issuer.split_inclusive('/').take(3).collect::<String>();
    let origin = origin.trim_end_matches('/');
    let metadata = mcp_auth_crds::v1alpha1::DiscoveredMetadata {
        issuer: issuer.to_owned(),
        authorization_endpoint: None,
        token_endpoint: format!("{origin}/token"),
        jwks_uri: format!("{origin}/certs"),
    };
    let connection = Connection {
        server: Some(uid.to_owned()),
        side,
        discovered: Discovered {
            metadata: metadata.clone(),
            ..Discovered::default()
        },
        metadata,
        access: Access::default(),
        ca_bundle: None,
        made_from: String::new(),
        checked: std::sync::Mutex::new(ctx.clock.instant()),
    };
    ctx.connections.set("platform", name, Arc::new(connection));
}

async fn context(client: Client, clock: Arc<ManualClock>) -> Context {
    let config = Config::load(
        ["mcp-auth-operator", "--namespace", OPERATOR],
        &Surroundings::default(),
    )
    .unwrap();
    let leadership = Leadership::uncontested();
    let watch = watcher::Config::default();
    macro_rules! feed {
        () => {{
            let feed = Feed::start(config.watch.of(&client, &watch));
            feed.wait_until_ready().await.unwrap();
            feed
        }};
    }
    let secrets: Feed<_> = feed!();
    let feeds = Feeds {
        authorization_servers: feed!(),
        servers: feed!(),
        clients: feed!(),
        policies: feed!(),
        services: feed!(),
        journals: secrets.clone(),
        secrets,
        config_maps: feed!(),
        gates: GateFeeds {
            deployments: feed!(),
            pods: feed!(),
            slices: feed!(),
            network_policies: feed!(),
            disruption_budgets: feed!(),
        },
        namespaces: Feed::start(config.watch.namespaces(&client)),
    };
    let reporter = Reporter {
        controller: "test".to_owned(),
        instance: None,
    };
    let egress = Egress::new(config.egress);
    let cluster = Cluster::new(client, leadership.clone());
    Context {
        recorder: Recorder::new(cluster.clone(), reporter, clock.clone()),
        cluster,
        feeds,
        connections: Connections::default(),
        realms: RealmRegistry::new(LimitSettings::new(
            config.authorization_server_rate,
            Duration::from_secs(1),
        )),
        backoff: Backoff::default(),
        pace: crate::credential::pace::Pace::default(),
        applied: Applied::default(),
        memory: Memory::default(),
        refusals: Refusals::default(),
        probes: Probes::default(),
        installation: INSTALLATION.to_owned(),
        clock,
        egress,
        metrics: Metrics::default(),
        leadership,
        config,
    }
}
