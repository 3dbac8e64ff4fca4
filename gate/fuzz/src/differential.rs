//! Compares what the gate takes bodies for with what readers take them for.

use std::time::{Duration, Instant};

use crate::{
    bodies,
    meaning::{self, Meaning, hex},
    readers::Reader,
};

/// So many bodies are given to a reader at once.
const BATCH: u64 = 512;

/// Says what a body is taken for (as [`meaning::to_the_gate`] does), or that it is refused.
pub type Judge = fn(&[u8]) -> Option<String>;

/// A body that is let through and means different things.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// With this seed the body is made again.
    pub seed: u64,
    /// The body, as small as it could be made.
    pub body: Vec<u8>,
    /// Who sees it otherwise, and what everybody sees.
    pub views: Vec<(String, String)>,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "a body that is let through means different things; seed {}, in hex:",
            self.seed
        )?;
        writeln!(f, "{}", hex(&self.body))?;
        writeln!(f, "{}", String::from_utf8_lossy(&self.body).escape_debug())?;
        for (name, view) in &self.views {
            writeln!(f, "{name:>10}: {view}")?;
        }
        Ok(())
    }
}

/// How far a run came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bodies that were made.
    pub made: u64,
    /// Those that were let through, and so compared.
    pub compared: u64,
}

/// Makes bodies from `seed` on until `time` is over, and compares those that `judge` lets through.
///
/// # Errors
/// When a reader ends. The inner result is the first disagreement.
pub fn run(
    judge: Judge,
    readers: &mut [Reader],
    seed: u64,
    time: Duration,
) -> anyhow::Result<(Progress, Option<Disagreement>)> {
    let began = Instant::now();
    let mut progress = Progress::default();
    while began.elapsed() < time {
        let seeds = (seed + progress.made)..(seed + progress.made + BATCH);
        let bodies: Vec<(u64, Vec<u8>)> = seeds.map(|seed| (seed, bodies::make(seed))).collect();
        progress.made += BATCH;
        let passed = bodies.iter().filter(|(_, body)| judge(body).is_some());
        let passed: Vec<(u64, &[u8])> = passed.map(|(seed, body)| (*seed, body.as_slice())).collect();
        progress.compared += passed.len() as u64;
        let only: Vec<&[u8]> = passed.iter().map(|(_, body)| *body).collect();
        let views = views(judge, readers, &only)?;
        for ((seed, body), views) in passed.iter().zip(views) {
            if !agree(&views) {
                let found = shrink(judge, readers, *seed, body)?;
                return Ok((progress, Some(found)));
            }
        }
    }
    Ok((progress, None))
}

/// What everybody sees in each of these bodies: the gate first, then serde_json, then the readers.
fn views(
    judge: Judge,
    readers: &mut [Reader],
    bodies: &[&[u8]],
) -> anyhow::Result<Vec<Vec<(String, String)>>> {
    let plain = |body: &[u8]| {
        let meaning = meaning::to_serde_json(body);
        meaning.map_or("!invalid".to_owned(), |meaning| {
            format!("{} {}", meaning.call, meaning.arguments)
        })
    };
    let mut all: Vec<Vec<(String, String)>> = bodies
        .iter()
        .map(|body| {
            let gate = judge(body).unwrap_or_default();
            vec![("gate".to_owned(), gate), ("serde_json".to_owned(), plain(body))]
        })
        .collect();
    for reader in readers {
        let said = reader.read(bodies)?;
        for (views, view) in all.iter_mut().zip(said) {
            views.push((reader.name.to_owned(), view));
        }
    }
    Ok(all)
}

/// Whether all readers see the call that the gate sees, and the same arguments. A reader that finds a type wrong for the
/// method does nothing, so it cannot do another thing; but what is let through is JSON to everybody.
fn agree(views: &[(String, String)]) -> bool {
    let Some(((_, gate), readers)) = views.split_first() else {
        return true;
    };
    let mut arguments: Option<Meaning> = None;
    for (_, view) in readers.iter().rev().filter(|(_, view)| view != "!mistyped") {
        let Some(meaning) = Meaning::read(view) else {
            return false;
        };
        if meaning.call != *gate {
            return false;
        }
        match &arguments {
            Some(first) if first.without_numbers() != meaning.without_numbers() => return false,
            Some(_) => {}
            None => arguments = Some(meaning),
        }
    }
    numbers_agree(readers)
}

/// Numbers are compared bit by bit among the readers that read them exactly: all but serde_json, the first.
fn numbers_agree(readers: &[(String, String)]) -> bool {
    let exact = readers.iter().skip(1).filter_map(|(_, view)| Meaning::read(view));
    let mut exact = exact.map(|meaning| meaning.arguments);
    let first = exact.next();
    exact.all(|other| Some(other) == first)
}

/// Takes bytes away as long as the rest still means different things.
fn shrink(judge: Judge, readers: &mut [Reader], seed: u64, body: &[u8]) -> anyhow::Result<Disagreement> {
    let mut body = body.to_vec();
    let mut length = body.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at + length <= body.len() {
            let mut smaller = body.clone();
            smaller.drain(at..at + length);
            let fails = judge(&smaller).is_some() && !agree(&views(judge, readers, &[&smaller])?[0]);
            if fails {
                body = smaller;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    let views = views(judge, readers, &[&body])?.remove(0);
    Ok(Disagreement { seed, body, views })
}
