//! Starting the watches and the controllers, and stopping them.

use std::{future::Future, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
    try_join,
};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{events::Reporter, watcher},
};
use mcp_auth_crds::{
    annotations::{MANAGED_BY, MANAGER, SERVER},
    v1alpha1::{AuthorizationServer, McpClient, McpServer, ObjectReference, TokenExchangePolicy},
};
use tokio::sync::oneshot;

use super::{
    authorization_server, mcp_client,
    mcp_server::{self, COMPONENT, GATE, ORIGIN},
    pass, service, token_exchange_policy, triggers, upkeep,
};
use crate::{
    admin::Health,
    backoff::Backoff,
    clock::SharedClock,
    cluster::Cluster,
    config::Config,
    connections::Connections,
    context::{Context, Feeds, GateFeeds, find},
    egress::Egress,
    events::Recorder,
    lease::Leadership,
    metrics::{Kind, Metrics},
    provider::{LimitSettings, RealmRegistry},
    recall::Memory,
    watch::{ControllerError, Feed, FeedStopped, WatchScope, Work, run_controller},
};

/// What the controllers are given.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// What the operator was told.
    pub config: Config,
    /// Name of this installation.
    pub installation: String,
    /// The time.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// The way out to addresses that users choose.
    pub egress: Egress,
    /// Whether this replica is ready.
    pub health: Health,
}

/// Fills the caches, says so to `able`, waits until this replica leads, and runs all controllers until `shutdown`
/// completes; then starts nothing more, and returns when what is running has ended.
///
/// # Errors
/// When a controller or a watch ends by itself, which is a defect.
pub async fn run(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send + 'static,
    able: oneshot::Sender<()>,
) -> Result<(), ControllerError> {
    let ctx = Arc::new(context(parts));
    let shutdown = shutdown.boxed().shared();
    // The caches of a replica that waits are kept warm, so that it can take over at once.
    let wait = async {
        ready(&ctx.feeds).await?;
        name_absent(&ctx);
        // Who does not listen any more is about to end.
        let _ = able.send(());
        ctx.leadership.acquired().await;
        Ok::<(), FeedStopped>(())
    };
    tokio::select! {
        filled = wait => filled?,
        dead = stopped(&ctx.feeds) => return Err(dead.into()),
        () = shutdown.clone() => return Ok(()),
    }
    tracing::info!("this replica leads and its caches are filled: the controllers start");
    let upkeep = tokio::spawn(upkeep::run(Arc::clone(&ctx)));
    let result = tokio::select! {
        ended = controllers(&ctx, &shutdown) => ended,
        dead = stopped(&ctx.feeds) => Err(dead.into()),
    };
    upkeep.abort();
    result
}

async fn controllers(
    ctx: &Arc<Context>,
    shutdown: &Shared<BoxFuture<'static, ()>>,
) -> Result<(), ControllerError> {
    macro_rules! controller {
        ($kind:ident, $feed:ident, $module:ident, $lane:expr) => {
            run_controller(
                Work {
                    kind: Kind::$kind,
                    store: ctx.feeds.$feed.store(),
                    queue: triggers::$feed(ctx),
                    lane: Arc::new($lane),
                    concurrency: ctx.config.concurrency,
                },
                shutdown.clone(),
                Arc::clone(ctx),
                $module::run,
                |object, error, ctx| pass::again(Kind::$kind, &*object, error, &ctx),
            )
        };
    }
    let home = |reference: &ObjectReference, namespace: Option<String>| {
        let namespace = namespace.unwrap_or_default();
        (
            reference.namespace_or(&namespace).to_owned(),
            reference.name.clone(),
        )
    };
    let (of_server, of_client) = (Arc::clone(ctx), Arc::clone(ctx));
    let server_lane = move |server: &McpServer| {
        let home = home(&server.spec.authorization_server_ref, server.namespace());
        lane(&of_server, home)
    };
    let client_lane = move |client: &McpClient| {
        let home = home(&client.spec.authorization_server_ref, client.namespace());
        lane(&of_client, home)
    };
    try_join!(
        controller!(
            AuthorizationServer,
            authorization_servers,
            authorization_server,
            |server: &AuthorizationServer| pass::key(server)
        ),
        controller!(McpServer, servers, mcp_server, server_lane),
        controller!(McpClient, clients, mcp_client, client_lane),
        // These two ask no authorization server.
        controller!(TokenExchangePolicy, policies, token_exchange_policy, |_| {
            String::new()
        }),
        controller!(Service, services, service, |_| String::new()),
    )?;
    Ok(())
}

/// The lane of the AuthorizationServer that an object refers to. What refers to none that exists asks nobody, and so
/// shares one: tenants could otherwise make as many lanes as they can think of names.
fn lane(ctx: &Context, (namespace, name): (String, String)) -> String {
    let server = find(&ctx.feeds.authorization_servers.store(), &namespace, &name);
    server.map_or_else(String::new, |server| pass::key(&*server))
}

fn context(parts: Parts) -> Context {
    let Parts {
        client,
        config,
        installation,
        clock,
        metrics,
        leadership,
        egress,
        health,
    } = parts;
    let feeds = feeds(&client, &config, &health);
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: std::env::var("HOSTNAME").ok(),
    };
    let cluster = Cluster::new(client, leadership.clone());
    Context {
        recorder: Recorder::new(cluster.clone(), reporter, clock.clone()),
        cluster,
        feeds,
        connections: Connections::default(),
        realms: RealmRegistry::new(LimitSettings::new(
            config.authorization_server_rate,
            config.max_backoff,
        )),
        backoff: Backoff::default(),
        pace: crate::credential::pace::Pace::default(),
        applied: super::applied::Applied::default(),
        memory: Memory::default(),
        refusals: mcp_client::Refusals::default(),
        probes: mcp_server::Probes::patient(),
        config,
        installation,
        clock,
        egress,
        metrics,
        leadership,
    }
}

fn feeds(client: &Client, settings: &Config, health: &Health) -> Feeds {
    let (scope, config) = (&settings.watch, watcher::Config::default());
    let namespaces: Feed<PartialObjectMeta<Namespace>> = Feed::start(scope.namespaces(client));
    health.wait_for_cache(namespaces.probe());
    // Of what is in a namespace that is being deleted, only our own kinds matter, and the right to list them does not
    // go with the namespace as the right to list the rest may.
    let (absent, going) = (namespaces.absence(), namespaces.absence_or_deletion());
    macro_rules! feed {
        ($scopes:expr, $unless:expr) => {{
            let feed = Feed::start_unless($scopes, $unless.clone());
            health.wait_for_cache(feed.probe());
            feed
        }};
    }
    let secrets = feed!(scope.of(client, &config), going);
    Feeds {
        authorization_servers: feed!(scope.of::<AuthorizationServer>(client, &config), absent),
        servers: feed!(scope.of::<McpServer>(client, &config), absent),
        clients: feed!(scope.of::<McpClient>(client, &config), absent),
        policies: feed!(scope.of::<TokenExchangePolicy>(client, &config), absent),
        services: feed!(scope.of::<Service>(client, &config), going),
        journals: if scope.contains(&settings.namespace) {
            secrets.clone()
        } else {
            let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
            let own = WatchScope::Namespaces(vec![settings.namespace.clone()]);
            let feed = Feed::start(own.of(client, &ours));
            health.wait_for_cache(feed.probe());
            feed
        },
        secrets,
        config_maps: feed!(scope.of(client, &config), going),
        gates: GateFeeds {
            deployments: feed!(scope.of(client, &of_gates(GATE)), going),
            pods: feed!(scope.of(client, &of_gates(GATE)), going),
            slices: feed!(scope.of(client, &of_gates(ORIGIN)), going),
            // Also those of others: they add up with ours.
            network_policies: feed!(scope.of(client, &config), going),
            disruption_budgets: feed!(scope.of(client, &of_gates(GATE)), going),
        },
        namespaces,
    }
}

/// Selects what belongs to gates, by the part that it plays.
fn of_gates(component: &str) -> watcher::Config {
    watcher::Config::default().labels(&format!("{SERVER},{COMPONENT}={component}"))
}

/// Warns of each namespace that should be served and does not exist, which may be a typing error.
fn name_absent(ctx: &Context) {
    let (WatchScope::Namespaces(names), absent) = (&ctx.config.watch, ctx.feeds.namespaces.absence()) else {
        return;
    };
    for namespace in names.iter().filter(|name| absent(name)) {
        tracing::warn!(namespace, "a namespace that is to be served does not exist (yet)");
    }
}

/// Decisions look into several caches, so none is made before all of them are filled.
async fn ready(feeds: &Feeds) -> Result<(), FeedStopped> {
    let Feeds {
        authorization_servers,
        servers,
        clients,
        policies,
        services,
        secrets,
        journals,
        config_maps,
        gates,
        namespaces,
    } = feeds;
    try_join!(
        gates.deployments.wait_until_ready(),
        gates.pods.wait_until_ready(),
        gates.slices.wait_until_ready(),
        gates.network_policies.wait_until_ready(),
        gates.disruption_budgets.wait_until_ready(),
        authorization_servers.wait_until_ready(),
        servers.wait_until_ready(),
        clients.wait_until_ready(),
        policies.wait_until_ready(),
        services.wait_until_ready(),
        secrets.wait_until_ready(),
        journals.wait_until_ready(),
        config_maps.wait_until_ready(),
        namespaces.wait_until_ready(),
    )?;
    Ok(())
}

/// Completes when one of the caches is dead: decisions would take what it lacks for gone.
async fn stopped(feeds: &Feeds) -> FeedStopped {
    let Feeds {
        authorization_servers,
        servers,
        clients,
        policies,
        services,
        secrets,
        journals,
        config_maps,
        gates,
        namespaces,
    } = feeds;
    tokio::select! {
        stopped = gates.deployments.stopped() => stopped,
        stopped = gates.pods.stopped() => stopped,
        stopped = gates.slices.stopped() => stopped,
        stopped = gates.network_policies.stopped() => stopped,
        stopped = gates.disruption_budgets.stopped() => stopped,
        stopped = authorization_servers.stopped() => stopped,
        stopped = servers.stopped() => stopped,
        stopped = clients.stopped() => stopped,
        stopped = policies.stopped() => stopped,
        stopped = services.stopped() => stopped,
        stopped = secrets.stopped() => stopped,
        stopped = journals.stopped() => stopped,
        stopped = config_maps.stopped() => stopped,
        stopped = namespaces.stopped() => stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_cache_that_is_dead_is_an_error() {
        let stage = testing::stage(&[]).await;
        let mut ctx = Arc::into_inner(stage.ctx).unwrap();
        ready(&ctx.feeds).await.unwrap();
        // Without anything to watch, its task ends at once.
        ctx.feeds.servers = Feed::start(Vec::new());
        let why = "the watch of mcpservers ended";
        assert_eq!(ready(&ctx.feeds).await.unwrap_err().to_string(), why);
        assert_eq!(stopped(&ctx.feeds).await.to_string(), why);
    }
}
