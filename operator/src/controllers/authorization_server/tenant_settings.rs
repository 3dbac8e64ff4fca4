//! Settings of a tenant as a whole, where the platform team lets the operator keep them.
//!
//! They are never set back: by then others may rely on them. What they were before is in the status, and is there before
//! anything is set.

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
    provider::{ObservedSettings, Read},
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

/// Sets what differs.
pub(super) async fn keep(
    server: &AuthorizationServer,
    connection: &Connection,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let Some(provider) = connection.provider().filter(|_| are_managed(server)) else {
        return Ok(());
    };
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    if provider.observe_settings(remembered).await?.is_empty() {
        return Ok(());
    }
    if halt::is_paused(server) {
        return Err(Halt::Paused);
    }
    // What is written, and what is noted, rests on what is there now.
    let observed = provider.observe_settings(Read::Fresh).await?;
    let noted = with_new(stored(server), &observed);
    if noted != stored(server) {
        // Written to the status, this comes by here again.
        progress.had_settings(noted);
        return Err(Halt::waiting(
            "Waiting",
            "Waits until the status says what the settings of the tenant were",
        ));
    }
    let plan = provider.plan_settings(&observed);
    let replan = || {
        async move {
            let observed = provider.observe_settings(Read::Fresh).await?;
            Ok(provider.plan_settings(&observed))
        }
        .boxed()
    };
    let kind = Kind::AuthorizationServer;
    settle::settle_part("settings", kind, server, provider, plan, "", replan, ctx).await?;
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
