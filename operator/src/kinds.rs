//! Kinds of Kubernetes of which the operator reads a small part. The rest never gets into memory.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Serialize};

/// A pod, as far as it tells where it listens and how it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// How it is.
    #[serde(default)]
    pub status: PodStatus,
    /// What it runs.
    #[serde(default)]
    pub spec: PodSpec,
}

/// What a pod runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// It has the addresses of its node, for which no NetworkPolicy counts.
    pub host_network: bool,
    /// The headless Service that gives it a name.
    pub subdomain: Option<String>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The ports that it names.
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// By which Services refer to it.
    pub name: Option<String>,
    /// Its number.
    pub container_port: i32,
}

/// How a pod is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Its address, or the first of them.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All its addresses: one of each family that the cluster has.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// Among others Ready and PodScheduled.
    pub conditions: Vec<PodCondition>,
    /// How its containers are.
    pub container_statuses: Vec<ContainerStatus>,
}

/// An address of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

impl PodStatus {
    /// The addresses of the pod, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let first = self.pod_ip.as_deref();
        let all = self.pod_ips.iter().map(|address| address.ip.as_str());
        first
            .into_iter()
            .chain(all.filter(move |address| Some(*address) != first))
    }
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// Which.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
}

/// How a container is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// What it does now.
    pub state: ContainerState,
}

/// What a container does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It does not run yet, or not again.
    pub waiting: Option<Waiting>,
}

/// Why a container does not run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Such as `ImagePullBackOff`.
    pub reason: Option<String>,
}

impl PodFacts {
    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && self.has_condition("Ready")
    }

    fn has_condition(&self, type_: &str) -> bool {
        let conditions = &self.status.conditions;
        conditions
            .iter()
            .any(|condition| condition.type_ == type_ && condition.status == "True")
    }

    /// The number of a port, by its name.
    pub fn port(&self, name: &str) -> Option<i32> {
        let mut ports = self.spec.containers.iter().flat_map(|container| &container.ports);
        ports
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
    }
}

/// A part of the addresses behind a Service: which take requests, at which numbers of ports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SliceFacts {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The ports of all addresses.
    #[serde(default)]
    pub ports: Option<Vec<SlicePort>>,
    /// What is behind the Service.
    #[serde(default)]
    pub endpoints: Option<Vec<SliceEndpoint>>,
}

impl SliceFacts {
    /// The addresses that take requests.
    pub fn ready(&self) -> impl Iterator<Item = &str> {
        let ready = self.endpoints.iter().flatten();
        let ready = ready.filter(|endpoint| endpoint.conditions.ready != Some(false));
        ready.flat_map(|endpoint| endpoint.addresses.iter().map(String::as_str))
    }
}

/// Something behind a Service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// Its addresses, which all lead to the same.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How it is.
    #[serde(default)]
    pub conditions: EndpointConditions,
}

/// How something behind a Service is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EndpointConditions {
    /// Whether it takes requests; it does when nothing is said.
    #[serde(default)]
    pub ready: Option<bool>,
}

/// A port behind a Service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlicePort {
    /// Its number.
    #[serde(default)]
    pub port: Option<i32>,
}

macro_rules! part_of {
    ($facts:ty, $kind:literal, $plural:literal, $group:literal, $version:literal) => {
        impl Resource for $facts {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

part_of!(PodFacts, "Pod", "pods", "", "v1");
part_of!(
    SliceFacts,
    "EndpointSlice",
    "endpointslices",
    "discovery.k8s.io",
    "v1"
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_behind_a_service_takes_requests_unless_it_says_otherwise() {
        for (endpoints, expected) in [
            (json!(null), &[][..]),
            (json!([]), &[]),
            (json!([{"addresses": ["10.0.0.1"]}]), &["10.0.0.1"]),
            (
                json!([
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
                ]),
                &["10.0.0.1"],
            ),
        ] {
            let slice: SliceFacts = serde_json::from_value(json!({"endpoints": endpoints})).unwrap();
            assert!(slice.ready().eq(expected.iter().copied()), "{endpoints}");
        }
    }
}
