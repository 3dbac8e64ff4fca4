//! The pods of a gate: pure. Nothing of the policy or of credentials is in them: these change without a restart.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{PodSpec, PodTemplateSpec, TopologySpreadConstraint},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::{
    annotations::GATE_CERTIFICATE,
    v1alpha1::{McpServer, TopologySpread},
};

use super::{
    container::{self, GRACE_SECONDS},
    parts::{GATE, labels, metadata, options, pods},
    resources,
};
use crate::{
    config::GateConfig,
    policy::{Refusal, names},
};

/// How many pods are wanted.
pub(super) fn replicas(server: &McpServer) -> i32 {
    options(server).replicas.unwrap_or(1).clamp(1, 10)
}

/// The Deployment. `certificate` tells one content of the certificate's Secret from another.
///
/// # Errors
/// When the platform has no image for it, or does not allow what is asked for.
pub(super) fn deployment(
    server: &McpServer,
    config: &GateConfig,
    certificate: Option<&str>,
) -> Result<Deployment, Refusal> {
    let image = config.image.as_deref().ok_or_else(|| {
        Refusal::new(
            "GateImageMissing",
            "The operator was given no image of gates: start it with --gate-image, or set enforcement.mode to External",
        )
    })?;
    let resources = resources::resources(&options(server).resources.unwrap_or_default(), config)?;
    let container = container::container(server, image, config, resources);
    Ok(Deployment {
        metadata: metadata(server, names::gate(&server.name_any()), GATE),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas(server)),
            selector: pods(server),
            // An old pod ends only once a new one is ready.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            revision_history_limit: Some(2),
            template: PodTemplateSpec {
                metadata: Some(template_metadata(server, config, certificate)),
                spec: Some(pod(server, config, container)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    })
}

fn template_metadata(server: &McpServer, config: &GateConfig, certificate: Option<&str>) -> ObjectMeta {
    // The platform's labels give way to those by which the pods are found.
    let mut all = config.labels.clone();
    all.extend(labels(server, GATE));
    let container = ("kubectl.kubernetes.io/default-container", container::NAME);
    let certificate = certificate.map(|certificate| (GATE_CERTIFICATE, certificate));
    let annotations = [Some(container), certificate].into_iter().flatten();
    ObjectMeta {
        labels: Some(all),
        annotations: Some(
            annotations
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ),
        ..ObjectMeta::default()
    }
}

fn pod(server: &McpServer, config: &GateConfig, container: k8s_openapi::api::core::v1::Container) -> PodSpec {
    PodSpec {
        // It never speaks to the API server.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(container::pod_security()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        containers: vec![container],
        volumes: Some(container::volumes(server)),
        image_pull_secrets: some(
            config
                .image_pull_secrets
                .iter()
                .map(|name| k8s_openapi::api::core::v1::LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        node_selector: Some(config.node_selector.clone())
            .filter(|labels: &BTreeMap<_, _>| !labels.is_empty()),
        tolerations: some(config.tolerations.clone()),
        topology_spread_constraints: Some(vec![spread(server)]),
        ..PodSpec::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

/// Better two pods at one place than one.
fn spread(server: &McpServer) -> TopologySpreadConstraint {
    let key = match options(server).topology_spread.unwrap_or(TopologySpread::Node) {
        TopologySpread::Node => "kubernetes.io/hostname",
        TopologySpread::Zone => "topology.kubernetes.io/zone",
    };
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(pods(server)),
        ..TopologySpreadConstraint::default()
    }
}

/// The disruption budget, if one is wanted.
pub(super) fn disruption_budget(server: &McpServer) -> Option<PodDisruptionBudget> {
    let wanted = options(server).disruption_budget.unwrap_or(replicas(server) > 1);
    let selector: LabelSelector = pods(server);
    wanted.then(|| PodDisruptionBudget {
        metadata: metadata(server, names::gate(&server.name_any()), GATE),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selector),
            // A pod that is not ready protects nobody, and must not hold up the draining of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing::server, *};

    fn config() -> GateConfig {
        GateConfig {
            image: Some("gate:1".into()),
            image_pull_policy: "IfNotPresent".into(),
            max_cpu_millis: 2000,
            max_memory_bytes: 1 << 30,
            ..GateConfig::default()
        }
    }

    fn made(spec: &Value, config: &GateConfig, certificate: Option<&str>) -> Value {
        serde_json::to_value(deployment(&server(spec), config, certificate).unwrap()).unwrap()
    }

    #[test]
    fn pods_are_as_restricted_as_pods_can_be() {
        let made = made(&json!({}), &config(), None);
        let pod = &made["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(
            pod["securityContext"],
            json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                   "seccompProfile": {"type": "RuntimeDefault"}})
        );
        assert_eq!(
            pod["containers"][0]["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        for field in [
            "hostNetwork",
            "hostPID",
            "serviceAccountName",
            "nodeSelector",
            "tolerations",
        ] {
            assert!(pod[field].is_null(), "{field}");
        }
        assert_eq!(
            made["spec"]["strategy"]["rollingUpdate"],
            json!({"maxUnavailable": 0, "maxSurge": 1})
        );
    }

    #[test]
    fn the_command_line_is_the_one_that_the_gate_reads() {
        let args = |spec: &Value| {
            made(spec, &config(), None)["spec"]["template"]["spec"]["containers"][0]["args"].clone()
        };
        let plain = json!([
            "--policy=/etc/mcp-auth-gate/policy/policy.json",
            "--credentials=/etc/mcp-auth-gate/credentials",
            "--proxy-address=[::]:8080",
            "--admin-address=[::]:8081",
            "--tokens-address=[::]:8082",
            "--peers=notes-gate-peers.team.svc:8082",
            "--pod-address=$(POD_IP)",
        ]);
        assert_eq!(args(&json!({})), plain);
        let secure = args(&json!({"enforcement": {"gate": {"tls": {"secretName": "cert"}}}}));
        let more = json!([
            "--tls-certificate=/etc/mcp-auth-gate/tls/tls.crt",
            "--tls-key=/etc/mcp-auth-gate/tls/tls.key",
        ]);
        assert_eq!(secure.as_array().unwrap()[7..], more.as_array().unwrap()[..]);
    }

    #[test]
    fn only_what_pods_are_started_with_restarts_them() {
        let template = |spec: &Value, certificate: Option<&str>| {
            made(spec, &config(), certificate)["spec"]["template"].clone()
        };
        let before = template(&json!({}), None);
        for (spec, certificate, restarts) in [
            (
                json!({"rules": [{"kind": "Tool", "match": "*", "scopes": ["a"]}]}),
                None,
                false,
            ),
            (
                json!({"enforcement": {"gate": {"allowedOrigins": ["https://a"]}}}),
                None,
                false,
            ),
            (json!({"enforcement": {"gate": {"replicas": 3}}}), None, false),
            (
                json!({"enforcement": {"gate": {"tls": {"secretName": "a"}}}}),
                None,
                true,
            ),
            (json!({}), Some("another certificate"), true),
            (
                json!({"enforcement": {"gate": {"topologySpread": "Zone"}}}),
                None,
                true,
            ),
        ] {
            assert_eq!(template(&spec, certificate) != before, restarts, "{spec}");
        }
    }

    #[test]
    fn the_platform_chooses_image_nodes_and_labels() {
        let mut config = config();
        config.labels = [("team", "platform"), ("mcpauth.dev/server", "stolen")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        config.node_selector = [("disk".to_owned(), "fast".to_owned())].into();
        config.image_pull_secrets = vec!["registry".into()];
        let made = made(&json!({}), &config, None);
        let template = &made["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["team"], "platform");
        assert_eq!(
            template["metadata"]["labels"]["mcpauth.dev/server"], "notes",
            "or no gate is found"
        );
        assert_eq!(template["spec"]["nodeSelector"], json!({"disk": "fast"}));
        assert_eq!(
            template["spec"]["imagePullSecrets"],
            json!([{"name": "registry"}])
        );
        config.image = None;
        let refusal = deployment(&server(&json!({})), &config, None).unwrap_err();
        assert_eq!(refusal.reason, "GateImageMissing");
    }

    #[test]
    fn more_than_one_pod_has_a_budget_unless_somebody_says_otherwise() {
        for (gate, expected) in [
            (json!({}), false),
            (json!({"replicas": 2}), true),
            (json!({"replicas": 2, "disruptionBudget": false}), false),
            (json!({"disruptionBudget": true}), true),
        ] {
            let server = server(&json!({"enforcement": {"gate": gate}}));
            assert_eq!(disruption_budget(&server).is_some(), expected, "{gate}");
        }
    }
}
