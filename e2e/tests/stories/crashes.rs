//! The operator is killed, or left without an answer, at each of its writes.

mod frozen;
mod method;
mod scene;
mod shut_out;
mod steps;
mod trials;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::{lengths, progress, runner::Story, world::World};

use method::AuthMethod;
use scene::{Scene, Side};
use trials::{Place, Trial};

/// So many trials are made with each method unless all are.
const SAMPLE: usize = 3;

/// The sample that is tried unless another is asked for.
const SEED: u64 = 1;

/// How often the same is tried until the fault comes up: what the operator writes depends a little on what it hears
/// first.
const ATTEMPTS: usize = 3;

/// So many faults may not come up, or a tenth: some writes are made in some lives only.
const NOT_MET: usize = 2;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("crashes::at_any_write_in_the_life_of_a_client", at_any_write),
        Story::new(
            "crashes::frozen_in_a_rotation_that_another_finishes",
            frozen::in_a_rotation,
        ),
        Story::new(
            "crashes::frozen_in_a_creation_that_another_finishes_and_undoes",
            frozen::in_a_creation,
        ),
        Story::new(
            "crashes::whoever_led_before_is_shut_out_however_the_operator_signs_in",
            shut_out::however_it_signs_in,
        ),
        Story::new(
            "crashes::where_nobody_can_be_shut_out_a_warning_says_so",
            shut_out::where_it_is_refused,
        ),
    ]
}

/// Which sample: the same in every run, unless SEED=N asks for another.
fn seed() -> anyhow::Result<u64> {
    match std::env::var("SEED") {
        Ok(chosen) => chosen
            .parse()
            .with_context(|| format!("SEED={chosen} is no number")),
        Err(_) => Ok(SEED),
    }
}

async fn at_any_write(world: Arc<World>) -> anyhow::Result<()> {
    let seed = seed()?;
    let outcomes = try_join_all(AuthMethod::ALL.map(|method| of_method(&world, method, seed))).await?;
    let failed: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.failed).collect();
    ensure!(
        failed.is_empty(),
        "{} trials failed with SEED={seed}:\n{failed:#?}",
        failed.len()
    );
    let not_met: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.not_met).collect();
    let tried: usize = outcomes.iter().map(|outcome| outcome.tried).sum();
    ensure!(
        not_met.len() <= NOT_MET.max(tried / 10),
        "too many faults did not come up:\n{not_met:#?}"
    );
    Ok(())
}

/// The trials with clients that authenticate like this.
async fn of_method(world: &Arc<World>, method: AuthMethod, seed: u64) -> anyhow::Result<Outcome> {
    let matrix = Matrix {
        world,
        method,
        fresh: RefCell::default(),
        rest: RefCell::default(),
        started: Cell::new(0),
        outcome: RefCell::default(),
    };
    let (scene, first) = matrix.begun().await?;
    let later = trials::record(&scene, "later").await?;
    let once = trials::only_first(&first, &later);
    let points = |side: Side| {
        once.iter()
            .chain(&later)
            .filter(|place| place.side == side)
            .count()
    };
    let (at_keycloak, at_api_server) = (points(Side::Keycloak), points(Side::ApiServer));
    let everything = trials::all(&[&once[..], &later[..]].concat());
    let total = everything.len();
    let chosen = trials::sample(everything, lengths::of(SAMPLE, total), seed);
    progress::say(&format!(
        "{method}: {at_keycloak} writes to Keycloak and {at_api_server} to the API server in the life of a client; {} of \
         {total} faults at them are tried (SEED={seed})",
        chosen.len()
    ));

    // What a realm has once comes up in a new one only.
    let is_once = |trial: &Trial| once.contains(&trial.place);
    let (fresh, rest): (Vec<Trial>, Vec<Trial>) = chosen.into_iter().partition(is_once);
    matrix.fresh.replace(fresh.into());
    matrix.rest.replace(rest.into());
    matrix.work(scene).await?;
    let outcome = matrix.outcome.into_inner();
    world.note(format!(
        "killed or left without an answer, {method}: {} of {total} faults at {at_keycloak} writes to Keycloak and \
         {at_api_server} to the API server tried with SEED={seed}; did not come up in {ATTEMPTS} lives: {:?}",
        outcome.tried, outcome.not_met
    ));
    Ok(outcome)
}

/// The trials that are left, and what came of the others.
struct Matrix<'a> {
    world: &'a Arc<World>,
    method: AuthMethod,
    /// Each in a realm of its own.
    fresh: RefCell<VecDeque<Trial>>,
    rest: RefCell<VecDeque<Trial>>,
    started: Cell<usize>,
    outcome: RefCell<Outcome>,
}

#[derive(Default)]
struct Outcome {
    tried: usize,
    failed: Vec<String>,
    not_met: Vec<String>,
}

impl Matrix<'_> {
    /// Another operator, in a realm of its own.
    async fn scene(&self) -> anyhow::Result<Scene> {
        let number = self.started.replace(self.started.get() + 1);
        let name = format!("crashes-{}-{number}", self.method.word());
        Scene::start(self.world, &name, self.method).await
    }

    /// The same, with every write in the life of the first client of its realm.
    async fn begun(&self) -> anyhow::Result<(Scene, Vec<Place>)> {
        let scene = self.scene().await?;
        let places = trials::record(&scene, "first").await?;
        Ok((scene, places))
    }

    /// Makes trials with this operator until it does something wrong, and with others, until none is left.
    async fn work(&self, scene: Scene) -> anyhow::Result<()> {
        self.go_on(scene).await?;
        loop {
            let fresh = self.fresh.borrow_mut().pop_front();
            if fresh.is_none() && self.rest.borrow().is_empty() {
                return Ok(());
            }
            let scene = match fresh {
                None => self.begun().await?.0,
                Some(trial) => {
                    let scene = self.scene().await?;
                    if !self.attempt(&scene, "once", &trial, 1).await? {
                        continue;
                    }
                    scene
                }
            };
            self.go_on(scene).await?;
        }
    }

    /// Makes trials in a realm that has what it has once. An operator that did something wrong is no measure for what
    /// comes next.
    async fn go_on(&self, scene: Scene) -> anyhow::Result<()> {
        loop {
            let Some(trial) = self.rest.borrow_mut().pop_front() else {
                return scene.stop().await;
            };
            let name = format!("client-{}", self.rest.borrow().len());
            if !self.attempt(&scene, &name, &trial, ATTEMPTS).await? {
                return Ok(());
            }
        }
    }

    /// Makes a trial. Gives whether all went well.
    async fn attempt(
        &self,
        scene: &Scene,
        name: &str,
        trial: &Trial,
        attempts: usize,
    ) -> anyhow::Result<bool> {
        for attempt in 0..attempts {
            match trials::run(scene, &format!("{name}-{attempt}"), trial).await {
                Ok(true) => {
                    self.outcome.borrow_mut().tried += 1;
                    return Ok(true);
                }
                Ok(false) => {}
                Err(error) => {
                    let mut outcome = self.outcome.borrow_mut();
                    outcome.tried += 1;
                    let place = scene.env.namespace();
                    outcome.failed.push(format!("{trial}, in {place}: {error:#}"));
                    return Ok(false);
                }
            }
        }
        self.outcome.borrow_mut().not_met.push(trial.to_string());
        Ok(true)
    }
}
