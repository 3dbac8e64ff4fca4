use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use tracing::Level;

use super::*;

const OWN: &str = "mcp_auth_operator::lease";

/// Checks a table of filter, target and level against whether such a line is written.
#[track_caller]
fn check(expected: bool, table: &[(&str, &str, Level)]) {
    for (filter, target, level) in table {
        let enabled = filter.parse::<LogFilter>().unwrap().enables(target, *level);
        assert_eq!(enabled, expected, "{filter} for {target} at {level}");
    }
}

#[test]
fn what_is_written() {
    let table = [
        ("info", OWN, Level::INFO),
        ("INFO", OWN, Level::INFO),
        ("info", "hyper::client", Level::INFO),
        // A level without a name is for all of our own code.
        ("trace", OWN, Level::TRACE),
        ("trace", "mcp_auth_crds", Level::TRACE),
        // A library that is named gets what it is given, and leaves ours where it was.
        ("debug,hyper=trace", "hyper::proto::h1", Level::TRACE),
        ("hyper=trace", OWN, Level::INFO),
        ("trace,kube_client=trace", "kube_client::api", Level::TRACE),
        // The module that prints bodies is opened by its own name only, in any order.
        ("kube_client::client=trace", "kube_client::client", Level::TRACE),
        (
            "kube_client::client=trace,kube_client=debug",
            "kube_client::client",
            Level::TRACE,
        ),
        ("mcp_auth_operator::lease=debug", OWN, Level::DEBUG),
        ("warn", "hyper", Level::WARN),
    ];
    check(true, &table);
}

#[test]
fn what_is_not_written() {
    let table = [
        ("info", OWN, Level::DEBUG),
        // A level without a name is not for libraries.
        ("trace", "hyper::proto::h1", Level::DEBUG),
        ("trace", "reqwest::async_impl", Level::TRACE),
        ("trace", "h2", Level::DEBUG),
        ("debug,hyper=trace", "reqwest::connect", Level::DEBUG),
        ("hyper=trace", OWN, Level::DEBUG),
        // This module prints bodies that it cannot decode as warnings.
        ("trace", "kube_client::client", Level::WARN),
        ("trace,kube_client=trace", "kube_client::client", Level::WARN),
        ("trace,kube=trace", "kube_client::client", Level::WARN),
        // The feeds tell what it meets, now and then.
        ("debug", "kube_runtime::watcher", Level::WARN),
        // What this one reports it also returns.
        ("info", "kube_client::client::builder", Level::ERROR),
        // Quiet means quiet, for libraries too.
        ("warn", OWN, Level::INFO),
        ("warn", "hyper", Level::INFO),
        ("off", OWN, Level::ERROR),
        ("off", "kube_client::client", Level::ERROR),
        ("trace,kube_client=off", "kube_client::client", Level::ERROR),
        (
            "mcp_auth_operator::lease=debug",
            "mcp_auth_operator::egress",
            Level::DEBUG,
        ),
    ];
    check(false, &table);
}

#[test]
fn the_default_is_info() {
    let default = LogFilter::default();
    let typed: LogFilter = "info".parse().unwrap();
    assert_eq!(default.to_string(), typed.to_string());
}

#[test]
fn unreadable_filters_are_refused() {
    for filter in [
        "",
        "loud",
        "=trace",
        "hyper=loud",
        "info,",
        "[reconcile]=trace",
        "hyper[{x}]=trace",
        "a b=info",
    ] {
        let refused = filter.parse::<LogFilter>().unwrap_err();
        assert!(refused.contains("is not a log filter"), "{filter:?}: {refused}");
    }
}

#[test]
fn trace_ids_are_32_digits_and_differ() {
    let (one, other) = (TraceId::random(), TraceId::random());
    assert_ne!(one, other);
    assert_eq!(TraceId(1).to_string(), "00000000000000000000000000000001");
    assert_eq!(one.to_string().len(), 32);
}

/// Where a test's log lines go.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_line_of_a_reconcile_carries_its_trace_id() {
    let captured = Captured::default();
    let writer = captured.clone();
    let layer = lines(LogFormat::Json, move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(LogFilter::default().0));
    let object = ObjectRef::<k8s_openapi::api::core::v1::Service>::new("one").within("team");
    tracing::subscriber::with_default(subscriber, || {
        let span = reconcile_span("Service", &object);
        span.in_scope(|| {
            tracing::info!("outer");
            tracing::info_span!("inner").in_scope(|| tracing::info!("within"));
        });
        drop(span);
    });
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    let first = &lines[0]["spans"][0];
    assert_eq!(
        (&first["kind"], &first["namespace"], &first["object"]),
        (
            &serde_json::json!("Service"),
            &serde_json::json!("team"),
            &serde_json::json!("one")
        )
    );
    assert_eq!(first["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!(first["trace_id"], lines[1]["spans"][0]["trace_id"]);
}

#[test]
fn causes_are_told_in_one_line_and_once() {
    let inner = std::io::Error::other("connection\n refused");
    let error = kube::Error::Service(Box::new(inner));
    assert_eq!(in_one_line(&error), "ServiceError: connection refused");
}
