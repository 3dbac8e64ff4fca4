//! Walks through a world in which anything can be lost at any time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What can happen between two steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// The process is killed after the next call, before its answer is journaled.
    Killed,
    /// The server forgets all tokens.
    TokensLost,
    /// Somebody removes all clients.
    Removed,
    Rotate,
    Revoke,
    /// Another name is wanted.
    Renamed,
    /// Time passes.
    Later,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use Event::{Killed, Later, Nothing, Removed, Renamed, Revoke, Rotate, TokensLost};
    let one = prop::sample::select(vec![
        Nothing, Nothing, Nothing, Nothing, Killed, TokensLost, Removed, Rotate, Revoke, Renamed, Later,
    ]);
    prop::collection::vec(one, 0..60)
}

struct World {
    book: Book,
    now: i64,
    /// The clients there, with the number of the token by which each is managed.
    clients: BTreeMap<u32, u32>,
    tokens: u32,
    manages: bool,
    name: u32,
    request: u32,
    revocation: u32,
    seen: Seen,
    is_handed_over: bool,
    registered: u32,
}

impl World {
    fn asked(&self) -> Asked {
        Asked {
            name: self.name.to_string(),
            ..asked()
        }
    }

    /// What the server makes of it.
    fn made(&mut self, number: u32) -> Entry {
        self.tokens += 1;
        self.clients.insert(number, self.tokens);
        let told = Told::of(&self.asked().document());
        let managed = self.manages.then(|| Handle {
            uri: Credential::new("https://as.example/reg"),
            token: Credential::new(self.tokens.to_string()),
        });
        Entry {
            managed,
            asked: self.asked().fingerprint(),
            told: told.fingerprint(),
            ..entry(number)
        }
    }

    fn knows(&self, entry: &Entry) -> bool {
        let token = self.clients.get(&entry.begun.number).map(u32::to_string);
        let handle = entry
            .managed
            .as_ref()
            .map(|handle| handle.token.expose().to_owned());
        token.is_some() && token == handle
    }

    /// One step. `killed`: what the call answered is not journaled.
    fn step(&mut self, killed: bool) -> bool {
        if let Some(newest) = self.book.newest().cloned() {
            let exists = self.clients.contains_key(&newest.begun.number);
            if newest.managed.is_some() && !self.knows(&newest) {
                self.seen = Seen::Gone { may_exist: exists };
            } else if newest.managed.is_none() && !exists {
                self.seen = Seen::Gone { may_exist: false };
            } else {
                self.seen = Seen::Nothing;
            }
        }
        let (request, revocation) = (self.request.to_string(), self.revocation.to_string());
        let wishes = Wishes {
            request: (self.request > 0).then_some(request.as_str()),
            revocation: (self.revocation > 0).then_some(revocation.as_str()),
            overlap: Some(SignedDuration::from_secs(60)),
            ..Wishes::unrotated(None, None, at(self.now))
        };
        let asked = self.asked();
        let step = next(&Facts {
            book: &self.book,
            want: Some(Want {
                asked: &asked,
                issuer: ISSUER,
            }),
            seen: &self.seen,
            is_taken: false,
            is_handed_over: self.is_handed_over,
            wishes,
        });
        match step {
            Step::Note(book, _) => self.book = *book,
            Step::Remove(entry) => {
                let known = self.knows(&entry);
                if known {
                    self.clients.remove(&entry.begun.number);
                }
                if !killed {
                    let left = self.clients.contains_key(&entry.begun.number);
                    self.book = self.book.without(&entry, left);
                }
            }
            Step::Register(reason) => {
                self.book = self
                    .book
                    .begun(reason, wishes.request, wishes.revocation, at(self.now));
                let intent = self.book.intent.clone().unwrap();
                self.registered += 1;
                let made = self.made(intent.number);
                if !killed {
                    self.book = self.book.answered(Entry {
                        begun: intent,
                        ..made
                    });
                }
            }
            Step::Update { .. } => {
                let newest = self.book.newest().cloned().unwrap();
                let made = self.made(newest.begun.number);
                if !killed {
                    *self.book.newest_mut().unwrap() = Entry {
                        begun: newest.begun,
                        ..made
                    };
                }
            }
            Step::HandOver => {
                if !killed {
                    self.book = self.book.in_force(wishes.overlap, None, at(self.now));
                    self.is_handed_over = true;
                }
            }
            Step::Wait(until) => self.now = self.now.max(until.as_second()),
            Step::Rest => return true,
        }
        if killed {
            self.is_handed_over = false;
        }
        false
    }

    /// All that is there is known, or counted.
    fn check(&self) {
        let known = usize::from(self.book.newest().is_some())
            + usize::from(self.book.fresh.is_some() && self.book.current.is_some())
            + self.book.old.len()
            + usize::from(self.book.intent.is_some());
        let counted = known + usize::try_from(self.book.unreachable).unwrap();
        assert!(
            self.clients.len() <= counted,
            "{} there, {counted} counted: {:?}",
            self.clients.len(),
            self.book
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens, no client is there of which nobody knows, and when nothing happens any more there is one that
    /// is in force; a client is registered no more often than there is a reason for.
    #[test]
    fn nothing_is_forgotten(events in events(), manages in any::<bool>()) {
        let mut world = World {
            book: Book::default(), now: 1000, clients: BTreeMap::default(), tokens: 0, manages, name: 0,
            request: 0, revocation: 0, seen: Seen::Nothing, is_handed_over: false, registered: 0,
        };
        let mut reasons = 1;
        for event in events {
            let mut killed = false;
            let counts = !matches!(event, Event::Nothing | Event::Later);
            match event {
                Event::Nothing => {}
                Event::Killed => killed = true,
                Event::TokensLost => for token in world.clients.values_mut() { *token = 0 },
                Event::Removed => world.clients.clear(),
                Event::Rotate => world.request += 1,
                Event::Revoke => world.revocation += 1,
                Event::Renamed => world.name += 1,
                Event::Later => world.now += 100,
            }
            reasons += u32::from(counts);
            world.is_handed_over = false;
            world.step(killed);
            world.check();
        }
        world.is_handed_over = false;
        let mut rests = false;
        for _ in 0..60 {
            rests = world.step(false);
            world.check();
            if rests && world.book.old.is_empty() { break }
            if rests { world.now += 100; world.is_handed_over = false; }
        }
        prop_assert!(rests, "it does not rest: {:?}", world.book);
        prop_assert!(world.book.fresh.is_none() && world.book.intent.is_none() && world.book.old.is_empty());
        let current = world.book.current.clone().unwrap();
        prop_assert!(world.clients.contains_key(&current.begun.number));
        prop_assert_eq!(current.asked, world.asked().fingerprint());
        prop_assert!(world.registered <= reasons, "{} registrations for {reasons} reasons", world.registered);
    }
}
