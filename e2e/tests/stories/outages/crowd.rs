//! Many clients of one server, and what of them must not change.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use mcp_auth_e2e::{
    proxy::RecordingProxy,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};

use super::kubelet::Kubelet;
use crate::fixtures::{apply_all, machine, server};

/// How long it may take until all are registered, on a busy machine.
const AT_FIRST: Duration = Duration::from_mins(4);

/// Everything is looked at this often, so that an outage is noticed.
const RESYNC: &str = "10s";

/// Which crowd.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) clients: usize,
    pub(super) lease: Duration,
}

/// Clients of one operator between two proxies.
pub(super) struct Crowd {
    pub(super) world: Arc<World>,
    pub(super) env: Rc<StoryEnv>,
    pub(super) api_server: RecordingProxy,
    pub(super) kubelet: Kubelet,
}

/// Name and content of Secrets, with the version that the API server counts up at each write.
pub(super) type Secrets = BTreeMap<String, (Option<String>, BTreeMap<String, ByteString>)>;

/// How many clients there are with each status of `Ready`, and of those that are not Ready for which reason.
pub(super) type Readiness = BTreeMap<(String, String), usize>;

impl Crowd {
    /// Tells a story about a crowd of which all are Ready.
    pub(super) async fn tell(
        world: &Arc<World>,
        shape: &Shape,
        story: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let crowd = Self::start(world, shape).await?;
        let told = async {
            crowd.all_ready(AT_FIRST).await?;
            crowd.settled().await?;
            story(&crowd).await
        };
        tokio::select! {
            told = told => told?,
            ended = crowd.kubelet.run() => return ended,
        }
        crowd.kubelet.operator().stop().await
    }

    async fn start(world: &Arc<World>, shape: &Shape) -> anyhow::Result<Self> {
        let env = Rc::new(StoryEnv::new(world, shape.name).await?);
        let api_server = env.api_server_proxy()?;
        let mut options = env.operator_options();
        options.api_server = Some(api_server.url());
        RESYNC.clone_into(&mut options.resync_interval);
        options.lease_duration = format!("{}s", shape.lease.as_secs());
        let kubelet = Kubelet::start(&env, options).await?;
        let objects = vec![env.authorization_server("main"), server(&env, "notes")];
        apply_all(&env, &objects).await?;
        let crowd = Self {
            world: Arc::clone(world),
            env,
            api_server,
            kubelet,
        };
        crowd.grow("client", shape.clients).await?;
        Ok(crowd)
    }

    /// Adds so many clients.
    pub(super) async fn grow(&self, name: &str, count: usize) -> anyhow::Result<()> {
        let clients = (0..count).map(|number| machine(&self.env, &format!("{name}-{number:03}"), &["notes"]));
        apply_all(&self.env, &clients.collect::<Vec<_>>()).await
    }

    /// The workloads' Secrets and the journals.
    pub(super) async fn secrets(&self) -> anyhow::Result<Secrets> {
        let mut all = Secrets::new();
        for namespace in [self.env.namespace(), self.env.operator_namespace()] {
            let api: Api<Secret> = Api::namespaced(self.env.client(), namespace);
            for secret in api.list(&ListParams::default()).await? {
                let name = format!("{namespace}/{}", secret.name_any());
                let version = secret.resource_version();
                all.insert(name, (version, secret.data.unwrap_or_default()));
            }
        }
        Ok(all)
    }

    async fn readiness(&self) -> anyhow::Result<Readiness> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("mcpauth.dev", "v1alpha1", "McpClient"));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.env.client(), self.env.namespace(), &resource);
        let mut readiness = Readiness::new();
        for client in api.list(&ListParams::default()).await? {
            let conditions = client.data["status"]["conditions"].as_array().cloned();
            let ready = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition["type"] == "Ready");
            let text = |field: &str| {
                let ready = ready.as_ref();
                ready
                    .and_then(|ready| ready[field].as_str())
                    .unwrap_or("absent")
                    .to_owned()
            };
            *readiness.entry((text("status"), text("reason"))).or_default() += 1;
        }
        Ok(readiness)
    }

    /// Waits until all are Ready. Gives how long that took.
    pub(super) async fn all_ready(&self, timeout: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        wait_for("all clients to be Ready", timeout, async || {
            let readiness = self.readiness().await?;
            let ready: usize = readiness
                .iter()
                .filter(|((status, _), _)| status == "True")
                .map(|(_, count)| count)
                .sum();
            let all: usize = readiness.values().sum();
            Ok(if ready == all && all > 0 {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{readiness:?}"))
            })
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Waits until no Secret is written any more.
    async fn settled(&self) -> anyhow::Result<()> {
        let mut before = self.secrets().await?;
        wait_for("the last write of a Secret", AT_FIRST, async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.secrets().await?;
            let same = now == before;
            before = now;
            Ok(if same {
                Seen::Done(())
            } else {
                Seen::NotYet("one was written".to_owned())
            })
        })
        .await
    }

    /// Fails if one of these Secrets is another now, or was written.
    pub(super) async fn unwritten(&self, secrets: &Secrets) -> anyhow::Result<()> {
        let now = self.secrets().await?;
        let mut names = secrets.iter();
        match names.find(|(name, content)| now.get(*name) != Some(content)) {
            Some((name, _)) => bail!("Secret {name} was written"),
            None => Ok(()),
        }
    }

    /// Looks at all clients for so long. Fails once one is not Ready for good. Gives the most that were not Ready for
    /// each reason.
    pub(super) async fn watched(&self, during: Duration) -> anyhow::Result<Readiness> {
        let began = Instant::now();
        let mut worst = Readiness::new();
        while began.elapsed() < during {
            for (state, count) in self.readiness().await? {
                ensure!(state.0 != "False", "{count} clients are {state:?}");
                let most = worst.entry(state).or_default();
                *most = count.max(*most);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        worst.retain(|(status, _), _| status != "True");
        Ok(worst)
    }
}
