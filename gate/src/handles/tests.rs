use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;
use crate::testing::{AuthorizationServer, ManualClock, NOW, Signer, allowed, claims, exchange, policy};

struct Stage {
    clock: Arc<ManualClock>,
    handles: Handles,
    policy: Arc<Policy>,
    allowed: Allowed,
}

async fn stage(delivery: &str, most: usize) -> Stage {
    let signer = Signer::new("one");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let policy = policy(&server, &json!({"exchanges": [exchange("orders", delivery)]}));
    let token = signer.sign(&claims(&server, &json!({})));
    let clock = ManualClock::at(NOW);
    Stage {
        handles: Handles::new("10.1.2.3:8082".parse().unwrap(), most, clock.clone()),
        allowed: allowed(&policy, &signer, &token),
        clock,
        policy,
    }
}

impl Stage {
    fn mint(&self) -> Option<HandleGuard> {
        self.handles.mint(&self.policy, &self.allowed)
    }
}

fn found(handles: &Handles, value: &HeaderValue) -> bool {
    Presented::parse(value).is_some_and(|presented| handles.find(&presented).is_some())
}

#[tokio::test]
async fn a_handle_is_good_until_its_request_ends() {
    let stage = stage("Endpoint", 10).await;
    let (one, other) = (stage.mint().unwrap(), stage.mint().unwrap());
    let (first, second) = (one.header_value().clone(), other.header_value().clone());
    assert_ne!(first, second, "each request has its own");
    assert_eq!(Presented::parse(&first).unwrap().minted_by, stage.handles.own());
    let record = stage.handles.find(&Presented::parse(&first).unwrap()).unwrap();
    assert_eq!(
        record.token.expose_secret(),
        stage.allowed.caller.token().expose_secret()
    );
    drop(one);
    assert!(!found(&stage.handles, &first));
    assert!(found(&stage.handles, &second));
}

#[tokio::test]
async fn a_handle_tells_where_its_replica_is_in_either_family() {
    let mut stage = stage("Endpoint", 10).await;
    for own in [
        "10.1.2.3:8082",
        "[fd00::1]:8082",
        "[fd00:1111:2222:3333:4444:5555:6666:7777]:65535",
    ] {
        stage.handles.own = own.parse().unwrap();
        let guard = stage.mint().unwrap();
        let presented = Presented::parse(guard.header_value()).unwrap();
        assert_eq!(presented.minted_by.to_string(), own);
        assert!(stage.handles.find(&presented).is_some(), "{own}");
    }
}

#[tokio::test]
async fn a_handle_is_good_no_longer_than_the_token() {
    let stage = stage("Endpoint", 10).await;
    let guard = stage.mint().unwrap();
    stage.clock.advance(300 + CLOCK_SKEW - 1);
    assert!(found(&stage.handles, guard.header_value()));
    stage.clock.advance(1);
    assert!(!found(&stage.handles, guard.header_value()));
    assert_eq!(stage.handles.shared.open.get(), 0, "and is forgotten");
}

#[tokio::test]
async fn no_handle_is_minted_that_buys_nothing() {
    assert!(stage("Header", 10).await.mint().is_none());
}

#[tokio::test]
async fn their_number_is_bounded_and_what_expired_makes_room() {
    let stage = stage("Endpoint", 2).await;
    let first = stage.mint().unwrap();
    let second = stage.mint().unwrap();
    assert!(stage.mint().is_none());
    assert_eq!(stage.handles.shared.refused.get(), 1);
    drop(first);
    let third = stage.mint().unwrap();
    stage.clock.advance(300 + CLOCK_SKEW);
    let late = stage.mint().unwrap();
    assert_eq!(stage.handles.shared.open.get(), 1);
    drop((second, third, late));
    assert_eq!(stage.handles.shared.open.get(), 0);
}

#[tokio::test]
async fn what_is_no_handle_is_none() {
    let stage = stage("Endpoint", 10).await;
    let guard = stage.mint().unwrap();
    let good = guard.header_value().to_str().unwrap().to_owned();
    let (secret, address) = good.split_once('.').unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let guess = URL_SAFE_NO_PAD.encode([0; SECRET_BYTES]);
    for (why, text, is_found) in [
        ("as it was minted", good.clone(), true),
        (
            "somebody else's address does not change what it is",
            format!("{secret}.{}", encode("10.9.9.9:1")),
            true,
        ),
        ("a guess", format!("{guess}.{address}"), false),
        ("only the secret", secret.to_owned(), false),
        ("no address", format!("{secret}."), false),
        ("no port", format!("{secret}.{}", encode("10.1.2.3")), false),
        (
            "a name",
            format!("{secret}.{}", encode("evil.example.com:80")),
            false,
        ),
        (
            "an address in the clear",
            format!("{secret}.10.1.2.3:8082"),
            false,
        ),
        ("cut", good[1..].to_owned(), false),
        ("longer", format!("A{good}"), false),
        ("padded", format!("{secret}=.{address}"), false),
        ("twice in one value", format!("{good}, {good}"), false),
        ("empty", String::new(), false),
        ("very long", "A".repeat(10_000), false),
    ] {
        let value = HeaderValue::from_str(&text).unwrap();
        assert_eq!(found(&stage.handles, &value), is_found, "{why}");
    }
}

#[tokio::test]
async fn nothing_prints_a_handle_or_a_token() {
    let stage = stage("Endpoint", 10).await;
    let guard = stage.mint().unwrap();
    let value = guard.header_value();
    let presented = Presented::parse(value).unwrap();
    let record = stage.handles.find(&presented).unwrap();
    let printed = format!("{guard:?} {value:?} {presented:?} {record:?} {:?}", stage.handles);
    let secret = value.to_str().unwrap().split_once('.').unwrap().0;
    let token = stage.allowed.caller.token().expose_secret();
    assert!(!printed.contains(secret) && !printed.contains(token), "{printed}");
}
