//! What is the case: reads only.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{Access, McpClient, McpServer};

use super::desired;
use crate::{
    connections::Connection,
    context::Context,
    controllers::{halt::Halt, home},
    credential::{flow, journal::Journal},
    provider::{ObservedClient, ObservedScopes, Read},
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
}

pub(super) async fn observe(
    client: &McpClient,
    connection: &Connection,
    read: Read,
    ctx: &Context,
) -> Result<Observed, Halt> {
    let provider = &*connection.provider;
    let client_id = desired::client_id(client, &ctx.installation);
    let (observed, scopes) = futures::try_join!(
        provider.observe_client(&client_id, read),
        provider.observe_scopes(read)
    )?;
    Ok(Observed {
        client: observed,
        scopes,
        servers: servers(client, ctx)?,
        journal: flow::read(ctx, &home::mark(client, &ctx.installation)).await?,
    })
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
