//! The annotations on a Service, read: pure. Every problem is found at once, and each says what to write instead.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use mcp_auth_crds::{
    GROUP,
    annotations::{
        ABANDON, RECONCILE, ROTATE_REQUESTED_AT, SERVICE_ALL, SERVICE_AUTHORIZATION_SERVER,
        SERVICE_ENFORCEMENT, SERVICE_PATH, SERVICE_PORT, SERVICE_RESOURCE, SERVICE_SCOPES,
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

/// How many annotations that mean nothing a message lists: keys have at most 63 characters behind the slash.
const MOST_UNKNOWN: usize = 4;

/// Annotations of ours that mean nothing on a Service, and no mistake either.
const ELSEWHERE: [&str; 3] = [RECONCILE, ABANDON, ROTATE_REQUESTED_AT];

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

/// What is said of annotations that look like ours, and are none, on a Service that has some of ours.
pub(super) fn unknown(service: &Service) -> Option<String> {
    let known = |key: &str| SERVICE_ALL.contains(&key) || ELSEWHERE.contains(&key);
    let ours = |key: &&String| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
    let strange = service
        .annotations()
        .keys()
        .filter(ours)
        .filter(|key| !known(key));
    let told: Vec<String> = strange
        .take(MOST_UNKNOWN)
        .filter_map(|key| {
            let nearest = SERVICE_ALL.iter().min_by_key(|known| distance(key, known))?;
            Some(format!(
                "{key} means nothing: write {nearest} if that is meant, or remove it"
            ))
        })
        .collect();
    (any(service) && !told.is_empty()).then(|| told.join("; "))
}

/// How many characters have to be added, removed or replaced to make one text the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
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
#[path = "annotations_tests.rs"]
mod tests;
