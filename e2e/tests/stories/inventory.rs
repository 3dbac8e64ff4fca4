//! What there is at Keycloak and in the operator's namespace, to compare before with after.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    samples,
    story::{CA_CONFIG_MAP, CREDENTIALS_SECRET, StoryEnv},
    wait::{Seen, wait_for},
};
use serde_json::Value;

/// Every client and every client scope of the story's realm, whoever made it: name and id of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Realm {
    /// By client id.
    pub(crate) clients: BTreeMap<String, String>,
    /// By name.
    pub(crate) scopes: BTreeMap<String, String>,
}

impl Realm {
    /// Reads all of it.
    pub(crate) async fn read(env: &StoryEnv) -> anyhow::Result<Self> {
        let admin = env.realm().admin();
        Ok(Self {
            clients: ids(&admin.get("/clients?max=1000").await?, "clientId")?,
            scopes: ids(&admin.get("/client-scopes").await?, "name")?,
        })
    }
}

/// The id of each thing of a list by its name. Fails when two have the same name.
fn ids(list: &Value, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let list = list.as_array().context("no list")?;
    let ids: BTreeMap<_, _> = list
        .iter()
        .map(|thing| {
            let text = |field: &str| thing[field].as_str().unwrap_or_default().to_owned();
            (text(name), text("id"))
        })
        .collect();
    ensure!(ids.len() == list.len(), "something is there twice: {list:?}");
    Ok(ids)
}

/// The Secrets in the operator's namespace, with the keys of each: journals and kept credentials.
pub(crate) async fn kept(env: &StoryEnv) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let secrets: Api<Secret> = Api::namespaced(env.client(), env.operator_namespace());
    let found = secrets.list(&ListParams::default()).await?.items;
    Ok(found
        .into_iter()
        .map(|secret| {
            let name = secret.name_any();
            (name, secret.data.unwrap_or_default().into_keys().collect())
        })
        .collect())
}

/// The Secrets and ConfigMaps that the operator made in a namespace of the story, as `kind/name`.
pub(crate) async fn published(env: &StoryEnv, namespace: &str) -> anyhow::Result<BTreeSet<String>> {
    const NOT_OURS: [&str; 3] = [CREDENTIALS_SECRET, CA_CONFIG_MAP, "kube-root-ca.crt"];
    let every = ListParams::default();
    let secrets = Api::<Secret>::namespaced(env.client(), namespace)
        .list(&every)
        .await?;
    let maps = Api::<ConfigMap>::namespaced(env.client(), namespace)
        .list(&every)
        .await?;
    let secrets = secrets.iter().map(|secret| ("secret", secret.name_any()));
    let maps = maps.iter().map(|map| ("configmap", map.name_any()));
    Ok(secrets
        .chain(maps)
        .filter(|(_, name)| !NOT_OURS.contains(&name.as_str()))
        .map(|(kind, name)| format!("{kind}/{name}"))
        .collect())
}

/// Waits until a look gives what is expected.
pub(crate) async fn becomes<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    timeout: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    wait_for(what, timeout, async || {
        let seen = look().await?;
        Ok(if seen == *expected {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{seen:?} instead of {expected:?}"))
        })
    })
    .await
}

/// Gets a token for the client itself and checks that its audience is `resource` and nothing else.
pub(crate) async fn token_for(
    env: &StoryEnv,
    client: &OAuthClient,
    scope: &str,
    resource: &str,
) -> anyhow::Result<()> {
    let issuer = env.issuer().await?;
    let tokens = issuer.client_credentials(client, Some(scope)).await?.granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    ensure!(token.audiences() == [resource], "{}", token.claims);
    ensure!(
        token.scopes() == BTreeSet::from([scope.to_owned()]),
        "{}",
        token.claims
    );
    Ok(())
}

/// The credential in the Secret of an McpClient.
pub(crate) async fn credential(env: &StoryEnv, client: &str) -> anyhow::Result<OAuthClient> {
    samples::oauth_client(env, env.namespace(), &format!("{client}-mcp-client")).await
}
