//! Where the server is, and the Services around it: pure.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{McpServer, Target};
use url::Url;

use super::parts::{GATE, ORIGIN, PROXY_PORT, TOKENS_PORT, metadata, options, selector};
use crate::{
    controllers::halt::Halt,
    kinds::SliceFacts,
    policy::{Refusal, names},
};

/// Where the server listens.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::controllers::mcp_server) struct Origin {
    /// For the gate: `http://host:port/path`.
    pub(super) url: String,
    /// The headless Service that leads to its pods, if they are known by labels.
    pub(super) service: Option<Service>,
    /// The port of its pods.
    pub(super) port: PodPort,
}

/// The port of the pods behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controllers::mcp_server) enum PodPort {
    /// The Service says its number.
    Number(i32),
    /// Each pod says which number has the name; these are the numbers of those that there are.
    Named(String, BTreeSet<i32>),
}

impl PodPort {
    /// The numbers that are known.
    pub(in crate::controllers::mcp_server) fn numbers(&self) -> BTreeSet<i32> {
        match self {
            Self::Number(number) => [*number].into(),
            Self::Named(_, numbers) => numbers.clone(),
        }
    }
}

/// Where the server listens, by the Service of its target and what is behind that.
///
/// The gate is given the pods' own addresses, so that it can bring a session back to the pod that has it. Where those
/// cannot be had, it is given the address of the Service.
///
/// # Errors
/// When the target leads nowhere.
pub(in crate::controllers::mcp_server) fn origin(
    server: &McpServer,
    service: Option<&Service>,
    slices: &[SliceFacts],
) -> Result<Origin, Halt> {
    let Some(target) = &server.spec.target else {
        return Err(Halt::refused(
            "TargetMissing",
            "Say in target where the server listens",
        ));
    };
    let Some(service) = service else {
        return Err(Halt::waiting(
            "TargetServiceNotFound",
            format!(
                "Service {} does not exist: create it, or correct target.service",
                target.service
            ),
        ));
    };
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(Halt::refused(
            "ExternalNameNotSupported",
            format!(
                "Service {} is only another name, which can lead anywhere: let target.service name one with pods or endpoints of its own",
                target.service
            ),
        ));
    }
    let port = target_port(target, &spec).map_err(Halt::Refused)?;
    let numbers = || {
        slices
            .iter()
            .flat_map(|slice| slice.ports.iter().flatten().filter_map(|port| port.port))
    };
    let pod_port = match &port.target_port {
        None => PodPort::Number(port.port),
        Some(IntOrString::Int(number)) => PodPort::Number(*number),
        Some(IntOrString::String(name)) => PodPort::Named(name.clone(), numbers().collect()),
    };
    let headless = headless(server, &spec, port);
    let namespace = server.namespace().unwrap_or_default();
    let known = pod_port.numbers();
    let (host, number) = match (&headless, known.first()) {
        (Some(headless), Some(number)) if known.len() == 1 => (headless.name_any(), *number),
        // Without pods, or with such as name different numbers alike, only the Service knows.
        _ => (target.service.clone(), port.port),
    };
    Ok(Origin {
        url: url(server, target, &format!("{host}.{namespace}.svc"), number),
        service: headless,
        port: pod_port,
    })
}

/// The port of the target's Service.
fn target_port<'a>(target: &Target, spec: &'a ServiceSpec) -> Result<&'a ServicePort, Refusal> {
    let is_tcp = |port: &&ServicePort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ports: Vec<&ServicePort> = spec.ports.iter().flatten().filter(is_tcp).collect();
    let meant = |port: &&&ServicePort| match &target.port {
        None => ports.len() == 1,
        Some(IntOrString::Int(number)) => port.port == *number,
        Some(IntOrString::String(name)) => port.name.as_ref() == Some(name),
    };
    ports.iter().find(meant).copied().ok_or_else(|| {
        let known = ports
            .iter()
            .flat_map(|port| port.name.clone().into_iter().chain([port.port.to_string()]));
        let known: Vec<String> = known.take(6).collect();
        Refusal::new(
            "TargetPortNotFound",
            match known.as_slice() {
                [] => format!(
                    "Service {} has no TCP port: add the one at which the server listens",
                    target.service
                ),
                known => format!(
                    "Set target.port to the port of Service {} that speaks MCP: one of {}",
                    target.service,
                    known.join(", ")
                ),
            },
        )
    })
}

/// The Service that leads to the same pods by their own addresses.
fn headless(server: &McpServer, target: &ServiceSpec, port: &ServicePort) -> Option<Service> {
    let selector = target.selector.clone().filter(|selector| !selector.is_empty())?;
    Some(Service {
        metadata: metadata(server, names::gate_origin(&server.name_any()), ORIGIN),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("mcp".to_owned()),
                node_port: None,
                ..port.clone()
            }]),
            publish_not_ready_addresses: target.publish_not_ready_addresses,
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

fn url(server: &McpServer, target: &Target, host: &str, port: i32) -> String {
    let public = Url::parse(&server.spec.resource);
    let path = target
        .path
        .as_deref()
        .or_else(|| public.as_ref().ok().map(Url::path))
        .unwrap_or("/");
    format!("http://{host}:{port}{path}")
}

/// The port of the gate's Service.
pub(in crate::controllers::mcp_server) fn front_port(server: &McpServer) -> i32 {
    if options(server).tls.is_some() { 443 } else { 80 }
}

/// The Service to which requests are to be routed; with `sells`, the server buys tokens there too.
pub(super) fn front(server: &McpServer, sells: bool) -> Service {
    let secure = options(server).tls.is_some();
    let name = if secure { "https" } else { "http" };
    let mut ports = vec![ServicePort {
        app_protocol: Some(name.to_owned()),
        ..port(name, front_port(server), PROXY_PORT)
    }];
    if sells {
        ports.push(port("tokens", TOKENS_PORT, TOKENS_PORT));
    }
    Service {
        metadata: metadata(server, names::gate(&server.name_any()), GATE),
        spec: Some(ServiceSpec {
            selector: Some(selector(server)),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The headless Service by which the pods of the gate find each other, also those that are about to end: what they minted
/// has to be bought from them.
pub(super) fn peers(server: &McpServer) -> Service {
    Service {
        metadata: metadata(server, names::gate_peers(&server.name_any()), "peers"),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector(server)),
            ports: Some(vec![port("tokens", TOKENS_PORT, TOKENS_PORT)]),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::Int(target)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing::server, *};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "team", "name": "notes"}, "spec": spec}))
            .unwrap()
    }

    fn slices(numbers: &[i32]) -> Vec<SliceFacts> {
        let slice = |number: &i32| serde_json::from_value(json!({"ports": [{"port": number}]})).unwrap();
        numbers.iter().map(slice).collect()
    }

    fn refusal(found: Result<Origin, Halt>) -> &'static str {
        match found {
            Err(Halt::Refused(refusal) | Halt::Waiting(refusal)) => refusal.reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_gate_is_given_the_addresses_of_pods_where_they_can_be_had() {
        let pods = "http://notes-gate-origin.team.svc";
        let address = "http://notes.team.svc";
        let named = json!([{"port": 80, "targetPort": "mcp"}]);
        for (why, spec, numbers, expected) in [
            (
                "a number",
                json!({"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 3000}]}),
                &[][..],
                format!("{pods}:3000/mcp"),
            ),
            (
                "no target port",
                json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}),
                &[],
                format!("{pods}:80/mcp"),
            ),
            (
                "a name that all pods give to one number",
                json!({"selector": {"a": "b"}, "ports": named}),
                &[3000, 3000],
                format!("{pods}:3000/mcp"),
            ),
            (
                "a name without pods",
                json!({"selector": {"a": "b"}, "ports": named}),
                &[],
                format!("{address}:80/mcp"),
            ),
            (
                "a name of two numbers",
                json!({"selector": {"a": "b"}, "ports": named}),
                &[3000, 3001],
                format!("{address}:80/mcp"),
            ),
            (
                "endpoints of its own",
                json!({"ports": [{"port": 80}]}),
                &[],
                format!("{address}:80/mcp"),
            ),
        ] {
            let found = origin(&server(&json!({})), Some(&service(spec)), &slices(numbers)).unwrap();
            assert_eq!(found.url, expected, "{why}");
        }
    }

    #[test]
    fn the_headless_service_is_a_copy_of_what_leads_to_the_pods() {
        let ports = json!([{"name": "web", "port": 80, "targetPort": "mcp", "nodePort": 30080}, {"name": "m", "port": 9}]);
        let target = service(json!({"type": "NodePort", "selector": {"a": "b"}, "ports": ports}));
        let spec = json!({"target": {"service": "notes", "port": "web"}});
        let found = origin(&server(&spec), Some(&target), &[])
            .unwrap()
            .service
            .unwrap();
        let found = serde_json::to_value(found).unwrap();
        assert_eq!(
            found["spec"],
            json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"name": "mcp", "port": 80, "targetPort": "mcp"}]})
        );
        assert_eq!(found["metadata"]["ownerReferences"][0]["name"], "notes");
    }

    #[test]
    fn a_target_that_leads_nowhere_says_what_to_write() {
        let two =
            json!({"selector": {"a": "b"}, "ports": [{"name": "x", "port": 1}, {"name": "y", "port": 2}]});
        let port = |port: Value| json!({"target": {"service": "notes", "port": port}});
        for (spec, found, reason) in [
            (json!({}), None, "TargetServiceNotFound"),
            (
                json!({}),
                Some(json!({"type": "ExternalName", "externalName": "metadata.google.internal"})),
                "ExternalNameNotSupported",
            ),
            (json!({}), Some(two.clone()), "TargetPortNotFound"),
            (port(json!("z")), Some(two.clone()), "TargetPortNotFound"),
            (port(json!(3)), Some(two), "TargetPortNotFound"),
            (
                json!({}),
                Some(json!({"ports": [{"port": 53, "protocol": "UDP"}]})),
                "TargetPortNotFound",
            ),
            (json!({"target": null}), None, "TargetMissing"),
        ] {
            let found = found.map(service);
            assert_eq!(
                refusal(origin(&server(&spec), found.as_ref(), &[])),
                reason,
                "{spec}"
            );
        }
    }

    #[test]
    fn the_path_is_that_of_the_target_else_of_the_resource() {
        let target = service(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}));
        for (spec, path) in [
            (json!({"target": {"service": "notes"}}), "/mcp"),
            (json!({"target": {"service": "notes", "path": "/"}}), "/"),
            (json!({"target": {"service": "notes", "path": "/a/b"}}), "/a/b"),
            (
                json!({"resource": "https://h.example/", "target": {"service": "notes"}}),
                "/",
            ),
        ] {
            let found = origin(&server(&spec), Some(&target), &[]).unwrap();
            assert_eq!(found.url, format!("http://notes-gate-origin.team.svc:80{path}"));
        }
    }

    #[test]
    fn tokens_are_sold_only_where_a_policy_says_so() {
        let ports = |spec: &Value, sells| {
            let service = front(&server(spec), sells);
            let ports = service.spec.unwrap().ports.unwrap();
            ports.into_iter().map(|port| port.port).collect::<Vec<_>>()
        };
        let tls = json!({"enforcement": {"gate": {"tls": {"secretName": "t"}}}});
        assert_eq!(ports(&json!({}), false), [80]);
        assert_eq!(ports(&json!({}), true), [80, 8082]);
        assert_eq!(ports(&tls, false), [443]);
    }
}
