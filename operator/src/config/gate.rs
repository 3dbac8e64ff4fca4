//! How gates are run: what the platform decides about pods that tenants ask for.

use std::collections::BTreeMap;

use clap::Args;
use k8s_openapi::api::core::v1::Toleration;
use mcp_auth_cli::flags::Problems;
use mcp_auth_crds::v1alpha1::{CpuAmount, MemoryAmount};

use super::parse::{dns_subdomain, is_label_value, is_qualified_name};

/// What a toleration may say of the effect of a taint.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// When an image is pulled.
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// The flags about gates.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "fields are named as the flags are")]
pub(super) struct GateFlags {
    /// The image of the gates that run in front of MCP servers, such as registry.example.com/mcp-auth-gate:0.1.0. Without
    /// it McpServers in mode Gate are registered, and their gates are not started.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_IMAGE",
        value_name = "IMAGE",
        default_value = ""
    )]
    gate_image: String,

    /// When nodes pull that image: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_IMAGE_PULL_POLICY",
        value_name = "POLICY",
        default_value = "IfNotPresent"
    )]
    gate_image_pull_policy: String,

    /// Names of Secrets for pulling that image, separated by commas. They have to be in the namespace of each gate.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_IMAGE_PULL_SECRETS",
        value_name = "NAMES",
        default_value = ""
    )]
    gate_image_pull_secrets: String,

    /// Labels of the nodes on which gates may run, as key=value, separated by commas.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_NODE_SELECTOR",
        value_name = "LABELS",
        default_value = ""
    )]
    gate_node_selector: String,

    /// Taints that gates tolerate, as key[=value][:effect], separated by commas.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_TOLERATIONS",
        value_name = "TAINTS",
        default_value = ""
    )]
    gate_tolerations: String,

    /// Labels for the pods of gates besides the operator's own, as key=value, separated by commas.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_LABELS",
        value_name = "LABELS",
        default_value = ""
    )]
    gate_labels: String,

    /// The most cpu that an McpServer may ask for one pod of its gate: 2 or 500m.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_MAX_CPU",
        value_name = "AMOUNT",
        default_value = "2"
    )]
    gate_max_cpu: String,

    /// The most memory that an McpServer may ask for one pod of its gate: 512Mi.
    #[arg(
        long,
        env = "MCP_AUTH_OPERATOR_GATE_MAX_MEMORY",
        value_name = "AMOUNT",
        default_value = "1Gi"
    )]
    gate_max_memory: String,
}

/// How gates are run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateConfig {
    /// Their image; `None`: none are started.
    pub image: Option<String>,
    /// When it is pulled.
    pub image_pull_policy: String,
    /// Secrets for pulling it.
    pub image_pull_secrets: Vec<String>,
    /// Labels of their nodes.
    pub node_selector: BTreeMap<String, String>,
    /// What they tolerate.
    pub tolerations: Vec<Toleration>,
    /// Labels of their pods.
    pub labels: BTreeMap<String, String>,
    /// The most processors of a pod, in thousandths.
    pub max_cpu_millis: u64,
    /// The most memory of a pod, in bytes.
    pub max_memory_bytes: u64,
}

impl GateFlags {
    /// Gives the flags their meaning, and notes what has none.
    pub(super) fn read(self, problems: &mut Problems) -> GateConfig {
        GateConfig {
            image: problems.keep("--gate-image", image(&self.gate_image)),
            image_pull_policy: problems.keep(
                "--gate-image-pull-policy",
                one_of(&self.gate_image_pull_policy, &PULL_POLICIES),
            ),
            image_pull_secrets: problems.keep(
                "--gate-image-pull-secrets",
                parts(&self.gate_image_pull_secrets)
                    .map(dns_subdomain)
                    .collect::<Result<_, _>>(),
            ),
            node_selector: problems.keep("--gate-node-selector", labels(&self.gate_node_selector)),
            tolerations: problems.keep(
                "--gate-tolerations",
                parts(&self.gate_tolerations)
                    .map(toleration)
                    .collect::<Result<_, _>>(),
            ),
            labels: problems.keep("--gate-labels", own_labels(&self.gate_labels)),
            max_cpu_millis: problems.keep("--gate-max-cpu", cpu(&self.gate_max_cpu)),
            max_memory_bytes: problems.keep("--gate-max-memory", memory(&self.gate_max_memory)),
        }
    }
}

/// The parts of a list, without blanks around them.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The reference of an image. What it means is up to the nodes; what cannot be one is a slip of the pen.
fn image(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@".contains(&byte);
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if text.len() <= 1024 && begins && text.bytes().all(legal) && !text.contains("://") {
        Ok(Some(text.to_owned()))
    } else {
        Err(format!(
            "{text:?} is not an image: write it as registry.example.com/mcp-auth-gate:0.1.0"
        ))
    }
}

fn one_of(text: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is none of {}", known.join(", ")))
    }
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let label = |part: &str| match part.split_once('=') {
        Some((key, value)) if is_qualified_name(key) && is_label_value(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{part:?} is not a label: write it as key=value")),
    };
    parts(text).map(label).collect()
}

/// Labels that are not those by which gates are found.
fn own_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let labels = labels(text)?;
    let taken = |key: &&String| key.starts_with("mcpauth.dev/") || key.starts_with("app.kubernetes.io/");
    match labels.keys().find(taken) {
        Some(key) => Err(format!(
            "{key:?} is set by the operator: leave out keys of mcpauth.dev and app.kubernetes.io"
        )),
        None => Ok(labels),
    }
}

fn toleration(text: &str) -> Result<Toleration, String> {
    let (taint, effect) = text
        .split_once(':')
        .map_or((text, None), |(taint, effect)| (taint, Some(effect)));
    let (key, value) = taint
        .split_once('=')
        .map_or((taint, None), |(key, value)| (key, Some(value)));
    let known = effect.is_none_or(|effect| EFFECTS.contains(&effect));
    if !is_qualified_name(key) || !value.is_none_or(is_label_value) || !known {
        return Err(format!(
            "{text:?} is not a taint: write it as key[=value][:effect], with one of the effects {}",
            EFFECTS.join(", ")
        ));
    }
    let operator = if value.is_some() { "Equal" } else { "Exists" };
    Ok(Toleration {
        key: Some(key.to_owned()),
        operator: Some(operator.to_owned()),
        value: value.map(str::to_owned),
        effect: effect.map(str::to_owned),
        ..Toleration::default()
    })
}

fn cpu(text: &str) -> Result<u64, String> {
    let amount = CpuAmount(text.to_owned()).millis();
    amount.ok_or_else(|| format!("{text:?} is not an amount of cpu: write it as 2 or 500m"))
}

fn memory(text: &str) -> Result<u64, String> {
    let amount = MemoryAmount(text.to_owned()).bytes();
    amount.ok_or_else(|| format!("{text:?} is not an amount of memory: write it as 512Mi or 2Gi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_references_and_not_addresses() {
        for (text, good) in [
            ("mcp-auth-gate:0.1.0", true),
            ("registry.example.com:5000/a/b@sha256:0123", true),
            ("https://registry.example.com/a", false),
            ("two words", false),
            ("-flag", false),
            ("$(IMAGE)", false),
        ] {
            assert_eq!(image(text).is_ok(), good, "{text}");
        }
        assert_eq!(image(" "), Ok(None));
    }

    #[test]
    fn labels_are_pairs_and_never_those_of_the_operator() {
        let pairs = |text: &str| labels(text).map(|labels| labels.into_iter().collect::<Vec<_>>());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs(""), Ok(vec![]));
        assert_eq!(
            pairs("a=b, example.com/c= "),
            Ok(vec![pair("a", "b"), pair("example.com/c", "")])
        );
        for bad in [
            "a",
            "=b",
            "a=b=c",
            "a b=c",
            "a/b/c=d",
            "a=-",
            &format!("a={}", "x".repeat(64)),
        ] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
        for taken in ["mcpauth.dev/server=x", "app.kubernetes.io/name=x"] {
            assert!(
                own_labels(taken).unwrap_err().contains("set by the operator"),
                "{taken}"
            );
        }
    }

    #[test]
    fn taints_are_tolerated_by_key_value_and_effect() {
        let read = |text: &str| {
            let read = toleration(text).ok()?;
            Some(
                [read.key, read.operator, read.value, read.effect]
                    .map(Option::unwrap_or_default)
                    .join(" "),
            )
        };
        for (text, expected) in [
            ("edge", Some("edge Exists  ")),
            ("edge=yes", Some("edge Equal yes ")),
            ("edge=yes:NoSchedule", Some("edge Equal yes NoSchedule")),
            ("edge:NoExecute", Some("edge Exists  NoExecute")),
            ("edge:Never", None),
            ("=yes", None),
            ("", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
