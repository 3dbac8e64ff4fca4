//! What is the case: reads only.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{Access, McpClient, McpServer};

use super::desired;
use crate::{
    connections::Connection,
    context::Context,
    controllers::{halt::Halt, home},
    credential::{flow, homes::Place, journal::Journal, secret},
    provider::{Credential, CredentialKind, ObservedClient, ObservedScopes, Read, key::PrivateKey},
};

/// An entry of `access` with the McpServer it names, if there is one.
pub(super) type Asked = (Access, Option<Arc<McpServer>>);

/// What a pass needs to know.
#[derive(Debug)]
pub(super) struct Observed {
    /// The client at the authorization server.
    pub(super) client: ObservedClient,
    /// The realm's scopes.
    pub(super) scopes: ObservedScopes,
    /// Each entry of `access` with the McpServer it names, if there is one.
    pub(super) servers: Vec<Asked>,
    /// The journal of the credential.
    pub(super) journal: Option<Journal>,
    /// The private key in the workload's Secret, if the journal was lost and the authorization server accepts it.
    pub(super) kept_key: Option<Credential>,
}

impl Observed {
    /// The credential of this kind that the authorization server is known to accept.
    pub(super) fn at_server(&self, kind: CredentialKind) -> Option<&Credential> {
        match kind {
            CredentialKind::Secret => self.client.secret.as_ref(),
            CredentialKind::PrivateKey => self.kept_key.as_ref(),
        }
    }
}

pub(super) async fn observe(
    client: &McpClient,
    connection: &Connection,
    place: &Place,
    age: Duration,
    ctx: &Context,
) -> Result<Observed, Halt> {
    let provider = home::administered(connection)?;
    let client_id = desired::client_id(client, &ctx.installation);
    let (observed, scopes) = futures::try_join!(
        provider.observe_client(&client_id, how(client, age)),
        provider.observe_scopes(Read::Within(age))
    )?;
    let journal = flow::read_at(ctx, &home::mark(client, &ctx.installation), place).await?;
    let is_lost = journal.as_ref().is_none_or(Journal::is_empty);
    let kept_key = if is_lost && !observed.keys.is_empty() {
        kept_key(client, &observed, ctx).await?
    } else {
        None
    };
    Ok(Observed {
        kept_key,
        client: observed,
        scopes,
        servers: servers(client, ctx)?,
        journal,
    })
}

/// One that never came as far as to have a client id does not wait until all others are listed.
fn how(client: &McpClient, age: Duration) -> Read {
    let id = client
        .status
        .as_ref()
        .and_then(|status| status.client_id.as_ref());
    if id.is_none() {
        Read::Alone(age)
    } else {
        Read::Within(age)
    }
}

/// Each entry of `access` with the McpServer it names, if there is one.
pub(super) fn servers(client: &McpClient, ctx: &Context) -> Result<Vec<Asked>, Halt> {
    let namespace = client.namespace().unwrap_or_default();
    let with_server = |entry: &Access| {
        let at = entry.server.namespace_or(&namespace);
        let server = home::mcp_server(ctx, at, &entry.server.name)?;
        Ok((entry.clone(), server))
    };
    client.spec.access.iter().map(with_server).collect()
}

/// The authorization server tells no private key, but knows which ones it accepts.
async fn kept_key(
    client: &McpClient,
    observed: &ObservedClient,
    ctx: &Context,
) -> Result<Option<Credential>, Halt> {
    let api: Api<Secret> = ctx.cluster.api(&client.namespace().unwrap_or_default());
    let found = api.get_opt(&desired::secret_name(client)).await?;
    let held = found.and_then(|found| secret::private_key(&found, client.spec.secret.as_ref()));
    Ok(held.filter(|held| PrivateKey::of(held).is_some_and(|key| observed.keys.contains(&key.id()))))
}
