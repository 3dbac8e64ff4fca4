//! Handles that are not what they should be, or are shown where they should not be.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

/// `good` with the address of somebody else.
fn redirected(good: &HeaderValue, address: SocketAddr) -> HeaderValue {
    let secret = good.to_str().unwrap().split_once('.').unwrap().0;
    let address = URL_SAFE_NO_PAD.encode(address.to_string());
    HeaderValue::from_str(&format!("{secret}.{address}")).unwrap()
}

#[tokio::test]
async fn misused_handles_buy_nothing_and_learn_nothing() {
    let stage = Stage::new().await;
    let other_server = Stage::new().await;
    let guard = stage.mint(0);
    let good = guard.header_value();
    let ended = stage.mint(0).header_value().clone();
    let foreign = other_server.mint(0);
    let guess = HeaderValue::from_str(&format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode([7; 32]),
        URL_SAFE_NO_PAD.encode(at(1, stage.port).to_string())
    ))
    .unwrap();
    let token = HeaderValue::from_static("eyJhbGciOiJub25lIn0.e30.");
    for (why, replica, handle) in [
        ("used after the end", 0, ended.clone()),
        ("used after the end, elsewhere", 1, ended),
        ("of another server's gate", 0, foreign.header_value().clone()),
        (
            "of another server's gate, said to be ours",
            0,
            redirected(foreign.header_value(), at(1, stage.port)),
        ),
        ("guessed", 0, guess.clone()),
        ("guessed, elsewhere", 1, guess),
        (
            "good, but said to be the peer's",
            0,
            redirected(good, at(2, stage.port)),
        ),
        (
            "good, but said to be this one's",
            1,
            redirected(good, at(2, stage.port)),
        ),
        ("a token instead", 0, token),
        ("empty", 0, HeaderValue::from_static("")),
    ] {
        let bought = stage.buy(replica, "orders", &handle).await;
        assert_eq!(bought, (401, refused("invalid_handle")), "{why}");
    }
    let twice = stage
        .request(0, "/token/orders")
        .header(&HANDLE, good)
        .header(&HANDLE, good);
    assert_eq!(
        outcome(twice).await,
        (401, refused("invalid_handle")),
        "two handles"
    );
    let none = stage.request(0, "/token/orders");
    assert_eq!(outcome(none).await, (401, refused("invalid_handle")), "none");
    assert!(stage.server.calls().is_empty() && other_server.server.calls().is_empty());
    assert_eq!(stage.buy(0, "orders", good).await.0, 200, "the good one still is");
}

#[tokio::test]
async fn a_handle_is_shown_to_peers_only_and_only_once() {
    let stage = Stage::new().await;
    let guard = stage.mint(0);
    let stranger = TcpListener::bind(at(3, stage.port)).await.unwrap();
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let listening = tokio::spawn(async move {
        while stranger.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let other_port = TcpListener::bind(at(2, 0)).await.unwrap().local_addr().unwrap();
    for (why, address) in [
        ("no peer", at(3, stage.port)),
        ("a peer's host, another port", other_port),
        (
            "the authorization server",
            stage.server.url()[7..].parse().unwrap(),
        ),
        (
            "the metadata service of a cloud",
            "169.254.169.254:80".parse().unwrap(),
        ),
        ("everybody", "0.0.0.0:1".parse().unwrap()),
    ] {
        let handle = redirected(guard.header_value(), address);
        let bought = stage.buy(0, "orders", &handle).await;
        assert_eq!(bought, (401, refused("invalid_handle")), "{why}");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(visits.load(Ordering::SeqCst), 0);
    listening.abort();
    // The handle is good, and the peer could be asked; but somebody else asked it already.
    let relayed = stage.request(1, "/token/orders").header(&RELAYED, "1");
    let bought = outcome(relayed.header(&HANDLE, guard.header_value())).await;
    assert_eq!(bought, (401, refused("invalid_handle")));
}
