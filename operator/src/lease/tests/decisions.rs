use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn record(holder: Option<&str>, seconds: Option<i32>) -> Record {
    Record::of(&Lease {
        spec: Some(LeaseSpec {
            holder_identity: holder.map(ToOwned::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    })
}

#[test]
fn what_to_do_about_a_lease() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let wait = |seconds| Decision::Wait {
        until: after(seconds),
        holder: "other".to_owned(),
    };
    let other = |seconds| record(Some("other"), seconds);
    let cases = [
        (
            "it has no spec",
            Record::of(&Lease::default()),
            after(0),
            Decision::Acquire,
        ),
        (
            "it was released",
            record(None, Some(1)),
            after(0),
            Decision::Acquire,
        ),
        (
            "it was released as client-go does",
            record(Some(""), Some(1)),
            after(0),
            Decision::Acquire,
        ),
        (
            "it is ours",
            record(Some("me"), Some(15)),
            after(0),
            Decision::Renew,
        ),
        (
            "it is ours however old it is",
            record(Some("me"), Some(15)),
            after(900),
            Decision::Renew,
        ),
        ("just seen", other(Some(15)), after(0), wait(15)),
        ("seen a while ago", other(Some(15)), after(14), wait(15)),
        (
            "not changed for its duration",
            other(Some(15)),
            after(15),
            Decision::Acquire,
        ),
        (
            "its own duration counts, not ours",
            other(Some(60)),
            after(30),
            wait(60),
        ),
        ("without a duration ours counts", other(None), after(14), wait(15)),
        (
            "without a sensible duration ours counts",
            other(Some(0)),
            after(14),
            wait(15),
        ),
        (
            "nor with a negative one",
            other(Some(-5)),
            after(15),
            Decision::Acquire,
        ),
    ];
    for (why, record, now, expected) in cases {
        let sight = Sight::There(record, start);
        assert_eq!(evaluate(&sight, "me", now, DURATION), expected, "{why}");
    }
}

#[test]
fn what_to_do_about_a_lease_that_is_not_there() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let wait = |holder: &str, seconds| Decision::Wait {
        until: after(seconds),
        holder: holder.to_owned(),
    };
    let gone = |holder, seconds| Sight::Gone(record(holder, seconds), start);
    let cases = [
        ("there never was one", Sight::Never, after(0), Decision::Acquire),
        ("it was free", gone(None, Some(1)), after(0), Decision::Acquire),
        (
            "it was another's",
            gone(Some("other"), Some(20)),
            after(19),
            wait("other", 20),
        ),
        (
            "for its duration",
            gone(Some("other"), Some(20)),
            after(20),
            Decision::Acquire,
        ),
        (
            "for ours if it said none",
            gone(Some("other"), None),
            after(14),
            wait("other", 15),
        ),
        (
            "it was ours, and maybe another's afterwards",
            gone(Some("me"), Some(20)),
            after(19),
            wait("me", 20),
        ),
    ];
    for (why, sight, now, expected) in cases {
        assert_eq!(evaluate(&sight, "me", now, DURATION), expected, "{why}");
    }
}

#[test]
fn only_a_change_of_the_record_starts_the_wait_anew() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let first = Record::of(&lease_of("other", NOW));
    let renewed = Record::of(&lease_of("other", "2026-01-01T00:00:05Z"));
    let mut labelled = lease_of("other", NOW);
    labelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    labelled.metadata.resource_version = Some("77".to_owned());
    let labelled = Record::of(&labelled);
    let there = |record: &Record, seconds| Sight::There(record.clone(), after(seconds));
    let gone = |record: &Record, seconds| Sight::Gone(record.clone(), after(seconds));
    // When, what was read, and what is known then.
    let steps = [
        ("none yet", 0, None, Sight::Never),
        ("appeared", 1, Some(&first), there(&first, 1)),
        ("unchanged", 5, Some(&first), there(&first, 1)),
        ("renewed", 6, Some(&renewed), there(&renewed, 6)),
        // A clock of the holder that jumps back is a change like any other.
        ("renewed with an odd clock", 9, Some(&first), there(&first, 9)),
        ("a label renews nothing", 12, Some(&labelled), there(&first, 9)),
        ("gone", 13, None, gone(&first, 13)),
        ("still gone", 14, None, gone(&first, 13)),
        ("and back", 15, Some(&first), there(&first, 15)),
    ];
    let mut sight = Sight::default();
    for (why, seconds, read, known) in steps {
        assert_eq!(sight.observe(read.cloned(), after(seconds)), &known, "{why}");
    }
}

#[test]
fn taking_a_lease_keeps_its_version_and_counts_the_change_of_hands() {
    let mut read = lease_of("other", NOW);
    read.metadata.resource_version = Some("7".to_owned());
    read.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
    let taken = claimed(
        Some(&read),
        "leader",
        "me",
        DURATION,
        "2026-01-01T00:01:00Z".parse().unwrap(),
    );
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(taken.metadata.labels, read.metadata.labels);
    let spec = taken.spec.clone().unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("me"));
    assert_eq!(spec.lease_transitions, Some(1));
    assert_eq!(spec.acquire_time, spec.renew_time);

    let renewed = claimed(
        Some(&taken),
        "leader",
        "me",
        DURATION,
        "2026-01-01T00:01:05Z".parse().unwrap(),
    );
    let renewed = renewed.spec.unwrap();
    assert_eq!(
        renewed.acquire_time, spec.acquire_time,
        "a renewal is no acquisition"
    );
    assert_ne!(renewed.renew_time, spec.renew_time);
    assert_eq!(renewed.lease_transitions, Some(1));
}

#[test]
fn the_first_holder_makes_no_transition() {
    let created = lease_of("me", NOW);
    assert_eq!(created.metadata.name.as_deref(), Some("leader"));
    assert_eq!(created.metadata.resource_version, None);
    let spec = created.spec.unwrap();
    assert_eq!(
        (spec.lease_transitions, spec.lease_duration_seconds),
        (Some(0), Some(15))
    );
}

#[test]
fn a_released_lease_names_nobody_and_is_guarded() {
    let mut ours = lease_of("me", NOW);
    ours.metadata.resource_version = Some("9".to_owned());
    let freed = released(&ours, "2026-01-01T00:00:07Z".parse().unwrap());
    assert_eq!(freed.metadata.resource_version.as_deref(), Some("9"));
    assert_eq!(Record::of(&freed).holder, None);
    assert_eq!(
        freed.spec.unwrap().lease_transitions,
        Some(0),
        "the count survives"
    );
}

#[test]
fn the_fence_falls_well_before_others_may_start() {
    for seconds in 1..=600 {
        let duration = Duration::from_secs(seconds);
        let timing = Timing::of(duration);
        assert!(
            timing.renew + timing.request + timing.retry < timing.valid,
            "an answer may be lost: {seconds} s"
        );
        assert!(
            timing.valid + timing.request <= duration,
            "a call under way must end in time: {seconds} s"
        );
        assert!(
            timing.renew + timing.retry * 5 < timing.valid,
            "a refusal may be repeated: {seconds} s"
        );
    }
}
