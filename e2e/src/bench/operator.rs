//! What the operator costs with thousands of objects: how fast they turn Ready, beside a bare client that makes the same
//! calls; what a start with all of them costs; and what it does while nothing changes.

mod bare;
mod compare;
mod crowd;
mod long;
mod record;
mod scene;
mod start;
mod stub;
mod usage;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{operator::Operator, progress, story::StoryEnv, world::World};

use super::Bench as GateBench;
use compare::Trial;
use crowd::{CLIENTS, Crowd, SERVERS};
use record::{Side, Tally};
use scene::Scene;
use usage::Usage;

/// How many McpClients there are unless somebody asks for fewer; a tenth as many McpServers.
pub const COUNT: u32 = 2000;
/// How many McpClients are made before anything is measured: a Keycloak that has just begun is slow.
const WARM_UP: u32 = 200;
/// As shipped, in seconds.
const RESYNC: u32 = 600;
/// While steady state is measured, in seconds, so that minutes show what happens in an hour.
const SHORT_RESYNC: u32 = 60;
/// The same for a try with few objects.
const SHORTEST_RESYNC: u32 = 10;
/// Fewer than these are a try.
const FEW: u32 = 1000;
/// How many resyncs are waited for.
const ROUNDS: u32 = 3;
/// How many credentials are replaced.
const ROTATED: u32 = 20;
/// How many are made one after another.
const ALONE: u32 = 20;
/// A machine on which it takes longer says nothing about the operator.
const PATIENCE: Duration = Duration::from_hours(1);

/// Runs all of it with so many McpClients, or `long`, with ten times as many in the end and a stub in place of Keycloak,
/// and prints the tables.
///
/// # Errors
/// When something cannot be started, or an object does not turn Ready.
pub async fn run(clients: u32, long: bool) -> anyhow::Result<()> {
    let world = Arc::new(World::start().await?);
    let env = StoryEnv::new(&world, "bench").await?;
    let lines = if long {
        let mut lines = vec![GateBench::machine()];
        lines.extend(long::measure(env, clients).await?);
        lines
    } else {
        let scene = Scene::new(env).await?;
        Bench { scene, clients }.measure().await?
    };
    super::print(&lines.join("\n"));
    world.stop().await
}

struct Bench {
    scene: Scene,
    clients: u32,
}

impl Bench {
    fn servers(&self) -> u32 {
        tenth(self.clients)
    }

    /// How many McpClients are made before anything is measured.
    fn warm_up(&self) -> u32 {
        WARM_UP.min(self.clients)
    }

    /// How many McpServers and McpClients there are in the end.
    fn all(&self) -> [u32; 2] {
        [
            tenth(self.warm_up()) + self.servers(),
            self.warm_up() + self.clients,
        ]
    }

    fn short_resync(&self) -> u32 {
        if self.clients < FEW {
            SHORTEST_RESYNC
        } else {
            SHORT_RESYNC
        }
    }

    async fn measure(&self) -> anyhow::Result<Vec<String>> {
        self.scene.allow_bare_client().await?;
        let operator = self.scene.start(RESYNC).await?;
        let main = self.scene.env.authorization_server("main");
        self.scene.connect(&main).await?;
        let crowd = Crowd::watch(&self.scene.env);
        let trial = Trial {
            scene: &self.scene,
            crowd: &crowd,
            operator: &operator,
        };
        let warm_up = self.warm_up();
        trial.warm_up(&SERVERS, tenth(warm_up)).await?;
        trial.warm_up(&CLIENTS, warm_up).await?;
        let servers = trial.compare(&SERVERS, tenth(warm_up), self.servers()).await?;
        let clients = trial.compare(&CLIENTS, warm_up, self.clients).await?;
        let rotated = self.rotate(&operator).await?;
        operator.stop().await?;
        let started = start::start(&self.scene, self.all(), RESYNC).await?;
        let lone = progress::during("one more at a time", self.alone(&crowd)).await?;
        started.operator.stop().await?;
        let (idle_line, idle) = self.idle().await?;
        let mut lines = vec![GateBench::machine(), compare::HEAD.to_owned()];
        lines.extend(servers.lines());
        lines.extend(clients.lines());
        lines.push(lone);
        lines.push("\n| with all of them | time | calls to Keycloak | of them writes | calls to the API server | CPU | memory after |\n|---|--:|--:|--:|--:|--:|--:|".to_owned());
        lines.extend([started.line(self.all()), idle_line]);
        lines.push("\nCalls for each object:\n".to_owned());
        let all = self.all().iter().sum();
        lines.extend(record::table(&[
            ("a McpServer made", &servers.tally, self.servers()),
            ("a McpClient made", &clients.tally, self.clients),
            ("a credential replaced", &rotated, ROTATED.min(self.clients)),
            ("a start", &started.tally, all),
            ("a look without a change", &idle, all * ROUNDS),
        ]));
        Ok(lines)
    }

    /// Has some credentials replaced. Gives the calls that it took.
    async fn rotate(&self, operator: &Operator) -> anyhow::Result<Tally> {
        self.scene.take();
        let count = ROTATED.min(self.clients);
        progress::during("replacing credentials", crowd::rotate(&self.scene.env, count)).await?;
        usage::quiet(operator).await?;
        let mut tally = Tally::default();
        tally.add(&self.scene.take());
        Ok(tally)
    }

    /// What is done while nothing changes, as it would be in an hour with the resync that is shipped.
    async fn idle(&self) -> anyhow::Result<(String, Tally)> {
        let mut all = self.all();
        all[1] += ALONE;
        let operator = start::start(&self.scene, all, self.short_resync())
            .await?
            .operator;
        let before = [
            usage::passes(&operator, SERVERS.name).await?,
            usage::passes(&operator, CLIENTS.name).await?,
        ];
        self.scene.take();
        let (usage, began) = (Usage::begin(&operator)?, Instant::now());
        let what = format!("{ROUNDS} resyncs of all of them");
        progress::during(&what, start::passes(&operator, all, before, ROUNDS)).await?;
        let (calls, used, took) = (self.scene.take(), usage.end()?, began.elapsed());
        operator.stop().await?;
        let hour = Hour::of(took, self.short_resync());
        let count = |side: Side, write: bool| {
            let of = calls.iter().filter(|sent| sent.side == side);
            let of = of.filter(|sent| !write || sent.call.is_write());
            let (timed, looks): (Vec<_>, Vec<_>) = of.partition(|sent| sent.is_of_time());
            hour.calls(timed.len(), looks.len())
        };
        let line = format!(
            "| an hour without a change | {:.0} s measured | {:.0} | {:.0} | {:.0} | {:.1} s | {} |",
            took.as_secs_f64(),
            count(Side::AuthorizationServer, false),
            count(Side::AuthorizationServer, true),
            count(Side::ApiServer, false),
            used.processor.as_secs_f64() * hour.looks,
            super::table::mebibytes(used.memory),
        );
        let mut tally = Tally::default();
        tally.add(&calls);
        Ok((line, tally))
    }

    /// How long one more object takes, when no other is in its way.
    async fn alone(&self, crowd: &Crowd<'_>) -> anyhow::Result<String> {
        let mut times = Vec::new();
        let [_, clients] = self.all();
        for number in clients..clients + ALONE {
            let turned = crowd.grow(&CLIENTS, number..number + 1, 1, PATIENCE).await?;
            times.push(turned.took);
        }
        times.sort_unstable();
        let [middle, last] = [times.len() / 2, times.len() - 1].map(|index| times[index].as_secs_f64());
        Ok(format!(
            "\nOne more McpClient, with all of them there and nothing else to do: Ready after {middle:.2} s (median of {ALONE}), {last:.2} s at most."
        ))
    }
}

/// A tenth as many McpServers as McpClients, but one at least.
fn tenth(clients: u32) -> u32 {
    (clients / 10).max(1)
}

/// From what was measured to an hour as shipped.
struct Hour {
    /// For what comes with time.
    timed: f64,
    /// For what comes with each look at an object.
    looks: f64,
}

impl Hour {
    fn of(took: Duration, resync: u32) -> Self {
        let timed = 3600.0 / took.as_secs_f64();
        Self {
            timed,
            looks: timed * f64::from(resync) / f64::from(RESYNC),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn calls(&self, timed: usize, looks: usize) -> f64 {
        self.timed * timed as f64 + self.looks * looks as f64
    }
}
