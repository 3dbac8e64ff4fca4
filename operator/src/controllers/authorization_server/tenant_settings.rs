//! Settings of a tenant as a whole, where the platform team lets the operator keep them.
//!
//! They are never set back: by then others may rely on them. What they were before is in the status, and is there before
//! anything is set. One is no setting but a door: that clients can register themselves ends with the wish for it, unless
//! they could before.

use futures::FutureExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, TenantSetting};

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

/// What is kept at all times.
pub(super) const ALWAYS: SettingsSpec = SettingsSpec {
    for_mcp: true,
    registration: None,
};

/// What clients need to register themselves.
pub(super) const OPEN: SettingsSpec = SettingsSpec {
    for_mcp: false,
    registration: Some(Registering::Open),
};

/// That they cannot.
const SHUT: SettingsSpec = SettingsSpec {
    for_mcp: false,
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

/// Sets what differs of what is wanted.
pub(super) async fn keep(
    server: &AuthorizationServer,
    connection: &Connection,
    want: SettingsSpec,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let Some(provider) = connection.provider().filter(|_| are_managed(server)) else {
        return Ok(());
    };
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    if provider.observe_settings(want, remembered).await?.is_empty() {
        return Ok(());
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
    set(server, provider, SHUT, &observed, ctx).await
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
) -> Result<(), Halt> {
    let plan = provider.plan_settings(want, observed);
    let replan = || {
        async move {
            let observed = provider.observe_settings(want, Read::Fresh).await?;
            Ok(provider.plan_settings(want, &observed))
        }
        .boxed()
    };
    let kind = Kind::AuthorizationServer;
    // The door is apart from the rest, and to shut it is a change of mind, no drift.
    let (part, version) = match want.registration {
        None => ("settings", String::new()),
        Some(registration) => ("settings of registration", format!("{registration:?}")),
    };
    settle::settle_part(part, kind, server, provider, plan, &version, replan, ctx).await?;
    Ok(())
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
