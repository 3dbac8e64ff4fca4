//! Rotations in a world of their own: a clock that runs, jumps and stands, a controller that is killed at any write, and
//! workloads that read their Secret late.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;

/// How late a workload reads its Secret again.
const LAG: i64 = 50;
/// Longer than that, as an overlap has to be.
const OVERLAP: i64 = 60;
const INTERVAL: i64 = 400;

/// The client at the server: what it accepts, and until when.
#[derive(Clone, Debug, PartialEq)]
struct Server {
    current: String,
    previous: Option<(String, i64)>,
}

impl Server {
    fn accepts(&self, secret: &str, at: i64) -> bool {
        self.current == secret
            || matches!(&self.previous, Some((previous, until)) if previous == secret && at < *until)
    }
}

/// One object with its journal, its client at the server and its Secret.
#[derive(Default)]
struct World {
    journal: Option<Journal>,
    server: Option<Server>,
    /// What the Secret held, and since when, newest last.
    secrets: Vec<(i64, String)>,
    lost_secret: bool,
    request: Option<String>,
    revocation: Option<String>,
    revoked: Vec<String>,
    made: u32,
    rotations: u32,
    /// What server and workloads go by.
    clock: i64,
}

impl World {
    /// A pass by a controller whose clock is off by `skew`, which is killed after `steps` writes.
    fn pass(&mut self, skew: i64, overlap: Option<i64>, mut steps: u32) -> Option<()> {
        let mut write = || steps.checked_sub(1).map(|left| steps = left);
        let (request, revocation) = (self.request.clone(), self.revocation.clone());
        let journal = self.journal.clone();
        let at_server = self.server.as_ref().map(|server| secret(&server.current));
        let facts = Facts {
            request: request.as_deref(),
            revocation: revocation.as_deref(),
            interval: Some(seconds(INTERVAL)),
            overlap: overlap.map(seconds),
            ..Facts::unrotated(journal.as_ref(), at_server.as_ref(), time(self.clock + skew))
        };
        let choice = choose(facts);
        let made = matches!(choice, Choice::Make(_)).then(|| {
            self.made += 1;
            secret(&format!("secret-{}", self.made))
        });
        if let Some(begun) = begin(facts, &choice, made) {
            write()?;
            self.journal = Some(begun);
        }
        let journal = self.journal.clone().unwrap();
        let accepted = accepted(&journal, &facts).unwrap();
        let wanted = Server {
            current: accepted.current.expose().to_owned(),
            previous: accepted.previous.map(|previous| {
                (
                    previous.credential.expose().to_owned(),
                    previous.until.as_second(),
                )
            }),
        };
        if self.server.as_ref() != Some(&wanted) {
            write()?;
            self.note_revocation(&wanted, &journal);
            self.server = Some(wanted.clone());
        }
        if self.lost_secret || self.secrets.last().map(|(_, held)| held) != Some(&wanted.current) {
            write()?;
            self.lost_secret = false;
            self.secrets.push((self.clock, wanted.current.clone()));
        }
        assert!(
            self.server.as_ref().unwrap().accepts(&wanted.current, self.clock),
            "the proof"
        );
        let settled = finish(&journal, &facts).or_else(|| retire(&journal, &facts));
        if let Some(settled) = settled {
            write()?;
            self.rotations += u32::from(journal.pending.is_some());
            self.journal = Some(settled);
        }
        Some(())
    }

    /// What ends when a revocation reaches the server: whatever was valid until then.
    fn note_revocation(&mut self, wanted: &Server, journal: &Journal) {
        let revokes = journal
            .pending
            .as_ref()
            .is_some_and(|pending| pending.reason == Reason::Revoked);
        if let Some(before) = self
            .server
            .as_ref()
            .filter(|before| revokes && before.current != wanted.current)
        {
            self.revoked.push(before.current.clone());
            self.revoked
                .extend(before.previous.iter().map(|(secret, _)| secret.clone()));
        }
    }

    /// The Secret's content, and what was in it not longer ago than a workload may lag, is accepted; what was revoked is
    /// not.
    fn check(&self, overlap: Option<i64>) -> Result<(), TestCaseError> {
        let Some(server) = &self.server else { return Ok(()) };
        for revoked in &self.revoked {
            prop_assert!(
                !server.accepts(revoked, self.clock),
                "revoked {revoked} is accepted: {server:?}"
            );
        }
        if overlap.is_none() {
            return Ok(());
        }
        for (index, (_, held)) in self.secrets.iter().enumerate() {
            let replaced = self.secrets.get(index + 1).map(|(since, _)| *since);
            let may_be_read = replaced.is_none_or(|since| self.clock <= since + LAG);
            if may_be_read && !self.revoked.contains(held) {
                prop_assert!(
                    server.accepts(held, self.clock),
                    "{held} is refused at {}: {server:?}",
                    self.clock
                );
            }
        }
        Ok(())
    }
}

/// What happens between two passes, and how many writes the next one gets to do.
#[derive(Clone, Debug)]
struct Step {
    event: u8,
    passes: i64,
    skew: i64,
    steps: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u8..12, 0_i64..120, -4_i64..=4, 0_u32..8);
    let step = step.prop_map(|(event, passes, skew, steps)| Step {
        event,
        passes,
        skew,
        steps,
    });
    prop::collection::vec(step, 1..120)
}

/// Tells a story in a new world and checks it throughout. Returns how often the credential was replaced in it.
fn tell(story: Vec<Step>, overlap: Option<i64>) -> Result<u32, TestCaseError> {
    let mut world = World {
        clock: 1_000_000,
        ..World::default()
    };
    let (mut requests, began) = (0, world.clock);
    for Step {
        event,
        passes,
        skew,
        steps,
    } in story
    {
        match event {
            0 => {
                requests += 1;
                world.request = Some(requests.to_string());
            }
            1 => {
                requests += 1;
                world.revocation = Some(requests.to_string());
            }
            2 => world.lost_secret = true,
            // Who loses the journal while two are valid cannot know of the second.
            3 if world
                .server
                .as_ref()
                .is_some_and(|server| server.previous.is_none()) =>
            {
                world.journal = None;
            }
            // Nobody looks for days.
            4 => world.clock += 3 * 24 * 3600,
            _ => {}
        }
        for _ in 0..passes {
            world.clock += 1;
            world.check(overlap)?;
        }
        world.pass(skew, overlap, steps);
        world.check(overlap)?;
    }
    // An overlap may have to pass first, and then come the requests that waited for its end.
    for _ in 0..6 {
        world.clock += OVERLAP + 10;
        world.pass(0, overlap, 99).unwrap();
        world.pass(0, overlap, 99).unwrap();
        world.check(overlap)?;
    }
    let journal = world.journal.as_ref().unwrap();
    let server = world.server.as_ref().unwrap();
    prop_assert!(journal.pending.is_none());
    prop_assert_eq!(journal.current.as_ref().unwrap().expose(), &server.current);
    prop_assert_eq!(&world.secrets.last().unwrap().1, &server.current);
    if world.request.is_some() {
        prop_assert_eq!(&journal.handled_request, &world.request);
    }
    if world.revocation.is_some() {
        prop_assert_eq!(&journal.handled_revocation, &world.revocation);
    }
    let aged = u32::try_from((world.clock - began) / INTERVAL).unwrap() + 1;
    prop_assert!(
        world.rotations <= 1 + requests + aged,
        "{} rotations",
        world.rotations
    );
    Ok(world.rotations)
}

proptest! {
    /// However often the controller is killed, whatever is asked for, and even if the journal or the Secret is lost:
    /// no workload is refused that reads its Secret within the lag, what was revoked stays so, and in the end Secret,
    /// server and journal agree with at most one rotation a request.
    #[test]
    fn nobody_is_refused_and_all_agree_in_the_end(story in steps(), can_overlap in any::<bool>()) {
        tell(story, can_overlap.then_some(OVERLAP))?;
    }
}

/// The same, until there were ten thousand.
#[test]
fn ten_thousand_rotations() {
    let mut runner = TestRunner::deterministic();
    let (mut rotations, mut stories) = (0, 0);
    while rotations < 10_000 {
        let story = steps().new_tree(&mut runner).unwrap().current();
        rotations += tell(story, Some(OVERLAP)).unwrap();
        stories += 1;
    }
    assert!(
        stories > 100,
        "{rotations} rotations in {stories} stories are hardly different ones"
    );
}
