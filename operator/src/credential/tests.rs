use super::*;

#[path = "tests/methods.rs"]
mod methods;
#[path = "tests/rotations.rs"]
mod rotations;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn secret(text: &str) -> Credential {
    Credential::new(text)
}

fn facts<'a>(journal: Option<&'a Journal>, at_server: Option<&'a Credential>) -> Facts<'a> {
    Facts::unrotated(journal, at_server, time(1000))
}

fn pending(text: &str, reason: Reason) -> Pending {
    Pending {
        credential: secret(text),
        reason,
        since: time(900),
        request: None,
        revocation: None,
    }
}

fn settled() -> Journal {
    Journal {
        current: Some(secret("now")),
        rotated_at: Some(time(0)),
        ..Journal::default()
    }
}

/// The one before is valid until the second 1500.
fn overlapping() -> Journal {
    Journal {
        previous: Some(Previous {
            credential: secret("before"),
            until: time(1500),
        }),
        ..settled()
    }
}

#[test]
fn a_journal_that_is_lost_or_was_begun_comes_first() {
    let begun = Journal {
        pending: Some(pending("next", Reason::Due)),
        ..settled()
    };
    let at_server = secret("there");
    let empty = Journal {
        version: Some("1".into()),
        ..Journal::default()
    };
    let settled = settled();
    let everything = |facts| Facts {
        request: Some("x"),
        revocation: Some("y"),
        interval: Some(seconds(1)),
        expires: Some(time(0)),
        ..facts
    };
    for (name, facts, expected) in [
        ("nothing anywhere", facts(None, None), Choice::Make(Reason::First)),
        (
            "nothing, and all is asked for",
            everything(facts(None, None)),
            Choice::Make(Reason::First),
        ),
        (
            "journal lost",
            facts(None, Some(&at_server)),
            Choice::Adopt(secret("there")),
        ),
        (
            "journal lost, and all is asked for",
            everything(facts(None, Some(&at_server))),
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
            "unfinished, and all is asked for",
            everything(facts(Some(&begun), None)),
            Choice::Finish(secret("next")),
        ),
    ] {
        assert_eq!(choose(facts), expected, "{name}");
    }
}

#[test]
fn the_reasons_for_a_new_one_come_in_their_order() {
    let (settled, overlapping) = (settled(), overlapping());
    let old = Journal {
        rotated_at: Some(time(-10_000_000)),
        ..settled.clone()
    };
    let now = secret("now");
    let with = |journal| Facts {
        overlap: Some(seconds(500)),
        ..facts(Some(journal), Some(&now))
    };
    let (hour, day) = (seconds(3600), seconds(24 * 3600));
    let keep = Choice::Keep(now.clone());
    for (name, facts, expected) in [
        (
            "requested",
            Facts {
                request: Some("x"),
                ..with(&settled)
            },
            Choice::Make(Reason::Requested),
        ),
        (
            "revoked",
            Facts {
                revocation: Some("x"),
                ..with(&settled)
            },
            Choice::Make(Reason::Revoked),
        ),
        (
            "both",
            Facts {
                request: Some("x"),
                revocation: Some("x"),
                ..with(&settled)
            },
            Choice::Make(Reason::Revoked),
        ),
        (
            "two are valid",
            Facts {
                request: Some("x"),
                interval: Some(seconds(1)),
                ..with(&overlapping)
            },
            keep.clone(),
        ),
        (
            "revoked while two are valid",
            Facts {
                revocation: Some("x"),
                ..with(&overlapping)
            },
            Choice::Make(Reason::Revoked),
        ),
        (
            "two were valid",
            Facts {
                request: Some("x"),
                now: time(1500),
                ..with(&overlapping)
            },
            Choice::Make(Reason::Requested),
        ),
        (
            "they cannot be any more",
            Facts {
                request: Some("x"),
                overlap: None,
                ..with(&overlapping)
            },
            Choice::Make(Reason::Requested),
        ),
        (
            "due",
            Facts {
                interval: Some(seconds(900)),
                ..with(&settled)
            },
            Choice::Make(Reason::Due),
        ),
        (
            "not yet due",
            Facts {
                interval: Some(hour),
                ..with(&settled)
            },
            keep.clone(),
        ),
        (
            "due, but the clock went back",
            Facts {
                interval: Some(seconds(900)),
                now: time(-5),
                ..with(&settled)
            },
            keep.clone(),
        ),
        (
            "expires today",
            Facts {
                expires: Some(time(1000) + day),
                ..with(&old)
            },
            Choice::Make(Reason::Expiring),
        ),
        (
            "expires later",
            Facts {
                expires: Some(time(1001) + day),
                ..with(&old)
            },
            keep.clone(),
        ),
        (
            "does not live for days, and two thirds of its life are over",
            Facts {
                expires: Some(time(1500)),
                ..with(&settled)
            },
            Choice::Make(Reason::Expiring),
        ),
        (
            "does not live for days, and they are not",
            Facts {
                expires: Some(time(1503)),
                ..with(&settled)
            },
            keep.clone(),
        ),
        (
            "another expires, which is drift",
            Facts {
                expires: Some(time(0)),
                at_server: None,
                ..with(&settled)
            },
            keep,
        ),
    ] {
        assert_eq!(choose(facts), expected, "{name}");
    }
}

#[test]
fn what_is_due_waits_for_its_window_and_what_is_asked_for_does_not() {
    let window = mcp_auth_crds::v1alpha1::RotationWindow {
        schedule: "0 1 * * *".into(),
        time_zone: None,
        duration: mcp_auth_crds::v1alpha1::DurationText("1h".into()),
    };
    let (window, settled) = (Window::new(&window).unwrap(), settled());
    let with = |now| Facts {
        window: Some(&window),
        interval: Some(seconds(60)),
        now: time(now),
        ..facts(Some(&settled), None)
    };
    assert_eq!(next(&with(1000)), Some(time(3600)), "the first 01:00 after 00:01");
    assert_eq!(choose(with(3599)), Choice::Keep(secret("now")));
    assert_eq!(choose(with(3600)), Choice::Make(Reason::Due));
    assert_eq!(choose(with(7199)), Choice::Make(Reason::Due));
    assert_eq!(
        choose(with(7200)),
        Choice::Keep(secret("now")),
        "missed: the next night"
    );
    assert_eq!(next(&with(7200)), Some(time(24 * 3600 + 3600)));
    let requested = Facts {
        request: Some("x"),
        ..with(1000)
    };
    assert_eq!(choose(requested), Choice::Make(Reason::Requested));
}

#[test]
fn a_request_that_was_handled_is_not_handled_again() {
    let journal = Journal {
        handled_request: Some("x".into()),
        handled_revocation: Some("y".into()),
        ..settled()
    };
    let keep = Choice::Keep(secret("now"));
    let handled = Facts {
        request: Some("x"),
        revocation: Some("y"),
        ..facts(Some(&journal), None)
    };
    assert_eq!(choose(handled), keep);
    assert_eq!(choose(facts(Some(&journal), None)), keep, "annotations removed");
}

#[test]
fn the_old_one_is_accepted_until_the_overlap_after_the_proof_is_over() {
    let begun = |reason| Journal {
        pending: Some(pending("next", reason)),
        ..settled()
    };
    let overlap = |overlap| Facts {
        overlap,
        ..facts(None, None)
    };
    let minute = Some(seconds(60));
    let ended = |journal: &Journal, facts: &Facts<'_>| {
        let previous = accepted(journal, facts).unwrap().previous;
        previous.map(|previous| previous.until.as_second())
    };
    let begun_and_old = Some(900 + UNFINISHED.as_secs());
    for (reason, given, while_unproved, after) in [
        (Reason::Due, minute, begun_and_old, Some(1060)),
        (Reason::Requested, minute, begun_and_old, Some(1060)),
        (Reason::Expiring, minute, begun_and_old, Some(1060)),
        (Reason::Revoked, minute, None, None),
        (Reason::Due, Some(SignedDuration::ZERO), None, None),
        (Reason::Due, None, None, None),
    ] {
        let (journal, facts) = (begun(reason), overlap(given));
        assert_eq!(accepted(&journal, &facts).unwrap().current, secret("next"));
        assert_eq!(ended(&journal, &facts), while_unproved, "{reason:?} {given:?}");
        let finished = finish(&journal, &facts).unwrap();
        assert_eq!(ended(&finished, &facts), after, "{reason:?} {given:?}");
        assert_eq!(finished.rotated_at, Some(time(900)));
        assert!(finish(&finished, &facts).is_none());
    }
}

#[test]
fn what_ended_is_forgotten() {
    let facts = |now| Facts {
        overlap: Some(seconds(60)),
        now: time(now),
        ..facts(None, None)
    };
    assert!(retire(&overlapping(), &facts(1499)).is_none());
    assert_eq!(retire(&overlapping(), &facts(1500)), Some(settled()));
    assert!(retire(&settled(), &facts(1500)).is_none());
    assert_eq!(
        look_again(&Facts {
            journal: Some(&overlapping()),
            ..facts(1000)
        }),
        Some(time(1500))
    );
}

#[test]
fn made_secrets_are_long_and_never_the_same() {
    assert_ne!(make(), make());
    assert!(make().expose().len() >= 43);
}
