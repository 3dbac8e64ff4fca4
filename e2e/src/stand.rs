//! What the sample with a gate stands on: pods where there is a node, else processes of this machine.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Mutex,
    time::Duration,
};

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::Api;

use crate::{
    edge::Edge,
    gates,
    image::Image,
    operator::{self, OperatorOptions},
    pki::write_private,
    ports,
    process::Guarded,
    samples::placed,
    story::StoryEnv,
    tools::NpmTools,
    wait::{Seen, wait_for},
    world::World,
};

/// The sample: its namespace, its name, and the name of what the operator makes of it.
pub const SAMPLE: (&str, &str) = ("team-b", "everything");
const GATE: &str = "everything-gate";
const SOON: Duration = Duration::from_secs(40);
const PODS: Duration = Duration::from_mins(2);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A public address, and what runs behind it.
pub struct Stand {
    edge: Edge,
    images: Option<Images>,
    processes: Mutex<Vec<Guarded>>,
}

struct Images {
    gate: String,
    server: String,
}

impl Stand {
    /// Makes images known to the node, if there is one.
    pub async fn prepare(world: &World) -> anyhow::Result<Self> {
        let images = match world.node() {
            None => None,
            Some(node) => {
                let npm = NpmTools::prepare(world.folder().path()).await?;
                Some(Images {
                    gate: gates::load(world).await?,
                    server: node.load(&Image::server_everything(&npm)?).await?,
                })
            }
        };
        Ok(Self {
            edge: Edge::start(world.host(), world.authority()).await?,
            images,
            processes: Mutex::default(),
        })
    }

    /// The public address.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Whether there are pods.
    pub fn has_pods(&self) -> bool {
        self.images.is_some()
    }

    /// The image of the server on the node.
    pub fn server_image(&self) -> Option<&str> {
        self.images.as_ref().map(|images| images.server.as_str())
    }

    /// Lets an operator run the gate, as far as there is an image for it. `image` is one of somebody's own.
    pub fn allow(
        &self,
        options: &mut OperatorOptions,
        env: &StoryEnv,
        image: Option<&str>,
    ) -> anyhow::Result<()> {
        match (&self.images, image) {
            (Some(images), _) => gates::allow(options, env, &images.gate),
            (None, image) => {
                options.trust = Some(env.authority_file()?);
                options
                    .extra
                    .extend(image.map(|image| format!("--gate-image={image}")));
                Ok(())
            }
        }
    }

    /// Leads the public address to the gate: to that of the Service, or to a process that lives by the very policy that
    /// the operator wrote. The server behind it runs then, for which `Ready` of its McpServer does not wait.
    pub async fn open(&self, env: &StoryEnv) -> anyhow::Result<()> {
        if !self.has_pods() {
            self.edge.lead_to(self.start_processes(env).await?);
            return Ok(());
        }
        self.edge.lead_to(service(env).await?);
        // That no connection goes past the gate shows only once there is a pod to try it with.
        let sample = ("McpServer", &*placed(env, SAMPLE.0), SAMPLE.1);
        env.wait_condition(sample, ("BypassClosed", "True"), PODS).await?;
        Ok(())
    }

    async fn start_processes(&self, env: &StoryEnv) -> anyhow::Result<SocketAddr> {
        let folder = env
            .world()
            .folder()
            .subfolder(&format!("{}-gate", env.namespace()))?;
        write_files(env, &folder).await?;
        let npm = NpmTools::prepare(env.world().folder().path()).await?;
        let (server, gate, admin) = (ports::free()?, ports::free()?, ports::free()?);
        let mut everything = Command::new(npm.node());
        everything
            .env_clear()
            .arg(
                npm.package("@modelcontextprotocol/server-everything")
                    .join("dist/index.js"),
            )
            .arg("streamableHttp")
            .env("PORT", server.to_string());
        let at = |port: u16| SocketAddr::from((LOOPBACK, port));
        let mut process = Command::new(operator::built("mcp-auth-gate", "MCP_AUTH_GATE_BIN")?);
        process
            .env_clear()
            .arg("--policy")
            .arg(folder.join("policy.json"))
            .arg("--credentials")
            .arg(folder.join("credentials"));
        for (flag, address) in [
            ("--proxy-address", at(gate)),
            ("--admin-address", at(admin)),
            ("--upstream-address", at(server)),
        ] {
            process.arg(format!("{flag}={address}"));
        }
        let started = [
            Guarded::spawn("server-everything", &everything, folder.join("server.log"))?,
            Guarded::spawn("the gate", &process, folder.join("gate.log"))?,
        ];
        for address in [at(server), at(admin)] {
            listens(address).await?;
        }
        self.processes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(started);
        Ok(at(gate))
    }
}

async fn listens(address: SocketAddr) -> anyhow::Result<()> {
    wait_for(&format!("{address} to be listened at"), SOON, async || {
        tokio::net::TcpStream::connect(address).await?;
        Ok(Seen::Done(()))
    })
    .await
}

/// The address of the Service of the gate.
async fn service(env: &StoryEnv) -> anyhow::Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(env.client(), &placed(env, SAMPLE.0));
    wait_for("the Service of the gate", SOON, async || {
        let spec = services.get(GATE).await?.spec.context("no spec")?;
        let address: Ipv4Addr = spec.cluster_ip.context("no address")?.parse()?;
        Ok(Seen::Done(SocketAddr::from((address, 80))))
    })
    .await
}

/// What the pods of the gate would have mounted.
async fn write_files(env: &StoryEnv, folder: &Path) -> anyhow::Result<()> {
    let namespace = placed(env, SAMPLE.0);
    let maps: Api<ConfigMap> = Api::namespaced(env.client(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(env.client(), &namespace);
    let (map, secret) = wait_for("the policy of the gate", SOON, async || {
        Ok(Seen::Done(tokio::try_join!(maps.get(GATE), secrets.get(GATE))?))
    })
    .await?;
    let policy = map.data.unwrap_or_default();
    let policy = policy.get("policy.json").context("no policy")?;
    fs::write(folder.join("policy.json"), policy)?;
    let credentials = folder.join("credentials");
    fs::create_dir_all(&credentials)?;
    for (name, value) in secret.data.unwrap_or_default() {
        write_private(&credentials.join(name), std::str::from_utf8(&value.0)?)?;
    }
    Ok(())
}
