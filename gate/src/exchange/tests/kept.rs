//! What is remembered, for whom and for how long.

use super::*;

/// A caller, by name.
fn of(subject: &str) -> Value {
    json!({ "sub": subject })
}

#[tokio::test]
async fn fifty_at_a_time_cost_one_call_for_each_caller() {
    let stage = Arc::new(Stage::new().await);
    stage.issue(120, Duration::from_millis(100));
    // Signatures differ each time: the callers' tokens are made once.
    let tokens = ["alice", "bob"].map(|name| stage.signer.sign(&claims(&stage.server, &of(name))));
    let asked: Vec<_> = (0..100)
        .map(|number| {
            let (stage, token) = (Arc::clone(&stage), tokens[number % 2].clone());
            tokio::spawn(async move {
                let allowed = allowed(&stage.policy, &stage.signer, &token);
                let issued = stage.exchanges.header_token(&stage.policy, &allowed).await;
                issued.unwrap().unwrap().expose_secret().to_owned()
            })
        })
        .collect();
    let mut issued = [const { Vec::new() }; 2];
    for (number, one) in asked.into_iter().enumerate() {
        issued[number % 2].push(one.await.unwrap());
    }
    for all in &mut issued {
        assert_eq!(all.len(), 50);
        all.dedup();
        assert_eq!(all.len(), 1, "they share one token");
    }
    assert_ne!(issued[0], issued[1], "which is nobody else's");
    assert_eq!(stage.calls(), 2);
    let flights = stage.exchanges.era.load().flights.lock().unwrap().len();
    assert_eq!(flights, 0, "none is left");
}

#[tokio::test]
async fn whoever_leaves_takes_nobody_along() {
    let stage = Arc::new(Stage::new().await);
    stage.issue(120, Duration::from_millis(800));
    let token = stage.signer.sign(&claims(&stage.server, &of("alice")));
    let ask = |patience| {
        let (stage, token) = (Arc::clone(&stage), token.clone());
        tokio::spawn(async move {
            let allowed = allowed(&stage.policy, &stage.signer, &token);
            let asked = stage.exchanges.header_token(&stage.policy, &allowed);
            tokio::time::timeout(patience, asked)
                .await
                .is_ok_and(|issued| issued.is_ok())
        })
    };
    let (first, second) = (ask(Duration::from_millis(400)), ask(Duration::from_secs(10)));
    assert!(!first.await.unwrap());
    assert!(second.await.unwrap());
    assert_eq!(stage.calls(), 1);
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_either_ends() {
    for (why, subject, issued, last, first_after) in [
        ("the exchanged one ends first", 300, 120, 89, 90),
        ("the caller's ends first", 200, 280, 169, 170),
        ("half a life, if it is short", 300, 20, 8, 9),
    ] {
        let stage = Stage::new().await;
        stage.issue(issued, Duration::ZERO);
        let token = stage
            .signer
            .sign(&claims(&stage.server, &json!({"exp": NOW + subject})));
        let allowed = allowed(&stage.policy, &stage.signer, &token);
        for (at, calls) in [(0, 1), (last, 1), (first_after, 2)] {
            stage
                .clock
                .advance(NOW + at - crate::clock::Clock::now(&*stage.clock));
            let issued = stage.exchanges.header_token(&stage.policy, &allowed).await;
            assert!(issued.unwrap().is_some(), "{why}, at {at}");
            assert_eq!(stage.calls(), calls, "{why}, at {at}");
        }
    }
}

#[tokio::test]
async fn a_token_of_unknown_life_is_not_kept() {
    let stage = Stage::new().await;
    let answer = json!({"access_token": "opaque", "token_type": "Bearer"});
    stage.server.set_token(move |_| Script::json(200, &answer));
    let token = stage.signer.sign(&claims(&stage.server, &json!({})));
    let allowed = allowed(&stage.policy, &stage.signer, &token);
    for calls in 1..=2 {
        stage
            .exchanges
            .header_token(&stage.policy, &allowed)
            .await
            .unwrap();
        assert_eq!(stage.calls(), calls);
    }
}

#[tokio::test]
async fn refusals_are_kept_briefly_and_troubles_not_at_all() {
    for (why, status, body, kept) in [
        ("a refusal", 403, json!({"error": "access_denied"}), true),
        (
            "of the caller's token",
            400,
            json!({"error": "invalid_grant"}),
            true,
        ),
        (
            "of the gate's client",
            401,
            json!({"error": "invalid_client"}),
            true,
        ),
        (
            "a wrong answer",
            200,
            json!({"access_token": "t", "token_type": "DPoP"}),
            true,
        ),
        (
            "an error of the server",
            500,
            json!({"error": "server_error"}),
            false,
        ),
        ("too many requests", 429, json!({}), false),
    ] {
        let stage = Stage::new().await;
        stage.server.set_token(move |_| Script::json(status, &body));
        let token = stage.signer.sign(&claims(&stage.server, &json!({})));
        let allowed = allowed(&stage.policy, &stage.signer, &token);
        let ask = || stage.exchanges.header_token(&stage.policy, &allowed);
        let first = ask().await.unwrap_err();
        assert_eq!(ask().await.unwrap_err(), first, "{why}");
        assert_eq!(stage.calls(), if kept { 1 } else { 2 }, "{why}");
        stage.clock.advance(REFUSAL_KEPT);
        stage.issue(120, Duration::ZERO);
        assert!(ask().await.is_ok(), "{why}: not for long");
    }
}

#[tokio::test]
async fn everything_goes_with_the_policy_and_with_the_credentials() {
    let stage = Stage::new().await;
    let token = stage.signer.sign(&claims(&stage.server, &json!({})));
    let first = allowed(&stage.policy, &stage.signer, &token);
    let kept = || stage.exchanges.era.load().kept.len();
    stage.exchanges.header_token(&stage.policy, &first).await.unwrap();
    stage.exchanges.follow(&stage.policy);
    stage.exchanges.set_client(Some(&client("s3cret")));
    assert_eq!(kept(), 1, "nothing changed");
    stage.exchanges.set_client(Some(&client("another")));
    assert_eq!(kept(), 0);
    stage.exchanges.header_token(&stage.policy, &first).await.unwrap();
    assert_eq!(stage.calls(), 2);
    let changes = json!({"exchanges": [exchange("orders", "Header")], "deniedClients": ["someone"]});
    let next = policy(&stage.server, &changes);
    // Even before it was told of the policy, nothing kept under the old one is used.
    stage.exchanges.header_token(&next, &first).await.unwrap();
    assert_eq!(stage.calls(), 3);
    stage.exchanges.follow(&next);
    assert_eq!(kept(), 0);
}

#[tokio::test]
async fn what_was_on_its_way_with_old_credentials_is_not_kept() {
    let stage = Arc::new(Stage::new().await);
    stage.issue(120, Duration::from_millis(100));
    let token = stage.signer.sign(&claims(&stage.server, &json!({})));
    let ask = || {
        let (stage, token) = (Arc::clone(&stage), token.clone());
        tokio::spawn(async move {
            let allowed = allowed(&stage.policy, &stage.signer, &token);
            stage
                .exchanges
                .header_token(&stage.policy, &allowed)
                .await
                .is_ok()
        })
    };
    let old = ask();
    while stage.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.exchanges.set_client(Some(&client("another")));
    assert!(ask().await.unwrap() && old.await.unwrap());
    assert_eq!(stage.calls(), 2, "no flight is shared across credentials either");
    assert_eq!(stage.exchanges.era.load().kept.len(), 1);
}

#[tokio::test]
async fn no_part_of_a_key_runs_into_the_next() {
    let stage = Stage::new().await;
    let exchanges = &stage.policy.exchanges[0];
    let mut shifted = exchanges.clone();
    shifted.name = "order".to_owned();
    shifted.audience = format!("s{}", exchanges.audience);
    let token = SecretString::from("t");
    let of =
        |exchange: &Exchange, scopes: &str, token: &SecretString| key(&stage.policy, exchange, scopes, token);
    let all = [
        of(exchanges, "a", &token),
        of(exchanges, "a b", &token),
        of(exchanges, "at", &"".into()),
        of(exchanges, "", &"at".into()),
        of(&shifted, "a", &token),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[tokio::test]
async fn nothing_prints_a_token_or_a_secret() {
    let stage = Stage::new().await;
    let token = stage.header_token(&json!({})).await.unwrap().unwrap();
    let kept = format!("{:?}", stage.exchanges);
    assert!(
        !kept.contains(token.expose_secret()) && !kept.contains("s3cret"),
        "{kept}"
    );
    let value = basic(&client("s3cret")).unwrap();
    assert_eq!(format!("{value:?}"), "Sensitive");
}

#[tokio::test]
async fn what_has_ended_is_forgotten() {
    let stage = Stage::new().await;
    for name in ["alice", "bob", "carol"] {
        stage.header_token(&of(name)).await.unwrap();
    }
    let kept = || stage.exchanges.era.load().kept.len();
    assert_eq!(kept(), 3);
    stage.clock.advance(SWEEP + 60);
    stage.header_token(&of("dave")).await.unwrap();
    assert_eq!(kept(), 1);
}
