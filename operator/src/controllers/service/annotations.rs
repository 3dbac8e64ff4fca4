//! The annotations on a Service, read: pure. Every problem is found at once, and each says what to write instead.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use mcp_auth_crds::{
    annotations::{
        SERVICE_ALL, SERVICE_AUTHORIZATION_SERVER, SERVICE_ENFORCEMENT, SERVICE_PATH, SERVICE_PORT,
        SERVICE_RESOURCE, SERVICE_SCOPES,
    },
    v1alpha1::{BUILT_IN_SCOPES, EnforcementMode, ObjectReference, ScopeName},
};
use url::Url;

use crate::policy::names;

// What the schema of McpServers allows, so that what it would refuse is told in words about annotations.
const LONGEST_TEXT: usize = 255;
const LONGEST_SCOPE: usize = 128;
const MOST_SCOPES: usize = 64;

/// How many names and numbers of ports a message lists: an Event has room for all problems at their longest.
const MOST_PORTS_LISTED: usize = 6;

/// What the annotations ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) authorization_server: ObjectReference,
    pub(super) resource: String,
    pub(super) scopes: Vec<ScopeName>,
    pub(super) port: Option<IntOrString>,
    pub(super) path: Option<String>,
    pub(super) enforcement: EnforcementMode,
}

/// Whether the Service carries any of our annotations.
pub(super) fn any(service: &Service) -> bool {
    SERVICE_ALL
        .iter()
        .any(|key| service.annotations().contains_key(*key))
}

/// Reads them. `Ok(None)`: there are none.
pub(super) fn read(service: &Service) -> Result<Option<Request>, Vec<String>> {
    if !any(service) {
        return Ok(None);
    }
    let get = |key: &str| service.annotations().get(key).map(String::as_str);
    let mut problems = Vec::new();
    let mut keep = |result: Result<_, String>| result.map_err(|problem| problems.push(problem)).ok();
    let reference = keep(authorization_server(get(SERVICE_AUTHORIZATION_SERVER)).map(Field::Server));
    let resource = keep(resource(get(SERVICE_RESOURCE)).map(Field::Text));
    let scopes = keep(scopes(get(SERVICE_SCOPES)).map(Field::Scopes));
    let port = keep(port(get(SERVICE_PORT), service).map(Field::Port));
    let path = keep(path(get(SERVICE_PATH)).map(Field::Path));
    let enforcement = keep(enforcement(get(SERVICE_ENFORCEMENT)).map(Field::Mode));
    match (reference, resource, scopes, port, path, enforcement) {
        (
            Some(Field::Server(authorization_server)),
            Some(Field::Text(resource)),
            Some(Field::Scopes(scopes)),
            Some(Field::Port(port)),
            Some(Field::Path(path)),
            Some(Field::Mode(enforcement)),
        ) => Ok(Some(Request {
            authorization_server,
            resource,
            scopes,
            port,
            path,
            enforcement,
        })),
        _ => Err(problems),
    }
}

/// A value that was read; one type, so that all problems are collected by one closure.
enum Field {
    Server(ObjectReference),
    Text(String),
    Scopes(Vec<ScopeName>),
    Port(Option<IntOrString>),
    Path(Option<String>),
    Mode(EnforcementMode),
}

fn authorization_server(value: Option<&str>) -> Result<ObjectReference, String> {
    let reference = value.map(|value| {
        value
            .split_once('/')
            .map_or((None, value), |(ns, name)| (Some(ns), name))
    });
    match reference {
        Some((namespace, name)) if is_label(name) && namespace.is_none_or(is_label) => Ok(ObjectReference {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        }),
        _ => Err(format!(
            "set {SERVICE_AUTHORIZATION_SERVER} to [namespace/]name of an AuthorizationServer"
        )),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn resource(value: Option<&str>) -> Result<String, String> {
    match value {
        Some(value) if is_resource(value) => Ok(value.to_owned()),
        _ => Err(format!(
            "set {SERVICE_RESOURCE} to the https URL at which clients reach the server, as a URL parser returns it and without query, fragment and user information, at most {LONGEST_TEXT} characters, such as https://mcp.example.com/mcp"
        )),
    }
}

fn is_resource(value: &str) -> bool {
    if value.len() > LONGEST_TEXT || !names::is_canonical(value) || value.contains(['?', '#', '@']) {
        return false;
    }
    Url::parse(value).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")),
        _ => false,
    })
}

fn scopes(value: Option<&str>) -> Result<Vec<ScopeName>, String> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x2B | 0x2D..=0x5B | 0x5D..=0x7E);
    let is_name = |name: &str| (1..=LONGEST_SCOPE).contains(&name.len()) && name.bytes().all(legal);
    let names: Vec<&str> = value.split(' ').take(MOST_SCOPES + 1).collect();
    let mut seen = BTreeSet::new();
    if names.len() > MOST_SCOPES || !names.iter().all(|name| is_name(name) && seen.insert(*name)) {
        return Err(format!(
            "set {SERVICE_SCOPES} to at most {MOST_SCOPES} scope names separated by single spaces, each once and of at most {LONGEST_SCOPE} characters"
        ));
    }
    let is_reserved = |name: &&&str| BUILT_IN_SCOPES.contains(*name) || name.starts_with("mcp.");
    if let Some(reserved) = names.iter().find(is_reserved) {
        return Err(format!(
            "leave {reserved} out of {SERVICE_SCOPES}: names of the authorization server itself, and names that begin with mcp., are refused"
        ));
    }
    Ok(names.into_iter().map(|name| ScopeName(name.to_owned())).collect())
}

fn port(value: Option<&str>, service: &Service) -> Result<Option<IntOrString>, String> {
    let ports: Vec<_> = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
        .collect();
    let Some(value) = value else {
        return if ports.len() > 1 {
            let known = listed(&ports);
            Err(format!(
                "set {SERVICE_PORT} to the port that speaks MCP, one of {known}"
            ))
        } else {
            Ok(None)
        };
    };
    // A name may consist of digits too; the number that is meant comes first.
    if let Some(port) = ports.iter().find(|port| port.port.to_string() == value) {
        Ok(Some(IntOrString::Int(port.port)))
    } else if ports.iter().any(|port| port.name.as_deref() == Some(value)) {
        Ok(Some(IntOrString::String(value.to_owned())))
    } else if ports.is_empty() {
        Err(format!(
            "remove {SERVICE_PORT}, or add a port to the Service, which has none"
        ))
    } else {
        let known = listed(&ports);
        Err(format!(
            "set {SERVICE_PORT} to a port of the Service, one of {known}"
        ))
    }
}

/// Names and numbers of ports.
fn listed(ports: &[&ServicePort]) -> String {
    let known = ports
        .iter()
        .flat_map(|port| port.name.clone().into_iter().chain([port.port.to_string()]));
    let some: Vec<String> = known.clone().take(MOST_PORTS_LISTED).collect();
    let others = if known.count() > MOST_PORTS_LISTED {
        " and others"
    } else {
        ""
    };
    format!("{}{others}", some.join(", "))
}

fn path(value: Option<&str>) -> Result<Option<String>, String> {
    let is_path = |value: &str| {
        let illegal = |byte: u8| byte.is_ascii_control() || matches!(byte, b' ' | b'?' | b'#');
        value.starts_with('/') && value.chars().count() <= LONGEST_TEXT && !value.bytes().any(illegal)
    };
    match value {
        Some(value) if !is_path(value) => Err(format!(
            "set {SERVICE_PATH} to a path that begins with a slash and has no query or fragment, at most {LONGEST_TEXT} characters, such as /mcp"
        )),
        other => Ok(other.map(str::to_owned)),
    }
}

fn enforcement(value: Option<&str>) -> Result<EnforcementMode, String> {
    match value {
        None | Some("Gate") => Ok(EnforcementMode::Gate),
        Some("External") => Ok(EnforcementMode::External),
        Some(_) => Err(format!(
            "set {SERVICE_ENFORCEMENT} to Gate or External, or remove it, which means Gate"
        )),
    }
}

#[cfg(test)]
mod tests {
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
        service.spec.as_mut().unwrap().ports =
            Some(ports.map(|p| serde_json::from_value(p).unwrap()).collect());
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
}
