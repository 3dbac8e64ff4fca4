use super::*;
use serde_json::json;

fn service(annotations: serde_json::Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"namespace": "team", "name": "orders", "annotations": annotations},
        "spec": {"ports": [{"name": "mcp", "port": 8080}]},
    }))
    .unwrap()
}

fn full() -> serde_json::Value {
    json!({
        "mcpauth.dev/authorization-server": "platform/main", "mcpauth.dev/resource": "https://h.example/mcp",
        "mcpauth.dev/scopes": "orders:read orders:write", "mcpauth.dev/port": "mcp", "mcpauth.dev/path": "/mcp",
        "mcpauth.dev/enforcement": "External", "other": "kept out",
    })
}

#[test]
fn a_service_without_our_annotations_asks_for_nothing() {
    assert_eq!(read(&service(json!({"prometheus.io/scrape": "true"}))), Ok(None));
}

#[test]
fn a_full_set_is_read_whole() {
    let request = read(&service(full())).unwrap().unwrap();
    assert_eq!(
        request.authorization_server.namespace.as_deref(),
        Some("platform")
    );
    assert_eq!(request.scopes.len(), 2);
    assert_eq!(request.port, Some(IntOrString::String("mcp".into())));
}

#[test]
fn each_problem_names_the_annotation_and_what_to_write() {
    let cases = [
        (
            "mcpauth.dev/authorization-server",
            json!("Main Server"),
            "[namespace/]name",
        ),
        (
            "mcpauth.dev/authorization-server",
            json!("a/b/c"),
            "[namespace/]name",
        ),
        ("mcpauth.dev/resource", json!("mcp.example.com"), "https URL"),
        ("mcpauth.dev/resource", json!("https://H.example"), "https URL"),
        ("mcpauth.dev/resource", json!("http://h.example/mcp"), "https URL"),
        (
            "mcpauth.dev/resource",
            json!("https://h.example/mcp?a=b"),
            "without query",
        ),
        (
            "mcpauth.dev/resource",
            json!("https://u@h.example/"),
            "user information",
        ),
        (
            "mcpauth.dev/resource",
            json!(format!("https://h.example/{}", "a".repeat(255))),
            "at most 255",
        ),
        ("mcpauth.dev/scopes", json!("a, b"), "single spaces"),
        ("mcpauth.dev/scopes", json!("a a"), "each once"),
        ("mcpauth.dev/scopes", json!(""), "single spaces"),
        ("mcpauth.dev/scopes", json!("a openid"), "leave openid out"),
        ("mcpauth.dev/scopes", json!("mcp.a"), "leave mcp.a out"),
        ("mcpauth.dev/scopes", json!("a".repeat(129)), "at most 128"),
        (
            "mcpauth.dev/scopes",
            json!((0..65).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")),
            "at most 64",
        ),
        ("mcpauth.dev/port", json!("9090"), "mcp, 8080"),
        ("mcpauth.dev/path", json!("mcp"), "begins with a slash"),
        ("mcpauth.dev/path", json!("/a\nb"), "begins with a slash"),
        ("mcpauth.dev/path", json!("/a".repeat(128)), "at most 255"),
        ("mcpauth.dev/enforcement", json!("Off"), "Gate or External"),
    ];
    for (key, value, expected) in cases {
        let mut annotations = full();
        annotations[key] = value.clone();
        let problems = read(&service(annotations)).unwrap_err();
        assert_eq!(problems.len(), 1, "{key} {value}");
        assert!(
            problems[0].contains(key) && problems[0].contains(expected),
            "{}",
            problems[0]
        );
    }
}

#[test]
fn http_is_for_loopback_hosts() {
    for host in ["localhost:8080", "127.0.0.1", "[::1]"] {
        let mut annotations = full();
        annotations["mcpauth.dev/resource"] = json!(format!("http://{host}/mcp"));
        assert!(read(&service(annotations)).is_ok(), "{host}");
    }
}

#[test]
fn a_port_is_meant_by_number_before_name() {
    let ports = json!([{"name": "8080", "port": 80}, {"name": "80", "port": 81}]);
    let mut service = service(json!({}));
    service.spec.as_mut().unwrap().ports = serde_json::from_value(ports).unwrap();
    let text = |text: &str| IntOrString::String(text.into());
    for (value, meant) in [
        ("80", IntOrString::Int(80)),
        ("8080", text("8080")),
        ("81", IntOrString::Int(81)),
    ] {
        assert_eq!(port(Some(value), &service), Ok(Some(meant)), "{value}");
    }
}

#[test]
fn all_problems_at_their_longest_fit_into_an_event() {
    let all = SERVICE_ALL
        .map(|key| (key.to_owned(), json!("")))
        .into_iter()
        .collect();
    let mut service = service(serde_json::Value::Object(all));
    let ports = (1..=100).map(|port| json!({"name": "p".repeat(63), "port": port}));
    service.spec.as_mut().unwrap().ports = Some(ports.map(|p| serde_json::from_value(p).unwrap()).collect());
    let problem = port(Some("x"), &service).unwrap_err();
    assert!(problem.ends_with(", 3 and others"), "{problem}");
    assert!(read(&service).unwrap_err().join("; ").len() <= 1000);
    service.spec.as_mut().unwrap().ports = None;
    assert!(port(Some("x"), &service).unwrap_err().contains("which has none"));
}

#[test]
fn all_problems_are_found_at_once() {
    let problems = read(&service(json!({"mcpauth.dev/path": "x"}))).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn what_looks_like_ours_and_is_not_is_told_with_what_may_be_meant() {
    let mut annotations = full();
    assert_eq!(unknown(&service(annotations.clone())), None);
    annotations["mcpauth.dev/reconcile"] = json!("paused");
    annotations["example.com/enforcment"] = json!("x");
    assert_eq!(
        unknown(&service(annotations.clone())),
        None,
        "others are not ours to judge"
    );
    annotations["mcpauth.dev/enforcment"] = json!("External");
    annotations["mcpauth.dev/scope"] = json!("a");
    let told = unknown(&service(annotations)).unwrap();
    assert!(
        told.contains("enforcment means nothing: write mcpauth.dev/enforcement"),
        "{told}"
    );
    assert!(
        told.contains("mcpauth.dev/scope means nothing: write mcpauth.dev/scopes"),
        "{told}"
    );
    let alone = json!({"mcpauth.dev/enforcment": "External"});
    assert_eq!(unknown(&service(alone)), None, "a Service that has none of ours");
    let many: serde_json::Map<_, _> = (10..99)
        .map(|number| (format!("mcpauth.dev/{number}{}", "x".repeat(61)), json!("")))
        .chain([("mcpauth.dev/resource".to_owned(), json!(""))])
        .collect();
    let told = unknown(&service(serde_json::Value::Object(many))).unwrap();
    assert!(told.len() <= 1000, "it fits into an event");
}

#[test]
fn distances_count_changes_of_one_character() {
    for (from, to, expected) in [
        ("", "", 0),
        ("abc", "", 3),
        ("", "ab", 2),
        ("abc", "adc", 1),
        ("abc", "bc", 1),
        ("ab", "ba", 2),
    ] {
        assert_eq!(distance(from, to), expected, "{from} {to}");
    }
}
