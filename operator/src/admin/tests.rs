use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::clock::ManualClock;

const PATIENCE: Duration = Duration::from_secs(30);

/// The endpoints on a free port.
async fn start() -> (Health, Metrics, Arc<ManualClock>, std::net::SocketAddr) {
    let clock = ManualClock::at("2026-01-01T00:00:00Z");
    let (health, metrics) = (Health::new(clock.clone(), PATIENCE), Metrics::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(run(
        listener,
        metrics.clone(),
        health.clone(),
        std::future::pending(),
    ));
    (health, metrics, clock, address)
}

/// The status, the rest of the head, and the body.
async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let (health, _, clock, address) = start().await;
    let ready = async || {
        let (status, _, body) = get(address, "/readyz").await;
        (status, body.trim_end().to_owned())
    };
    let unready = |why: &str| (503, why.to_owned());
    assert_eq!(ready().await, unready("the API server has not answered yet"));
    health.api_server_answered();
    assert_eq!(ready().await, (200, "ok".to_owned()));

    let filled = Arc::new(AtomicBool::new(false));
    let probe = Arc::clone(&filled);
    health.wait_for_cache(|| None);
    health.wait_for_cache(move || (!probe.load(Ordering::SeqCst)).then(|| "mcpclients".to_owned()));
    assert_eq!(ready().await, unready("caches are not up to date: mcpclients"));
    filled.store(true, Ordering::SeqCst);
    assert_eq!(ready().await.0, 200);

    clock.advance(PATIENCE);
    assert_eq!(ready().await.0, 200);
    clock.advance(Duration::from_secs(5));
    assert_eq!(ready().await, unready("the API server has not answered for 35 s"));
    health.api_server_answered();
    assert_eq!(ready().await.0, 200);

    health.stopping();
    assert_eq!(ready().await, unready("the operator is stopping"));
    assert_eq!(
        get(address, "/healthz").await.0,
        200,
        "stopping is not being dead"
    );
}

#[tokio::test]
async fn metrics_are_in_the_open_metrics_format() {
    let (_, metrics, _, address) = start().await;
    metrics.rotated("requested");
    let (status, head, body) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(
        body.contains("mcp_auth_operator_rotations_total{reason=\"requested\"} 1\n"),
        "{body}"
    );
    assert!(body.ends_with("# EOF\n"));
    assert_eq!(get(address, "/").await.0, 404);
}

#[tokio::test]
async fn everything_is_both_families_where_there_are_both() {
    let has_ipv6 = TcpListener::bind("[::1]:0").await.is_ok();
    for (listens, v4, v6) in [
        ("[::]:0", true, has_ipv6),
        ("0.0.0.0:0", true, false),
        ("127.0.0.1:0", true, false),
    ] {
        let listener = listen(listens.parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for (host, expected) in [("127.0.0.1", v4), ("::1", v6)] {
            let answers = TcpStream::connect((host, port)).await.is_ok();
            assert_eq!(answers, expected, "{listens} at {host}");
        }
    }
}
