//! A gate with an issuer and a server, and the faces that clients can come through.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_auth_e2e::{
    gate::{
        engines::{self, Engine},
        issuer::TestIssuer,
        keys::SigningKey,
        process::{self, GateProcess},
        upstream::Upstream,
    },
    run_folder::RunFolder,
    tools::EngineTools,
};
use serde_json::{Value, json};

use super::case::OWN_PAGE;

/// The resource that the gate protects.
pub(crate) const RESOURCE: &str = "https://mcp.example/a/mcp";
/// Where its metadata are.
pub(crate) const METADATA: &str = "https://mcp.example/.well-known/oauth-protected-resource/a/mcp";

/// Everything around a gate.
pub(crate) struct Scene {
    pub(crate) issuer: TestIssuer,
    /// A key that the issuer does not publish, under the id of one that it does.
    pub(crate) stranger: SigningKey,
    pub(crate) upstream: Upstream,
    pub(crate) gate: GateProcess,
    pub(crate) folder: PathBuf,
}

/// How a request comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Proxy,
    Envoy,
    Traefik,
    /// The face that Traefik asks, without Traefik: nothing is put into another form on the way.
    ForwardAuth,
}

/// A face that is up.
pub(crate) struct Front {
    pub(crate) face: Face,
    pub(crate) address: SocketAddr,
    _engine: Option<Engine>,
}

impl Scene {
    /// Starts all but the engines, in a folder of this name.
    pub(crate) async fn start(run: &Arc<RunFolder>, name: &str) -> anyhow::Result<Self> {
        Self::start_with(run, name, &json!({}), &[]).await
    }

    /// The same with other fields in the policy, and more flags.
    pub(crate) async fn start_with(
        run: &Arc<RunFolder>,
        name: &str,
        changes: &Value,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_as(run, name, changes, flags, &BTreeMap::new()).await
    }

    /// The same with more credentials.
    pub(crate) async fn start_as(
        run: &Arc<RunFolder>,
        name: &str,
        changes: &Value,
        flags: &[&str],
        more: &BTreeMap<&'static str, String>,
    ) -> anyhow::Result<Self> {
        let folder = run.subfolder(name)?;
        let (issuer, upstream) = (TestIssuer::start().await?, Upstream::start().await?);
        let policy = policy(&issuer, upstream.address(), changes);
        let key = STANDARD.encode(rand::random::<[u8; 32]>());
        let mut credentials = BTreeMap::from([("session-keys", key)]);
        credentials.extend(more.clone());
        let gate = GateProcess::start(&folder, process::faces()?, Some(&policy), &credentials, flags)?;
        gate.wait_until_ready().await?;
        Ok(Self {
            stranger: SigningKey::ec("ec-0")?,
            issuer,
            upstream,
            gate,
            folder,
        })
    }

    /// What the userinfo endpoint of the issuer would be.
    pub(crate) fn userinfo(&self) -> String {
        format!("{}/userinfo", self.issuer.issuer())
    }

    /// Puts a face before the server.
    pub(crate) async fn front(&self, face: Face) -> anyhow::Result<Front> {
        let (gate, server) = (self.gate.faces(), self.upstream.address());
        let engine = match face {
            Face::Proxy | Face::ForwardAuth => None,
            Face::Envoy => {
                let tools = EngineTools::prepare(&self.folder).await?;
                Some(engines::envoy(&tools, &self.folder, gate, server).await?)
            }
            Face::Traefik => {
                let tools = EngineTools::prepare(&self.folder).await?;
                Some(engines::traefik(&tools, &self.folder, gate, server, &[OWN_PAGE]).await?)
            }
        };
        let own = match face {
            Face::ForwardAuth => gate.forward_auth,
            _ => gate.proxy,
        };
        Ok(Front {
            face,
            address: engine.as_ref().map_or(own, Engine::address),
            _engine: engine,
        })
    }
}

/// The policy of the scene, with other fields at its top; null takes one away.
pub(crate) fn policy(issuer: &TestIssuer, server: SocketAddr, changes: &Value) -> Value {
    let mut policy = json!({
        "version": 1,
        "server": {"namespace": "team-a", "name": "notes"},
        "resource": RESOURCE,
        "authorizationServer": {
            "issuer": issuer.issuer(),
            "jwksUri": issuer.jwks_uri(),
            "tokenEndpoint": issuer.token_endpoint(),
            "tokenTypes": [{"header": "at+jwt"}, {"header": "JWT", "payload": "Bearer"}],
            "otherAudiences": [format!("{}/userinfo", issuer.issuer())],
        },
        "scopes": [
            {"name": "notes:write", "implies": ["notes:read"]},
            {"name": "mcp:use", "challenge": true},
            {"name": "notes:read"},
            {"name": "notes:admin", "implies": ["notes:write", "mcp:use"]},
        ],
        "rules": [
            {"kind": "Tool", "match": "read_*", "scopes": ["notes:read"]},
            {"kind": "Tool", "match": "write_*", "scopes": ["notes:write"]},
            {"kind": "Tool", "match": "*_note", "scopes": ["mcp:use"]},
            {"kind": "Prompt", "match": "summary", "scopes": ["notes:read"]},
            {"kind": "Resource", "match": "note:///*", "scopes": ["notes:read"]},
        ],
        "deniedClients": ["suspended"],
        "upstream": {"url": format!("http://{server}/a/mcp")},
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            policy.as_object_mut().map(|policy| policy.remove(field));
        } else {
            policy[field] = value.clone();
        }
    }
    policy
}
