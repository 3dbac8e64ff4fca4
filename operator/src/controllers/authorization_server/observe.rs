//! What is the case: reads only.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, ObjectReference};

use super::kept;
use crate::{
    cluster::{Owned, has_finalizer, is_deleting},
    context::Context,
    controllers::halt::Halt,
    egress::{Audience, EgressClient},
    error::Error,
    policy::grants::{self, Tenant},
    provider::{Credential, keycloak::SetupError},
    watch::Feed,
};

/// Key of the client id in the operator's credentials.
pub(super) const CLIENT_ID: &str = "client-id";
/// Key of the client secret in the operator's credentials.
pub(super) const CLIENT_SECRET: &str = "client-secret";
/// Key of the certificates, unless the reference names another.
pub(super) const CA_KEY: &str = "ca.crt";

/// What a connection is made from, besides the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    /// Client id of the operator.
    pub(super) client_id: String,
    /// Its secret.
    pub(super) client_secret: Credential,
    /// Certificate authorities to trust, in PEM.
    pub(super) ca_bundle: Option<String>,
}

/// Reads the credentials and certificates that the spec refers to.
pub(super) async fn inputs(server: &AuthorizationServer, ctx: &Context) -> Result<Inputs, Halt> {
    let namespace = server.namespace().unwrap_or_default();
    let name = &server.spec.credentials.secret_ref.name;
    let secrets: Api<Secret> = ctx.cluster.api(&namespace);
    let memory = &ctx.memory.whole_secrets;
    let found = memory
        .read(&secrets, &ctx.feeds.secrets, &namespace, name)
        .await?;
    let Some(secret) = found else {
        return Err(Halt::waiting(
            "SecretNotFound",
            format!(
                "Secret {namespace}/{name} does not exist: create it with the keys {CLIENT_ID} and {CLIENT_SECRET}"
            ),
        ));
    };
    let text = |key: &str| {
        let value = secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|value| value.0.clone());
        value
            .and_then(|value| String::from_utf8(value).ok())
            .map(|value| value.trim_end().to_owned())
            .filter(|v| !v.is_empty())
    };
    let (Some(client_id), Some(client_secret)) = (text(CLIENT_ID), text(CLIENT_SECRET)) else {
        return Err(Halt::refused(
            "SecretIncomplete",
            format!("Secret {namespace}/{name} lacks {CLIENT_ID} or {CLIENT_SECRET}: add both"),
        ));
    };
    let ca_bundle = ca_bundle(server, &namespace, ctx).await?;
    Ok(Inputs {
        client_id,
        client_secret: Credential::new(client_secret),
        ca_bundle,
    })
}

async fn ca_bundle(
    server: &AuthorizationServer,
    namespace: &str,
    ctx: &Context,
) -> Result<Option<String>, Halt> {
    let Some(reference) = &server.spec.ca_bundle_ref else {
        return Ok(None);
    };
    let (name, key) = (&reference.name, reference.key.as_deref().unwrap_or(CA_KEY));
    let maps: Api<ConfigMap> = ctx.cluster.api(namespace);
    let memory = &ctx.memory.whole_config_maps;
    let found = memory
        .read(&maps, &ctx.feeds.config_maps, namespace, name)
        .await?;
    let Some(map) = found else {
        return Err(Halt::waiting(
            "CaBundleNotFound",
            format!("ConfigMap {namespace}/{name} does not exist: create it with the key {key}"),
        ));
    };
    match map.data.as_ref().and_then(|data| data.get(key)) {
        Some(bundle) => Ok(Some(bundle.clone())),
        None => Err(Halt::refused(
            "CaBundleIncomplete",
            format!("ConfigMap {namespace}/{name} lacks the key {key}: add the certificates in PEM"),
        )),
    }
}

/// As [`inputs`], but with what was kept in the operator's namespace where the originals are gone: in a namespace
/// that is deleted as a whole, Secrets vanish before finalizers run.
pub(super) async fn inputs_for_cleanup(server: &AuthorizationServer, ctx: &Context) -> Result<Inputs, Halt> {
    match inputs(server, ctx).await {
        Ok(inputs) => Ok(inputs),
        // Also where it may not be read any more: rights that were given in the namespace go with it.
        Err(halt) => kept::read(server, ctx).await?.ok_or(halt),
    }
}

/// A client for the addresses in the spec.
pub(super) fn egress(inputs: &Inputs, ctx: &Context) -> Result<EgressClient, Halt> {
    let bundle = inputs.ca_bundle.as_deref().map(str::as_bytes);
    ctx.egress
        .client(Audience::AuthorizationServer, bundle)
        .map_err(|error| Error::from(SetupError::from(error)).into())
}

/// What refers to an AuthorizationServer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Referrers {
    /// How many McpServers.
    pub(super) servers: usize,
    /// How many McpClients.
    pub(super) clients: usize,
    /// Objects of which nobody knows to what they refer: this version of the operator cannot read them.
    pub(super) unread: usize,
}

impl Referrers {
    pub(super) fn count(&self) -> usize {
        self.servers + self.clients + self.unread
    }

    /// What stands in the way of its deletion.
    pub(super) fn message(&self) -> String {
        let unread = match self.unread {
            0 => String::new(),
            count => format!(
                "; {count} objects cannot be read by this version of the operator, and may refer to it too"
            ),
        };
        format!(
            "Waits until {} McpServers and {} McpClients that refer to it are deleted{unread}",
            self.servers, self.clients
        )
    }
}

/// Finds them in the caches. What has nothing there, and may have nothing there, does not count: else anybody could keep
/// an AuthorizationServer from going by naming it.
pub(super) fn referrers(server: &AuthorizationServer, ctx: &Context) -> Referrers {
    let feeds = &ctx.feeds;
    Referrers {
        servers: referring(&feeds.servers, |s| &s.spec.authorization_server_ref, server, ctx),
        clients: referring(&feeds.clients, |c| &c.spec.authorization_server_ref, server, ctx),
        unread: feeds.servers.unread().len() + feeds.clients.unread().len(),
    }
}

/// Whether another AuthorizationServer stands for the same realm.
pub(super) fn shares_realm(server: &AuthorizationServer, realm: &str, ctx: &Context) -> bool {
    !of_the_same_realm(server, realm, ctx).is_empty()
}

/// The other AuthorizationServers that stand for the same realm.
pub(super) fn of_the_same_realm(
    server: &AuthorizationServer,
    realm: &str,
    ctx: &Context,
) -> Vec<Arc<AuthorizationServer>> {
    let is_there = |other: &AuthorizationServer| {
        let namespace = other.namespace().unwrap_or_default();
        let connection = ctx.connections.get(&namespace, &other.name_any());
        connection.is_some_and(|connection| connection.provider.realm() == realm)
    };
    let others = ctx.feeds.authorization_servers.store().state().into_iter();
    others
        .filter(|other| other.metadata.uid != server.metadata.uid && !is_deleting(&**other))
        .filter(|other| is_there(other))
        .collect()
}

/// The objects of a kind that refer to the AuthorizationServer and have something there, or may have.
fn referring<K: Owned + Send + Sync + 'static>(
    feed: &Feed<K>,
    reference: impl Fn(&K) -> &ObjectReference,
    server: &AuthorizationServer,
    ctx: &Context,
) -> usize {
    let refers = |object: &K| {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let reference = reference(object);
        Some(&reference.name) == server.metadata.name.as_ref()
            && Some(reference.namespace_or(namespace)) == server.metadata.namespace.as_deref()
            && (has_finalizer(object) || {
                let facts = ctx.namespace(namespace);
                let labels = &facts.labels;
                grants::admits(server, Tenant { namespace, labels })
            })
    };
    let objects = feed.store().state();
    objects.iter().filter(|object| refers(object)).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::stage;

    fn objects() -> [serde_json::Value; 2] {
        let metadata = |name: &str| json!({"namespace": "platform", "name": name});
        [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("c"),
                   "data": {"client-id": "aWQ=", "client-secret": "b25l"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("ca"),
                   "data": {"ca.crt": "bundle"}}),
        ]
    }

    #[tokio::test]
    async fn what_a_connection_is_made_from_is_read_again_only_when_it_changed() {
        let server: AuthorizationServer = serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {"issuer": "https://as.example/realms/r", "credentials": {"secretRef": {"name": "c"}},
                     "caBundleRef": {"name": "ca"}},
        }))
        .unwrap();
        let [mut secret, map] = objects();
        let mut stage = stage(&[secret.clone(), map]).await;
        let (path, first) = (
            "/api/v1/namespaces/platform/secrets/c",
            inputs(&server, &stage.ctx).await.unwrap(),
        );
        assert_eq!(stage.cluster.reads().len(), 2);
        assert_eq!(inputs(&server, &stage.ctx).await.unwrap(), first);
        assert_eq!(stage.cluster.reads(), [""; 0]);

        secret["data"]["client-secret"] = json!("dHdv");
        stage.cluster.put(secret);
        stage.see().await;
        let second = inputs(&server, &stage.ctx).await.unwrap();
        assert_eq!(second.client_secret.expose(), "two");
        assert_eq!(stage.cluster.reads(), [path]);

        stage.cluster.remove(path);
        stage.see().await;
        let gone = inputs(&server, &stage.ctx).await;
        assert!(
            matches!(&gone, Err(Halt::Waiting(refusal)) if refusal.reason == "SecretNotFound"),
            "{gone:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_holds_an_authorization_server_too() {
        let mut referrers = Referrers::default();
        assert_eq!(referrers.count(), 0);
        referrers.unread = 2;
        assert_eq!(referrers.count(), 2);
        assert!(referrers.message().contains("2 objects cannot be read"));
    }
}
