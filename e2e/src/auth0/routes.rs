//! The endpoints of the Management API that there are, and the scopes that they want.

use super::{
    actions, clients,
    clients::credentials,
    connections, exchange_profiles, grants, resource_servers, roles, settings,
    tenant::{Call, Outcome, Tenant},
};

/// An endpoint.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// Below `/api/v2/`, with `{id}` for what varies.
    pub(super) path: &'static str,
    pub(super) scopes: Scopes,
    pub(super) run: Run,
}

/// Which scopes a caller needs.
pub(super) enum Scopes {
    Any(&'static [&'static str]),
    All(&'static [&'static str]),
}

/// How an endpoint is carried out.
pub(super) enum Run {
    Now(fn(&mut Tenant, &Call<'_>) -> Outcome),
    /// With the document of a client, which is fetched first.
    Preview,
    Register,
}

impl Route {
    /// The name of its bucket.
    pub(super) fn name(&self) -> String {
        format!("{} /{}", self.method, self.path)
    }

    /// What stands for the placeholders, if this is the route of a call.
    pub(super) fn matches<'a>(&self, method: &str, path: &'a [String]) -> Option<Vec<&'a str>> {
        let pattern: Vec<&str> = self.path.split('/').collect();
        if self.method != method || pattern.len() != path.len() {
            return None;
        }
        let mut ids = Vec::new();
        for (wanted, segment) in pattern.into_iter().zip(path) {
            match wanted {
                "{id}" if !segment.is_empty() => ids.push(segment.as_str()),
                wanted if wanted == segment => {}
                _ => return None,
            }
        }
        Some(ids)
    }
}

const fn on(
    method: &'static str,
    path: &'static str,
    scopes: &'static [&'static str],
    run: fn(&mut Tenant, &Call<'_>) -> Outcome,
) -> Route {
    Route {
        method,
        path,
        scopes: Scopes::Any(scopes),
        run: Run::Now(run),
    }
}

/// A literal path comes before one with a placeholder in the same place.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    on("GET", "tenants/settings", &["read:tenant_settings"], settings::get),
    on("PATCH", "tenants/settings", &["update:tenant_settings"], settings::patch),

    on("GET", "resource-servers", &["read:resource_servers"], resource_servers::list),
    on("POST", "resource-servers", &["create:resource_servers"], resource_servers::create),
    on("GET", "resource-servers/{id}", &["read:resource_servers"], resource_servers::get),
    on("PATCH", "resource-servers/{id}", &["update:resource_servers"], resource_servers::patch),
    on("DELETE", "resource-servers/{id}", &["delete:resource_servers"], resource_servers::delete),

    Route { method: "POST", path: "clients/cimd/preview", scopes: Scopes::Any(&["read:clients"]), run: Run::Preview },
    Route {
        method: "POST", path: "clients/cimd/register",
        scopes: Scopes::All(&["create:clients", "update:clients"]), run: Run::Register,
    },
    on("GET", "clients", &["read:clients", "read:client_keys"], clients::list),
    on("POST", "clients", &["create:clients"], clients::create),
    on("GET", "clients/{id}", &["read:clients", "read:client_keys"], clients::get),
    on("PATCH", "clients/{id}", &["update:clients"], clients::patch),
    on("DELETE", "clients/{id}", &["delete:clients"], clients::delete),
    on("POST", "clients/{id}/rotate-secret", &["update:client_keys"], clients::rotate_secret),
    on("GET", "clients/{id}/credentials", &["read:client_credentials"], credentials::list),
    on("POST", "clients/{id}/credentials", &["create:client_credentials"], credentials::create),
    on("GET", "clients/{id}/credentials/{id}", &["read:client_credentials"], credentials::get),
    on("PATCH", "clients/{id}/credentials/{id}", &["update:client_credentials"], credentials::patch),
    on("DELETE", "clients/{id}/credentials/{id}", &["delete:client_credentials"], credentials::delete),

    on("GET", "client-grants", &["read:client_grants"], grants::list),
    on("POST", "client-grants", &["create:client_grants"], grants::create),
    on("GET", "client-grants/{id}", &["read:client_grants"], grants::get),
    on("PATCH", "client-grants/{id}", &["update:client_grants"], grants::patch),
    on("DELETE", "client-grants/{id}", &["delete:client_grants"], grants::delete),

    on("GET", "token-exchange-profiles", &["read:token_exchange_profiles"], exchange_profiles::list),
    on("POST", "token-exchange-profiles", &["create:token_exchange_profiles"], exchange_profiles::create),
    on("GET", "token-exchange-profiles/{id}", &["read:token_exchange_profiles"], exchange_profiles::get),
    on("PATCH", "token-exchange-profiles/{id}", &["update:token_exchange_profiles"], exchange_profiles::patch),
    on("DELETE", "token-exchange-profiles/{id}", &["delete:token_exchange_profiles"], exchange_profiles::delete),

    on("GET", "actions/actions", &["read:actions"], actions::list),
    on("POST", "actions/actions", &["create:actions"], actions::create),
    on("GET", "actions/actions/{id}", &["read:actions"], actions::get),
    on("PATCH", "actions/actions/{id}", &["update:actions"], actions::patch),
    on("DELETE", "actions/actions/{id}", &["delete:actions"], actions::delete),
    on("POST", "actions/actions/{id}/deploy", &["create:actions"], actions::deploy),

    on("GET", "roles", &["read:roles"], roles::list),
    on("POST", "roles", &["create:roles"], roles::create),
    on("GET", "roles/{id}", &["read:roles"], roles::get),
    on("PATCH", "roles/{id}", &["update:roles"], roles::patch),
    on("DELETE", "roles/{id}", &["delete:roles"], roles::delete),
    on("GET", "roles/{id}/permissions", &["read:roles"], roles::permissions),
    on("POST", "roles/{id}/permissions", &["update:roles"], roles::add_permissions),
    on("DELETE", "roles/{id}/permissions", &["update:roles"], roles::remove_permissions),
    on("GET", "users/{id}/roles", &["read:users"], roles::of_user),
    on("POST", "users/{id}/roles", &["update:users", "create:role_members"], roles::assign),

    on("GET", "connections", &["read:connections"], connections::list),
    on("POST", "connections", &["create:connections"], connections::create),
    on("GET", "connections/{id}", &["read:connections"], connections::get),
    on("PATCH", "connections/{id}", &["update:connections"], connections::patch),
    on("DELETE", "connections/{id}", &["delete:connections"], connections::delete),
    on("GET", "connections/{id}/clients", &["read:connections"], connections::clients),
    on("PATCH", "connections/{id}/clients", &["update:connections"], connections::patch_clients),
];
