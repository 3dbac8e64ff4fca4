use super::*;

fn timeouts() -> Timeouts {
    let second = Duration::from_secs(1);
    Timeouts {
        header_read: second,
        body_read: second,
        connect: second,
        upstream_header: second,
        stream_idle: None,
        stream_grace: second,
        drain: second,
    }
}

fn upstream(url: &str) -> Upstream {
    let of = document::Upstream {
        url: url.to_owned(),
        protocol: Protocol::Http1,
    };
    Upstream::new(&of, timeouts(), None).unwrap()
}

fn addresses(all: &[&Arc<Endpoint>]) -> Vec<u16> {
    all.iter().map(|one| one.address.port()).collect()
}

#[tokio::test]
async fn the_least_busy_address_comes_first_and_equal_ones_take_turns() {
    let upstream = upstream("http://server.team-a/mcp");
    let found = [1, 2, 3, 4].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
    let endpoints = upstream.endpoints_at(found.to_vec(), &[]);
    let firsts: Vec<u16> = (0..8)
        .map(|_| addresses(&upstream.in_order(&endpoints, None))[0])
        .collect();
    assert_eq!(firsts, [1, 2, 3, 4, 1, 2, 3, 4]);

    let busy: Vec<Lease> = [0, 1, 1, 3].map(|at| Lease::of(&endpoints[at])).into();
    for _ in 0..4 {
        let order = addresses(&upstream.in_order(&endpoints, None));
        assert_eq!((order.len(), order[0]), (TRIES, 3));
    }
    drop(busy);
    assert!(endpoints.iter().all(|one| one.load.load(Ordering::Relaxed) == 0));
    let only = upstream.in_order(&endpoints, Some(found[2]));
    assert_eq!(addresses(&only), [3], "a session knows no other");
    let gone = upstream.in_order(&endpoints, Some(SocketAddr::from(([10, 0, 0, 9], 1))));
    assert!(gone.is_empty());
}

#[tokio::test]
async fn addresses_that_stay_keep_their_connections() {
    let upstream = upstream("http://server.team-a/mcp");
    let address = |last| SocketAddr::from(([10, 0, 0, last], 80));
    let before = upstream.endpoints_at(vec![address(2), address(1), address(2)], &[]);
    assert_eq!(before.len(), 2, "each once");
    let after = upstream.endpoints_at(vec![address(2), address(3)], &before);
    assert!(Arc::ptr_eq(&after[0], &before[1]));
    assert_eq!(after[1].address, address(3));
}

#[tokio::test]
async fn names_are_asked_for_and_what_was_known_outlives_a_silence() {
    let known = Arc::new(upstream("http://localhost:80/mcp"));
    let first = known.endpoints().await.unwrap();
    assert!(!first.is_empty() && first.iter().all(|one| one.address.ip().is_loopback()));
    assert!(known.has(first[0].address).await);
    assert!(!known.has("192.0.2.1:80".parse().unwrap()).await);
    let again = known.endpoints().await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "not asked for each time");

    let unknown = Arc::new(upstream("http://server.invalid:80/mcp"));
    assert_eq!(unknown.endpoints().await.unwrap_err(), UpstreamFailure::Resolve);
    // As if the name had been known before its name server fell silent.
    unknown.resolved.lock().unwrap().endpoints = Arc::clone(&first);
    assert!(Arc::ptr_eq(&unknown.endpoints().await.unwrap(), &first));
}

#[tokio::test]
async fn a_given_address_is_used_whatever_the_name_says() {
    let address: SocketAddr = "192.0.2.1:3001".parse().unwrap();
    let of = upstream("http://server.invalid:80/mcp").of;
    let elsewhere = Arc::new(Upstream::new(&of, timeouts(), Some(address)).unwrap());
    let endpoints = elsewhere.endpoints().await.unwrap();
    assert!(endpoints.iter().map(|one| one.address).eq([address]));
    assert!(elsewhere.has(address).await, "sessions stay there");
    assert_eq!(elsewhere.host(), "server.invalid");
}

#[test]
fn the_host_is_what_the_policy_says() {
    for (url, host, port, authority) in [
        (
            "http://notes.team-a:8080/mcp",
            "notes.team-a",
            8080,
            "notes.team-a:8080",
        ),
        ("http://notes.team-a/", "notes.team-a", 80, "notes.team-a"),
        ("http://127.0.0.1:1/", "127.0.0.1", 1, "127.0.0.1:1"),
        ("http://[fd00::1]:8080/", "fd00::1", 8080, "[fd00::1]:8080"),
    ] {
        let upstream = upstream(url);
        assert_eq!((upstream.host.as_str(), upstream.port), (host, port));
        assert_eq!(upstream.authority, authority);
    }
}
