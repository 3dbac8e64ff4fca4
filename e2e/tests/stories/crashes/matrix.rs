//! Every fault at every write in the life of a client, or a sample of them, whatever the authorization server.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    sync::Arc,
};

use anyhow::ensure;
use futures::future::try_join_all;
use mcp_auth_e2e::{lengths, progress, proxy::Hits, world::World};

use super::{
    rig::{Rig, Side},
    seed,
    steps::Step,
    trials::{self, Place, Trial},
};

/// So many trials are made with each kind unless all are.
const SAMPLE: usize = 3;

/// How often the same is tried until the fault comes up: what the operator writes depends a little on what it hears
/// first.
const ATTEMPTS: usize = 3;

/// So many faults may not come up, or a tenth: some writes are made in some lives only.
const NOT_MET: usize = 2;

/// Where clients live, one after the other, and what must be true of them.
pub(super) trait Stage: Sized {
    /// What tells one such place from another.
    type Kind: Copy + fmt::Display;
    /// What is known of a client from step to step.
    type Known: Default;

    /// Starts one in namespaces of this name.
    async fn start(world: &Arc<World>, name: &str, kind: Self::Kind) -> anyhow::Result<Self>;

    /// A word for names.
    fn word(kind: Self::Kind) -> &'static str;

    fn rig(&self) -> &Rig;

    fn into_rig(self) -> Rig;

    /// The steps in the life of a client.
    fn steps(&self) -> &'static [Step];

    /// Takes a step with a client, waits until the operator has done it and nothing more comes, and checks what came of it.
    async fn take(
        &self,
        name: &str,
        step: Step,
        known: &mut Self::Known,
        harm: &Harm<'_>,
    ) -> anyhow::Result<()>;
}

/// What was done to a client.
pub(super) struct Harm<'a>(Option<(&'a Trial, &'a Hits)>);

impl<'a> Harm<'a> {
    /// Nothing.
    pub(super) const NONE: Self = Self(None);

    /// This, once it came up.
    pub(super) const fn of(trial: &'a Trial, hits: &'a Hits) -> Self {
        Self(Some((trial, hits)))
    }

    /// What came up so far.
    pub(super) fn so_far(&self) -> Option<&'a Trial> {
        let (trial, hits) = self.0?;
        (hits.count() > 0).then_some(trial)
    }
}

/// Makes the trials with each of these kinds side by side.
pub(super) async fn with_each<S: Stage>(world: &Arc<World>, kinds: &[S::Kind]) -> anyhow::Result<()> {
    let seed = seed()?;
    let outcomes = try_join_all(kinds.iter().map(|kind| of_kind::<S>(world, *kind, seed))).await?;
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

/// The trials with one kind.
async fn of_kind<S: Stage>(world: &Arc<World>, kind: S::Kind, seed: u64) -> anyhow::Result<Outcome> {
    let matrix: Matrix<'_, S> = Matrix {
        world,
        kind,
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
    let (at_server, at_api_server) = (points(Side::AuthorizationServer), points(Side::ApiServer));
    let everything = trials::all(&[&once[..], &later[..]].concat());
    let total = everything.len();
    let chosen = trials::sample(everything, lengths::of(SAMPLE, total), seed);
    progress::say(&format!(
        "{kind}: {at_server} writes to the authorization server and {at_api_server} to the API server in the life of a client; {} of \
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
        "killed or left without an answer, {kind}: {} of {total} faults at {at_server} writes to the authorization server and \
         {at_api_server} to the API server tried with SEED={seed}; did not come up in {ATTEMPTS} lives: {:?}",
        outcome.tried, outcome.not_met
    ));
    Ok(outcome)
}

/// The trials that are left, and what came of the others.
struct Matrix<'a, S: Stage> {
    world: &'a Arc<World>,
    kind: S::Kind,
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

impl<S: Stage> Matrix<'_, S> {
    /// Another operator, in a realm of its own.
    async fn scene(&self) -> anyhow::Result<S> {
        let number = self.started.replace(self.started.get() + 1);
        let name = format!("crashes-{}-{number}", S::word(self.kind));
        S::start(self.world, &name, self.kind).await
    }

    /// The same, with every write in the life of the first client of its realm.
    async fn begun(&self) -> anyhow::Result<(S, Vec<Place>)> {
        let scene = self.scene().await?;
        let places = trials::record(&scene, "first").await?;
        Ok((scene, places))
    }

    /// Makes trials with this operator until it does something wrong, and with others, until none is left.
    async fn work(&self, scene: S) -> anyhow::Result<()> {
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
    async fn go_on(&self, scene: S) -> anyhow::Result<()> {
        loop {
            let Some(trial) = self.rest.borrow_mut().pop_front() else {
                return scene.into_rig().stop().await;
            };
            let name = format!("client-{}", self.rest.borrow().len());
            if !self.attempt(&scene, &name, &trial, ATTEMPTS).await? {
                return Ok(());
            }
        }
    }

    /// Makes a trial. Gives whether all went well.
    async fn attempt(&self, scene: &S, name: &str, trial: &Trial, attempts: usize) -> anyhow::Result<bool> {
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
                    let place = scene.rig().env.namespace();
                    let failed = format!("{trial}, in {place}: {error:#}");
                    // The rest may take an hour.
                    progress::say(&failed);
                    outcome.failed.push(failed);
                    return Ok(false);
                }
            }
        }
        self.outcome.borrow_mut().not_met.push(trial.to_string());
        Ok(true)
    }
}
