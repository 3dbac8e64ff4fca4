//! A server behind a gate, set up by the operator: resource, scopes, rules and client at Keycloak, and the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    sync::Arc,
};

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    gate::process::{GateProcess, faces},
    leaks::Known,
    mcp::{Front, Login, McpServer, Scripts, Visit},
    oauth::Browser,
    operator::Operator,
    ports,
    story::StoryEnv,
    tools::NpmTools,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, machine, native, ready},
    inventory::credential,
    users::{alice, browser, login_page},
};

/// The scopes of the server: one for normal use, one that a client has to ask for.
pub(crate) const READ: &str = "lab:read";
pub(crate) const WRITE: &str = "lab:write";

/// Which server is behind the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Everything,
    BothWires,
}

/// What the spec of an AuthorizationServer says besides.
pub(crate) struct AuthorizationServerPart(pub(crate) serde_json::Map<String, Value>);

/// All of it.
pub(crate) struct Protected {
    pub(crate) env: StoryEnv,
    pub(crate) operator: Operator,
    pub(crate) scripts: Scripts,
    pub(crate) front: Front,
    pub(crate) which: Which,
    pub(crate) server: McpServer,
    pub(crate) gate: GateProcess,
    /// The public client `desktop`, and where its users come back to.
    pub(crate) client_id: String,
    pub(crate) callback: String,
}

impl Protected {
    /// Sets it up with these rules; empty for none.
    pub(crate) async fn new(
        world: &Arc<World>,
        story: &str,
        which: Which,
        rules: &Value,
    ) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, story).await?;
        Self::open_to(env, which, rules, None).await
    }

    /// The same in a realm of the story's own, where the AuthorizationServer lets clients register themselves as this says,
    /// and the server is open to them with [`READ`].
    pub(crate) async fn open_to(
        env: StoryEnv,
        which: Which,
        rules: &Value,
        registration: Option<&AuthorizationServerPart>,
    ) -> anyhow::Result<Self> {
        alice(&env).await?;
        let scripts = scripts(&env).await?;
        let front = Front::start().await?;
        let (operator, server) = tokio::try_join!(env.start_operator(), start(which, &scripts))?;
        let mut desktop = native(&env, "desktop", &["lab"]);
        desktop["spec"]["access"][0]["scopes"] = json!([READ, WRITE]);
        let mut main = env.authorization_server("main");
        let mut lab = lab(&env, &front.resource(), rules);
        if let Some(part) = registration {
            for (field, value) in &part.0 {
                main["spec"][field] = value.clone();
            }
            lab["spec"]["allowedClients"] = json!([
                { "namespaces": { "from": "Same" }, "scopes": [READ, WRITE] },
                { "selfRegistered": true, "scopes": [READ] },
            ]);
        }
        let objects = [
            main,
            service(&env),
            lab,
            desktop,
            machine(&env, "robot", &["lab"]),
        ];
        apply_all(&env, &objects).await?;
        let gate = start_gate(&env, &scripts, server.address()).await?;
        front.lead_to(gate.faces().proxy);
        for client in ["desktop", "robot"] {
            ready(&env, ("McpClient", env.namespace(), client), SOON).await?;
        }
        Ok(Self {
            client_id: credential(&env, "desktop").await?.id().to_owned(),
            callback: format!("http://127.0.0.1:{}/callback", ports::free()?),
            env,
            operator,
            scripts,
            front,
            which,
            server,
            gate,
        })
    }

    /// A browser with alice in front of it.
    pub(crate) fn browser(&self) -> anyhow::Result<Browser> {
        browser(&self.env)
    }

    /// How the addresses begin at which users sign in.
    pub(crate) fn login_page(&self) -> String {
        login_page(&self.env)
    }

    /// Ends it. Fails when the gate wrote a token into its log.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        let mut known = Known::default();
        let tokens = self.front.tokens();
        for (number, token) in tokens.iter().enumerate() {
            known.add(&format!("token {number}"), token.expose_secret());
        }
        ensure!(!known.is_empty(), "no token came to the gate");
        let log = self.gate.log()?;
        ensure!(!log.is_empty(), "the gate logs nothing");
        known.search()?.must_miss("the log of the gate", log)?;
        self.operator.stop().await
    }
}

/// The scripts, in a folder of the story.
pub(crate) async fn scripts(env: &StoryEnv) -> anyhow::Result<Scripts> {
    let folder = env.world().folder();
    let npm = NpmTools::prepare(folder.path()).await?;
    let folder = folder.subfolder(&format!("{}-mcp", env.namespace()))?;
    Scripts::install(npm, folder, env.world().authority())
}

async fn start(which: Which, scripts: &Scripts) -> anyhow::Result<McpServer> {
    match which {
        Which::Everything => McpServer::everything(scripts).await,
        Which::BothWires => McpServer::both_wires(scripts).await,
    }
}

/// The Service before the server's pods, of which there are none here.
fn service(env: &StoryEnv) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": env.namespace(), "name": "lab" },
        "spec": { "selector": { "app": "lab" }, "ports": [{ "port": 80, "targetPort": 3001 }] },
    })
}

fn lab(env: &StoryEnv, resource: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": { "namespace": env.namespace(), "name": "lab" },
        "spec": {
            "authorizationServerRef": { "name": "main" },
            "resource": resource,
            "scopes": [
                { "name": READ, "description": "Look around in the lab", "challenge": true },
                { "name": WRITE, "description": "Change things in the lab" },
            ],
            "rules": rules,
            "target": { "service": "lab" },
            "enforcement": { "mode": "Gate" },
        },
    })
}

/// A gate by the very policy that the operator wrote, in front of a server that is not where the policy says.
async fn start_gate(env: &StoryEnv, scripts: &Scripts, upstream: SocketAddr) -> anyhow::Result<GateProcess> {
    let folder = scripts.folder();
    fs::write(folder.join("policy.json"), policy(env).await?)?;
    let upstream = format!("--upstream-address={upstream}");
    let extra = [upstream.as_str(), "--log-level=debug"];
    let gate = GateProcess::start(folder, faces()?, None, &BTreeMap::new(), &extra)?;
    gate.wait_until_ready().await?;
    Ok(gate)
}

/// The policy as the operator wrote it for the gate.
async fn policy(env: &StoryEnv) -> anyhow::Result<String> {
    let api: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    wait_for("the policy of the gate", SOON, async || {
        let found = api.get_opt("lab-gate").await?.and_then(|map| map.data);
        let policy = found.and_then(|mut data| data.remove("policy.json"));
        Ok(policy.map_or_else(|| Seen::NotYet("there is none".to_owned()), Seen::Done))
    })
    .await
}

/// Fails unless the client found the authorization server by the challenge: its first request was refused with the
/// address of the metadata, and of all well-known addresses it asked only that one.
pub(crate) fn found_its_way(front: &Front) -> anyhow::Result<()> {
    let visits = front.visits();
    let first = visits.first().context("nobody came")?;
    let metadata = front
        .resource()
        .replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let challenge = format!("Bearer scope=\"{READ}\", resource_metadata=\"{metadata}\"");
    ensure!(
        !first.token
            && first.status == Some(StatusCode::UNAUTHORIZED)
            && first.challenge.as_deref() == Some(challenge.as_str()),
        "{first:?}"
    );
    let asked: Vec<&Visit> = visits
        .iter()
        .filter(|visit| visit.path.contains("/.well-known/"))
        .collect();
    ensure!(!asked.is_empty(), "nobody asked for the metadata");
    for visit in asked {
        let right = visit.path == "/.well-known/oauth-protected-resource/mcp"
            && visit.status == Some(StatusCode::OK)
            && !visit.token;
        ensure!(right, "{visit:?}");
    }
    Ok(())
}

/// Fails unless a call was refused once for want of a scope, in the words of the specification, and then done.
pub(crate) fn stepped_up(front: &Front, call: &str) -> anyhow::Result<()> {
    let visits = front.visits();
    let calls: Vec<&Visit> = visits.iter().filter(|visit| visit.message == call).collect();
    let [refused, done] = calls[..] else {
        anyhow::bail!("{calls:?}");
    };
    let challenge = refused.challenge.as_deref().unwrap_or_default();
    ensure!(
        refused.status == Some(StatusCode::FORBIDDEN)
            && challenge.starts_with("Bearer error=\"insufficient_scope\"")
            && challenge.contains(&format!("scope=\"{WRITE}\""))
            && challenge.contains("resource_metadata="),
        "{refused:?}"
    );
    ensure!(done.status == Some(StatusCode::OK), "{done:?}");
    Ok(())
}

/// Fails unless a login asked for these scopes, besides `offline_access`, for this server and with PKCE.
pub(crate) fn asked(login: &Login, protected: &Protected, scopes: &[&str]) -> anyhow::Result<()> {
    let mut asked = login.scopes();
    asked.remove("offline_access");
    let wanted: BTreeSet<&str> = scopes.iter().copied().collect();
    ensure!(
        asked == wanted
            && login.asked("resource") == protected.front.resource()
            && login.asked("client_id") == protected.client_id
            && login.asked("code_challenge_method") == "S256"
            && !login.asked("state").is_empty(),
        "{login:?}"
    );
    Ok(())
}
