//! Which faults are tried where: made from what an undisturbed operator was seen to write.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use anyhow::Context;
use mcp_auth_e2e::proxy::{Call, Fault, Point};

use super::{
    matrix::{Harm, Stage},
    rig::Side,
    steps::Step,
};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    KilledBefore,
    KilledAfter,
    ReplyLost,
}

impl Break {
    pub(super) const ALL: [Self; 3] = [Self::KilledBefore, Self::KilledAfter, Self::ReplyLost];

    fn fault(self) -> Fault {
        match self {
            Self::KilledBefore => Fault::hang(),
            Self::KilledAfter => Fault::keep_reply(),
            Self::ReplyLost => Fault::lose_reply(),
        }
    }

    pub(super) fn kills(self) -> bool {
        self != Self::ReplyLost
    }
}

/// A write in the life of a client: the `number`th of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) step: Step,
    pub(super) side: Side,
    pub(super) point: Point,
    pub(super) number: usize,
}

/// One fault at one place.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) place: Place,
    pub(super) what: Break,
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            step, point, number, ..
        } = &self.place;
        let what = match self.what {
            Break::KilledBefore => "killed before",
            Break::KilledAfter => "killed after",
            Break::ReplyLost => "no reply to",
        };
        write!(formatter, "{what} {point} (no. {number}, in {step})")
    }
}

/// Lives the life of a client undisturbed. Gives every write in it.
pub(super) async fn record<S: Stage>(stage: &S, name: &str) -> anyhow::Result<Vec<Place>> {
    let (mut places, mut known) = (Vec::new(), S::Known::default());
    let mut numbers: BTreeMap<(Side, Point), usize> = BTreeMap::new();
    for &step in stage.steps() {
        stage
            .take(name, step, &mut known, &Harm::NONE)
            .await
            .with_context(|| format!("{step}, undisturbed"))?;
        for (side, point) in stage.rig().points(name) {
            let number = numbers.entry((side, point.clone())).or_default();
            *number += 1;
            places.push(Place {
                step,
                side,
                point,
                number: *number,
            });
        }
    }
    Ok(places)
}

/// Lives the life of a client with one fault. Gives whether the fault came up.
pub(super) async fn run<S: Stage>(stage: &S, name: &str, trial: &Trial) -> anyhow::Result<bool> {
    let rig = stage.rig();
    let Place {
        side, point, number, ..
    } = trial.place.clone();
    let (namespace, client) = (rig.env.namespace().to_owned(), name.to_owned());
    let there = move |call: &Call| Point::of(call, &namespace, &client).as_ref() == Some(&point);
    let hits = rig.proxy(side).inject(trial.what.fault().on(there).at(number));
    let harm = Harm::of(trial, &hits);
    let life = async {
        let mut known = S::Known::default();
        for &step in stage.steps() {
            stage
                .take(name, step, &mut known, &harm)
                .await
                .with_context(|| format!("{step}, {} faults so far", hits.count()))?;
        }
        anyhow::Ok(())
    };
    let killing = async {
        if !trial.what.kills() {
            return Ok(());
        }
        hits.first().await;
        rig.restart().await
    };
    // A life in which the fault does not come up ends without it.
    let mut killing = std::pin::pin!(killing);
    let mut life = std::pin::pin!(life);
    tokio::select! {
        biased;
        restarted = &mut killing => {
            restarted.context("the operator could not be started again")?;
            life.await?;
        }
        lived = &mut life => {
            lived?;
            if trial.what.kills() && hits.count() > 0 {
                killing.await?;
            }
        }
    }
    rig.heal()?;
    Ok(hits.count() > 0)
}

/// Every fault at every place.
pub(super) fn all(places: &[Place]) -> Vec<Trial> {
    let trials = places.iter().flat_map(|place| {
        Break::ALL.map(|what| Trial {
            place: place.clone(),
            what,
        })
    });
    trials.collect()
}

/// So many of these, chosen by the seed: the same ones whatever else is among them, because a few writes come up in some
/// lives only.
pub(super) fn sample<T: fmt::Display>(mut all: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    all.sort_by_cached_key(|one| {
        let mut hasher = DefaultHasher::new();
        (seed, one.to_string()).hash(&mut hasher);
        hasher.finish()
    });
    all.truncate(count);
    all
}

/// What came up in the first life of a realm only: what is made there once.
pub(super) fn only_first(first: &[Place], later: &[Place]) -> Vec<Place> {
    let again = |place: &&Place| {
        later
            .iter()
            .any(|other| (other.side, &other.point, other.number) == (place.side, &place.point, place.number))
    };
    first.iter().filter(|place| !again(place)).cloned().collect()
}
