//! What a TokenExchangePolicy comes to.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{Api, AuthorizationServer, ExchangeAction, McpServer, TokenExchangePolicy};

use super::{
    Refusal,
    access::{Caller, allowed, is_scope_of},
    grants::{self, Tenant},
    names,
};
use crate::provider::{Access, Capability, Holder, ObservedScopes, Subjects};

/// What the policy names, as far as it exists.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The McpServer that exchanges.
    pub server: &'a McpServer,
    /// Its AuthorizationServer.
    pub authorization_server: &'a AuthorizationServer,
    /// The namespace of policy and server.
    pub tenant: Tenant<'a>,
    /// The McpServer that `mcpServerRef` names, if it exists.
    pub target: Option<&'a McpServer>,
}

/// What a policy may give, by the objects in the cluster alone.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// Another MCP server.
    Server(&'a McpServer),
    /// An internal API.
    Api(&'a Api),
}

impl Target<'_> {
    /// The audience of the exchanged tokens.
    pub fn audience(&self) -> &str {
        match self {
            Self::Server(server) => &server.spec.resource,
            Self::Api(api) => &api.audience,
        }
    }
}

/// A policy that its target's owner lets be.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    /// The target.
    pub target: Target<'a>,
    /// The scopes that the target gives to this server.
    pub scopes: BTreeSet<String>,
    /// The scopes that the policy asks for beyond them.
    pub unassigned: BTreeSet<String>,
}

/// Judges a policy. `Err(None)` means that the target, in the policy's own namespace, does not exist yet.
pub fn judge<'a>(
    policy: &TokenExchangePolicy,
    parties: Parties<'a>,
) -> Result<Accepted<'a>, Option<Refusal>> {
    if parties.authorization_server.spec.dynamic_registration.is_some() {
        return Err(Some(Refusal::new(
            "ExchangeUnsupported",
            "The authorization server offers registration of clients only: nobody can be let exchange tokens there",
        )));
    }
    if let Some(action) = &policy.spec.action {
        grants::action(parties.authorization_server, parties.tenant, action)?;
    }
    let asked: BTreeSet<String> = policy
        .spec
        .scopes
        .iter()
        .map(|scope| scope.name.0.clone())
        .collect();
    let (target, offered) = match (&policy.spec.mcp_server_ref, &policy.spec.api_ref) {
        (Some(reference), _) => {
            let own = parties.tenant.namespace;
            let at = reference.namespace_or(own);
            let Some(target) = parties.target else {
                // The same answer whether it exists or not: what other teams have is not for everybody.
                let closed = || not_allowed(at, &reference.name, parties);
                return Err((at != own).then(closed));
            };
            (Target::Server(target), offered_by_server(target, parties)?)
        }
        (None, Some(reference)) => {
            let api = grants::api(parties.authorization_server, parties.tenant, &reference.name)?;
            (
                Target::Api(api),
                api.scopes.iter().map(|scope| scope.name.0.clone()).collect(),
            )
        }
        (None, None) => {
            return Err(Some(Refusal::new(
                "TargetMissing",
                "Name a target: mcpServerRef or apiRef",
            )));
        }
    };
    let (scopes, unassigned): (BTreeSet<_>, BTreeSet<_>) =
        asked.into_iter().partition(|s| offered.contains(s));
    if scopes.is_empty() {
        let names = unassigned.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Some(Refusal::new(
            "ScopesNotOffered",
            format!("The target offers none of these scopes: {names}"),
        )));
    }
    Ok(Accepted {
        target,
        scopes,
        unassigned,
    })
}

/// Whose tokens the policy lets be exchanged.
pub fn subjects(policy: &TokenExchangePolicy, installation: &str) -> Subjects {
    let Some(clients) = &policy.spec.subject_clients else {
        return Subjects::Any;
    };
    let own = policy.namespace().unwrap_or_default();
    let ids = clients
        .iter()
        .map(|client| names::client_id(installation, client.namespace_or(&own), &client.name));
    Subjects::Only(ids.collect())
}

/// Notes that a policy gives these scopes for these subjects, beside what others give.
pub fn give(
    given: &mut BTreeMap<String, Subjects>,
    scopes: impl IntoIterator<Item = String>,
    subjects: &Subjects,
) {
    for scope in scopes {
        let all = match given.remove(&scope) {
            Some(already) => already.or(subjects.clone()),
            None => subjects.clone(),
        };
        given.insert(scope, all);
    }
}

/// What the server's status says that it can exchange tokens for, and whose.
pub fn in_force(server: &McpServer) -> BTreeMap<String, Subjects> {
    let status = server.status.iter();
    let scopes = status.clone().flat_map(|status| &status.exchange_scopes);
    let limits = status.flat_map(|status| &status.exchange_limits);
    let mut given: BTreeMap<_, _> = scopes.map(|scope| (scope.clone(), Subjects::Any)).collect();
    for limit in limits {
        let clients = limit.clients.iter().cloned().collect();
        given.insert(limit.scope.clone(), Subjects::Only(clients));
    }
    given
}

/// The action of this name by which the server's status says that it can exchange.
pub fn acts_by<'a>(server: &'a McpServer, action: &str) -> Option<&'a ExchangeAction> {
    let mut held = server.status.iter().flat_map(|status| &status.exchange_actions);
    held.find(|held| held.name == action)
}

/// Whether the authorization server can tell subjects apart as the policy wants it. One that wants it where that cannot
/// be done gives nothing at all.
pub fn enforceable(policy: &TokenExchangePolicy, access: &Access) -> Result<(), Refusal> {
    if policy.spec.subject_clients.is_none() || access.capabilities.contains(&Capability::SubjectClients) {
        return Ok(());
    }
    Err(match access.withheld.get(&Capability::SubjectClients) {
        Some(permission) => Refusal::new(
            "PermissionMissing",
            format!(
                "The operator's credential lacks {permission}, without which exchange cannot be limited to subjectClients: grant it at the authorization server, or leave subjectClients out"
            ),
        ),
        None => Refusal::new(
            "SubjectClientsNotSupported",
            "The authorization server cannot limit exchange to subjectClients: leave them out",
        ),
    })
}

/// That limits which the operator made stay where they are because it may not change them any more.
pub fn locked(access: &Access) -> Refusal {
    let permission = access.withheld.get(&Capability::SubjectClients);
    let permission = permission.copied().unwrap_or("a permission");
    Refusal::new(
        "PermissionMissing",
        format!(
            "The limits of exchange that were made at the authorization server cannot be removed: the operator's credential lacks {permission}, grant it there"
        ),
    )
}

fn offered_by_server(target: &McpServer, parties: Parties<'_>) -> Result<BTreeSet<String>, Refusal> {
    let own = parties.tenant.namespace;
    let used = |server: &McpServer, namespace: &str| {
        let reference = &server.spec.authorization_server_ref;
        (
            reference.namespace_or(namespace).to_owned(),
            reference.name.clone(),
        )
    };
    if target.metadata.uid == parties.server.metadata.uid {
        return Err(Refusal::new(
            "SameServer",
            "A server needs no exchange for its own tokens",
        ));
    }
    let (at, name) = (target.namespace().unwrap_or_default(), target.name_any());
    let offered = allowed(
        target,
        Caller {
            tenant: parties.tenant,
            name: &parties.server.name_any(),
            exchanges: true,
        },
    );
    if offered.is_empty() {
        return Err(not_allowed(&at, &name, parties));
    }
    if used(target, &at) != used(parties.server, own) {
        return Err(Refusal::new(
            "DifferentAuthorizationServer",
            format!(
                "McpServer {at}/{name} uses another AuthorizationServer, whose tokens this one cannot exchange"
            ),
        ));
    }
    Ok(offered)
}

fn not_allowed(at: &str, name: &str, parties: Parties<'_>) -> Refusal {
    let (own, server) = (parties.tenant.namespace, parties.server.name_any());
    Refusal::new(
        "ExchangeNotAllowed",
        format!(
            "McpServer {at}/{name} does not let {own}/{server} exchange tokens: ask for an entry with exchange: true in its allowedClients"
        ),
    )
}

impl Accepted<'_> {
    /// The scopes that exist at the authorization server as the target's own, and can be attached.
    ///
    /// A scope of a managed API carries the AuthorizationServer's mark; one that is only referred to carries none,
    /// so that no policy can reach another server's scope through an API that happens to name it.
    pub fn attachable(
        &self,
        installation: &str,
        authorization_server: &AuthorizationServer,
        at_server: &ObservedScopes,
    ) -> BTreeSet<String> {
        let belongs = |scope: &&String| match &self.target {
            Target::Server(server) => is_scope_of(server, installation, scope, at_server),
            Target::Api(api) => match at_server.owner(&api.audience, scope).map(|owner| &owner.holder) {
                Some(Holder::Marked(mark)) => {
                    api.manage == Some(true)
                        && mark.installation == installation
                        && mark.kind == "AuthorizationServer"
                        && Some(&mark.namespace) == authorization_server.metadata.namespace.as_ref()
                        && Some(&mark.name) == authorization_server.metadata.name.as_ref()
                }
                Some(Holder::Unmarked { .. }) => api.manage != Some(true),
                Some(Holder::BuiltIn) | None => false,
            },
        };
        self.scopes.iter().filter(belongs).cloned().collect()
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
