//! Pods for stories of the node.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    image::Image,
    node::Node,
    story::{CA_CONFIG_MAP, StoryEnv},
    tools::NpmTools,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

/// Long enough for a rule or an endpoint to be in force, on a machine that is busy.
const IN_FORCE: Duration = Duration::from_secs(30);

/// A story's namespace, on a node that knows the image of the reference server.
pub(crate) struct Scene {
    pub(crate) env: StoryEnv,
    image: String,
}

impl Scene {
    pub(crate) async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let node = node(world)?;
        let npm = NpmTools::prepare(world.folder().path()).await?;
        let image = node.load(&Image::server_everything(&npm)?).await?;
        let env = StoryEnv::new(world, name).await?;
        Ok(Self { env, image })
    }

    /// A Deployment and a Service `everything` of the reference server, ready.
    pub(crate) async fn start_everything(&self) -> anyhow::Result<()> {
        let container = json!({
            "name": "server",
            "image": self.image,
            "imagePullPolicy": "Never",
            "ports": [{ "containerPort": 3001 }],
            "readinessProbe": { "tcpSocket": { "port": 3001 }, "periodSeconds": 1 },
            "securityContext": restricted(),
        });
        self.env
            .apply(&json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": "everything", "namespace": self.env.namespace() },
                "spec": {
                    "selector": { "matchLabels": { "app": "everything" } },
                    "template": {
                        "metadata": { "labels": { "app": "everything" } },
                        "spec": { "containers": [container], "terminationGracePeriodSeconds": 0 },
                    },
                },
            }))
            .await?;
        self.service("everything", 3001).await?;
        self.wait(&["rollout", "status", "deployment/everything", "--timeout=60s"])
            .await
    }

    /// A Service for the pods with the label `app` of its name.
    pub(crate) async fn service(&self, name: &str, port: u16) -> anyhow::Result<()> {
        self.env
            .apply(&json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": name, "namespace": self.env.namespace() },
                "spec": { "selector": { "app": name }, "ports": [{ "port": port }] },
            }))
            .await
    }

    /// A pod that does nothing until [`Scene::run`] is called, with the certificate of the run's authority.
    pub(crate) async fn start_client(&self, name: &str, labels: Value) -> anyhow::Result<()> {
        let script = "setInterval(() => {}, 1 << 30)";
        self.start_script(name, labels, script, Value::Null).await
    }

    /// A pod that runs a script, ready.
    pub(crate) async fn start_script(
        &self,
        name: &str,
        labels: Value,
        script: &str,
        readiness: Value,
    ) -> anyhow::Result<()> {
        let container = json!({
            "name": "node",
            "image": self.image,
            "imagePullPolicy": "Never",
            "command": ["/node", "-e", script],
            "env": [{ "name": "NODE_EXTRA_CA_CERTS", "value": "/ca/ca.crt" }],
            "readinessProbe": readiness,
            "securityContext": restricted(),
            "volumeMounts": [{ "name": "ca", "mountPath": "/ca" }],
        });
        self.env
            .apply(&json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name, "namespace": self.env.namespace(), "labels": labels },
                "spec": {
                    "containers": [container],
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{ "name": "ca", "configMap": { "name": CA_CONFIG_MAP } }],
                },
            }))
            .await?;
        self.wait(&["wait", "--for=condition=Ready", "pod", name, "--timeout=60s"])
            .await
    }

    /// Runs a script in a pod, which prints JSON.
    pub(crate) async fn run(&self, pod: &str, script: &str) -> anyhow::Result<Value> {
        let namespace = ["exec", "--namespace", self.env.namespace(), pod, "--"];
        let arguments = [&namespace[..], &["/node", "-e", script]].concat();
        let text = self.env.kubectl().must(&arguments).await?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    /// Sends JSON from a pod, or asks without a body. Gives `status` and `body`, or `error`; it does not wait long.
    pub(crate) async fn fetch(&self, pod: &str, url: &str, body: &Value) -> anyhow::Result<Value> {
        let script = format!(
            r#"
            const body = {body};
            const options = body === null ? {{}} : {{
                method: "POST",
                body: JSON.stringify(body),
                headers: {{
                    "content-type": "application/json",
                    accept: "application/json, text/event-stream",
                }},
            }};
            fetch({url}, {{ ...options, signal: AbortSignal.timeout(5000) }})
                .then(async answer => ({{ status: answer.status, body: await answer.text() }}))
                .catch(error => ({{ error: error.cause?.code ?? error.name }}))
                .then(seen => {{ console.log(JSON.stringify(seen)); process.exit(0); }});
            "#,
            url = json!(url)
        );
        self.run(pod, &script).await
    }

    /// Like [`Scene::fetch`], until there is an answer: names and rules follow a new Service a moment later.
    pub(crate) async fn reach(&self, pod: &str, url: &str, body: &Value) -> anyhow::Result<Value> {
        self.fetch_until(pod, url, body, |seen| seen["status"].is_number())
            .await
    }

    /// Like [`Scene::fetch`], until what it sees is as expected.
    pub(crate) async fn fetch_until(
        &self,
        pod: &str,
        url: &str,
        body: &Value,
        expected: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        wait_for(&format!("{url} from the pod {pod}"), IN_FORCE, async || {
            let seen = self.fetch(pod, url, body).await?;
            Ok(if expected(&seen) {
                Seen::Done(seen)
            } else {
                Seen::NotYet(seen.to_string())
            })
        })
        .await
    }

    /// The address of a Service.
    pub(crate) async fn service_address(&self, name: &str) -> anyhow::Result<String> {
        let service: Value = self.get("service", name).await?;
        text(&service, "/spec/clusterIP")
    }

    /// The address of a pod.
    pub(crate) async fn pod_address(&self, name: &str) -> anyhow::Result<String> {
        let pod: Value = self.get("pod", name).await?;
        text(&pod, "/status/podIP")
    }

    async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        self.env
            .kubectl()
            .json(&["get", kind, name, "--namespace", self.env.namespace()])
            .await
    }

    /// Waits with kubectl, and says what the pods are at when it is in vain.
    async fn wait(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let namespace = ["--namespace", self.env.namespace()];
        let kubectl = self.env.kubectl();
        let output = kubectl.run(&[arguments, &namespace].concat()).await?;
        let pods = kubectl
            .run(&[&["describe", "pods"][..], &namespace].concat())
            .await?;
        ensure!(output.success, "{}\n{}", output.stderr, pods.stdout);
        Ok(())
    }
}

/// What every container of these stories runs under.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
    })
}

fn node(world: &World) -> anyhow::Result<&Node> {
    world.node().context("there is no node")
}

fn text(object: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer}"))?.to_owned())
}
