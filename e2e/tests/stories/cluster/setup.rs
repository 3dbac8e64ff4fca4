//! A namespace with the reference MCP server and an operator that runs gates.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use mcp_auth_e2e::{
    caller::{Caller, Reply},
    edge::Edge,
    gates,
    oauth::Issuer,
    operator::Operator,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    fixtures::{Named, SOON, machine, ready},
    inventory::credential,
    node::scene::Scene,
};

/// Long enough for pods to start on a busy machine.
pub(super) const PODS: Duration = Duration::from_secs(90);

/// What a gate is made of, apart from what these make.
const KINDS: &str = "deployments,services,configmaps,secrets,networkpolicies,poddisruptionbudgets";

/// What every story of gates begins with.
pub(super) struct Cluster {
    pub(super) scene: Scene,
    pub(super) edge: Edge,
    pub(super) operator: Operator,
    pub(super) http: reqwest::Client,
}

/// A pod of a gate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GatePod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) address: Ipv4Addr,
    pub(super) restarts: i32,
}

impl GatePod {
    pub(super) fn url(&self, port: u16, path: &str) -> String {
        format!("http://{}:{port}{path}", self.address)
    }
}

impl Cluster {
    /// Starts the server, the operator and a public address that leads nowhere yet.
    pub(super) async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let image = gates::load(world).await?;
        let scene = Scene::new(world, name).await?;
        let edge = Edge::start(world.host(), world.authority()).await?;
        let mut options = scene.env.operator_options();
        gates::allow(&mut options, &scene.env, &image)?;
        let (operator, ()) =
            tokio::try_join!(scene.env.start_operator_with(&options), scene.start_everything())?;
        let http = world.authority().http_client()?.no_proxy().build()?;
        let cluster = Self {
            scene,
            edge,
            operator,
            http,
        };
        let env = cluster.env();
        env.apply(&env.authorization_server("main")).await?;
        ready(env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;
        Ok(cluster)
    }

    pub(super) fn env(&self) -> &StoryEnv {
        &self.scene.env
    }

    /// The McpServer of this name, as the wait functions want it.
    pub(super) fn server<'a>(&'a self, name: &'a str) -> Named<'a> {
        ("McpServer", self.env().namespace(), name)
    }

    /// An McpServer `everything` behind the public address, whose tools need `everything:use`.
    pub(super) fn everything(&self, replicas: u8) -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": { "namespace": self.env().namespace(), "name": "everything" },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "resource": self.edge.resource(),
                "target": { "service": "everything" },
                "enforcement": { "gate": { "replicas": replicas } },
                "scopes": [
                    { "name": "everything:use", "challenge": true },
                    { "name": "everything:admin" },
                ],
                "rules": [{ "kind": "Tool", "match": "*", "scopes": ["everything:use"] }],
            },
        })
    }

    /// Leads the public address to the gate of a server, as soon as it has a Service.
    pub(super) async fn open(&self, server: &str) -> anyhow::Result<()> {
        let name = format!("{server}-gate");
        let address = wait_for("the Service of the gate", SOON, async || {
            let address = self.scene.service_address(&name).await?;
            Ok(Seen::Done(address.parse::<Ipv4Addr>()?))
        });
        self.edge.lead_to(SocketAddr::from((address.await?, 80)));
        Ok(())
    }

    /// Waits until these conditions of a server are True.
    pub(super) async fn holds(&self, server: &str, conditions: &[&str]) -> anyhow::Result<()> {
        for condition in conditions {
            self.env()
                .wait_condition(self.server(server), (condition, "True"), PODS)
                .await?;
        }
        Ok(())
    }

    /// The pods of a server's gate, apart from those that are ending.
    pub(super) async fn gate_pods(&self, server: &str) -> anyhow::Result<Vec<GatePod>> {
        let api: Api<Pod> = Api::namespaced(self.env().client(), self.env().namespace());
        let labels = format!("app.kubernetes.io/name=mcp-auth-gate,mcpauth.dev/server={server}");
        let found = api.list(&ListParams::default().labels(&labels)).await?;
        let mut pods: Vec<GatePod> = found.iter().filter_map(gate_pod).collect();
        pods.sort();
        Ok(pods)
    }

    /// Makes an McpClient that gets tokens for itself, with everything that `everything` gives.
    pub(super) async fn client(&self, name: &str) -> anyhow::Result<()> {
        let (env, space) = (self.env(), self.env().namespace());
        let mut client = machine(env, name, &["everything"]);
        client["spec"]["access"][0]["scopes"] = json!(["everything:use", "everything:admin"]);
        env.apply(&client).await?;
        ready(env, ("McpClient", space, name), SOON).await
    }

    /// A token of an McpClient.
    pub(super) async fn token(&self, client: &str, scope: &str) -> anyhow::Result<SecretString> {
        let issuer: Issuer = self.env().issuer().await?;
        let client = credential(self.env(), client).await?;
        let answer = issuer.client_credentials(&client, Some(scope)).await?;
        Ok(answer.granted()?.access_token)
    }

    /// A client at the public address.
    pub(super) fn caller(&self) -> Caller {
        Caller::new(self.http.clone(), self.edge.resource())
    }

    /// Calls a tool at one pod of the gate, outside of any session: what the gate refuses, it refuses before it comes to
    /// that.
    pub(super) async fn at(&self, pod: &GatePod, token: &SecretString, tool: &str) -> anyhow::Result<Reply> {
        let caller = self.caller().at(pod.url(8080, "/mcp")).with_token(token);
        caller.tool(tool, json!({})).await
    }

    /// Every object of the gates here, by kind and name.
    pub(super) async fn parts(&self) -> anyhow::Result<BTreeSet<String>> {
        let ours = "--selector=app.kubernetes.io/name=mcp-auth-gate";
        let space = self.env().namespace();
        let get = ["get", KINDS, ours, "--output=name", "--namespace", space];
        let names = self.env().kubectl().must(&get).await?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Waits until nothing of a gate is left, pods included.
    pub(super) async fn is_bare(&self) -> anyhow::Result<()> {
        wait_for("the end of the gate", PODS, async || {
            let (left, pods) = (self.parts().await?, self.gate_pods("everything").await?);
            Ok(if left.is_empty() && pods.is_empty() {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{left:?} {pods:?}"))
            })
        })
        .await
    }

    /// Ends well.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.operator.stop().await
    }
}

fn gate_pod(pod: &Pod) -> Option<GatePod> {
    let status = pod.status.as_ref()?;
    let restarts = status.container_statuses.iter().flatten();
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(GatePod {
        name: pod.name_any(),
        uid: pod.uid()?,
        address: status.pod_ip.as_ref()?.parse().ok()?,
        restarts: restarts.map(|status| status.restart_count).sum(),
    })
}

/// Exactly so many pods.
pub(super) fn exactly<const N: usize>(pods: Vec<GatePod>) -> anyhow::Result<[GatePod; N]> {
    let found = format!("{pods:?}");
    let pods: Result<[GatePod; N], _> = pods.try_into();
    let pods = pods.ok().with_context(|| found.clone())?;
    ensure!(pods.iter().all(|pod| pod.restarts == 0), "{found}");
    Ok(pods)
}
