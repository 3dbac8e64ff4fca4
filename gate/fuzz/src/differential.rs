//! Compares what the gate takes something for with what readers take it for.

use std::time::{Duration, Instant};

use crate::{
    meaning::hex,
    readers::Reader,
    subject::{Subject, View},
};

/// So many are given to a reader at once.
const BATCH: u64 = 512;

/// Something that is let through and means different things.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// What it is.
    pub name: &'static str,
    /// With this seed it is made again.
    pub seed: u64,
    /// It, as small as it could be made.
    pub made: Vec<u8>,
    /// What everybody sees, the gate first.
    pub views: Vec<View>,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "one of the {} that are let through means different things; seed {}, in hex:",
            self.name, self.seed
        )?;
        writeln!(f, "{}", hex(&self.made))?;
        writeln!(f, "{}", String::from_utf8_lossy(&self.made).escape_debug())?;
        for (name, view) in &self.views {
            writeln!(f, "{name:>10}: {view}")?;
        }
        Ok(())
    }
}

/// How far a run came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// How many were made.
    pub made: u64,
    /// Those that were let through, and so compared.
    pub compared: u64,
}

/// Makes some from `seed` on until `time` is over, and compares those that are let through.
///
/// # Errors
/// When a reader ends. The inner result is the first disagreement.
pub fn run(
    subject: &Subject,
    readers: &mut [Reader],
    seed: u64,
    time: Duration,
) -> anyhow::Result<(Progress, Option<Disagreement>)> {
    let began = Instant::now();
    let mut progress = Progress::default();
    while began.elapsed() < time {
        let seeds = (seed + progress.made)..(seed + progress.made + BATCH);
        let made = seeds.map(|seed| (seed, (subject.make)(seed)));
        let passed: Vec<(u64, Vec<u8>)> = made.filter(|(_, made)| (subject.judge)(made).is_some()).collect();
        progress.made += BATCH;
        progress.compared += passed.len() as u64;
        let only: Vec<&[u8]> = passed.iter().map(|(_, made)| made.as_slice()).collect();
        let views = views(subject, readers, &only)?;
        for ((seed, made), views) in passed.iter().zip(views) {
            if !(subject.agree)(&views) {
                let found = shrink(subject, readers, *seed, made)?;
                return Ok((progress, Some(found)));
            }
        }
    }
    Ok((progress, None))
}

/// What everybody sees in each of these: the gate first, then others in this process, then the readers.
fn views(subject: &Subject, readers: &mut [Reader], made: &[&[u8]]) -> anyhow::Result<Vec<Vec<View>>> {
    let mut all: Vec<Vec<View>> = made.iter().map(|made| subject.views(made)).collect();
    let shown: Vec<Vec<u8>> = made.iter().map(|made| (subject.shown)(made)).collect();
    let shown: Vec<&[u8]> = shown.iter().map(Vec::as_slice).collect();
    for reader in readers {
        let said = reader.read(&shown)?;
        for (views, view) in all.iter_mut().zip(said) {
            views.push((reader.name.to_owned(), view));
        }
    }
    Ok(all)
}

/// Takes bytes away as long as the rest still means different things.
fn shrink(subject: &Subject, readers: &mut [Reader], seed: u64, made: &[u8]) -> anyhow::Result<Disagreement> {
    let mut made = made.to_vec();
    let mut length = made.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at + length <= made.len() {
            let mut smaller = made.clone();
            smaller.drain(at..at + length);
            let fails = (subject.judge)(&smaller).is_some()
                && !(subject.agree)(&views(subject, readers, &[&smaller])?[0]);
            if fails {
                made = smaller;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    let views = views(subject, readers, &[&made])?.remove(0);
    let name = subject.name;
    Ok(Disagreement {
        name,
        seed,
        made,
        views,
    })
}
