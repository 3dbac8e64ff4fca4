//! What of a server is at the authorization server: made there by us, or taken as made by somebody else.

use futures::FutureExt as _;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    observe::{Home, Observed},
    status::Progress,
};
use crate::{
    context::Context,
    controllers::{conflict, halt::Halt, home, settle},
    metrics::Kind,
    policy::{exchange::locked, external},
    provider::{Conflict, Credential, Holder, ObservedLimits, Read, ResourceSpec},
};

/// Where no mark at the authorization server keeps two McpServers from having one resource, we do.
pub(super) fn held_by_another(server: &McpServer, home: &Home, ctx: &Context) -> Option<Halt> {
    external::is_external(&home.authorization_server)?;
    let issuer = |server: &McpServer| {
        let namespace = server.namespace().unwrap_or_default();
        let found = home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace);
        found.ok().map(|found| found.spec.issuer.clone())
    };
    let own = Some(home.authorization_server.spec.issuer.clone());
    let all = ctx.feeds.servers.store().state();
    let holder = external::holder(server, all.iter().map(AsRef::as_ref), |other| {
        issuer(other) == own
    })?;
    let conflict = Conflict {
        subject: format!("resource {}", server.spec.resource),
        holder: Holder::Marked(home::mark(holder, &ctx.installation)),
    };
    let namespace = server.namespace().unwrap_or_default();
    conflict::refusal(
        &[conflict],
        &namespace,
        &ctx.installation,
        &home.authorization_server,
    )
}

/// A resource that is as it is to be.
#[derive(Debug)]
pub(super) struct Registered {
    /// The id of the client by which the server exchanges tokens.
    pub(super) client_id: String,
    /// Whether anything was written.
    pub(super) wrote: bool,
}

/// Makes the resource as it is to be and reads back until nothing is left to do, where it is ours to make.
pub(super) async fn register(
    server: &McpServer,
    home: &Home,
    want: &ResourceSpec,
    secret: Option<&Credential>,
    observed: &Observed,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Registered, Halt> {
    let Some(provider) = home.connection.provider() else {
        progress.external(want);
        return Ok(Registered {
            client_id: want.resource.clone(),
            wrote: false,
        });
    };
    let plan = provider.plan_resource(want, &observed.resource, &observed.scopes, secret);
    let replan = || {
        async move {
            let resource = provider.observe_resource(&want.resource, Read::Fresh).await?;
            // Of the scopes, only those that were written are read again.
            let read = Read::Within(ctx.config.resync_interval / 2);
            let scopes = provider.observe_scopes(read).await?;
            Ok(provider.plan_resource(want, &resource, &scopes, secret))
        }
        .boxed()
    };
    let version = format!("{want:?}");
    let wrote = settle::settle(Kind::McpServer, server, provider, plan, &version, replan, ctx).await?;
    let limits_stay = matches!(observed.resource.limits, ObservedLimits::Locked);
    progress.registered(want, limits_stay.then(|| locked(&home.connection.access)));
    let read_back;
    let resource = if wrote || observed.resource.client_id.is_none() {
        // A moment ago, so memory has it.
        let read = Read::Alone(ctx.config.resync_interval / 2);
        read_back = provider.observe_resource(&want.resource, read).await?;
        &read_back
    } else {
        &observed.resource
    };
    progress.acts_by(want, &provider.exchange_actions(&want.mark, resource));
    let client_id = resource.client_id.clone();
    Ok(Registered {
        client_id: client_id.unwrap_or_else(|| want.resource.clone()),
        wrote,
    })
}
