//! What comes next, one state at a time.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::{
    credential::book::{Handle, Intent, Old},
    provider::{Grant, registration::Application},
};

#[path = "chain_turns.rs"]
mod turns;
#[path = "chain_walks.rs"]
mod walks;

const ISSUER: &str = "https://as.example";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn asked() -> Asked {
    Asked {
        name: "Agent".into(),
        software_id: "i.team.agent".into(),
        software_version: String::new(),
        redirect_uris: [].into(),
        grants: [Grant::ClientCredentials].into(),
        method: Method::Basic,
        scopes: [].into(),
        application: Application::Web,
    }
}

fn told() -> Told {
    Told::of(&asked().document())
}

fn entry(number: u32) -> Entry {
    Entry {
        begun: Intent {
            number,
            reason: "First".into(),
            since: at(0),
            request: None,
            revocation: None,
        },
        issuer: ISSUER.into(),
        client_id: format!("id-{number}"),
        secret: Some(Credential::new(format!("secret-{number}"))),
        secret_expires: None,
        method: "client_secret_basic".into(),
        managed: Some(Handle {
            uri: Credential::new("https://as.example/reg/1"),
            token: Credential::new("token"),
        }),
        fixed: false,
        asked: asked().fingerprint(),
        scopes: Vec::new(),
        told: told().fingerprint(),
        altered: Vec::new(),
        unfit: None,
    }
}

fn settled() -> Book {
    Book {
        current: Some(entry(1)),
        number: 1,
        ..Book::default()
    }
}

/// What comes next at the second 1000, where all that is not said is as it is to be.
struct Case {
    book: Book,
    asked: Asked,
    issuer: &'static str,
    is_wanted: bool,
    seen: Seen,
    is_taken: bool,
    is_handed_over: bool,
    request: Option<&'static str>,
    revocation: Option<&'static str>,
    interval: Option<i64>,
}

impl Case {
    fn of(book: Book) -> Self {
        Self {
            book,
            asked: asked(),
            issuer: ISSUER,
            is_wanted: true,
            seen: Seen::Told(Box::new(told())),
            is_taken: false,
            is_handed_over: true,
            request: None,
            revocation: None,
            interval: None,
        }
    }

    fn next(&self) -> Step {
        next(&Facts {
            book: &self.book,
            want: self.is_wanted.then_some(Want {
                asked: &self.asked,
                issuer: self.issuer,
            }),
            seen: &self.seen,
            is_taken: self.is_taken,
            is_handed_over: self.is_handed_over,
            wishes: Wishes {
                request: self.request,
                revocation: self.revocation,
                interval: self.interval.map(SignedDuration::from_secs),
                overlap: Some(SignedDuration::from_secs(60)),
                ..Wishes::unrotated(None, None, at(1000))
            },
        })
    }
}

fn old(number: u32, until: i64) -> Old {
    Old {
        entry: entry(number),
        until: at(until),
    }
}

fn other() -> Asked {
    Asked {
        name: "Other".into(),
        ..asked()
    }
}

fn drifted() -> Seen {
    Seen::Told(Box::new(Told::of(&other().document())))
}

fn changed(change: impl FnOnce(&mut Entry)) -> Book {
    let mut book = settled();
    change(book.current.as_mut().unwrap());
    book
}

#[test]
fn each_state_has_one_next_step() {
    let waiting = Book {
        not_before: Some(at(1500)),
        ..Book::default()
    };
    let cases = vec![
        (
            "nothing is there",
            Case::of(Book::default()),
            Step::Register(Reason::First),
        ),
        ("all is well", Case::of(settled()), Step::Rest),
        (
            "not handed over in this pass",
            Case {
                is_handed_over: false,
                ..Case::of(settled())
            },
            Step::HandOver,
        ),
        (
            "a fresh one",
            Case::of(Book {
                fresh: Some(entry(2)),
                ..settled()
            }),
            Step::HandOver,
        ),
        (
            "an old one whose time has come, before anything else",
            Case {
                asked: other(),
                ..Case::of(Book {
                    old: vec![old(7, 1001), old(8, 1000)],
                    ..settled()
                })
            },
            Step::Remove(Box::new(entry(8))),
        ),
        (
            "an old one whose time has not come",
            Case::of(Book {
                old: vec![old(7, 1001)],
                ..settled()
            }),
            Step::Rest,
        ),
        (
            "another is wanted",
            Case {
                asked: other(),
                ..Case::of(settled())
            },
            Step::Update { is_drift: false },
        ),
        (
            "others changed it",
            Case {
                seen: drifted(),
                ..Case::of(settled())
            },
            Step::Update { is_drift: true },
        ),
        (
            "both",
            Case {
                asked: other(),
                seen: drifted(),
                ..Case::of(settled())
            },
            Step::Update { is_drift: false },
        ),
        (
            "another is wanted, and nothing can be changed",
            Case {
                asked: other(),
                ..Case::of(changed(|entry| entry.managed = None))
            },
            Step::Register(Reason::Changed),
        ),
        (
            "another is wanted, and the server refused changes before",
            Case {
                asked: other(),
                ..Case::of(changed(|entry| entry.fixed = true))
            },
            Step::Register(Reason::Changed),
        ),
        (
            "it is another issuer's",
            Case {
                issuer: "https://other.example",
                ..Case::of(settled())
            },
            Step::Register(Reason::Changed),
        ),
        (
            "it is to be public",
            Case {
                asked: Asked {
                    method: Method::None,
                    ..asked()
                },
                ..Case::of(settled())
            },
            Step::Register(Reason::Changed),
        ),
        (
            "a rotation is asked for",
            Case {
                request: Some("1"),
                ..Case::of(settled())
            },
            Step::Register(Reason::Requested),
        ),
        (
            "a rotation is asked for while two are valid",
            Case {
                request: Some("1"),
                ..Case::of(Book {
                    old: vec![old(7, 1100)],
                    ..settled()
                })
            },
            Step::Rest,
        ),
        (
            "a revocation is asked for while two are valid",
            Case {
                revocation: Some("1"),
                ..Case::of(Book {
                    old: vec![old(7, 1100)],
                    ..settled()
                })
            },
            Step::Register(Reason::Revoked),
        ),
        (
            "it is due",
            Case {
                interval: Some(1000),
                ..Case::of(settled())
            },
            Step::Register(Reason::Due),
        ),
        (
            "its secret ends",
            Case::of(changed(|entry| entry.secret_expires = Some(at(1500)))),
            Step::Register(Reason::Expiring),
        ),
        ("it is too early", Case::of(waiting.clone()), Step::Wait(at(1500))),
        (
            "it is too early, and there is another that works",
            Case {
                request: Some("1"),
                is_handed_over: false,
                ..Case::of(Book {
                    not_before: Some(at(1500)),
                    ..settled()
                })
            },
            Step::HandOver,
        ),
        (
            "it is time again",
            Case::of(Book {
                not_before: Some(at(1000)),
                ..Book::default()
            }),
            Step::Register(Reason::First),
        ),
        (
            "nothing is wanted, and nothing is there",
            Case {
                is_wanted: false,
                ..Case::of(Book::default())
            },
            Step::Rest,
        ),
    ];
    for (name, case, expected) in cases {
        assert_eq!(case.next(), expected, "{name}");
    }
}
