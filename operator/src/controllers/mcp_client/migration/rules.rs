//! Where a client is at home, and what it may keep elsewhere. Pure.

use std::sync::Arc;

use kube::ResourceExt as _;
use mcp_auth_crds::{
    annotations,
    v1alpha1::{AuthorizationServer, GrantedAccess, McpClient, McpServer, ObjectReference},
};

use super::grants;
use crate::{
    credential::homes::{Homes, Page, Parked, Place},
    policy::{
        access::{Caller, allowed},
        grants::Tenant,
    },
};

/// Whether the client is registered where `authorizationServerRef` says, or nowhere yet; `server` is that AuthorizationServer,
/// if it exists. One of another name may stand for the same issuer.
pub(super) fn is_home(client: &McpClient, homes: &Homes, server: Option<&AuthorizationServer>) -> bool {
    let Some(here) = &homes.here else { return true };
    let own = client.namespace().unwrap_or_default();
    let reference = &client.spec.authorization_server_ref;
    match server {
        None => here.is_by(reference.namespace_or(&own), &reference.name),
        Some(server) => {
            let registers = server.spec.dynamic_registration.is_some();
            here.issuer == server.spec.issuer && here.registers == registers
        }
    }
}

/// What a client has elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elsewhere<'a> {
    /// Where.
    pub(super) place: &'a Place,
    /// What it can get tokens for there.
    pub(super) granted: &'a [GrantedAccess],
    /// The revocation request that was acted upon last there.
    pub(super) revocation: Option<&'a str>,
}

impl<'a> Elsewhere<'a> {
    /// What was put aside.
    pub(super) fn of(parked: &'a Parked) -> Self {
        Self {
            place: &parked.place,
            granted: &parked.granted,
            revocation: parked.revocation.as_deref(),
        }
    }
}

/// The same of a client that is where it was, while `authorizationServerRef` says something else.
pub(super) fn unmoved<'a>(client: &'a McpClient, here: &'a Place) -> Elsewhere<'a> {
    let status = client.status.as_ref();
    Elsewhere {
        place: here,
        granted: status.map_or(&[], |status| &status.granted),
        revocation: status.and_then(|status| status.last_handled_revoke_request.as_deref()),
    }
}

/// Where the client is registered as its status says it, for when the journal is lost; `registers` tells of an
/// AuthorizationServer whether one can only register there.
pub(super) fn remembered(client: &McpClient, registers: impl Fn(&ObjectReference) -> bool) -> Homes {
    let Some(status) = &client.status else {
        return Homes::default();
    };
    let own = client.namespace().unwrap_or_default();
    let place = |reference: &ObjectReference, issuer: &str, account: &Option<String>| Place {
        namespace: reference.namespace_or(&own).to_owned(),
        name: reference.name.clone(),
        issuer: issuer.to_owned(),
        realm: String::new(),
        registers: registers(reference),
        redirect_uris: Vec::new(),
        account: account.clone(),
    };
    let here = status.registered_at.as_ref();
    let kept = status.previous.iter().filter(|home| home.tokens_until.is_none());
    let parked = kept.map(|home| Parked {
        place: place(
            &home.authorization_server_ref,
            &home.issuer,
            &home.service_account,
        ),
        client_id: home.client_id.clone(),
        granted: home.granted.clone(),
        revocation: status.last_handled_revoke_request.clone(),
        until: home.valid_until.as_ref().and_then(|until| until.parse().ok()),
        page: Page::default(),
    });
    Homes {
        here: here.map(|home| {
            place(
                &home.authorization_server_ref,
                &home.issuer,
                &home.service_account,
            )
        }),
        parked: parked.collect(),
    }
}

/// By which AuthorizationServer what the client has at its home is to be reached when the client goes.
pub(super) fn last_home(client: &McpClient, homes: &Homes) -> Option<ObjectReference> {
    match &homes.here {
        Some(here) => Some(ObjectReference {
            name: here.name.clone(),
            namespace: Some(here.namespace.clone()),
        }),
        None if homes.parked.is_empty() => Some(client.spec.authorization_server_ref.clone()),
        None => None,
    }
}

/// What is known when that is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) client: &'a McpClient,
    pub(super) tenant: Tenant<'a>,
    pub(super) elsewhere: &'a Elsewhere<'a>,
    /// The AuthorizationServer there, if it exists.
    pub(super) authorization_server: Option<&'a AuthorizationServer>,
    /// The servers that exist of those for which it can get tokens there.
    pub(super) servers: &'a [(&'a GrantedAccess, Arc<McpServer>)],
}

/// Whether the client may not keep what it has there: it is suspended, its credential is to be revoked, or the administrator
/// there or the team of a server took something back. What is kept is kept as a whole, so all of it ends then.
pub(super) fn must_end(facts: &Facts<'_>) -> bool {
    let (client, elsewhere) = (facts.client, facts.elsewhere);
    let revocation = client.annotations().get(annotations::REVOKE_REQUESTED_AT);
    let is_revoked = revocation.is_some() && revocation.map(String::as_str) != elsewhere.revocation;
    let is_granted = |server| grants(server, facts.tenant, &elsewhere.place.redirect_uris);
    client.spec.is_suspended()
        || is_revoked
        || !facts.authorization_server.is_none_or(is_granted)
        || facts
            .servers
            .iter()
            .any(|(granted, server)| is_lost(granted, server, facts))
}

/// Whether a server does not allow any more what the client has of it. What is gone gives no tokens, and one of the same name
/// at another authorization server is another.
fn is_lost(granted: &GrantedAccess, server: &McpServer, facts: &Facts<'_>) -> bool {
    let own = server.namespace().unwrap_or_default();
    let reference = &server.spec.authorization_server_ref;
    if !facts
        .elsewhere
        .place
        .is_by(reference.namespace_or(&own), &reference.name)
    {
        return false;
    }
    let caller = Caller {
        tenant: facts.tenant,
        name: &facts.client.name_any(),
        exchanges: false,
    };
    let allowed = allowed(server, caller);
    granted.scopes.iter().any(|scope| !allowed.contains(scope))
}
