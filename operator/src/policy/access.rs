//! What a client gets: the intersection of what it asks for and what servers allow.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{Access, AllowedClients, McpServer, ScopeName};

use super::{
    grants::{Tenant, selects},
    scopes,
};
use crate::provider::{Holder, ObservedScopes};

/// Who asks for access.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its namespace.
    pub tenant: Tenant<'a>,
    /// Its name.
    pub name: &'a str,
    /// Whether it is an McpServer that wants to exchange tokens, rather than an McpClient.
    pub exchanges: bool,
}

/// The scopes of `server` that the caller may have at most. Empty: the server does not allow it at all.
pub fn allowed(server: &McpServer, caller: Caller<'_>) -> BTreeSet<String> {
    let own = server.namespace().unwrap_or_default();
    let Some(entries) = &server.spec.allowed_clients else {
        // Unset: the clients of the own namespace with all scopes. Exchange always has to be said.
        let may = own == caller.tenant.namespace && !caller.exchanges;
        return if may {
            scopes::effective(server).into_keys().collect()
        } else {
            BTreeSet::new()
        };
    };
    entries
        .iter()
        .filter(|entry| covers(entry, &own, caller))
        .flat_map(|entry| match &entry.scopes {
            Some(names) => names.iter().map(|name| name.0.clone()).collect(),
            None => scopes::challenged(server),
        })
        .collect()
}

/// The scopes of `server` that clients may have which registered themselves.
pub fn self_registered(server: &McpServer) -> BTreeSet<String> {
    let entries = server.spec.allowed_clients.iter().flatten();
    let declared = scopes::effective(server);
    entries
        .filter(|entry| entry.self_registered == Some(true))
        .flat_map(|entry| match &entry.scopes {
            Some(names) => names.iter().map(|name| name.0.clone()).collect(),
            None => scopes::challenged(server),
        })
        .filter(|scope| declared.contains_key(scope))
        .collect()
}

fn covers(entry: &AllowedClients, own: &str, caller: Caller<'_>) -> bool {
    let named = entry
        .names
        .as_ref()
        .is_none_or(|names| names.iter().any(|name| name == caller.name));
    let selected = entry
        .namespaces
        .as_ref()
        .is_some_and(|selection| selects(selection, own, caller.tenant));
    // An entry with `exchange: true` is about McpServers that exchange and about McpClients alike; names tell them
    // apart where it matters.
    named && selected && (!caller.exchanges || entry.exchange == Some(true))
}

/// Whether the entry names a server of another namespace that allows the caller nothing. Nothing of it may be told, not even
/// whether it exists: `server` is the McpServer that it names, if there is one.
pub fn is_closed(entry: &Access, server: Option<&McpServer>, caller: Caller<'_>) -> bool {
    let own = caller.tenant.namespace;
    entry.server.namespace_or(own) != own && server.is_none_or(|server| allowed(server, caller).is_empty())
}

/// What one entry of `access` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The server as `<namespace>/<name>`.
    pub server: String,
    /// Its resource.
    pub resource: String,
    /// Scopes that the caller gets and that exist at the authorization server as this server's.
    pub granted: BTreeSet<String>,
    /// Scopes that it would get, once the server is registered.
    pub awaited: BTreeSet<String>,
    /// Scopes that it asked for and does not get.
    pub refused: BTreeSet<String>,
}

/// Decides one entry of `access` that is not closed. `server` is the McpServer it names, which uses the caller's authorization
/// server; `at_server` are the realm's scopes: a scope counts only if its mark there says that it is that
/// server's, so that a server which merely *declares* a name can never lend another one's scope to a client.
pub fn decide(
    entry: &Access,
    server: &McpServer,
    caller: Caller<'_>,
    installation: &str,
    at_server: &ObservedScopes,
) -> Decision {
    let allowed = allowed(server, caller);
    let asked: BTreeSet<String> = match &entry.scopes {
        Some(names) => names.iter().map(|ScopeName(name)| name.clone()).collect(),
        None => scopes::challenged(server),
    };
    let (may, refused): (BTreeSet<_>, BTreeSet<_>) =
        asked.into_iter().partition(|scope| allowed.contains(scope));
    let (granted, awaited) = may
        .into_iter()
        .partition(|scope| is_scope_of(server, installation, scope, at_server));
    Decision {
        server: format!("{}/{}", server.namespace().unwrap_or_default(), server.name_any()),
        resource: server.spec.resource.clone(),
        granted,
        awaited,
        refused,
    }
}

/// Whether the scope of this name that leads to `server` carries its mark.
pub fn is_scope_of(server: &McpServer, installation: &str, scope: &str, at_server: &ObservedScopes) -> bool {
    matches!(at_server.owner(&server.spec.resource, scope).map(|owner| &owner.holder), Some(Holder::Marked(mark))
        if mark.installation == installation
            && mark.kind == "McpServer"
            && Some(&mark.namespace) == server.metadata.namespace.as_ref()
            && Some(&mark.name) == server.metadata.name.as_ref())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
