use super::*;

/// The value of the one line of `metrics` that starts with `series` and a blank.
#[track_caller]
fn value(metrics: &Metrics, series: &str) -> String {
    let text = metrics.encode().unwrap();
    let mut found = text
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found
        .next()
        .unwrap_or_else(|| panic!("no {series} in\n{text}"))
        .to_owned();
    assert_eq!(found.next(), None, "{series} twice");
    value
}

#[test]
fn reconciles_are_counted_timed_and_their_errors_named() {
    let metrics = Metrics::default();
    metrics.reconcile_succeeded(Kind::McpClient, Duration::from_millis(20));
    metrics.reconcile_failed(Kind::McpClient, "unreachable", Duration::from_secs(2));
    let count = |series: &str| value(&metrics, &format!("mcp_auth_operator_{series}"));
    assert_eq!(
        count(r#"reconciles_total{kind="McpClient",result="success"}"#),
        "1"
    );
    assert_eq!(count(r#"reconciles_total{kind="McpClient",result="error"}"#), "1");
    assert_eq!(
        count(r#"reconcile_errors_total{kind="McpClient",reason="unreachable"}"#),
        "1"
    );
    assert_eq!(
        count(r#"reconcile_duration_seconds_count{kind="McpClient"}"#),
        "2"
    );
    assert_eq!(
        count(r#"reconcile_duration_seconds_bucket{le="0.02",kind="McpClient"}"#),
        "1"
    );
}

#[test]
fn calls_are_counted_by_class_of_status() {
    let metrics = Metrics::default();
    for status in [200, 204, 302, 404, 503, 99, 600] {
        metrics.authorization_server_called("find-client", CallOutcome::Status(status), Duration::ZERO);
    }
    metrics.authorization_server_called("find-client", CallOutcome::NoAnswer, Duration::ZERO);
    for (class, count) in [
        ("2xx", "2"),
        ("3xx", "1"),
        ("4xx", "1"),
        ("5xx", "1"),
        ("error", "3"),
    ] {
        let series = format!(
            r#"mcp_auth_operator_authorization_server_calls_total{{operation="find-client",status_class="{class}"}}"#
        );
        assert_eq!(value(&metrics, &series), count, "{class}");
    }
    let durations =
        r#"mcp_auth_operator_authorization_server_call_duration_seconds_count{operation="find-client"}"#;
    assert_eq!(value(&metrics, durations), "8");
}

#[test]
fn objects_are_recounted_not_added_up() {
    let metrics = Metrics::default();
    let statuses = [Some("True"), Some("True"), Some("False"), Some("Unknown"), None];
    metrics.set_objects(Kind::McpServer, ReadyCounts::of(statuses));
    metrics.set_objects(Kind::McpServer, ReadyCounts::of([Some("True"), None]));
    for (ready, count) in [("True", "1"), ("False", "0"), ("Unknown", "1")] {
        let series = format!(r#"mcp_auth_operator_objects{{kind="McpServer",ready="{ready}"}}"#);
        assert_eq!(value(&metrics, &series), count);
    }
}

#[test]
fn the_rest_has_the_documented_names() {
    let metrics = Metrics::default();
    metrics.drift_repaired(Kind::McpClient, "secret");
    metrics.rotated("interval");
    metrics.deletion_given_up(Kind::McpServer, GivenUp::Timeout);
    metrics.deletion_given_up(Kind::McpServer, GivenUp::Abandon);
    metrics.set_leader(true);
    let count = |series: &str| value(&metrics, &format!("mcp_auth_operator_{series}"));
    assert_eq!(
        count(r#"drift_repaired_total{kind="McpClient",what="secret"}"#),
        "1"
    );
    assert_eq!(count(r#"rotations_total{reason="interval"}"#), "1");
    assert_eq!(
        count(r#"deletions_given_up_total{kind="McpServer",reason="timeout"}"#),
        "1"
    );
    assert_eq!(
        count(r#"deletions_given_up_total{kind="McpServer",reason="abandon"}"#),
        "1"
    );
    assert_eq!(count("leader"), "1");
    assert_eq!(
        count(concat!(
            r#"build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""}"#
        )),
        "1"
    );
    metrics.set_leader(false);
    assert_eq!(count("leader"), "0");
}

#[test]
fn clones_count_into_the_same_series() {
    let metrics = Metrics::default();
    metrics.clone().rotated("requested");
    assert_eq!(
        value(
            &metrics,
            r#"mcp_auth_operator_rotations_total{reason="requested"}"#
        ),
        "1"
    );
}
