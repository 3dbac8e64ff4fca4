use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    credential::{book::Book, journal::Journal},
    provider::Credential,
};

fn place(name: &str, issuer: &str, realm: &str, registers: bool) -> Place {
    Place {
        namespace: "p".into(),
        name: name.into(),
        issuer: issuer.into(),
        realm: realm.into(),
        registers,
        redirect_uris: Vec::new(),
        account: None,
    }
}

fn numbered(number: u8) -> Place {
    let name = format!("as{number}");
    place(&name, &format!("https://{name}"), &name, false)
}

fn leaving(id: &str) -> Leaving {
    Leaving {
        client_id: id.into(),
        ..Leaving::default()
    }
}

/// As after a pass at `place`, in which the client got this secret.
fn with(drawer: &Drawer, secret: &str) -> Drawer {
    let journal = Journal {
        current: Some(Credential::new(secret)),
        ..Journal::default()
    };
    Drawer {
        page: Page::of(&journal).unwrap(),
        ..drawer.clone()
    }
}

fn secret(page: &Page) -> Option<String> {
    let journal: Journal = page.read().unwrap();
    journal.current.map(|current| current.expose().to_owned())
}

#[test]
fn a_place_is_the_same_by_issuer_or_realm_and_of_one_kind() {
    let one = place("a", "i", "r", false);
    for (other, expected) in [
        (place("b", "i", "other", false), true),
        (place("b", "other", "r", false), true),
        (place("a", "other", "other", false), false),
        (place("a", "i", "r", true), false),
    ] {
        assert_eq!(one.is_same(&other), expected, "{other:?}");
    }
    let unknown = |issuer| place("a", issuer, "", false);
    assert!(
        !unknown("i").is_same(&unknown("j")),
        "realms that nobody knows are not the same"
    );
}

#[test]
fn a_journal_of_one_kind_is_not_read_as_one_of_the_other() {
    let begun = |registers| {
        let here = place("a", "i", "r", registers);
        Drawer::default().arrived(here, Leaving::default()).unwrap()
    };
    assert!(begun(false).read::<Journal>().is_ok() && begun(false).read::<Book>().is_err());
    assert!(begun(true).read::<Book>().is_ok() && begun(true).read::<Journal>().is_err());
    let registrations = Drawer {
        page: Page::of(&Book::default()).unwrap(),
        ..Drawer::default()
    };
    assert!(
        registrations.read::<Journal>().is_err(),
        "also of one without a place"
    );
    let credentials = with(&Drawer::default(), "s");
    assert!(credentials.read::<Book>().is_err());
}

#[test]
fn it_survives_the_way_through_a_secret_and_through_either_journal() {
    let at = |number| {
        with(
            &Drawer::default().arrived(numbered(number), leaving("")).unwrap(),
            "hunter2",
        )
    };
    let moved = at(1).arrived(numbered(2), leaving("id")).unwrap();
    let moved = with(&moved.settled("2026-01-01T00:00:00Z".parse().unwrap()), "two");
    let again = Drawer::from_secret(&Secret {
        data: Some(moved.data().unwrap()),
        ..Secret::default()
    });
    assert_eq!(again.unwrap(), moved);
    let journal: Journal = moved.read().unwrap();
    assert_eq!(journal.homes, moved.homes);
    let written = Drawer::from_secret(&Secret {
        data: Some(journal.data().unwrap()),
        ..Secret::default()
    });
    assert_eq!(written.unwrap(), moved, "who writes credentials keeps the places");
    assert!(
        !format!("{moved:?}").contains("hunter2"),
        "it prints without what it holds"
    );
}

#[test]
fn it_is_at_no_more_than_a_few_places() {
    let mut drawer = Drawer::default();
    for number in 0..5 {
        drawer = drawer.arrived(numbered(number), leaving("")).unwrap();
    }
    assert_eq!(drawer.arrived(numbered(5), leaving("")), None);
    let back = drawer.arrived(numbered(2), leaving("")).unwrap();
    assert_eq!(back.homes.parked.len(), 4, "back is no further one");
}

/// What happens to a journal.
#[derive(Clone, Debug)]
enum Event {
    /// The client is to be there.
    To(u8),
    /// What it has where it is ends.
    Park,
    /// It got a secret.
    Secret,
    /// It works.
    Works,
    /// What it had there is gone.
    Gone(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u8..4).prop_map(Event::To),
        Just(Event::Park),
        Just(Event::Secret),
        Just(Event::Works),
        (0_u8..4).prop_map(Event::Gone),
    ]
}

proptest! {
    /// Whatever happens: each place is there once, what is on the open page was written at the home and nowhere else, what is
    /// put aside is found again as it was, and nothing is forgotten but what is gone.
    #[test]
    fn a_page_stays_with_its_place(events in prop::collection::vec(event(), 0..24)) {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut drawer = Drawer::default();
        let mut known: BTreeSet<String> = BTreeSet::new();
        for (index, event) in events.into_iter().enumerate() {
            drawer = match event {
                Event::To(number) => {
                    known.insert(numbered(number).name);
                    drawer.arrived(numbered(number), leaving("id")).unwrap()
                }
                Event::Park => drawer.parked(leaving("id"), Some(now)),
                Event::Secret => match &drawer.homes.here {
                    Some(here) => with(&drawer, &format!("{} {index}", here.name)),
                    None => drawer,
                },
                Event::Works => drawer.settled(now),
                Event::Gone(number) => {
                    let place = numbered(number);
                    if drawer.homes.here.as_ref() != Some(&place) {
                        known.remove(&place.name);
                    }
                    drawer.without(&place)
                }
            };
            let here = drawer.homes.here.iter().map(|here| (here, &drawer.page));
            let parked = drawer.homes.parked.iter().map(|parked| (&parked.place, &parked.page));
            let all: Vec<_> = here.chain(parked).collect();
            let names: BTreeSet<_> = all.iter().map(|(place, _)| place.name.clone()).collect();
            prop_assert_eq!(names.len(), all.len());
            prop_assert_eq!(&names, &known);
            for (place, page) in all {
                let prefix = format!("{} ", place.name);
                let is_own = secret(page).is_none_or(|secret| secret.starts_with(&prefix));
                prop_assert!(is_own);
            }
            prop_assert!(drawer.homes.here.is_some() || drawer.page.is_empty());
        }
    }
}
