use std::{num::NonZeroU32, time::Duration};

use tokio::time::{Instant, advance, timeout};

use super::{breaker::FIRST_PAUSE, *};

const MAX: Duration = Duration::from_secs(60);

fn settings(rate: u32, concurrent: usize) -> LimitSettings {
    LimitSettings {
        rate: NonZeroU32::new(rate).unwrap(),
        concurrent,
        max_pause: MAX,
    }
}

fn down() -> ProviderError {
    ProviderError::Unreachable {
        why: "connection refused".into(),
        retry_after: None,
    }
}

fn unavailable(status: u16, retry_after: Option<u64>) -> ProviderError {
    ProviderError::Unavailable {
        status,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

/// Fails one call and returns for how long the realm is left alone.
fn fail(limits: &RealmLimits, error: &ProviderError) -> Option<Duration> {
    limits.admit().unwrap().conclude(Some(error));
    limits.admit().err().and_then(|refused| refused.retry_after())
}

fn assert_pause(pause: Option<Duration>, around: Duration) {
    let pause = pause.unwrap();
    assert!(
        pause >= around.mul_f64(0.75) && pause <= around.mul_f64(1.25),
        "{pause:?} is not around {around:?}"
    );
}

/// A server that says how long it takes no more calls is not called for so long; a caller does not sit out a long time.
#[tokio::test(start_paused = true)]
async fn a_server_rests_for_as_long_as_it_says() {
    let limits = RealmLimits::new(settings(1000, 8));
    limits.rest(Duration::from_secs(3));
    limits.rest(Duration::from_secs(1));
    let begun = Instant::now();
    let pass = limits.admit().unwrap();
    drop(limits.turn(&pass).await.unwrap());
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    limits.rest(Duration::from_secs(60));
    let refused = limits.turn(&pass).await.unwrap_err();
    assert_eq!(refused, unavailable(429, Some(60)));
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    // No clock reaches as far as a server may say.
    limits.rest(Duration::MAX);
    advance(Duration::from_secs(60)).await;
    drop(limits.turn(&pass).await.unwrap());
    pass.conclude(None);
}

#[tokio::test(start_paused = true)]
async fn calls_come_at_the_rate_after_a_small_burst() {
    let limits = RealmLimits::new(settings(50, 8));
    let begun = Instant::now();
    for _ in 0..105 {
        let pass = limits.admit().unwrap();
        drop(limits.turn(&pass).await.unwrap());
        pass.conclude(None);
    }
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_millis(2200),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_at_a_time_than_allowed() {
    let limits = RealmLimits::new(settings(1000, 2));
    let pass = limits.admit().unwrap();
    let (one, _two) = (
        limits.turn(&pass).await.unwrap(),
        limits.turn(&pass).await.unwrap(),
    );
    assert!(
        timeout(Duration::from_secs(1), limits.turn(&pass)).await.is_err(),
        "a third waits"
    );
    drop(one);
    assert!(timeout(Duration::from_secs(1), limits.turn(&pass)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_realm_that_is_down_is_left_alone_ever_longer_up_to_a_cap() {
    let limits = RealmLimits::new(settings(50, 8));
    let mut pause = FIRST_PAUSE;
    for _ in 0..10 {
        let left_alone = fail(&limits, &down());
        assert!(left_alone.unwrap() <= MAX);
        if pause < MAX / 2 {
            assert_pause(left_alone, pause);
        }
        advance(left_alone.unwrap()).await;
        pause = (pause * 2).min(MAX);
    }
    limits.admit().unwrap().conclude(None);
    assert_pause(fail(&limits, &down()), FIRST_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn the_refusal_repeats_the_last_failure_so_that_conditions_keep_their_words() {
    let limits = RealmLimits::new(settings(50, 8));
    fail(&limits, &down());
    assert_eq!(limits.admit().unwrap_err().to_string(), down().to_string());
}

#[tokio::test(start_paused = true)]
async fn one_probe_decides_for_all() {
    let limits = RealmLimits::new(settings(50, 8));
    advance(fail(&limits, &down()).unwrap()).await;
    let probe = limits.admit().unwrap();
    assert!(probe.is_probe());
    assert!(limits.admit().is_err(), "others wait for its verdict");
    assert!(limits.turn(&probe).await.is_ok());
    probe.conclude(None);
    assert!(!limits.admit().unwrap().is_probe());
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_went_away_is_owed_by_the_next() {
    let limits = RealmLimits::new(settings(50, 8));
    advance(fail(&limits, &down()).unwrap()).await;
    drop(limits.admit().unwrap());
    let probe = limits.admit().unwrap();
    assert!(probe.is_probe());
    probe.conclude(Some(&ProviderError::NotLeading));
    assert!(
        limits.admit().unwrap().is_probe(),
        "nothing was sent, so nothing is known"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_for_is_honoured_up_to_the_cap() {
    for (asked, expected) in [(30, 30), (3600, 60)] {
        let limits = RealmLimits::new(settings(50, 8));
        assert_eq!(
            fail(&limits, &unavailable(503, Some(asked))),
            Some(Duration::from_secs(expected))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_poisonous_request_does_not_stop_the_others() {
    let limits = RealmLimits::new(settings(50, 8));
    for _ in 0..10 {
        assert_eq!(fail(&limits, &unavailable(500, None)), None);
        assert_eq!(fail(&limits, &unavailable(500, None)), None);
        limits.admit().unwrap().conclude(None);
    }
    assert_eq!(fail(&limits, &unavailable(500, None)), None);
    assert_eq!(fail(&limits, &unavailable(500, None)), None);
    assert_pause(fail(&limits, &unavailable(500, None)), FIRST_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn what_the_realm_is_not_to_blame_for_does_not_count() {
    let limits = RealmLimits::new(settings(50, 8));
    for error in [
        ProviderError::NotLeading,
        ProviderError::Untrusted { why: String::new() },
        ProviderError::Refused { why: String::new() },
        ProviderError::Malformed {
            operation: "o",
            why: "w",
        },
    ] {
        for _ in 0..5 {
            assert_eq!(fail(&limits, &error), None, "{error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_under_way_do_not_lengthen_the_pause_and_waiting_ones_are_spared() {
    let limits = RealmLimits::new(settings(50, 1));
    let (first, second, waiting) = (
        limits.admit().unwrap(),
        limits.admit().unwrap(),
        limits.admit().unwrap(),
    );
    let slot = limits.turn(&waiting).await.unwrap();
    let turn = limits.turn(&waiting);
    first.conclude(Some(&down()));
    second.conclude(Some(&down()));
    drop(slot);
    assert!(turn.await.is_err(), "it would only fail too");
    waiting.conclude(None);
    assert_pause(limits.admit().unwrap_err().retry_after(), FIRST_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_somebody_asked_for_does_not_wait_for_the_pause() {
    let limits = RealmLimits::new(settings(50, 8));
    fail(&limits, &unavailable(503, Some(30)));
    limits.try_again_now();
    limits.admit().unwrap().conclude(None);
    assert!(limits.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_realm_shares_its_limits_and_leaves_others_alone() {
    let registry = RealmRegistry::new(settings(50, 8));
    let url = |text: &str| Url::parse(text).unwrap();
    let limits = |server: &str, realm: &str| registry.limits(&canonical(&url(server), realm));
    fail(&limits("https://kc.example/", "a"), &down());
    for same in [
        "https://kc.example",
        "https://KC.example:443/",
        "https://kc.example/?x=y",
    ] {
        assert!(limits(same, "a").admit().is_err(), "{same}");
    }
    for (server, realm) in [
        ("https://kc.example", "b"),
        ("https://kc.example:8443", "a"),
        ("https://kc.example/auth", "a"),
    ] {
        assert!(limits(server, realm).admit().is_ok(), "{server} {realm}");
    }
    assert!(
        registry
            .clone()
            .limits(&canonical(&url("https://kc.example"), "a"))
            .admit()
            .is_err()
    );
}
