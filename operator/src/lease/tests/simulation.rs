//! Real electors against one lease over a network that delays and loses requests and answers, in simulated time.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;

/// What one run showed.
#[derive(Debug)]
struct Run {
    /// Samples at which more than one replica said that it leads.
    conflicts: usize,
    /// Samples at which exactly one did.
    led: usize,
    samples: usize,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    seed: u64,
    /// How many percent of the requests, and of the answers, are lost.
    loss: u32,
    /// How long each of them takes at most.
    delay: Duration,
    /// Whether each replica is now and then cut off for a while.
    cuts: bool,
    /// Whether somebody deletes the lease now and then.
    deletions: bool,
}

impl Weather {
    /// The network of one life of one replica.
    fn network(self, number: u64, life: u64) -> Network {
        let mut random = StdRng::seed_from_u64(self.seed ^ (number << 32) ^ (life << 40));
        let mut cut = Instant::now()..Instant::now();
        Box::new(move || {
            let now = Instant::now();
            if now >= cut.end {
                let start = now + Duration::from_secs(random.random_range(5..90));
                cut = start..start + Duration::from_secs(random.random_range(2..40));
            }
            let cut_off = self.cuts && cut.contains(&now);
            let mut leg = || {
                let takes = self.delay.mul_f64(random.random::<f64>());
                (!cut_off && !random.random_ratio(self.loss, 100)).then_some(takes)
            };
            Passage {
                there: leg(),
                back: leg(),
            }
        })
    }
}

/// Three replicas, each started anew whenever its election ends, watched for ten minutes.
async fn simulate(weather: Weather) -> Run {
    let server = ApiServer::shared();
    let mut replicas: Vec<_> = (0..3)
        .map(|number| Replica::start(&server, number, weather))
        .collect();
    let mut run = Run {
        conflicts: 0,
        led: 0,
        samples: 6_000,
    };
    let mut random = StdRng::seed_from_u64(weather.seed);
    for _ in 0..run.samples {
        sleep(Duration::from_millis(100)).await;
        if weather.deletions && random.random_ratio(1, 50) {
            delete(&server, &replicas);
        }
        match replicas
            .iter()
            .filter(|replica| replica.leadership.is_held())
            .count()
        {
            0 => {}
            1 => run.led += 1,
            _ => run.conflicts += 1,
        }
        for replica in &mut replicas {
            replica.restart_if_ended(&server, weather);
        }
    }
    run
}

/// Deletes the lease, if every replica knows it: who never saw one takes what it finds missing.
fn delete(server: &Arc<Mutex<ApiServer>>, replicas: &[Replica]) {
    let mut server = server.lock().unwrap();
    let settled = server.born.is_some_and(|born| born.elapsed() >= DURATION);
    if settled
        && replicas
            .iter()
            .all(|replica| server.told.contains(&replica.identity()))
    {
        server.delete();
    }
}

struct Replica {
    number: u64,
    life: u64,
    leadership: Leadership,
    task: JoinHandle<Result<(), LeaseError>>,
}

impl Replica {
    fn start(server: &Arc<Mutex<ApiServer>>, number: u64, weather: Weather) -> Self {
        let (leadership, task) = live(server, number, 0, weather);
        Self {
            number,
            life: 0,
            leadership,
            task,
        }
    }

    fn identity(&self) -> String {
        identity(self.number, self.life)
    }

    fn restart_if_ended(&mut self, server: &Arc<Mutex<ApiServer>>, weather: Weather) {
        if self.task.is_finished() {
            assert!(
                !self.leadership.is_held(),
                "an election that is over grants nothing"
            );
            self.life += 1;
            (self.leadership, self.task) = live(server, self.number, self.life, weather);
        }
    }
}

fn identity(number: u64, life: u64) -> String {
    format!("{number}-{life}")
}

/// One life of a replica.
fn live(
    server: &Arc<Mutex<ApiServer>>,
    number: u64,
    life: u64,
    weather: Weather,
) -> (Leadership, JoinHandle<Result<(), LeaseError>>) {
    let network = weather.network(number, life);
    let (elector, leadership) = candidate_over(server, &identity(number, life), DURATION, network);
    (
        leadership,
        tokio::spawn(elector.run(std::future::ready(()), std::future::pending())),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever the network does, and whoever deletes the lease, no two lead at once; and when it mostly works, somebody mostly leads.
    #[test]
    fn never_two_leaders(seed: u64, loss in 0u32..40, delay in 0u64..4_000, cuts: bool, deletions: bool) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let run = runtime.block_on(simulate(Weather { seed, loss, delay: Duration::from_millis(delay), cuts, deletions }));
        prop_assert_eq!(run.conflicts, 0, "{:?}", run);
        if loss < 5 && delay < 1_000 && !cuts {
            prop_assert!(run.led * 2 > run.samples, "hardly anybody led: {run:?}");
        }
    }
}
