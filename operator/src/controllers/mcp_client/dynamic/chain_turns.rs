//! What becomes of the journal.

use serde_json::json;

use super::*;

#[test]
fn what_is_lost_is_counted_and_said() {
    let begun = settled().begun(Reason::Requested, Some("1"), None, at(900));
    let Step::Note(book, said) = Case::of(begun).next() else {
        panic!()
    };
    assert_eq!((book.unreachable, book.intent.clone(), book.number), (1, None, 2));
    assert_eq!(book.current, Some(entry(1)), "the one in force is used on");
    assert_eq!(book.not_before, Some(at(1002)));
    assert_eq!(
        said,
        Some(Said::Unreachable {
            number: 2,
            why: Left::ReplyLost
        })
    );

    for (may_exist, said) in [
        (
            true,
            Said::Unreachable {
                number: 1,
                why: Left::TokenLost,
            },
        ),
        (false, Said::Gone),
    ] {
        let gone = Case {
            seen: Seen::Gone { may_exist },
            ..Case::of(settled())
        };
        let Step::Note(book, told) = gone.next() else {
            panic!()
        };
        assert_eq!(
            (book.unreachable, book.current.clone()),
            (u32::from(may_exist), None)
        );
        assert_eq!(told, Some(said));
    }
}

#[test]
fn what_must_not_be_used_ends_at_once_and_what_is_somebody_elses_is_not_touched() {
    let unfit = changed(|entry| entry.unfit = Some("it is evil".into()));
    let Step::Note(book, said) = Case::of(unfit).next() else {
        panic!()
    };
    assert_eq!(book.current, None);
    assert_eq!(book.old[0].until, at(1000));
    assert_eq!(book.refusal.as_deref(), Some("it is evil"));
    assert_eq!(said, Some(Said::Refused("it is evil".into())));

    let taken = Case {
        is_taken: true,
        ..Case::of(Book {
            fresh: Some(entry(2)),
            ..settled()
        })
    };
    let Step::Note(book, said) = taken.next() else {
        panic!()
    };
    assert_eq!(
        (book.fresh.clone(), book.old.len(), book.unreachable),
        (None, 0, 1)
    );
    assert_eq!(book.current, Some(entry(1)));
    assert!(matches!(
        said,
        Some(Said::Unreachable {
            number: 2,
            why: Left::AnswerRefused
        })
    ));

    let unwanted = Case {
        is_wanted: false,
        ..Case::of(Book {
            fresh: Some(entry(2)),
            old: vec![old(7, 5000)],
            ..settled()
        })
    };
    let Step::Note(book, said) = unwanted.next() else {
        panic!()
    };
    assert!(book.newest().is_none() && said.is_none());
    assert!(book.old.iter().all(|old| old.until <= at(1000)) && book.old.len() == 3);
}

#[test]
fn pauses_grow_and_end() {
    let mut book = Book::default();
    let mut last = 0;
    for failures in 1..30 {
        book = book.left_behind(failures, at(0), None);
        let pause = book.not_before.unwrap().as_second();
        assert!(pause >= last && pause <= 3600, "{failures}: {pause}");
        last = pause;
    }
    assert_eq!((last, book.unreachable), (3600, 29));
    let newest: Vec<u32> = (14..30).collect();
    assert_eq!(book.left, newest);
}

#[test]
fn a_journal_survives_the_way_through_a_secret_and_prints_without_what_is_private() {
    use crate::credential::journal::Content as _;
    let book = Book {
        fresh: Some(entry(2)),
        old: vec![old(7, 5)],
        handled_request: Some("1".into()),
        not_before: Some(at(3)),
        ..settled().begun(Reason::Due, Some("2"), Some("3"), at(9))
    };
    for book in [book, Book::default()] {
        let secret = k8s_openapi::api::core::v1::Secret {
            data: Some(book.data().unwrap()),
            ..Default::default()
        };
        assert_eq!(Book::from_secret(&secret).unwrap(), book);
        let text = format!("{book:?}");
        assert!(!text.contains("secret-") && !text.contains("\"token\""), "{text}");
    }
    let foreign = serde_json::from_value(json!({"data": {"registrations": "e30x"}})).unwrap();
    assert!(
        Book::from_secret(&foreign).is_err(),
        "what cannot be read is not written over"
    );
}
