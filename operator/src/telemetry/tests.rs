use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;
use tracing::Level;

/// Whether `filter` lets a line of `target` at `level` through.
fn lets_through(filter: &str, target: &str, level: Level) -> bool {
    filter.parse::<LogFilter>().unwrap().enables(target, level)
}

#[test]
fn libraries_are_capped_at_info_unless_named() {
    let own = "mcp_auth_operator::lease";
    let cases = [
        ("info", own, Level::INFO, true, "the default shows our own lines"),
        ("info", own, Level::DEBUG, false, "and no more"),
        (
            "info",
            "hyper::client",
            Level::INFO,
            true,
            "libraries have info too",
        ),
        (
            "trace",
            own,
            Level::TRACE,
            true,
            "a bare level is for our own code",
        ),
        ("trace", "mcp_auth_crds", Level::TRACE, true, "all of our crates"),
        (
            "trace",
            "hyper::proto::h1",
            Level::DEBUG,
            false,
            "not for libraries",
        ),
        (
            "trace",
            "reqwest::async_impl",
            Level::TRACE,
            false,
            "not for libraries",
        ),
        ("trace", "h2", Level::DEBUG, false, "not for libraries"),
        (
            "trace",
            "kube_client::client",
            Level::WARN,
            false,
            "prints undecodable bodies as a warning",
        ),
        (
            "trace",
            "kube_client::client::builder",
            Level::ERROR,
            true,
            "errors of the API client stay",
        ),
        (
            "debug,hyper=trace",
            "hyper::proto::h1",
            Level::TRACE,
            true,
            "named explicitly",
        ),
        (
            "debug,hyper=trace",
            "reqwest::connect",
            Level::DEBUG,
            false,
            "another one was named",
        ),
        (
            "hyper=trace",
            own,
            Level::INFO,
            true,
            "naming one crate leaves ours at info",
        ),
        (
            "hyper=trace",
            own,
            Level::DEBUG,
            false,
            "naming one crate leaves ours at info",
        ),
        ("warn", own, Level::INFO, false, "a quiet level holds for us"),
        ("warn", "hyper", Level::INFO, false, "and for libraries"),
        ("warn", "hyper", Level::WARN, true, "and for libraries"),
        ("off", own, Level::ERROR, false, "nothing"),
        ("off", "kube_client::client", Level::ERROR, false, "nothing"),
        (
            "trace,kube_client=trace",
            "kube_client::api",
            Level::TRACE,
            true,
            "named explicitly",
        ),
        (
            "trace,kube_client=trace",
            "kube_client::client",
            Level::WARN,
            false,
            "the leaking module was not",
        ),
        (
            "trace,kube_client=off",
            "kube_client::client",
            Level::ERROR,
            false,
            "off means off",
        ),
        (
            "kube_client::client=trace",
            "kube_client::client",
            Level::TRACE,
            true,
            "asked for by name",
        ),
        (
            "kube_client::client=trace,kube_client=debug",
            "kube_client::client",
            Level::TRACE,
            true,
            "in any order",
        ),
        (
            "mcp_auth_operator::lease=debug",
            own,
            Level::DEBUG,
            true,
            "one module of ours",
        ),
        (
            "mcp_auth_operator::lease=debug",
            "mcp_auth_operator::egress",
            Level::DEBUG,
            false,
            "only that one",
        ),
        ("INFO", own, Level::INFO, true, "case does not matter"),
    ];
    for (filter, target, level, expected, why) in cases {
        assert_eq!(
            lets_through(filter, target, level),
            expected,
            "{filter} for {target} at {level}: {why}"
        );
    }
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
