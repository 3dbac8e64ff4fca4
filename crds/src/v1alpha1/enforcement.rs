//! Who validates tokens in front of an MCP server, and the gate that does it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// Who validates tokens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// Gate, which is meant when absent: the operator runs a proxy in front of `target` that validates tokens and decides
    /// by `rules`; requests are to be routed to its Service `<name>-gate`. External: the server, or something of yours in
    /// front of it, validates tokens with what the ConfigMaps say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<EnforcementMode>,
    /// How the gate is run. It means nothing in mode External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// The server counts as Ready although there is a way to it that leads past the gate. The condition BypassClosed says
    /// so all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_bypass: Option<bool>,
}

/// The ways to enforce.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnforcementMode {
    /// A gate of the operator's validates tokens.
    Gate,
    /// The server validates by itself.
    External,
}

impl EnforcementMode {
    /// The value as manifests spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "Gate",
            Self::External => "External",
        }
    }
}

/// How the gate of a server is run. Image, nodes and labels are the platform's choice.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// How many pods; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub replicas: Option<i32>,
    /// Whether voluntary disruptions, such as the draining of a node, may take one pod at a time only. When absent: with
    /// more than one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<bool>,
    /// What the pods ask for and may use, within what the platform allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<GateResources>,
    /// Node, which is meant when absent: the pods are spread over nodes, where there are enough. Zone: over zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread: Option<TopologySpread>,
    /// Origins of web pages that may call the server besides pages of its own host, such as https://app.example.com.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = rules::origins()
    )]
    pub allowed_origins: Vec<String>,
    /// The gate speaks TLS by itself. When absent it speaks plain HTTP, for a proxy in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GateTls>,
    /// Whether NetworkPolicies let only the gate reach the target port of the server's pods; true when absent. They need a
    /// network that enforces them, which the condition BypassClosed looks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<bool>,
}

/// Where the pods of a gate are kept apart.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopologySpread {
    /// By node.
    Node,
    /// By zone.
    Zone,
}

/// The certificate of a gate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GateTls {
    /// A Secret in the same namespace with `tls.crt` and `tls.key`, as cert-manager makes them.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub secret_name: String,
}

/// What a gate's pods ask for and may use.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GateResources {
    /// What the scheduler sets aside; 50m of cpu and 64Mi of memory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What they may use at most; 256Mi of memory and any cpu when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of the resources of a node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// Processors, such as 500m or "2".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuAmount>,
    /// Memory, such as 128Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryAmount>,
}

/// Processors, in whole or in thousandths: `2` or `500m`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 8, "x-kubernetes-validations" = [{
        "rule": "self.matches('^[1-9][0-9]{0,5}m?$')",
        "message": "cpu is a whole number of processors, or of thousandths of one: \"2\" or 500m"
    }])
)]
pub struct CpuAmount(pub String);

impl CpuAmount {
    /// Thousandths of a processor; `None` for what the schema refuses.
    pub fn millis(&self) -> Option<u64> {
        match self.0.strip_suffix('m') {
            Some(millis) => number(millis),
            None => number(&self.0)?.checked_mul(1000),
        }
    }
}

/// Memory in KiB, MiB or GiB: `128Mi`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 3, "maxLength" = 12, "x-kubernetes-validations" = [{
        "rule": "self.matches('^[1-9][0-9]{0,8}(Ki|Mi|Gi)$')",
        "message": "memory is a whole number with the unit Ki, Mi or Gi: 128Mi"
    }])
)]
pub struct MemoryAmount(pub String);

impl MemoryAmount {
    /// Bytes; `None` for what the schema refuses.
    pub fn bytes(&self) -> Option<u64> {
        let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
        units
            .into_iter()
            .find_map(|(unit, worth)| number(self.0.strip_suffix(unit)?)?.checked_mul(worth))
    }
}

/// A whole number without sign or leading zero.
fn number(text: &str) -> Option<u64> {
    let legal = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    legal.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, millis) in [
            ("2", Some(2000)),
            ("500m", Some(500)),
            ("1500m", Some(1500)),
            ("0", None),
            ("", None),
            ("m", None),
            ("+1", None),
            ("0.5", None),
            ("1k", None),
        ] {
            assert_eq!(CpuAmount(text.into()).millis(), millis, "{text}");
        }
        for (text, bytes) in [
            ("64Ki", Some(65_536)),
            ("128Mi", Some(134_217_728)),
            ("2Gi", Some(2_147_483_648)),
            ("128M", None),
            ("128", None),
            ("0Mi", None),
            ("Mi", None),
        ] {
            assert_eq!(MemoryAmount(text.into()).bytes(), bytes, "{text}");
        }
    }
}
