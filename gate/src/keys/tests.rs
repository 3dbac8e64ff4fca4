use std::{sync::Arc, time::Duration};

use mcp_auth_gate_core::token::{TokenError, Verifier as _};
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    clock::Clock as _,
    testing::{AuthorizationServer, ManualClock, NOW, Script, Signer, claims, policy},
};

/// A store that runs, and what it needs.
struct Running {
    store: Arc<KeyStore>,
    clock: Arc<ManualClock>,
    task: JoinHandle<Infallible>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn options() -> KeyOptions {
    KeyOptions {
        refresh: Duration::from_hours(1),
        demand_interval: Duration::from_millis(300),
        cached_tokens: 100,
    }
}

fn run(options: KeyOptions) -> Running {
    let clock = ManualClock::at(NOW);
    let store = Arc::new(KeyStore::new(Outbound::new(false), options, clock.clone()));
    let task = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.run().await }
    });
    Running { store, clock, task }
}

/// A store with the keys of this server.
async fn following(server: &AuthorizationServer, options: KeyOptions) -> Running {
    let running = run(options);
    running.store.follow(&policy(server, &json!({})));
    fetched(&running.store, 1).await;
    running
}

/// Waits until this many fetches have ended.
async fn fetched(store: &KeyStore, times: u64) {
    let mut states = store.state.subscribe();
    let ended = states.wait_for(|state| state.ended >= times);
    timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
}

fn verify(store: &KeyStore, token: &str, server: &AuthorizationServer) -> Result<(), TokenError> {
    store.verify(token, &server.issuer()).map(drop)
}

#[tokio::test]
async fn keys_are_fetched_at_start_and_tokens_verified() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let token = signer.sign(&claims(&server, &json!({})));
    let running = following(&server, options()).await;
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    assert_eq!(running.store.set.load().cached(), 1, "remembered once");
    assert_eq!(server.jwks_fetches(), 1);
}

#[tokio::test]
async fn nothing_is_verified_before_there_are_keys_and_nothing_of_another_issuer() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let token = signer.sign(&claims(&server, &json!({})));
    let foreign = signer.sign(&claims(&server, &json!({"iss": "https://evil.example.com"})));
    let running = run(options());
    assert_eq!(verify(&running.store, &token, &server), Err(TokenError::NoKeys));
    assert!(!running.store.are_there());
    running.store.follow(&policy(&server, &json!({})));
    fetched(&running.store, 1).await;
    assert!(running.store.are_there());
    assert_eq!(verify(&running.store, &foreign, &server), Err(TokenError::Issuer));
    // What a policy of another issuer asks for is not answered with these keys, even if they signed it.
    let of_theirs = running.store.verify(&foreign, "https://evil.example.com");
    assert_eq!(of_theirs.map(drop), Err(TokenError::NoKeys));
}

#[tokio::test]
async fn a_new_key_is_found_on_demand() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = AuthorizationServer::start(Signer::jwks(&[&old])).await;
    let running = following(&server, options()).await;
    let token = new.sign(&claims(&server, &json!({})));
    server.set_jwks(Script::new(200, Signer::jwks(&[&old, &new])));
    assert_eq!(
        verify(&running.store, &token, &server),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(running.store.refetch().await, Refetched::Yes);
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    assert_eq!(server.jwks_fetches(), 2);
}

#[tokio::test]
async fn a_storm_of_unknown_keys_costs_one_fetch_per_interval() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let hourly = KeyOptions {
        demand_interval: Duration::from_hours(1),
        ..options()
    };
    let running = following(&server, hourly).await;
    let slow = Script::new(200, Signer::jwks(&[&signer])).after(Duration::from_millis(100));
    server.set_jwks(slow);
    for wave in 1..=3 {
        let asked: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let store = Arc::clone(&running.store);
                tokio::spawn(async move { store.refetch().await })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.unwrap(), Refetched::Yes);
        }
        assert_eq!(server.jwks_fetches(), 2, "wave {wave}");
    }
}

#[tokio::test]
async fn no_more_wait_than_there_is_room_for() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let running = following(&server, options()).await;
    let slow = Script::new(200, Signer::jwks(&[&signer])).after(Duration::from_secs(2));
    server.set_jwks(slow);
    let ask = || {
        let store = Arc::clone(&running.store);
        tokio::spawn(async move { store.refetch().await })
    };
    let waiting: Vec<_> = (0..MOST_WAITING).map(|_| ask()).collect();
    while running.store.waiting.available_permits() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let one_more = timeout(Duration::from_secs(1), running.store.refetch()).await;
    assert_eq!(one_more, Ok(Refetched::No), "at once");
    for one in waiting {
        assert_eq!(one.await.unwrap(), Refetched::Yes);
    }
    assert_eq!(running.store.waiting.available_permits(), MOST_WAITING);
}

#[tokio::test]
async fn after_the_interval_there_is_another_fetch() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let running = following(&server, options()).await;
    for fetches in 2..=4 {
        assert_eq!(running.store.refetch().await, Refetched::Yes);
        assert_eq!(server.jwks_fetches(), fetches);
        tokio::time::sleep(options().demand_interval).await;
    }
}

#[tokio::test]
async fn whoever_goes_away_while_waiting_takes_no_fetch_along() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = AuthorizationServer::start(Signer::jwks(&[&old])).await;
    let running = following(&server, options()).await;
    let slow = Script::new(200, Signer::jwks(&[&new])).after(Duration::from_millis(100));
    server.set_jwks(slow);
    let gone = timeout(Duration::from_millis(20), running.store.refetch()).await;
    assert!(gone.is_err());
    assert_eq!(
        running.store.refetch().await,
        Refetched::Yes,
        "shares what was begun"
    );
    let token = new.sign(&claims(&server, &json!({})));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    assert_eq!(server.jwks_fetches(), 2);
}

#[tokio::test]
async fn nothing_worse_replaces_good_keys() {
    let signer = Signer::new("one");
    let good = Signer::jwks(&[&signer]);
    let server = AuthorizationServer::start(good.clone()).await;
    let elsewhere = AuthorizationServer::start(Signer::jwks(&[&Signer::new("two")])).await;
    let running = following(&server, options()).await;
    let mut redirect = Script::new(302, "");
    redirect.location = Some(format!("{}/jwks", elsewhere.url()));
    let mut large = good.clone();
    large.resize(MOST_BYTES + 1, b' ');
    let symmetric = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]});
    let mut fetches = 1;
    for (what, script) in [
        ("no bytes", Script::new(200, "")),
        ("no JSON", Script::new(200, "<html>")),
        ("no keys", Script::new(200, r#"{"keys": []}"#)),
        ("no key of use", Script::json(200, &symmetric)),
        ("an error", Script::new(500, good.clone())),
        ("another success", Script::new(202, good.clone())),
        ("a redirect", redirect),
        ("more than is read", Script::new(200, large)),
    ] {
        tokio::time::sleep(options().demand_interval).await;
        server.set_jwks(script);
        assert_eq!(running.store.refetch().await, Refetched::No, "{what}");
        fetches += 1;
        assert!(server.jwks_fetches() >= fetches, "{what}: was fetched");
        let token = signer.sign(&claims(&server, &json!({"jti": what})));
        assert_eq!(verify(&running.store, &token, &server), Ok(()), "{what}");
    }
    assert_eq!(elsewhere.jwks_fetches(), 0, "redirects are not followed");
}

#[tokio::test]
async fn a_key_that_leaves_takes_its_tokens_along() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let server = AuthorizationServer::start(Signer::jwks(&[&old, &new])).await;
    let running = following(&server, options()).await;
    let token = old.sign(&claims(&server, &json!({})));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    server.set_jwks(Script::new(200, Signer::jwks(&[&new])));
    assert_eq!(running.store.refetch().await, Refetched::Yes);
    assert_eq!(
        verify(&running.store, &token, &server),
        Err(TokenError::UnknownKey)
    );
}

#[tokio::test]
async fn the_same_keys_keep_what_they_verified() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let running = following(&server, options()).await;
    let token = signer.sign(&claims(&server, &json!({})));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    assert_eq!(running.store.refetch().await, Refetched::Yes);
    assert_eq!(running.store.set.load().cached(), 1);
}

#[tokio::test]
async fn good_keys_outlive_their_server_and_new_ones_come_once_it_is_back() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let mut server = AuthorizationServer::start(Signer::jwks(&[&old])).await;
    let running = following(&server, options()).await;
    server.stop().await;
    assert_eq!(running.store.refetch().await, Refetched::No);
    let token = old.sign(&claims(&server, &json!({})));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
    server.set_jwks(Script::new(200, Signer::jwks(&[&new])));
    server.restart().await;
    // Nobody asks: it tries again by itself.
    let mut states = running.store.state.subscribe();
    let back = states.wait_for(|state| state.last == Refetched::Yes);
    timeout(Duration::from_secs(10), back).await.unwrap().unwrap();
    let token = new.sign(&claims(&server, &json!({})));
    assert_eq!(verify(&running.store, &token, &server), Ok(()));
}

#[tokio::test]
async fn another_address_means_other_keys_and_another_bundle_does_not() {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let next = AuthorizationServer::start(Signer::jwks(&[&Signer::new("two")])).await;
    let running = following(&server, options()).await;
    let token = signer.sign(&claims(&server, &json!({})));
    let authority = rcgen::generate_simple_self_signed(["as.example.com".to_owned()]).unwrap();
    let bundle = json!({"authorizationServer": {"caBundle": authority.cert.pem()}});
    running.store.follow(&policy(&server, &bundle));
    assert_eq!(verify(&running.store, &token, &server), Ok(()), "the same keys");
    fetched(&running.store, 2).await;
    assert_eq!(server.jwks_fetches(), 2, "fetched anew");
    assert_eq!(running.store.metrics.fetched_at(), NOW);
    let moved = json!({"authorizationServer": {"jwksUri": format!("{}/jwks", next.url())}});
    running.store.follow(&policy(&server, &moved));
    assert_eq!(verify(&running.store, &token, &server), Err(TokenError::NoKeys));
    assert_eq!(running.store.metrics.fetched_at(), 0);
    fetched(&running.store, 3).await;
    assert_eq!(
        verify(&running.store, &token, &server),
        Err(TokenError::UnknownKey)
    );
}

#[tokio::test]
async fn what_comes_from_where_the_policy_no_longer_points_is_dropped() {
    let (one, two) = (Signer::new("one"), Signer::new("two"));
    let server = AuthorizationServer::start(Signer::jwks(&[&one])).await;
    let next = AuthorizationServer::start(Signer::jwks(&[&two])).await;
    let slow = Script::new(200, Signer::jwks(&[&one])).after(Duration::from_millis(200));
    server.set_jwks(slow);
    let running = run(options());
    running.store.follow(&policy(&server, &json!({})));
    while server.jwks_fetches() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.store.follow(&policy(&next, &json!({})));
    fetched(&running.store, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let token = two.sign(&claims(&next, &json!({})));
    assert_eq!(verify(&running.store, &token, &next), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn tokens_leave_the_cache_when_they_have_expired() {
    let signer = Signer::new("one");
    let issuer = "https://as.example.com";
    let keys = Keys::parse(&Signer::jwks(&[&signer])).unwrap();
    let running = run(options());
    let set = KeySet::new(issuer, keys, b"", 100);
    for lifetime in [100, 200, 300] {
        let token = signer.sign(&json!({"iss": issuer, "exp": NOW + lifetime}));
        set.verify(&token, issuer).unwrap();
    }
    running.store.set.store(Arc::new(set));
    for (later, left) in [(99, 3), (100 + 12, 2), (200 + 12, 1), (300 + 12, 0)] {
        let now = running.clock.now();
        running.clock.advance(NOW + later - now);
        tokio::time::sleep(SWEEP + Duration::from_secs(1)).await;
        assert_eq!(running.store.set.load().cached(), left, "after {later} s");
    }
}

#[test]
fn the_cache_is_bounded_by_number_and_by_size() {
    let signer = Signer::new("one");
    let issuer = "https://as.example.com";
    let keys = Keys::parse(&Signer::jwks(&[&signer])).unwrap();
    for (what, scopes, at_most) in [("small tokens", 1, 100), ("large tokens", 400, 10)] {
        let set = KeySet::new(issuer, keys.clone(), b"", 100);
        let scope: Vec<String> = (0..scopes).map(|n| format!("scope-{n}")).collect();
        for id in 0..300 {
            let token = signer.sign(&json!({"iss": issuer, "exp": NOW, "jti": id, "scope": scope}));
            set.verify(&token, issuer).unwrap();
        }
        let cached = set.cached();
        assert!((1..=at_most).contains(&cached), "{what}: {cached}");
    }
}
