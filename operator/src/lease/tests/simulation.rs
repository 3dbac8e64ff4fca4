//! Real electors against one lease over a network that delays and loses requests and answers, in simulated time.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

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

/// A network that loses `loss` percent of the answers and delays the rest by up to `delay`, each way.
fn network(seed: u64, loss: u32, delay: Duration) -> Network {
    let mut random = StdRng::seed_from_u64(seed);
    Box::new(move || {
        let mut leg = || delay.mul_f64(random.random::<f64>());
        let (there, back) = (leg(), leg());
        (there, back, !random.random_ratio(loss, 100))
    })
}

/// Three replicas, each started anew whenever its election ends, watched for ten minutes.
async fn simulate(seed: u64, loss: u32, delay: Duration) -> Run {
    let server = ApiServer::shared();
    let mut replicas: Vec<_> = (0..3)
        .map(|number| Replica::start(&server, seed, number, loss, delay))
        .collect();
    let mut run = Run {
        conflicts: 0,
        led: 0,
        samples: 6_000,
    };
    for _ in 0..run.samples {
        sleep(Duration::from_millis(100)).await;
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
            replica.restart_if_ended(&server, loss, delay);
        }
    }
    run
}

struct Replica {
    seed: u64,
    number: u64,
    life: u64,
    leadership: Leadership,
    task: tokio::task::JoinHandle<Result<(), LeaseError>>,
}

impl Replica {
    fn start(server: &Arc<Mutex<ApiServer>>, seed: u64, number: u64, loss: u32, delay: Duration) -> Self {
        let (leadership, task) = Self::live(server, seed, number, 0, loss, delay);
        Self {
            seed,
            number,
            life: 0,
            leadership,
            task,
        }
    }

    fn live(
        server: &Arc<Mutex<ApiServer>>,
        seed: u64,
        number: u64,
        life: u64,
        loss: u32,
        delay: Duration,
    ) -> (Leadership, tokio::task::JoinHandle<Result<(), LeaseError>>) {
        let network = network(seed ^ (number << 32) ^ (life << 40), loss, delay);
        let (elector, leadership) = candidate_over(server, &format!("{number}-{life}"), DURATION, network);
        (leadership, tokio::spawn(elector.run(std::future::pending())))
    }

    fn restart_if_ended(&mut self, server: &Arc<Mutex<ApiServer>>, loss: u32, delay: Duration) {
        if self.task.is_finished() {
            assert!(
                !self.leadership.is_held(),
                "an election that is over grants nothing"
            );
            self.life += 1;
            (self.leadership, self.task) = Self::live(server, self.seed, self.number, self.life, loss, delay);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the network does, no two lead at once; and when it mostly works, somebody mostly leads.
    #[test]
    fn never_two_leaders(seed: u64, loss in 0u32..60, delay in 0u64..4_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let run = runtime.block_on(simulate(seed, loss, Duration::from_millis(delay)));
        prop_assert_eq!(run.conflicts, 0, "{:?}", run);
        if loss < 10 && delay < 1_000 {
            prop_assert!(run.led * 10 > run.samples * 8, "hardly anybody led: {run:?}");
        }
    }
}
