//! Starting the watches and the controllers, and stopping them.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
    try_join,
};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Client,
    runtime::{events::Reporter, watcher},
};
use mcp_auth_crds::{
    annotations::MANAGER,
    condition::{self, Conditioned, types},
    v1alpha1::{AuthorizationServer, McpClient, McpServer, TokenExchangePolicy},
};
use tokio::time::{MissedTickBehavior, interval};

use super::{authorization_server, mcp_client, mcp_server, pass, service, token_exchange_policy, triggers};
use crate::{
    admin::Health,
    backoff::Backoff,
    clock::SharedClock,
    cluster::{Cluster, Owned},
    config::Config,
    connections::Connections,
    context::{Context, Feeds},
    egress::Egress,
    events::Recorder,
    lease::Leadership,
    metrics::{Kind, Metrics, ReadyCounts},
    provider::{LimitSettings, RealmRegistry},
    watch::{ControllerError, Feed, WatchScope, Work, run_controller},
};

/// How often the gauges of objects are set.
const COUNT_EVERY: Duration = Duration::from_secs(5);

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

/// Fills the caches, waits until this replica leads, and runs all controllers until `shutdown` completes; then starts nothing more, and returns when what is running has
/// ended.
///
/// # Errors
/// When a controller ends by itself, which is a defect.
pub async fn run(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    let ctx = Arc::new(context(parts));
    let shutdown = shutdown.boxed().shared();
    // The caches of a replica that waits are kept warm, so that it can take over at once.
    let wait = async {
        ready(&ctx.feeds).await;
        ctx.leadership.acquired().await;
    };
    tokio::select! {
        () = wait => {}
        () = shutdown.clone() => return Ok(()),
    }
    tracing::info!("this replica leads and its caches are filled: the controllers start");
    let counting = tokio::spawn(count(Arc::clone(&ctx)));
    let result = controllers(&ctx, &shutdown).await;
    counting.abort();
    result
}

async fn controllers(
    ctx: &Arc<Context>,
    shutdown: &Shared<BoxFuture<'static, ()>>,
) -> Result<(), ControllerError> {
    macro_rules! controller {
        ($kind:ident, $feed:ident, $module:ident) => {
            run_controller(
                Work {
                    kind: Kind::$kind,
                    store: ctx.feeds.$feed.store(),
                    queue: triggers::$feed(ctx),
                    concurrency: ctx.config.concurrency,
                },
                shutdown.clone(),
                Arc::clone(ctx),
                $module::run,
                |object, error, ctx| pass::again(Kind::$kind, &*object, error, &ctx),
            )
        };
    }
    try_join!(
        controller!(AuthorizationServer, authorization_servers, authorization_server),
        controller!(McpServer, servers, mcp_server),
        controller!(McpClient, clients, mcp_client),
        controller!(TokenExchangePolicy, policies, token_exchange_policy),
        controller!(Service, services, service),
    )?;
    Ok(())
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
    let feeds = feeds(&client, &config.watch, &health);
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: std::env::var("HOSTNAME").ok(),
    };
    Context {
        cluster: Cluster::new(client.clone(), leadership.clone()),
        feeds,
        connections: Connections::default(),
        realms: RealmRegistry::new(LimitSettings::new(
            config.authorization_server_rate,
            config.max_backoff,
        )),
        recorder: Recorder::new(client, reporter, clock.clone()),
        backoff: Backoff::default(),
        applied: super::settle::Applied::default(),
        probes: mcp_server::Probes::default(),
        config,
        installation,
        clock,
        egress,
        metrics,
        leadership,
    }
}

fn feeds(client: &Client, scope: &WatchScope, health: &Health) -> Feeds {
    let config = watcher::Config::default();
    macro_rules! feed {
        ($scopes:expr) => {{
            let feed = Feed::start($scopes);
            health.wait_for_cache(feed.probe());
            feed
        }};
    }
    Feeds {
        authorization_servers: feed!(scope.of::<AuthorizationServer>(client, &config)),
        servers: feed!(scope.of::<McpServer>(client, &config)),
        clients: feed!(scope.of::<McpClient>(client, &config)),
        policies: feed!(scope.of::<TokenExchangePolicy>(client, &config)),
        services: feed!(scope.of::<Service>(client, &config)),
        secrets: feed!(scope.of(client, &config)),
        config_maps: feed!(scope.of(client, &config)),
        namespaces: feed!(scope.namespaces(client)),
    }
}

/// Decisions look into several caches, so none is made before all of them are filled.
async fn ready(feeds: &Feeds) {
    let Feeds {
        authorization_servers,
        servers,
        clients,
        policies,
        services,
        secrets,
        config_maps,
        namespaces,
    } = feeds;
    let _ = try_join!(
        authorization_servers.wait_until_ready(),
        servers.wait_until_ready(),
        clients.wait_until_ready(),
        policies.wait_until_ready(),
        services.wait_until_ready(),
        secrets.wait_until_ready(),
        config_maps.wait_until_ready(),
        namespaces.wait_until_ready(),
    );
}

/// Keeps the gauges of objects up to date.
async fn count(ctx: Arc<Context>) {
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        count_kind(
            Kind::AuthorizationServer,
            &ctx.feeds.authorization_servers,
            |o| o.status.as_ref(),
            &ctx.metrics,
        );
        count_kind(
            Kind::McpServer,
            &ctx.feeds.servers,
            |o| o.status.as_ref(),
            &ctx.metrics,
        );
        count_kind(
            Kind::McpClient,
            &ctx.feeds.clients,
            |o| o.status.as_ref(),
            &ctx.metrics,
        );
        count_kind(
            Kind::TokenExchangePolicy,
            &ctx.feeds.policies,
            |o| o.status.as_ref(),
            &ctx.metrics,
        );
    }
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
