//! What is the case: reads only.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Resource, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{
    AuthorizationServer, InitialAccessTokenReference, McpClient, ObjectReference, OperatorCredentials,
};

use super::kept;
use crate::{
    cluster::{Owned, has_finalizer, is_deleting},
    context::Context,
    controllers::halt::Halt,
    egress::{Audience, EgressClient},
    error::Error,
    policy::{
        grants::{self, Tenant},
        homes::held,
    },
    provider::{Credential, SignIn, key::PrivateKey, keycloak::SetupError},
    watch::Feed,
};

/// Key of the client id in the operator's credentials.
pub(super) const CLIENT_ID: &str = "client-id";
/// Key of the client secret in the operator's credentials.
pub(super) const CLIENT_SECRET: &str = "client-secret";
/// Key of the private key in the operator's credentials, as PEM.
const KEY_PEM: &str = "client-key.pem";
/// The same as JWK.
const KEY_JWK: &str = "client-key.jwk";
/// Key of the certificates, unless the reference names another.
pub(super) const CA_KEY: &str = "ca.crt";

/// What the operator has in hand at an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// It signs in as a client.
    Client {
        /// Client id of the operator.
        client_id: String,
        /// How it signs in.
        sign_in: SignIn,
    },
    /// It registers clients, with this initial access token if there is one.
    Registration(Option<Credential>),
}

/// What a connection is made from, besides the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    /// What it has in hand there.
    pub(super) credentials: Credentials,
    /// Certificate authorities to trust, in PEM.
    pub(super) ca_bundle: Option<String>,
}

/// Reads the credentials and certificates that the spec refers to.
pub(super) async fn inputs(server: &AuthorizationServer, ctx: &Context) -> Result<Inputs, Halt> {
    let namespace = server.namespace().unwrap_or_default();
    let credentials = match (&server.spec.credentials, &server.spec.dynamic_registration) {
        (_, Some(registration)) => {
            let reference = registration.initial_access_token_ref.as_ref();
            Credentials::Registration(initial_access_token(reference, &namespace, ctx).await?)
        }
        (credentials, None) => client(credentials.as_ref(), &namespace, ctx).await?,
    };
    let ca_bundle = ca_bundle(server, &namespace, ctx).await?;
    Ok(Inputs {
        credentials,
        ca_bundle,
    })
}

/// The client as which the operator signs in.
async fn client(
    credentials: Option<&OperatorCredentials>,
    namespace: &str,
    ctx: &Context,
) -> Result<Credentials, Halt> {
    // Without them the schema lets no AuthorizationServer through.
    let none = OperatorCredentials::default();
    let credentials = credentials.unwrap_or(&none);
    let (client_id, sign_in) = match &credentials.service_account_token {
        Some(token) => {
            own_namespace(namespace, &ctx.config.namespace)?;
            (token.client_id.clone(), SignIn::Token)
        }
        None => from_secret(credentials, namespace, ctx).await?,
    };
    Ok(Credentials::Client { client_id, sign_in })
}

/// The token without which nobody may register.
async fn initial_access_token(
    reference: Option<&InitialAccessTokenReference>,
    namespace: &str,
    ctx: &Context,
) -> Result<Option<Credential>, Halt> {
    let Some(reference) = reference else {
        return Ok(None);
    };
    let (name, key) = (&reference.name, reference.key());
    let secrets: Api<Secret> = ctx.cluster.api(namespace);
    let memory = &ctx.memory.whole_secrets;
    let found = memory.read(&secrets, &ctx.feeds.secrets, namespace, name).await?;
    let Some(secret) = found else {
        return Err(Halt::waiting(
            "SecretNotFound",
            format!("Secret {namespace}/{name} does not exist: create it with the key {key}"),
        ));
    };
    match text(&secret, key) {
        Some(token) => Ok(Some(Credential::new(token))),
        None => Err(Halt::refused(
            "SecretIncomplete",
            format!("Secret {namespace}/{name} lacks the key {key}: add the initial access token"),
        )),
    }
}

/// The token is the operator's own: who may create an AuthorizationServer elsewhere must not get to use it.
fn own_namespace(namespace: &str, own: &str) -> Result<(), Halt> {
    if namespace == own {
        return Ok(());
    }
    Err(Halt::refused(
        "NotInOperatorNamespace",
        format!(
            "credentials.serviceAccountToken is for AuthorizationServers in the operator's namespace, {own}: create it there, or use secretRef or privateKeyJwtRef"
        ),
    ))
}

/// Client id and credential from a Secret.
async fn from_secret(
    credentials: &OperatorCredentials,
    namespace: &str,
    ctx: &Context,
) -> Result<(String, SignIn), Halt> {
    let by_key = credentials.secret_ref.is_none();
    let needed = if by_key {
        format!("{CLIENT_ID} and {KEY_PEM} or {KEY_JWK}")
    } else {
        format!("{CLIENT_ID} and {CLIENT_SECRET}")
    };
    // Without one the schema lets no AuthorizationServer through.
    let name = credentials.secret().map_or("", |secret| &secret.name);
    let secrets: Api<Secret> = ctx.cluster.api(namespace);
    let memory = &ctx.memory.whole_secrets;
    let found = memory.read(&secrets, &ctx.feeds.secrets, namespace, name).await?;
    let Some(secret) = found else {
        return Err(Halt::waiting(
            "SecretNotFound",
            format!("Secret {namespace}/{name} does not exist: create it with the keys {needed}"),
        ));
    };
    let incomplete = |what: &str| {
        Halt::refused(
            "SecretIncomplete",
            format!("Secret {namespace}/{name} {what}: it needs {needed}"),
        )
    };
    let (client_id, given) = read(&secret, by_key).ok_or_else(|| incomplete("lacks something"))?;
    if !by_key {
        return Ok((client_id, SignIn::Secret(given)));
    }
    if PrivateKey::read(given.expose()).is_none() {
        return Err(incomplete("holds no RSA key that can be read"));
    }
    Ok((client_id, SignIn::Key(given)))
}

/// What a Secret holds.
fn read(secret: &Secret, by_key: bool) -> Option<(String, Credential)> {
    let text = |key: &str| text(secret, key);
    let given = if by_key {
        text(KEY_PEM).or_else(|| text(KEY_JWK))
    } else {
        text(CLIENT_SECRET)
    };
    Some((text(CLIENT_ID)?, Credential::new(given?)))
}

/// A value of a Secret, without the line break that files end with.
fn text(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?.0.clone();
    let text = String::from_utf8(value).ok()?.trim_end().to_owned();
    Some(text).filter(|text| !text.is_empty())
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
        servers: referring(
            &feeds.servers,
            |s| &s.spec.authorization_server_ref,
            |s| has_finalizer(s) && is_named(&s.spec.authorization_server_ref, s, server),
            server,
            ctx,
        ),
        clients: referring(
            &feeds.clients,
            |c| &c.spec.authorization_server_ref,
            |client| has_finalizer(client) && may_be_at(client, server),
            server,
            ctx,
        ),
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
        connection.is_some_and(|connection| connection.realm() == realm)
    };
    let others = ctx.feeds.authorization_servers.store().state().into_iter();
    others
        .filter(|other| other.metadata.uid != server.metadata.uid && !is_deleting(&**other))
        .filter(|other| is_there(other))
        .collect()
}

/// The objects of a kind that have something at the AuthorizationServer, which `has` tells, or refer to it and may come to
/// have something there.
fn referring<K: Owned + Send + Sync + 'static>(
    feed: &Feed<K>,
    reference: impl Fn(&K) -> &ObjectReference,
    has: impl Fn(&K) -> bool,
    server: &AuthorizationServer,
    ctx: &Context,
) -> usize {
    let may = |object: &K| {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let facts = ctx.namespace(namespace);
        let labels = &facts.labels;
        grants::admits(server, Tenant { namespace, labels })
    };
    let refers = |object: &K| has(object) || (is_named(reference(object), object, server) && may(object));
    let objects = feed.store().state();
    objects.iter().filter(|object| refers(object)).count()
}

/// Whether a reference, written in an object, names the AuthorizationServer.
fn is_named<K: Resource>(reference: &ObjectReference, from: &K, server: &AuthorizationServer) -> bool {
    let own = from.meta().namespace.as_deref().unwrap_or_default();
    Some(&reference.name) == server.metadata.name.as_ref()
        && Some(reference.namespace_or(own)) == server.metadata.namespace.as_deref()
}

/// Whether a client is registered at the AuthorizationServer, or may be. One that moved away is so until it is removed there.
fn may_be_at(client: &McpClient, server: &AuthorizationServer) -> bool {
    // One that nothing is said of yet may have named this one when its first pass began.
    let is_unsaid = is_deleting(server) && client.status.is_none();
    is_unsaid || held(client).contains(&(server.namespace().unwrap_or_default(), server.name_any()))
}

#[cfg(test)]
mod tests;
