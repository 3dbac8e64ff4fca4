use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use mcp_auth_cli::logs::{self, LogFormat};
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// Checks a table of filter, target and level against whether such a line is written.
#[track_caller]
fn check(expected: bool, table: &[(&str, &str, Level)]) {
    for (filter, target, level) in table {
        let enabled = LOGS.filter(filter).unwrap().enables(target, *level);
        assert_eq!(enabled, expected, "{filter} for {target} at {level}");
    }
}

#[test]
fn libraries_that_tell_too_much_are_heard_when_they_are_named() {
    let table = [
        ("trace,kube_client=trace", "kube_client::api", Level::TRACE),
        // The module that prints bodies is opened by its own name only, in any order.
        ("kube_client::client=trace", "kube_client::client", Level::TRACE),
        (
            "kube_client::client=trace,kube_client=debug",
            "kube_client::client",
            Level::TRACE,
        ),
    ];
    check(true, &table);
}

#[test]
fn libraries_that_tell_too_much_are_quiet() {
    let table = [
        // This module prints bodies that it cannot decode as warnings.
        ("trace", "kube_client::client", Level::WARN),
        ("trace,kube_client=trace", "kube_client::client", Level::WARN),
        ("trace,kube=trace", "kube_client::client", Level::WARN),
        // The feeds tell what it meets, now and then.
        ("debug", "kube_runtime::watcher", Level::WARN),
        // What this one reports it also returns.
        ("info", "kube_client::client::builder", Level::ERROR),
        ("off", "kube_client::client", Level::ERROR),
        ("trace,kube_client=off", "kube_client::client", Level::ERROR),
    ];
    check(false, &table);
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
    let layer = logs::lines(LogFormat::Json, &LOGS.filter("info").unwrap(), move || {
        writer.clone()
    });
    let subscriber = tracing_subscriber::registry().with(layer);
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
