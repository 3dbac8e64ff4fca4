//! That clients may authenticate with tokens of their ServiceAccounts: what the realm needs for it as a whole.
//!
//! Status says what is being made before it is made, so that it is found again by whoever takes it away.

use futures::FutureExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, ServiceAccountTrust};

use super::{
    desired::{self, Trust},
    observe,
    status::Progress,
};
use crate::{
    connections::Connection,
    context::Context,
    controllers::{
        halt::{self, Halt},
        settle,
    },
    error::Error,
    metrics::Kind,
    provider::{Access, Capability, Provider, Read},
};

/// What the status says of it.
pub(super) fn stored(server: &AuthorizationServer) -> Option<&ServiceAccountTrust> {
    server.status.as_ref()?.service_account_issuer.as_ref()
}

/// Makes it so, or undoes it, as the spec says.
pub(super) async fn keep(
    server: &AuthorizationServer,
    connection: &Connection,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    let Some(provider) = connection.provider() else {
        return Ok(());
    };
    match desired::trust(server) {
        Some(Trust::Ours) => make(server, connection, provider, ctx, progress).await,
        Some(Trust::Theirs(name)) => {
            if name != provider.trust_name() {
                remove(server, provider, ctx).await?;
            }
            progress.trusts(Some(ServiceAccountTrust {
                identity_provider: name.to_owned(),
                url: None,
                trusted: true,
            }));
            Ok(())
        }
        None => {
            remove(server, provider, ctx).await?;
            progress.trusts(None);
            Ok(())
        }
    }
}

async fn make(
    server: &AuthorizationServer,
    connection: &Connection,
    provider: &dyn Provider,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<(), Halt> {
    possible(&connection.access)?;
    let wanted = ServiceAccountTrust {
        identity_provider: provider.trust_name(),
        url: Some(url(server, ctx).await?),
        trusted: true,
    };
    let others = observe::of_the_same_realm(server, provider.realm(), ctx);
    if let Some(halt) = contradicts(server, &wanted, others.iter().map(AsRef::as_ref)) {
        return Err(halt);
    }
    let known = stored(server).is_some_and(|stored| is_about(stored, &wanted));
    if !known {
        // Written to the status, this comes by here again.
        progress.trusts(Some(ServiceAccountTrust {
            trusted: false,
            ..wanted
        }));
        return Ok(());
    }
    if halt::is_paused(server) {
        return Err(Halt::Paused);
    }
    let issuer = wanted.url.as_deref();
    let remembered = Read::Within(ctx.config.resync_interval / 2);
    let plan = provider.plan_trust(issuer, &provider.observe_trust(remembered).await?);
    if let Some(conflict) = plan.conflicts.first() {
        return Err(Halt::refused(
            "IdentityProviderTaken",
            format!(
                "The realm has the {} for ServiceAccounts, which the operator did not make: name it in keycloak.serviceAccountIssuer.identityProvider, or delete it",
                conflict.subject
            ),
        ));
    }
    let replan = || {
        async move { Ok(provider.plan_trust(issuer, &provider.observe_trust(Read::Fresh).await?)) }.boxed()
    };
    let version = format!("{wanted:?}");
    settle::settle(
        Kind::AuthorizationServer,
        server,
        provider,
        plan,
        &version,
        replan,
        ctx,
    )
    .await?;
    progress.trusts(Some(wanted));
    Ok(())
}

/// Whether both are about the same issuer, in force or not.
fn is_about(one: &ServiceAccountTrust, other: &ServiceAccountTrust) -> bool {
    (&one.identity_provider, &one.url) == (&other.identity_provider, &other.url)
}

/// Whether the operator can do it there.
fn possible(access: &Access) -> Result<(), Halt> {
    let capability = Capability::ServiceAccountTokens;
    if access.capabilities.contains(&capability) {
        return Ok(());
    }
    Err(match access.withheld.get(&capability) {
        // As with all roles, nothing tells when it is granted.
        Some(permission) => Halt::Failed(Error::PermissionsMissing {
            missing: format!("{permission} for keycloak.serviceAccountIssuer"),
        }),
        None => Halt::refused(
            "ServiceAccountsUnsupported",
            "The authorization server does not know ServiceAccounts of Kubernetes: leave out keycloak.serviceAccountIssuer",
        ),
    })
}

/// The issuer of the tokens.
async fn url(server: &AuthorizationServer, ctx: &Context) -> Result<String, Error> {
    let keycloak = server.spec.keycloak.as_ref();
    let spec = keycloak.and_then(|realm| realm.service_account_issuer.as_ref());
    match spec.and_then(|issuer| issuer.url.clone()) {
        Some(url) => Ok(url),
        None => ctx.cluster.token_issuer().await,
    }
}

/// One installation keeps one issuer in a realm: the AuthorizationServer that came first says which.
fn contradicts<'a>(
    server: &AuthorizationServer,
    wanted: &ServiceAccountTrust,
    others: impl Iterator<Item = &'a AuthorizationServer>,
) -> Option<Halt> {
    let age = |server: &AuthorizationServer| {
        let meta = &server.metadata;
        (
            meta.creation_timestamp.clone().map(|time| time.0),
            meta.uid.clone(),
        )
    };
    let mut others = others.filter(|other| age(other) < age(server));
    let contradicts = |other: &&AuthorizationServer| {
        let theirs = stored(other).filter(|theirs| theirs.identity_provider == wanted.identity_provider);
        theirs.is_some_and(|theirs| !is_about(theirs, wanted))
    };
    let other = others.find(contradicts)?;
    Some(Halt::refused(
        "IssuerDiffers",
        format!(
            "AuthorizationServer {}/{} has another serviceAccountIssuer for the same realm: give both the same",
            other.metadata.namespace.as_deref().unwrap_or_default(),
            other.metadata.name.as_deref().unwrap_or_default()
        ),
    ))
}

/// Removes what was made for it, unless another AuthorizationServer of the realm needs it.
pub(super) async fn remove(
    server: &AuthorizationServer,
    provider: &dyn Provider,
    ctx: &Context,
) -> Result<(), Halt> {
    let ours = provider.trust_name();
    let made = |server: &AuthorizationServer| {
        stored(server).is_some_and(|stored| stored.identity_provider == ours && stored.url.is_some())
    };
    let others = observe::of_the_same_realm(server, provider.realm(), ctx);
    if !made(server) || others.iter().any(|other| made(other)) {
        return Ok(());
    }
    let replan = || async move { Ok(provider.plan_trust(None, &provider.observe_trust(Read::Fresh).await?)) };
    settle::remove(provider, replan().await?, || replan().boxed()).await
}

#[cfg(test)]
mod tests;
