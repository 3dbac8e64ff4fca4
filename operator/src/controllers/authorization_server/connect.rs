//! Connecting: what is read to find out whether an AuthorizationServer can be used, and the connection that comes of it.

use std::sync::{Arc, Mutex};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{Auth0Tenant, AuthorizationServer, KeycloakRealm};

use super::{
    desired::{self, Trust},
    kept,
    observe::{self, Credentials, Inputs},
    self_registration,
    status::Progress,
    tenant_settings,
};
use crate::{
    cluster::is_deleting,
    connections::{Connection, Side},
    context::Context,
    controllers::{halt::Halt, pass::key},
    error::Error,
    metrics::Kind,
    policy::names,
    provider::{
        Access, Capability, Credential, ProviderError, SignIn,
        auth0::{self, Auth0},
        discovery::{self, Discovered},
        keycloak::{Keycloak, Settings},
        registration::{self, Registration},
    },
};

/// The connection, checked not long ago; made anew when what it is made of has changed.
///
/// Every change of a referring object leads here, so a check is made once per resync and not at each pass, unless
/// the last pass failed.
pub(super) async fn connect(
    server: &AuthorizationServer,
    inputs: Inputs,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Arc<Connection>, Halt> {
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let made_from = desired::made_from(server, &inputs);
    let existing = ctx
        .connections
        .get(&namespace, &name)
        .filter(|connection| connection.made_from == made_from);
    let failed = ctx
        .backoff
        .failures(Kind::AuthorizationServer.as_str(), &key(server))
        > 0;
    let now = ctx.clock.instant();
    if let Some(connection) = existing
        .as_ref()
        .filter(|c| !failed && c.is_fresh(now, ctx.config.resync_interval / 2))
    {
        progress.discovered(&connection.metadata);
        progress.signed_in(&connection.access);
        return Ok(Arc::clone(connection));
    }
    let connection = check(server, &inputs, made_from, existing.as_ref(), ctx, progress)
        .await
        .inspect_err(|halt| {
            // Whoever depends on it waits for a better credential, instead of failing with this one.
            if let Halt::Failed(
                Error::PermissionsMissing { .. }
                | Error::Provider(ProviderError::Unauthenticated { .. } | ProviderError::NoToken { .. }),
            ) = halt
            {
                ctx.connections.remove(&namespace, &name);
            }
        })?;
    // From here on others may register through it, and it must outlive what they make.
    if !is_deleting(server) {
        ctx.cluster.add_finalizer(server).await?;
    }
    kept::keep(server, &inputs, ctx).await?;
    // Those who failed while it could not be reached are woken too, instead of waiting for their back-off.
    if failed || existing.is_none_or(|existing| !Arc::ptr_eq(&existing, &connection)) {
        ctx.connections.set(&namespace, &name, Arc::clone(&connection));
    }
    Ok(connection)
}

/// Finds out what the server says of itself, signs in, and keeps the connection if it still says and allows the same.
async fn check(
    server: &AuthorizationServer,
    inputs: &Inputs,
    made_from: String,
    existing: Option<&Arc<Connection>>,
    ctx: &Context,
    progress: &mut Progress,
) -> Result<Arc<Connection>, Halt> {
    let endpoints = server.spec.endpoints.clone().unwrap_or_default();
    let asked = ctx.clock.instant();
    let discovered = discovery::discover(&observe::egress(inputs, ctx)?, &server.spec.issuer, &endpoints)
        .await
        .map_err(Error::from)?;
    progress.discovered(&discovered.metadata);
    let existing = existing.filter(|connection| connection.discovered == discovered);
    let side = match existing {
        Some(connection) => connection.side.clone(),
        None => side(server, inputs, &discovered, ctx)?,
    };
    let access = match &side {
        Side::Administered(provider) => {
            let access = provider.check_access().await?;
            refuse_missing(&access)?;
            provider.take_over().await?;
            progress.signed_in(&access);
            access
        }
        Side::Registering(_) => {
            let access = Access {
                capabilities: [Capability::ManagedClients].into(),
                ..Access::default()
            };
            progress.may_register(&access, &inputs.credentials);
            access
        }
    };
    if let Some(connection) = existing.filter(|connection| connection.access == access) {
        connection.confirm(asked);
        return Ok(Arc::clone(connection));
    }
    Ok(Arc::new(Connection {
        server: server.uid(),
        side,
        metadata: discovered.metadata.clone(),
        discovered,
        access,
        ca_bundle: inputs.ca_bundle.clone(),
        made_from,
        checked: Mutex::new(asked),
    }))
}

fn refuse_missing(access: &Access) -> Result<(), Halt> {
    if access.missing.is_empty() {
        return Ok(());
    }
    // Roles are granted at the authorization server, where no watch looks: this is tried again with back-off.
    Err(Error::PermissionsMissing {
        missing: access.missing.join(", "),
    }
    .into())
}

/// Chooses the way in.
fn side(
    server: &AuthorizationServer,
    inputs: &Inputs,
    discovered: &Discovered,
    ctx: &Context,
) -> Result<Side, Halt> {
    let spec = &server.spec;
    match (&spec.keycloak, &spec.auth0, &inputs.credentials) {
        (Some(realm), _, Credentials::Client { client_id, sign_in }) => {
            let operator = (client_id.as_str(), sign_in);
            keycloak(server, realm, operator, inputs, discovered, ctx)
        }
        (None, Some(tenant), Credentials::Client { client_id, sign_in }) => {
            let operator = (client_id.as_str(), sign_in);
            auth0(server, tenant, operator, inputs, discovered, ctx)
        }
        (None, None, Credentials::Registration(token)) => {
            registrar(server, token.clone(), inputs, discovered, ctx)
        }
        _ => Err(Halt::refused(
            "ProviderMissing",
            "Say which authorization server it is: keycloak, auth0 or dynamicRegistration",
        )),
    }
}

fn registrar(
    server: &AuthorizationServer,
    initial_access_token: Option<Credential>,
    inputs: &Inputs,
    discovered: &Discovered,
    ctx: &Context,
) -> Result<Side, Halt> {
    let registration = Registration::new(registration::Settings {
        endpoints: &server.spec.endpoints.clone().unwrap_or_default(),
        discovered,
        initial_access_token,
        ca_bundle: inputs.ca_bundle.as_deref().map(str::as_bytes),
        realms: &ctx.realms,
        egress: &ctx.egress,
        metrics: ctx.metrics.clone(),
        leadership: ctx.leadership.clone(),
    })
    .map_err(Error::from)?;
    let registration = registration.ok_or_else(|| {
        Halt::refused(
            "RegistrationNotOffered",
            "The metadata names no registration_endpoint: let the authorization server offer registration, or name it in endpoints.registration",
        )
    })?;
    Ok(Side::Registering(Arc::new(registration)))
}

fn keycloak(
    server: &AuthorizationServer,
    realm: &KeycloakRealm,
    (client_id, sign_in): (&str, &SignIn),
    inputs: &Inputs,
    discovered: &Discovered,
    ctx: &Context,
) -> Result<Side, Halt> {
    let endpoints = server.spec.endpoints.clone().unwrap_or_default();
    let keycloak = Keycloak::new(Settings {
        realm: &realm.realm,
        endpoints: &endpoints,
        discovered,
        client_id: client_id.to_owned(),
        sign_in: sign_in.clone(),
        token_files: &ctx.config.service_account_token_files,
        clock: ctx.clock.clone(),
        ca_bundle: inputs.ca_bundle.as_deref().map(str::as_bytes),
        installation: &ctx.installation,
        manages_trust: desired::trust(server) == Some(Trust::Ours),
        self_registration: self_registration::concerns(server),
        client_ids: names::client_id_prefix(&ctx.installation),
        realms: &ctx.realms,
        egress: &ctx.egress,
        metrics: ctx.metrics.clone(),
        leadership: ctx.leadership.clone(),
    })
    .map_err(Error::from)?;
    Ok(Side::Administered(Arc::new(keycloak)))
}

fn auth0(
    server: &AuthorizationServer,
    tenant: &Auth0Tenant,
    (client_id, sign_in): (&str, &SignIn),
    inputs: &Inputs,
    discovered: &Discovered,
    ctx: &Context,
) -> Result<Side, Halt> {
    let endpoints = server.spec.endpoints.clone().unwrap_or_default();
    let auth0 = Auth0::new(auth0::Settings {
        domain: &tenant.domain,
        endpoints: &endpoints,
        discovered,
        client_id: client_id.to_owned(),
        sign_in: sign_in.clone(),
        clock: ctx.clock.clone(),
        ca_bundle: inputs.ca_bundle.as_deref().map(str::as_bytes),
        installation: &ctx.installation,
        manages_settings: tenant_settings::are_managed(server),
        exchanges_by_action: !tenant.exchange_actions.is_empty(),
        adoption: desired::adoption(server),
        realms: &ctx.realms,
        egress: &ctx.egress,
        metrics: ctx.metrics.clone(),
        leadership: ctx.leadership.clone(),
    })
    .map_err(Error::from)?;
    Ok(Side::Administered(Arc::new(auth0)))
}
