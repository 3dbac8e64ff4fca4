//! The annotations on a Service, read: pure. Every problem is found at once, and each says what to write instead.

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use kube::ResourceExt as _;
use mcp_auth_crds::{
    annotations::{
        SERVICE_ALL, SERVICE_AUTHORIZATION_SERVER, SERVICE_ENFORCEMENT, SERVICE_PATH, SERVICE_PORT,
        SERVICE_RESOURCE, SERVICE_SCOPES,
    },
    v1alpha1::{EnforcementMode, ObjectReference, ScopeName},
};

use crate::policy::names;

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
    let wanted = format!(
        "set {SERVICE_RESOURCE} to the https URL at which clients reach the server, as a URL parser returns it, such as https://mcp.example.com/mcp"
    );
    match value {
        Some(value) if names::is_canonical(value) && value.starts_with("http") => Ok(value.to_owned()),
        _ => Err(wanted),
    }
}

fn scopes(value: Option<&str>) -> Result<Vec<ScopeName>, String> {
    let wanted = format!("set {SERVICE_SCOPES} to scope names separated by single spaces, each once");
    let Some(value) = value else { return Ok(Vec::new()) };
    let legal = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let names: Vec<&str> = value.split(' ').collect();
    let mut seen = std::collections::BTreeSet::new();
    if names
        .iter()
        .any(|name| name.is_empty() || name.contains(',') || !name.bytes().all(legal) || !seen.insert(*name))
    {
        return Err(wanted);
    }
    Ok(names.into_iter().map(|name| ScopeName(name.to_owned())).collect())
}

fn port(value: Option<&str>, service: &Service) -> Result<Option<IntOrString>, String> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let known: Vec<String> = ports
        .clone()
        .flat_map(|port| port.name.clone().into_iter().chain([port.port.to_string()]))
        .collect();
    let Some(value) = value else {
        return if ports.count() > 1 {
            Err(format!(
                "set {SERVICE_PORT} to the port that speaks MCP, one of {}",
                known.join(", ")
            ))
        } else {
            Ok(None)
        };
    };
    if !known.iter().any(|port| port == value) {
        return Err(format!(
            "set {SERVICE_PORT} to a port of the Service, one of {}",
            known.join(", ")
        ));
    }
    Ok(Some(value.parse().map_or_else(
        |_| IntOrString::String(value.to_owned()),
        IntOrString::Int,
    )))
}

fn path(value: Option<&str>) -> Result<Option<String>, String> {
    match value {
        Some(value) if !value.starts_with('/') || value.contains(['?', '#', ' ']) => Err(format!(
            "set {SERVICE_PATH} to a path that begins with a slash, such as /mcp"
        )),
        other => Ok(other.map(str::to_owned)),
    }
}

fn enforcement(value: Option<&str>) -> Result<EnforcementMode, String> {
    match value {
        None | Some("External") => Ok(EnforcementMode::External),
        Some(_) => Err(format!("set {SERVICE_ENFORCEMENT} to External, or remove it")),
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
            ("mcpauth.dev/scopes", json!("a, b"), "single spaces"),
            ("mcpauth.dev/scopes", json!("a a"), "each once"),
            ("mcpauth.dev/scopes", json!(""), "single spaces"),
            ("mcpauth.dev/port", json!("9090"), "mcp, 8080"),
            ("mcpauth.dev/path", json!("mcp"), "begins with a slash"),
            ("mcpauth.dev/enforcement", json!("Off"), "External"),
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
    fn all_problems_are_found_at_once() {
        let problems = read(&service(json!({"mcpauth.dev/path": "x"}))).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
