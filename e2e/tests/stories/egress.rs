//! The one way out: what an AuthorizationServer names leads nowhere it must not, and what is there is not repeated.
//!
//! The operators of these stories run without the flag that lets all others use the loopback interface, which is why
//! the servers that misbehave need an address of their own.

mod network;
mod server;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mcp_auth_e2e::{
    leaks::Known,
    operator::Operator,
    runner::Story,
    secrets,
    story::{CA_CONFIG_MAP, CREDENTIALS_SECRET, StoryEnv},
    world::World,
};
use network::Isolated;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixtures::{apply_all, because};

/// An address that belongs to no machine but the node that a story makes up.
const NODE: &str = "10.255.254.253";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("egress::inner_addresses_are_refused", inner_addresses),
        Story::new(
            "egress::what_a_hostile_server_answers_goes_nowhere",
            hostile_servers,
        ),
    ]
}

/// Whether this process is to be the hostile server of [`hostile_servers`].
pub(crate) fn is_hostile_server() -> bool {
    server::is_asked_for()
}

/// Is the hostile server.
pub(crate) fn hostile_server() -> ExitCode {
    server::run()
}

/// As people run it: without the flag for development.
async fn strict_operator(env: &StoryEnv) -> anyhow::Result<Operator> {
    let mut options = env.operator_options();
    options.insecure_allow_loopback = false;
    "trace".clone_into(&mut options.log_level);
    env.start_operator_with(&options).await
}

/// An AuthorizationServer for a realm below `https://<authority>`.
fn home(env: &StoryEnv, name: &str, authority: &str, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1",
        "kind": "AuthorizationServer",
        "metadata": { "name": name, "namespace": env.namespace() },
        "spec": {
            "issuer": format!("https://{authority}/realms/{name}"),
            "keycloak": { "realm": name },
            "credentials": { "secretRef": { "name": CREDENTIALS_SECRET } },
            "caBundleRef": { "name": CA_CONFIG_MAP },
            "endpoints": endpoints,
        },
    })
}

/// Waits until a condition says why there is no connection, and that it holds these words.
async fn refused(
    env: &StoryEnv,
    name: &str,
    condition: (&str, &str, &str),
    words: &str,
) -> anyhow::Result<()> {
    let object = ("AuthorizationServer", env.namespace(), name);
    let found = because(env, object, condition).await?;
    let message = found["message"].as_str().unwrap_or_default();
    ensure!(message.contains(words), "{name}: {message}");
    Ok(())
}

/// Loopback, link-local and the cluster's own machines, whichever way they are written.
async fn inner_addresses(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "egress-inner").await?;
    let api_server = env.cluster().address().trim_start_matches("https://").to_owned();
    let _node = MadeUpNode::create(&env).await?;
    let operator = strict_operator(&env).await?;
    let proxy = env.proxy().url();
    let port = proxy.rsplit(':').next().context("no port")?;

    let loopback = "a loopback address";
    let (link_local, cluster) = ("a link-local address", "a node or the API server of this cluster");
    let issuers = [
        // That it is the API server's counts first, also where that is a loopback address.
        ("api-server", api_server, cluster),
        (
            "beside-the-api-server",
            format!("{}:{port}", world.host()),
            cluster,
        ),
        ("loopback", format!("127.8.8.8:{port}"), loopback),
        // Which of both it is depends on which of its addresses is told first.
        ("name", format!("localhost:{port}"), "the host is a"),
        ("v6-loopback", format!("[::1]:{port}"), loopback),
        ("link-local", "169.254.169.254".to_owned(), link_local),
        ("v6-link-local", "[fe80::1]".to_owned(), link_local),
        (
            "embedded",
            format!("[::ffff:7f08:808]:{port}"),
            "stands for an IPv4 address",
        ),
        ("node", NODE.to_owned(), cluster),
    ];
    let mut objects: Vec<Value> = issuers
        .iter()
        .map(|(name, authority, _)| home(&env, name, authority, &json!({})))
        .collect();
    let discovery = json!({ "discovery": format!("{proxy}/realms/x/.well-known/openid-configuration") });
    objects.push(home(&env, "discovery", "as.example.com", &discovery));
    apply_all(&env, &objects).await?;
    for (name, words) in issuers
        .iter()
        .map(|(name, _, words)| (*name, *words))
        .chain([("discovery", cluster)])
    {
        refused(
            &env,
            name,
            ("MetadataDiscovered", "False", "AddressRefused"),
            words,
        )
        .await?;
        refused(&env, name, ("Ready", "False", "AddressRefused"), words).await?;
    }
    ensure!(env.proxy().calls().is_empty(), "{:?}", env.proxy().calls());
    operator.stop().await
}

/// A node with the address [`NODE`], which goes again when this is dropped.
struct MadeUpNode(Api<Node>, tokio::runtime::Handle);

impl MadeUpNode {
    const NAME: &'static str = "egress-story";

    async fn create(env: &StoryEnv) -> anyhow::Result<Self> {
        let api: Api<Node> = Api::all(env.client());
        let node: Node = serde_json::from_value(json!({ "metadata": { "name": Self::NAME } }))?;
        api.create(&PostParams::default(), &node).await?;
        let made = Self(api, tokio::runtime::Handle::current());
        // A patch, because the node's controller writes too.
        let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": NODE }] } });
        made.0
            .patch_status(Self::NAME, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(made)
    }
}

impl Drop for MadeUpNode {
    fn drop(&mut self) {
        let api = self.0.clone();
        self.1
            .spawn(async move { api.delete(Self::NAME, &DeleteParams::default()).await });
    }
}

/// Servers that redirect, hang, answer too much or nonsense, at each place that the operator asks.
async fn hostile_servers(world: Arc<World>) -> anyhow::Result<()> {
    if let Some(why) = network::missing().await {
        world.note(format!(
            "skipped: servers that redirect, hang or answer 10 MiB at an address of their own: {why}"
        ));
        return Ok(());
    }
    let env = StoryEnv::new(&world, "egress-hostile").await?;
    let (mut known, canary) = (Known::default(), secrets::random());
    known.add("what the hostile server answers", canary.expose_secret());
    let folder = world.folder().subfolder("egress-server")?;
    let hostile = Isolated::start(&folder, world.authority(), canary.expose_secret()).await?;
    let operator = strict_operator(&env).await?;
    let authority = hostile.address.to_string();

    let (malformed, silent) = ("MalformedAnswer", "AuthorizationServerUnreachable");
    let found = "MetadataDiscovered";
    let signed_in = "CredentialsValid";
    let cases = [
        (
            "discovery-redirect",
            (found, "False", "MalformedMetadata"),
            "redirect, which is not followed",
        ),
        (
            "discovery-long",
            (found, "False", "MalformedMetadata"),
            "longer than 1048576 bytes",
        ),
        (
            "discovery-garbage",
            (found, "False", "MalformedMetadata"),
            "not JSON of the expected form",
        ),
        (
            "discovery-hang",
            (found, "Unknown", silent),
            "did not answer in time",
        ),
        (
            "token-redirect",
            (signed_in, "Unknown", malformed),
            "redirect, which is not followed",
        ),
        ("token-long", (signed_in, "Unknown", malformed), "it is too long"),
        (
            "token-garbage",
            (signed_in, "Unknown", malformed),
            "not the expected JSON",
        ),
        (
            "token-hang",
            (signed_in, "Unknown", silent),
            "did not answer in time",
        ),
        (
            "admin-redirect",
            (signed_in, "Unknown", malformed),
            "redirect, which is not followed",
        ),
        (
            "admin-garbage",
            (signed_in, "Unknown", malformed),
            "not the expected JSON",
        ),
        (
            "admin-hang",
            (signed_in, "Unknown", silent),
            "did not answer in time",
        ),
    ];
    let mut objects: Vec<Value> = cases
        .iter()
        .map(|(name, ..)| home(&env, name, &authority, &json!({})))
        .collect();
    // Metadata that can be believed, and endpoints on this machine beside it.
    let proxy = env.proxy().url();
    let token = json!({ "token": format!("{proxy}/realms/x/protocol/openid-connect/token") });
    objects.push(home(&env, "none-token", &authority, &token));
    objects.push(home(&env, "none-admin", &authority, &json!({ "admin": proxy })));
    apply_all(&env, &objects).await?;
    for (name, condition, words) in cases {
        refused(&env, name, condition, words).await?;
    }
    for name in ["none-token", "none-admin"] {
        refused(&env, name, (signed_in, "False", "AddressRefused"), "the host is").await?;
    }
    ensure!(env.proxy().calls().is_empty(), "{:?}", env.proxy().calls());

    let search = known.search()?;
    search.must_miss("the operator's metrics", operator.metrics().await?)?;
    operator.stop().await?;
    search.must_miss("the operator's log", operator.log()?)?;
    search
        .must_miss_cluster(&env.client(), Some(env.namespace()))
        .await
}
