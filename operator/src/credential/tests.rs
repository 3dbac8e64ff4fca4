use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secret(text: &str) -> Credential {
    Credential::new(text)
}

fn facts<'a>(journal: Option<&'a Journal>, at_server: Option<&'a Credential>) -> Facts<'a> {
    Facts {
        journal,
        at_server,
        request: None,
        interval: None,
        now: time(1000),
    }
}

#[test]
fn the_checks_come_in_their_order() {
    let settled = Journal {
        current: Some(secret("now")),
        rotated_at: Some(time(0)),
        ..Journal::default()
    };
    let begun = Journal {
        pending: Some(secret("next")),
        ..settled.clone()
    };
    let at_server = secret("there");
    let empty = Journal {
        version: Some("1".into()),
        ..Journal::default()
    };
    let hour = Some(SignedDuration::from_secs(900));
    let cases = [
        ("nothing anywhere", facts(None, None), Choice::Make(Reason::First)),
        (
            "journal lost",
            facts(None, Some(&at_server)),
            Choice::Adopt(secret("there")),
        ),
        (
            "empty journal",
            facts(Some(&empty), Some(&at_server)),
            Choice::Adopt(secret("there")),
        ),
        (
            "settled",
            facts(Some(&settled), Some(&at_server)),
            Choice::Keep(secret("now")),
        ),
        (
            "unfinished",
            facts(Some(&begun), Some(&at_server)),
            Choice::Finish(secret("next")),
        ),
        (
            "unfinished and requested",
            Facts {
                request: Some("x"),
                ..facts(Some(&begun), None)
            },
            Choice::Finish(secret("next")),
        ),
        (
            "requested",
            Facts {
                request: Some("x"),
                ..facts(Some(&settled), None)
            },
            Choice::Make(Reason::Requested),
        ),
        (
            "due",
            Facts {
                interval: hour,
                ..facts(Some(&settled), None)
            },
            Choice::Make(Reason::Due),
        ),
        (
            "not yet due",
            Facts {
                interval: hour,
                now: time(899),
                ..facts(Some(&settled), None)
            },
            Choice::Keep(secret("now")),
        ),
        (
            "due, clock went back",
            Facts {
                interval: hour,
                now: time(-5),
                ..facts(Some(&settled), None)
            },
            Choice::Keep(secret("now")),
        ),
    ];
    for (name, facts, expected) in cases {
        assert_eq!(choose(facts), expected, "{name}");
    }
}

#[test]
fn a_request_that_was_handled_is_not_handled_again() {
    let journal = Journal {
        current: Some(secret("now")),
        handled_request: Some("x".into()),
        ..Journal::default()
    };
    assert_eq!(
        choose(Facts {
            request: Some("x"),
            ..facts(Some(&journal), None)
        }),
        Choice::Keep(secret("now"))
    );
    assert_eq!(
        choose(facts(Some(&journal), None)),
        Choice::Keep(secret("now")),
        "annotation removed"
    );
}

#[test]
fn made_secrets_are_long_and_never_the_same() {
    assert_ne!(make(), make());
    assert!(make().expose().len() >= 43);
}

/// One object with its journal and its client at the server, and a controller that may be killed anywhere.
#[derive(Default)]
struct World {
    journal: Option<Journal>,
    server: Option<Credential>,
    workload: Option<Credential>,
    request: Option<String>,
    made: u32,
}

impl World {
    /// One pass that is killed after `steps` writes.
    fn pass(&mut self, now: Timestamp, interval: SignedDuration, mut steps: u32) -> Option<()> {
        let mut write = || steps.checked_sub(1).map(|left| steps = left);
        let journal = self.journal.clone();
        let server = self.server.clone();
        let request = self.request.clone();
        let facts = Facts {
            journal: journal.as_ref(),
            at_server: server.as_ref(),
            request: request.as_deref(),
            interval: Some(interval),
            now,
        };
        let choice = choose(facts);
        let fresh = match &choice {
            Choice::Make(_) => {
                self.made += 1;
                Some(Credential::new(format!("secret-{}", self.made)))
            }
            _ => None,
        };
        if let Some(begun) = begin(facts, &choice, fresh.clone()) {
            write()?;
            self.journal = Some(begun);
        }
        let secret = match choice {
            Choice::Keep(secret) | Choice::Finish(secret) | Choice::Adopt(secret) => secret,
            Choice::Make(_) => fresh.unwrap(),
        };
        if self.server.as_ref() != Some(&secret) {
            write()?;
            self.server = Some(secret.clone());
        }
        if self.workload.as_ref() != Some(&secret) {
            write()?;
            self.workload = Some(secret);
        }
        if let Some(finished) = self.journal.as_ref().and_then(|journal| finish(journal, now)) {
            write()?;
            self.journal = Some(finished);
        }
        Some(())
    }
}

proptest! {
    /// However often the controller is killed, whatever is asked for, and even if the journal or the Secret is
    /// lost: one undisturbed pass later Secret, server and journal agree, and each request rotated at most once.
    #[test]
    fn any_crash_converges(events in prop::collection::vec((0u32..6, 0u8..5), 1..60)) {
        let interval = SignedDuration::try_from(Duration::from_secs(3600)).unwrap();
        let mut world = World::default();
        let mut requests = 0;
        for (second, (steps, event)) in events.into_iter().enumerate() {
            match event {
                0 => { requests += 1; world.request = Some(requests.to_string()); }
                1 => world.workload = None,
                2 if world.server.is_some() => world.journal = None,
                _ => {}
            }
            world.pass(time(second as i64), interval, steps);
        }
        world.pass(time(1000), interval, 99).unwrap();
        // Finishing an interrupted change may uncover a request that came meanwhile.
        world.pass(time(1001), interval, 99).unwrap();
        let made = world.made;
        world.pass(time(1002), interval, 99).unwrap();
        prop_assert_eq!(world.made, made, "nothing more to do");
        prop_assert_eq!(&world.server, &world.workload);
        prop_assert_eq!(&world.journal.as_ref().unwrap().current, &world.server);
        prop_assert!(world.journal.unwrap().pending.is_none());
    }
}
