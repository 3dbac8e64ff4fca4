//! A tenant that belongs to others as well, and an operator for it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    auth0::{Auth0, Rate, Setup},
    oauth::Issuer,
    proxy::RecordingProxy,
    story::{CA_CONFIG_MAP, StoryEnv},
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::super::others::{is_untouched, occupy, remains};

pub(super) const CREDENTIALS: &str = "auth0-operator";
pub(super) const PASSWORD: &str = "correct horse battery staple";

pub(super) struct Scene {
    pub(super) env: StoryEnv,
    pub(super) auth0: Auth0,
    pub(super) proxy: RecordingProxy,
    /// What others have there.
    foreign: Value,
}

impl Scene {
    /// A tenant whose settings are as MCP needs them.
    pub(super) async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let mut scene = Self::bare(world, name).await?;
        set_for_mcp(&scene.auth0).await?;
        scene.foreign = scene.auth0.dashboard().everything();
        Ok(scene)
    }

    /// A tenant whose settings nobody has touched.
    pub(super) async fn bare(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        Self::aged(world, name, false).await
    }

    /// The same of one that had third-party clients before April 2026, if it is to be old.
    pub(super) async fn aged(world: &Arc<World>, name: &str, old: bool) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let (auth0, proxy) = aged_tenant(world, old).await?;
        env.apply(&credentials(&env, &auth0)).await?;
        Ok(Self {
            foreign: auth0.dashboard().everything(),
            env,
            auth0,
            proxy,
        })
    }

    /// What is there now is what others have.
    pub(super) fn is_as_others_left_it(&mut self) {
        self.foreign = self.auth0.dashboard().everything();
    }

    /// The tenant as an AuthorizationServer. The operator reaches it through the proxy, everybody else directly.
    pub(super) fn authorization_server(&self, name: &str) -> Value {
        authorization_server(&self.env, &self.auth0, &self.proxy, name)
    }

    pub(super) async fn issuer(&self) -> anyhow::Result<Issuer> {
        Issuer::discover(&self.auth0.issuer(), self.env.world().authority()).await
    }

    /// Somebody who may do all that these scopes of an API allow.
    pub(super) async fn user(&self, name: &str, permissions: &[(&str, &str)]) -> anyhow::Result<()> {
        let id = self.auth0.add_user(name, &SecretString::from(PASSWORD));
        let dashboard = self.auth0.dashboard();
        let role = dashboard.post("roles", json!({ "name": name })).await?;
        let role = role["id"].as_str().context("a role without an id")?;
        let permissions: Vec<Value> = permissions
            .iter()
            .map(|(api, scope)| json!({ "resource_server_identifier": api, "permission_name": scope }))
            .collect();
        let path = format!("roles/{role}/permissions");
        dashboard
            .post(&path, json!({ "permissions": permissions }))
            .await?;
        dashboard
            .post(&format!("users/{id}/roles"), json!({ "roles": [role] }))
            .await?;
        Ok(())
    }

    /// What others have there is as it was, byte for byte.
    pub(super) fn is_others_untouched(&self) -> anyhow::Result<()> {
        is_untouched(&self.auth0, &self.foreign)
    }

    /// The same, one kind of things aside.
    pub(super) fn is_others_untouched_but(&self, kind: &str) -> anyhow::Result<()> {
        let mut foreign = self.foreign.clone();
        foreign.as_object_mut().context("no tenant")?.remove(kind);
        is_untouched(&self.auth0, &foreign)
    }

    /// What the operator has made there and not removed.
    pub(super) fn made(&self, kind: &str) -> Vec<Value> {
        remains(&self.auth0, &self.foreign, kind)
    }

    /// Waits until nothing is left of the operator's.
    pub(super) async fn nothing_remains(&self, within: Duration) -> anyhow::Result<()> {
        wait_for("an empty tenant", within, async || {
            let left: Vec<Value> = [
                "clients",
                "client_grants",
                "resource_servers",
                "token_exchange_profiles",
            ]
            .iter()
            .flat_map(|kind| self.made(kind))
            .collect();
            Ok(if left.is_empty() {
                Seen::Done(())
            } else {
                Seen::NotYet(json!(left).to_string())
            })
        })
        .await
    }

    /// A client in the tenant, by the id that Auth0 has chosen.
    pub(super) fn client(&self, id: &str) -> anyhow::Result<Value> {
        let everything = self.auth0.dashboard().everything();
        let client = &everything["clients"][id]["fields"];
        ensure!(client.is_object(), "there is no client {id}");
        Ok(client.clone())
    }
}

/// A tenant that others use too, and a proxy in front of it.
pub(crate) async fn tenant(world: &World) -> anyhow::Result<(Auth0, RecordingProxy)> {
    aged_tenant(world, false).await
}

async fn aged_tenant(world: &World, old: bool) -> anyhow::Result<(Auth0, RecordingProxy)> {
    let setup = Setup {
        host: world.host(),
        legacy: old,
        ..Setup::default()
    };
    let auth0 = Auth0::start(world.authority(), setup).await?;
    let rate = Rate {
        burst: 1000,
        per_second: 1000.0,
    };
    auth0.limit("", rate);
    let proxy = RecordingProxy::start_at(world.host(), &auth0.url(), world.authority())?;
    occupy(&auth0).await?;
    Ok((auth0, proxy))
}

/// Settings as MCP needs them.
pub(crate) async fn set_for_mcp(auth0: &Auth0) -> anyhow::Result<()> {
    let settings = json!({
        "resource_parameter_profile": "compatibility",
        "authorization_response_iss_parameter_supported": true,
    });
    auth0.dashboard().patch("tenants/settings", settings).await?;
    Ok(())
}

/// The Secret of the operator's application.
pub(crate) fn credentials(env: &StoryEnv, auth0: &Auth0) -> Value {
    let operator = auth0.operator();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": CREDENTIALS, "namespace": env.namespace() },
        "stringData": {
            "client-id": operator.client_id,
            "client-secret": operator.client_secret.expose_secret(),
        },
    })
}

/// A tenant as an AuthorizationServer, whose Management API is reached through a proxy.
pub(crate) fn authorization_server(
    env: &StoryEnv,
    auth0: &Auth0,
    proxy: &RecordingProxy,
    name: &str,
) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": { "name": name, "namespace": env.namespace() },
        "spec": {
            "issuer": auth0.issuer(),
            "auth0": { "domain": auth0.domain() },
            "credentials": { "secretRef": { "name": CREDENTIALS } },
            "caBundleRef": { "name": CA_CONFIG_MAP },
            "endpoints": { "admin": proxy.url() },
        },
    })
}

/// What a client asks for in its own name.
pub(crate) fn for_itself(scope: Option<&str>, audience: &str) -> Vec<(String, String)> {
    let form = [
        ("grant_type", Some("client_credentials")),
        ("audience", Some(audience)),
        ("scope", scope),
    ];
    form.into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect()
}
