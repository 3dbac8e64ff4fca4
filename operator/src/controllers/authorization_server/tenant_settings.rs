//! Settings of a tenant as a whole, where the platform team lets the operator keep them.
//!
//! They are never set back: by then others may rely on them. What they were before is in the status, and is there before
//! anything is set. One is no setting but a door: that clients can register themselves ends with the wish for it, unless
//! they could before.

use futures::FutureExt as _;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpClient, TenantSetting};

use super::status::Progress;
use crate::{
    connections::Connection,
    context::Context,
    controllers::{
        halt::{self, Halt},
        settle,
    },
    metrics::Kind,
    provider::{ObservedSettings, Provider, Read, Registering, SettingsSpec, auth0::settings::door},
};

/// What clients need to register themselves.
pub(super) const OPEN: SettingsSpec = SettingsSpec {
    for_mcp: false,
    metadata_documents: false,
    registration: Some(Registering::Open),
};

/// That they cannot.
const SHUT: SettingsSpec = SettingsSpec {
    for_mcp: false,
    metadata_documents: false,
    registration: Some(Registering::Shut),
};

/// What the status says that they were.
pub(super) fn stored(server: &AuthorizationServer) -> &[TenantSetting] {
    server
        .status
        .as_ref()
        .map_or(&[], |status| &status.tenant_settings)
}

/// Whether the operator is to keep them.
pub(super) fn are_managed(server: &AuthorizationServer) -> bool {
    let tenant = server.spec.auth0.as_ref();
    tenant.is_some_and(|tenant| tenant.manage_tenant_settings == Some(true))
}

/// What is to be set at all times. Programs that would register themselves use their metadata documents instead where a tenant says that
/// it takes those, and a tenant takes only those that are registered. So it says that once one is.
pub(super) fn always(server: &AuthorizationServer, ctx: &Context) -> SettingsSpec {
    let clients = ctx.feeds.clients.store().state();
    SettingsSpec {
        for_mcp: true,
        metadata_documents: clients.iter().any(|client| has_document(client, server)),
        registration: None,
    }
}

/// Whether a document is registered there for the client.
fn has_document(client: &McpClient, server: &AuthorizationServer) -> bool {
    let own = client.namespace().unwrap_or_default();
    let reference = &client.spec.authorization_server_ref;
    let known = client
        .status
        .as_ref()
        .and_then(|status| status.client_id.as_deref());
    let document = client.spec.metadata_document.as_ref();
    document.is_some_and(|document| known == Some(&document.url))
        && Some(reference.namespace_or(&own)) == server.metadata.namespace.as_deref()
        && Some(&reference.name) == server.metadata.name.as_ref()
}

/// Sets what differs of what is wanted. Whether the tenant says something else of itself from now on.
pub(super) async fn keep(
    server: &AuthorizationServer,
    connection: &Connection,
    want: SettingsSpec,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<bool, Halt> {
    let Some(provider) = connection.provider().filter(|_| are_managed(server)) else {
        return Ok(false);
    };
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    if provider.observe_settings(want, remembered).await?.is_empty() {
        return Ok(false);
    }
    if halt::is_paused(server) {
        return Err(Halt::Paused);
    }
    // What is written, and what is noted, rests on what is there now.
    let observed = provider.observe_settings(want, Read::Fresh).await?;
    let noted = with_new(progress.settings(), &observed);
    if noted != progress.settings() {
        // Written to the status, this comes by here again.
        progress.had_settings(noted);
        return Err(Halt::waiting(
            "Waiting",
            "Waits until the status says what the settings of the tenant were",
        ));
    }
    set(server, provider, want, &observed, ctx).await
}

/// Shuts the door, where the operator has a say in it, once the status says that it was open before us if it was. Until
/// then it leads to nothing of ours.
pub(super) async fn shut(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    if !are_managed(server) {
        return Ok(());
    }
    let observed = provider.observe_settings(SHUT, Read::Fresh).await?;
    let noted = with_new(progress.settings(), &observed);
    if noted != progress.settings() {
        // Written to the status, this comes by here again.
        progress.had_settings(noted);
        return Ok(());
    }
    set(server, provider, SHUT, &observed, ctx).await.map(drop)
}

/// Shuts the door for good, unless it was open before the operator opened it, and forgets that it did.
pub(super) async fn close(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let (opened, others): (Vec<_>, Vec<_>) = progress
        .settings()
        .iter()
        .cloned()
        .partition(|setting| setting.name == door());
    if opened.iter().any(|setting| setting.previous != "true") {
        shut(server, provider, ctx, progress).await?;
    }
    progress.had_settings(others);
    Ok(())
}

async fn set(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    want: SettingsSpec,
    observed: &ObservedSettings,
    ctx: &Context,
) -> Result<bool, Halt> {
    let plan = provider.plan_settings(want, observed);
    let replan = || {
        async move {
            let observed = provider.observe_settings(want, Read::Fresh).await?;
            Ok(provider.plan_settings(want, &observed))
        }
        .boxed()
    };
    let kind = Kind::AuthorizationServer;
    // The door is apart from the rest. To shut it, or to want more, is a change of mind, no drift.
    let part = match want.registration {
        None => "settings",
        Some(_) => "settings of registration",
    };
    let version = format!("{want:?}");
    settle::settle_part(part, kind, server, provider, plan, &version, replan, ctx).await
}

/// What was noted, and what differs now and was not noted: what counts is what was there before us.
fn with_new(noted: &[TenantSetting], observed: &ObservedSettings) -> Vec<TenantSetting> {
    let is_new = |name: &&String| noted.iter().all(|known| known.name != **name);
    let new = observed.keys().filter(is_new).map(|name| TenantSetting {
        name: name.clone(),
        previous: observed[name].clone(),
    });
    noted.iter().cloned().chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_first_stays_noted() {
        let observed = |value: &str| ObservedSettings::from([("profile".to_owned(), value.to_owned())]);
        let first = with_new(&[], &observed("\"audience\""));
        assert_eq!(first[0].previous, "\"audience\"");
        assert_eq!(with_new(&first, &observed("\"other\"")), first);
        let more = ObservedSettings::from([("iss".to_owned(), "false".to_owned())]);
        assert_eq!(with_new(&first, &more).len(), 2);
    }
}
