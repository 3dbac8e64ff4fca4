//! What the operator's credential may do: its token says so.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::Auth0;
use crate::provider::{Access, Capability, ProviderError, token_endpoint::payload};

/// What the operator does, and the scopes of the Management API that it needs for that.
const NEEDED: [(&str, &[&str]); 3] = [
    (
        "MCP servers",
        &[
            "read:resource_servers",
            "create:resource_servers",
            "update:resource_servers",
            "delete:resource_servers",
        ],
    ),
    (
        "MCP servers and clients",
        &[
            "read:clients",
            "create:clients",
            "update:clients",
            "delete:clients",
            "read:client_keys",
            "update:client_keys",
        ],
    ),
    (
        "access to MCP servers",
        &[
            "read:client_grants",
            "create:client_grants",
            "update:client_grants",
            "delete:client_grants",
        ],
    ),
];

/// What clients with keys need besides.
const KEYS: [&str; 4] = [
    "read:client_credentials",
    "create:client_credentials",
    "update:client_credentials",
    "delete:client_credentials",
];

/// What the tenant's settings need, where the operator is to keep them.
const SETTINGS: [&str; 2] = ["read:tenant_settings", "update:tenant_settings"];

/// What exchange by actions needs, where the AuthorizationServer lets anybody do so.
const ACTIONS: [&str; 4] = [
    "read:actions",
    "read:token_exchange_profiles",
    "create:token_exchange_profiles",
    "delete:token_exchange_profiles",
];

/// What a token says, as far as it matters here.
#[derive(Deserialize)]
struct Said {
    scope: Option<String>,
}

impl Auth0 {
    /// See [`crate::provider::Provider::check_access`].
    pub(super) async fn access(&self) -> Result<Access, ProviderError> {
        self.admin.http.limits.try_again_now();
        self.admin.tokens.forget_any().await;
        let token = self.admin.tokens.current(&self.admin.http).await?;
        // RFC 6749 section 5.1 lets the answer leave out what the token itself says.
        let said = payload::<Said>(token.access.expose_secret()).and_then(|said| said.scope);
        let scope = token.scope.clone().or(said);
        Ok(judge(
            &scope.unwrap_or_default(),
            self.manages_settings,
            self.exchanges_by_action,
        ))
    }
}

/// What these scopes allow. Each that is missing is named with what does not work without it.
fn judge(scope: &str, manages_settings: bool, exchanges_by_action: bool) -> Access {
    let has: BTreeSet<&str> = scope.split_ascii_whitespace().collect();
    let lacks = |feature: &'static str, scopes: &[&'static str]| -> Vec<String> {
        let missing = scopes.iter().filter(|scope| !has.contains(*scope));
        missing.map(|scope| format!("{scope} (for {feature})")).collect()
    };
    let mut missing: Vec<String> = NEEDED
        .iter()
        .flat_map(|(feature, scopes)| lacks(feature, scopes))
        .collect();
    missing.extend(lacks("clients that authenticate with private keys", &KEYS));
    if manages_settings {
        missing.extend(lacks("auth0.manageTenantSettings", &SETTINGS));
    }
    if exchanges_by_action {
        missing.extend(lacks("auth0.exchangeActions", &ACTIONS));
    }
    let mut capabilities = BTreeSet::from([
        Capability::Resources,
        Capability::ManagedClients,
        Capability::TokenExchange,
        Capability::DocumentClients,
    ]);
    if has.contains("read:client_keys") {
        capabilities.insert(Capability::ReadableSecrets);
    }
    let mut withheld = BTreeMap::new();
    // Whoever sets them: nothing is open unless they are seen to be right.
    let [sees_settings, _] = SETTINGS;
    if has.contains(sees_settings) {
        capabilities.insert(Capability::SelfRegistration);
    } else {
        withheld.insert(Capability::SelfRegistration, sees_settings);
    }
    Access {
        capabilities,
        missing,
        withheld,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_that_is_missing_is_named_with_what_it_blocks() {
        let all: Vec<&str> = NEEDED
            .iter()
            .flat_map(|(_, scopes)| scopes.iter().copied())
            .chain(KEYS)
            .chain(SETTINGS)
            .chain(ACTIONS)
            .collect();
        let access = judge(&all.join(" "), true, true);
        assert!(access.missing.is_empty());
        assert!(access.capabilities.contains(&Capability::ReadableSecrets));
        for scope in &all {
            let others: Vec<&str> = all.iter().filter(|other| other != &scope).copied().collect();
            let access = judge(&others.join(" "), true, true);
            assert!(
                matches!(&access.missing[..], [one] if one.starts_with(scope)),
                "{access:?}"
            );
        }
        let missing = |settings, actions| judge("", settings, actions).missing.len();
        assert_eq!(missing(true, true), all.len());
        assert_eq!(missing(false, true), all.len() - SETTINGS.len());
        assert_eq!(missing(true, false), all.len() - ACTIONS.len());
        let access = judge("read:clients", false, false);
        assert_eq!(
            access.withheld[&Capability::SelfRegistration],
            "read:tenant_settings"
        );
    }
}
