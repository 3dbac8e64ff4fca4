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

/// One address of each family that the cluster has.
const EVERY_FAMILY: &str = "PreferDualStack";

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
    // The family in which the target is there for sure. Of two, the gate would take each pod for two.
    let family = target.ip_families.as_ref().and_then(|families| families.first());
    Some(Service {
        metadata: metadata(server, names::gate_origin(&server.name_any()), ORIGIN),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ip_families: family.map(|family| vec![family.clone()]),
            ip_family_policy: family.map(|_| "SingleStack".to_owned()),
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

/// Whether a Service would come to have its addresses in another family, which the API server lets none do.
pub(super) fn changes_family(found: &Service, wanted: &Service) -> bool {
    let first = |service: &Service| service.spec.as_ref()?.ip_families.as_ref()?.first().cloned();
    matches!((first(found), first(wanted)), (Some(found), Some(wanted)) if found != wanted)
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
            ip_family_policy: Some(EVERY_FAMILY.to_owned()),
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
            // A handle names the first address of a pod, of whichever family that is.
            ip_family_policy: Some(EVERY_FAMILY.to_owned()),
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
#[path = "services_tests.rs"]
mod tests;
