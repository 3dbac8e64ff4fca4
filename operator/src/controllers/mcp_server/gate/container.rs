//! The process of a gate: its command line, what it reads, and what it may do. Pure.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
        KeyToPath, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSecurityContext, Probe,
        ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, SleepAction, Volume,
        VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    credentials::{CLIENT_ID, CLIENT_SECRET, SESSION_KEYS},
    document::KEY,
    parts::{ADMIN_PORT, PROXY_PORT, TOKENS_PORT, options},
};
use crate::{config::GateConfig, policy::names};

/// Name of the container.
pub(super) const NAME: &str = "gate";
/// How long a pod may take to end: streams that are open may come to their end.
pub(super) const GRACE_SECONDS: i64 = 60;
/// How long a pod that is to end goes on taking requests: until everybody knows that it does.
const PAUSE_SECONDS: i64 = 5;
/// A user without rights, as images without a shell have it.
const USER: i64 = 65_532;
/// Readable by owner and group alone.
const READABLE: i32 = 0o440;

const POLICY: &str = "/etc/mcp-auth-gate/policy";
const CREDENTIALS: &str = "/etc/mcp-auth-gate/credentials";
const TLS: &str = "/etc/mcp-auth-gate/tls";

/// The only container.
pub(super) fn container(
    server: &McpServer,
    image: &str,
    config: &GateConfig,
    resources: ResourceRequirements,
) -> Container {
    let secure = options(server).tls.is_some();
    let mounts = [("policy", POLICY), ("credentials", CREDENTIALS)].into_iter();
    let mounts = mounts.chain(secure.then_some(("tls", TLS)));
    Container {
        name: NAME.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some(config.image_pull_policy.clone()),
        args: Some(arguments(server, secure)),
        env: Some(vec![pod_address()]),
        ports: Some(
            [
                ("mcp", PROXY_PORT),
                ("admin", ADMIN_PORT),
                ("tokens", TOKENS_PORT),
            ]
            .map(|(name, number)| ContainerPort {
                name: Some(name.to_owned()),
                container_port: number,
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            })
            .into(),
        ),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: PAUSE_SECONDS,
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts.map(|(name, path)| mount(name, path)).collect()),
        ..Container::default()
    }
}

fn arguments(server: &McpServer, secure: bool) -> Vec<String> {
    let namespace = server.namespace().unwrap_or_default();
    let peers = names::gate_peers(&server.name_any());
    let mut arguments = vec![
        format!("--policy={POLICY}/{KEY}"),
        format!("--credentials={CREDENTIALS}"),
        format!("--proxy-address=[::]:{PROXY_PORT}"),
        format!("--admin-address=[::]:{ADMIN_PORT}"),
        format!("--tokens-address=[::]:{TOKENS_PORT}"),
        format!("--peers={peers}.{namespace}.svc:{TOKENS_PORT}"),
        "--pod-address=$(POD_IP)".to_owned(),
    ];
    if secure {
        arguments.push(format!("--tls-certificate={TLS}/tls.crt"));
        arguments.push(format!("--tls-key={TLS}/tls.key"));
    }
    arguments
}

fn pod_address() -> EnvVar {
    EnvVar {
        name: "POD_IP".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "status.podIP".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// What every process of the pod may do.
pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// What the gate reads. Keys that others added to our objects are left out, and those that come and go may be missing.
pub(super) fn volumes(server: &McpServer) -> Vec<Volume> {
    let name = names::gate(&server.name_any());
    let keys = |keys: &[&str]| {
        let item = |key: &&str| KeyToPath {
            key: (*key).to_owned(),
            path: (*key).to_owned(),
            ..KeyToPath::default()
        };
        Some(keys.iter().map(item).collect())
    };
    let policy = Volume {
        name: "policy".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            items: keys(&[KEY]),
            optional: None,
            default_mode: Some(READABLE),
        }),
        ..Volume::default()
    };
    let secret = |volume: &str, name: String, keys, optional| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            items: keys,
            optional,
            default_mode: Some(READABLE),
        }),
        ..Volume::default()
    };
    let credentials = secret(
        "credentials",
        name,
        keys(&[CLIENT_ID, CLIENT_SECRET, SESSION_KEYS]),
        Some(true),
    );
    let tls = options(server)
        .tls
        .map(|tls| secret("tls", tls.secret_name, keys(&["tls.crt", "tls.key"]), None));
    [policy, credentials].into_iter().chain(tls).collect()
}
