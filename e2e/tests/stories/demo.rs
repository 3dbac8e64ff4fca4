//! The demo on a cluster and a Keycloak that somebody else runs: it shows the same, and leaves both as they were.

use std::{env, fs, path::PathBuf, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    control_plane::ControlPlane,
    process::capture,
    runner::Story,
    tools::{ADMIN_CLIENT, ClusterTools},
    world::World,
};
use secrecy::ExposeSecret;

const BINARY: &str = env!("CARGO_BIN_EXE_demo");
const TIMEOUT: Duration = Duration::from_mins(4);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "demo::what_exists_already_is_left_as_it_was",
        on_existing_parts,
    )]
}

/// Everything that outlives a demo, by name.
async fn inventory(cluster: &ControlPlane) -> anyhow::Result<String> {
    let kinds = "namespaces,crd,clusterroles,clusterrolebindings,rolebindings,validatingadmissionpolicies,\
                 validatingadmissionpolicybindings";
    cluster
        .kubectl()
        .must(&["get", kinds, "--namespace=default", "--output=name"])
        .await
}

struct Visitor<'a> {
    world: &'a World,
    cluster: &'a ControlPlane,
    tools: &'a ClusterTools,
    authority: PathBuf,
}

impl Visitor<'_> {
    /// Runs the demo. Gives whether it ended well, and what it printed.
    async fn run(&self) -> anyhow::Result<(bool, String)> {
        let kubectl = self.tools.kubectl();
        let tools = kubectl.parent().context("kubectl in no folder")?;
        let path = env::join_paths(
            [tools.to_owned()]
                .into_iter()
                .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
        )?;
        let secret = self
            .world
            .tools()
            .keycloak
            .as_ref()
            .context("no Keycloak of ours")?
            .admin_secret()?;
        let mut command = Command::new(BINARY);
        command
            .env("ONCE", "1")
            .env("CLUSTER", "existing")
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("PATH", path)
            .env("KEYCLOAK_URL", self.world.keycloak().url())
            .env("KEYCLOAK_CLIENT_ID", ADMIN_CLIENT)
            .env("KEYCLOAK_CLIENT_SECRET", secret.expose_secret())
            .env("KEYCLOAK_CA", &self.authority);
        let output = capture(&command, "", TIMEOUT).await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }
}

async fn on_existing_parts(world: Arc<World>) -> anyhow::Result<()> {
    let tools = world
        .tools()
        .cluster
        .as_ref()
        .context("no control plane to start")?;
    let folder = world.folder().subfolder("demo-control-plane")?;
    let cluster = ControlPlane::start(&folder, tools, world.authority()).await?;
    let authority = folder.join("keycloak-ca.pem");
    fs::write(&authority, world.authority().pem())?;
    let visitor = Visitor {
        world: &world,
        cluster: &cluster,
        tools,
        authority,
    };
    let before = inventory(&cluster).await?;

    let (success, text) = visitor.run().await?;
    ensure!(success && text.contains("verdict"), "{text}");
    let after = inventory(&cluster).await?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}\n{text}");
    let realms = world.keycloak().admin().get("/admin/realms").await?;
    ensure!(!realms.to_string().contains("mcp-auth-demo"), "the realm is left");

    // What is somebody's own is neither used nor removed.
    cluster.kubectl().must(&["create", "namespace", "team-b"]).await?;
    let before = inventory(&cluster).await?;
    let (success, text) = visitor.run().await?;
    ensure!(
        !success && text.contains("has a namespace team-b, which the demo would use"),
        "{text}"
    );
    ensure!(inventory(&cluster).await? == before, "{text}");
    cluster.stop().await
}
