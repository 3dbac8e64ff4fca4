//! A server at which one can only register, of either kind: for stories that are the same at both.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::Issuer,
    oidc_provider::{OidcProvider, Options},
    proxy::{Call, RecordingProxy},
    story::StoryEnv,
};
use serde_json::{Value, json};

use super::{keycloak, scene};
use crate::clients::setup::scripts;

/// Which kind: at either a change replaces the token by which a registration is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// oidc-provider.
    OidcProvider,
    /// Keycloak's own endpoint.
    Keycloak,
}

/// A server.
pub(crate) enum Registrar {
    OidcProvider(Box<OidcProvider>, Arc<RecordingProxy>),
    /// The story's realm.
    Keycloak,
}

impl Registrar {
    /// Starts it, where it is not there yet. Gives it with an AuthorizationServer `main` to apply, behind a proxy and good
    /// for so many registrations.
    pub(crate) async fn start(
        env: &StoryEnv,
        which: Which,
        count: u32,
    ) -> anyhow::Result<(Self, Vec<Value>)> {
        if which == Which::Keycloak {
            let objects = keycloak::authorization_server(env, count).await?;
            return Ok((Self::Keycloak, objects.into()));
        }
        let world = env.world();
        let scripts = scripts(env).await?;
        let options = Options::default();
        let server = OidcProvider::start(&scripts, world.authority(), world.host(), &options).await?;
        let proxy = RecordingProxy::start_at(world.host(), server.issuer(), world.authority())?;
        let main = scene::authorization_server(env, &server, &proxy, &json!({}));
        Ok((Self::OidcProvider(Box::new(server), Arc::new(proxy)), vec![main]))
    }

    /// What stands between the operator and it, where that is not the story's own proxy.
    pub(crate) fn proxy(&self) -> Option<&Arc<RecordingProxy>> {
        match self {
            Self::OidcProvider(_, proxy) => Some(proxy),
            Self::Keycloak => None,
        }
    }

    /// The server as OAuth clients see it.
    pub(crate) async fn issuer(&self, env: &StoryEnv) -> anyhow::Result<Issuer> {
        match self {
            Self::OidcProvider(server, _) => Issuer::discover(server.issuer(), env.world().authority()).await,
            Self::Keycloak => env.issuer().await,
        }
    }

    /// The clients there that are called like this: where each sends its users, by client id.
    pub(crate) async fn made(&self, env: &StoryEnv, name: &str) -> anyhow::Result<BTreeMap<String, Value>> {
        let (clients, [called, id, uris]) = match self {
            Self::OidcProvider(server, _) => (
                server.clients().await?,
                ["client_name", "client_id", "redirect_uris"],
            ),
            Self::Keycloak => {
                let found = env.realm().admin().get("/clients?max=1000").await?;
                let found = found.as_array().cloned().context("no list")?;
                (found, ["name", "clientId", "redirectUris"])
            }
        };
        let mut made = BTreeMap::new();
        for client in clients.into_iter().filter(|client| client[called] == name) {
            let id = client[id].as_str().context("no client id")?.to_owned();
            ensure!(made.insert(id, client[uris].clone()).is_none(), "there twice");
        }
        Ok(made)
    }

    /// Somebody else sends the users of a client elsewhere.
    pub(crate) async fn redirect(&self, env: &StoryEnv, id: &str, uri: &str) -> anyhow::Result<()> {
        match self {
            Self::OidcProvider(server, _) => server.change(id, &json!({ "redirect_uris": [uri] })).await,
            Self::Keycloak => {
                let path = at_keycloak(env, id).await?;
                let change = json!({ "redirectUris": [uri] });
                env.realm().admin().put(&path, &change).await.map(drop)
            }
        }
    }

    /// Somebody else removes a client.
    pub(crate) async fn remove(&self, env: &StoryEnv, id: &str) -> anyhow::Result<()> {
        match self {
            Self::OidcProvider(server, _) => server.remove(id).await,
            Self::Keycloak => {
                let path = at_keycloak(env, id).await?;
                env.realm().admin().delete(&path).await.map(drop)
            }
        }
    }
}

/// The path of a client in the Admin API.
async fn at_keycloak(env: &StoryEnv, id: &str) -> anyhow::Result<String> {
    let client = env.realm().find_client(id).await?.context("no such client")?;
    Ok(format!("/clients/{}", client["id"].as_str().context("no id")?))
}

/// Whether a call is about a registration.
pub(crate) fn is_registration(call: &Call) -> bool {
    call.path().starts_with("/reg") || call.path().contains("/clients-registrations/")
}
