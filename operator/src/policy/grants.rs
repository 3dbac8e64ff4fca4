//! What an AuthorizationServer lets a namespace do.
//!
//! The object's own namespace may do everything. Any other may do what at least one grant that selects it gives;
//! grants add up. Every message says what to ask the platform team for.

use std::collections::BTreeMap;

use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use mcp_auth_crds::v1alpha1::{
    AllowedAction, Api, AuthorizationServer, Grant, NamespaceSelection, NamespacesFrom,
};
use url::{Host, Url};

use super::Refusal;

/// A namespace that wants something.
#[derive(Clone, Copy, Debug)]
pub struct Tenant<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// Whether `selection`, written in an object of namespace `own`, means the tenant. A selector that cannot be
/// understood means nobody.
pub fn selects(selection: &NamespaceSelection, own: &str, tenant: Tenant<'_>) -> bool {
    match selection.from {
        NamespacesFrom::All => true,
        NamespacesFrom::Same => own == tenant.namespace,
        NamespacesFrom::Selector => selection
            .selector
            .clone()
            .and_then(|selector| Selector::try_from(selector).ok())
            .is_some_and(|selector| selector.matches(tenant.labels)),
    }
}

/// `None` when the tenant may do everything, else the grants that select it.
fn granted<'a>(server: &'a AuthorizationServer, tenant: Tenant<'_>) -> Option<Vec<&'a Grant>> {
    let own = server.namespace().unwrap_or_default();
    (own != tenant.namespace).then(|| {
        server
            .spec
            .grants
            .iter()
            .filter(|grant| selects(&grant.namespaces, &own, tenant))
            .collect()
    })
}

/// Whether the tenant may register anything at all.
pub fn admits(authorization_server: &AuthorizationServer, tenant: Tenant<'_>) -> bool {
    granted(authorization_server, tenant).is_none_or(|grants| {
        grants
            .iter()
            .any(|grant| grant.servers.is_some() || grant.clients.is_some())
    })
}

/// Whether the tenant may register an MCP server with this resource and these scopes. `default_scope` is the
/// scope that is derived from the server's own name and needs no grant.
pub fn server(
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    resource: &str,
    scopes: impl Iterator<Item = impl AsRef<str>>,
    default_scope: &str,
) -> Result<(), Refusal> {
    let Some(grants) = granted(authorization_server, tenant) else {
        return Ok(());
    };
    let of = reference(authorization_server);
    let servers: Vec<_> = grants.iter().filter_map(|grant| grant.servers.as_ref()).collect();
    let ns = tenant.namespace;
    if servers.is_empty() {
        return Err(Refusal::new(
            "NamespaceNotGranted",
            format!("Namespace {ns} may not register MCP servers: ask for a grant with servers in {of}"),
        ));
    }
    let host = host_of(resource).unwrap_or_default();
    if !servers
        .iter()
        .any(|grant| grant.hosts.iter().any(|pattern| host_matches(&pattern.0, &host)))
    {
        return Err(Refusal::new(
            "HostNotGranted",
            format!(
                "Namespace {ns} may not use the host {host}: ask for it in grants[].servers.hosts of {of}"
            ),
        ));
    }
    let covered = |scope: &str| {
        scope == default_scope
            || servers.iter().any(|grant| {
                grant
                    .scope_prefixes
                    .iter()
                    .any(|prefix| scope.starts_with(prefix))
            })
    };
    for scope in scopes {
        let scope = scope.as_ref();
        if !covered(scope) {
            return Err(Refusal::new(
                "ScopeNotGranted",
                format!(
                    "Namespace {ns} may not claim the scope {scope}: ask for its beginning in grants[].servers.scopePrefixes of {of}"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether the tenant may exchange tokens by this action.
pub fn action(
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    name: &str,
) -> Result<(), Refusal> {
    let Some(auth0) = &authorization_server.spec.auth0 else {
        return Err(Refusal::new(
            "ActionsNotSupported",
            "Only Auth0 has actions that judge tokens: leave action out",
        ));
    };
    let own = authorization_server.namespace().unwrap_or_default();
    let ns = tenant.namespace;
    let gives = |action: &AllowedAction| {
        action.name == name && (own == ns || selects(&action.namespaces, &own, tenant))
    };
    if auth0.exchange_actions.iter().any(gives) {
        return Ok(());
    }
    // The same answer whether there is one or not: what the tenant has is not for everybody.
    Err(Refusal::new(
        "ActionNotGranted",
        format!(
            "Namespace {ns} may not exchange tokens by the action {name}: ask for it in auth0.exchangeActions of {}",
            reference(authorization_server)
        ),
    ))
}

/// Whether the tenant may register a client with these redirect URIs.
pub fn client(
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    redirect_uris: &[String],
) -> Result<(), Refusal> {
    let Some(grants) = granted(authorization_server, tenant) else {
        return Ok(());
    };
    let of = reference(authorization_server);
    let clients: Vec<_> = grants.iter().filter_map(|grant| grant.clients.as_ref()).collect();
    let ns = tenant.namespace;
    if clients.is_empty() {
        return Err(Refusal::new(
            "NamespaceNotGranted",
            format!("Namespace {ns} may not register clients: ask for a grant with clients in {of}"),
        ));
    }
    for uri in redirect_uris {
        let target = redirect_target(uri);
        if !clients.iter().any(|grant| {
            grant
                .redirect_hosts
                .iter()
                .any(|p| redirect_matches(&p.0, &target))
        }) {
            return Err(Refusal::new(
                "RedirectHostNotGranted",
                format!(
                    "Namespace {ns} may not redirect to {target}: ask for it in grants[].clients.redirectHosts of {of}"
                ),
            ));
        }
    }
    Ok(())
}

/// The API of this name, if the tenant may exchange tokens for it.
pub fn api<'a>(
    authorization_server: &'a AuthorizationServer,
    tenant: Tenant<'_>,
    name: &str,
) -> Result<&'a Api, Refusal> {
    let of = reference(authorization_server);
    let not_granted = || {
        Refusal::new(
            "ApiNotGranted",
            format!(
                "Namespace {} may not exchange tokens for the API {name}: ask for it in grants[].tokenExchange.apis of {of}",
                tenant.namespace
            ),
        )
    };
    if let Some(grants) = granted(authorization_server, tenant) {
        let named = |grant: &&Grant| {
            grant
                .token_exchange
                .as_ref()
                .is_some_and(|g| g.apis.iter().any(|a| a == name))
        };
        if !grants.iter().any(named) {
            // The same answer whether the API exists or not: names of internal APIs are not for everybody.
            return Err(not_granted());
        }
    }
    authorization_server
        .spec
        .apis
        .iter()
        .find(|api| api.name == name)
        .ok_or_else(|| {
            Refusal::new(
                "ApiNotFound",
                format!("{of} has no API {name}: declare it in its apis, or name another one"),
            )
        })
}

/// How messages name an AuthorizationServer.
fn reference(server: &AuthorizationServer) -> String {
    format!(
        "AuthorizationServer {}/{}",
        server.namespace().unwrap_or_default(),
        server.name_any()
    )
}

/// The host of a URL in its canonical spelling, without port.
fn host_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host().map(|host| host.to_string())
}

/// Whether a host pattern (`*`, `*.example.com`, or a name) covers a host. `*.` stands for one or more labels
/// and never for the bare domain; it covers names only, not addresses.
fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            matches!(Host::parse(host), Ok(Host::Domain(_)))
                && host
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        None => pattern == "*" || pattern == host,
    }
}

/// What a redirect URI leads to: its host, or for a custom scheme the scheme with its colon.
fn redirect_target(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => host_of(uri).unwrap_or_default(),
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => String::new(),
    }
}

/// `*` stands for every host, but not for custom schemes, which any application on a device may claim.
fn redirect_matches(pattern: &str, target: &str) -> bool {
    if target.ends_with(':') {
        pattern == target
    } else {
        host_matches(pattern, target)
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
