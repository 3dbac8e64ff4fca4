//! What the operator's credential may do.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use serde_json::{Value, json};

use super::{
    Keycloak,
    admin::{Get, IDENTITY_PROVIDERS_ROLE, REALM_ROLE, ROLE},
    limits, overlap, registration, trust,
};
use crate::provider::{Access, Call, Capability, Change, ProviderError, Verb, http::LIST};

/// What the server says of itself. It lies beside the realms: the dots lead there.
const SERVER_INFO: &str = "/../../serverinfo";

impl Keycloak {
    /// See [`crate::provider::Provider::check_access`].
    pub(super) async fn access(&self) -> Result<Access, ProviderError> {
        self.admin.http.limits.try_again_now();
        self.admin.tokens.forget_any().await;
        // Each representation says what its reader may do with it. That holds for every kind of token, and is what the
        // server will judge by; the roles in the token are neither.
        let own = match self.find_client(&self.admin.tokens.identity.client_id).await {
            Ok(own) => own,
            Err(ProviderError::Forbidden { .. }) => None,
            Err(error) => return Err(error),
        };
        let manages = own.is_some_and(|own| own["access"]["manage"] == json!(true));
        let mut access = Access {
            capabilities: BTreeSet::from([
                Capability::Resources,
                Capability::ManagedClients,
                Capability::ReadableSecrets,
            ]),
            ..Access::default()
        };
        if !manages {
            access.missing.push(ROLE.to_owned());
        }
        if self.exchanges_tokens {
            access.capabilities.insert(Capability::TokenExchange);
        }
        if manages {
            self.find_more(&mut access).await?;
        }
        for (capability, noted) in [
            (Capability::SubjectClients, &self.may_limit),
            (Capability::SecretOverlap, &self.may_overlap),
            (Capability::SelfRegistration, &self.may_register),
        ] {
            noted.store(access.capabilities.contains(&capability), Ordering::Relaxed);
        }
        Ok(access)
    }

    /// Finds out what more than clients can be managed here, and whether by this credential.
    async fn find_more(&self, access: &mut Access) -> Result<(), ProviderError> {
        let get = Get {
            operation: "read_server_info",
            path: SERVER_INFO,
            query: &[],
            limit: LIST,
        };
        let info = match self.admin.get(&get).await {
            Ok(info) => info.unwrap_or_default(),
            // Some keep it from the outside. Nothing else depends on it.
            Err(
                ProviderError::Forbidden { .. }
                | ProviderError::Rejected { .. }
                | ProviderError::Malformed { .. },
            ) => Value::Null,
            Err(error) => return Err(error),
        };
        let can = [
            (
                Capability::SubjectClients,
                self.exchanges_tokens && can_limit(&info),
            ),
            (Capability::SecretOverlap, can_overlap(&info)),
            (Capability::SelfRegistration, can_refuse(&info)),
            (
                Capability::MetadataDocuments,
                can_refuse(&info) && can_read_documents(&info),
            ),
        ];
        for (capability, _) in can.into_iter().filter(|(_, can)| *can) {
            if manages_realm(&info) {
                access.capabilities.insert(capability);
            } else {
                access.withheld.insert(capability, REALM_ROLE);
            }
        }
        if self.manages_trust && can_trust(&info) {
            let capability = Capability::ServiceAccountTokens;
            if self.manages_identity_providers().await? {
                access.capabilities.insert(capability);
            } else {
                access.withheld.insert(capability, IDENTITY_PROVIDERS_ROLE);
            }
        }
        Ok(())
    }

    /// Asks for what only who manages identity providers may ask for, and leaves out what it is about: it is refused either
    /// way, and changes nothing.
    async fn manages_identity_providers(&self) -> Result<bool, ProviderError> {
        let call = Call {
            operation: "probe_identity_providers",
            change: Change::Update,
            subject: "nothing".to_owned(),
            verb: Verb::Post,
            path: "/identity-provider/import-config".to_owned(),
            body: Some(json!({})),
        };
        match self.admin.write(&call).await {
            Err(ProviderError::Forbidden { .. }) => Ok(false),
            Ok(()) | Err(ProviderError::Rejected { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Keycloak names this executor only while its feature is on.
fn can_overlap(info: &Value) -> bool {
    find(executors(info), "id", overlap::EXECUTOR).is_some()
}

/// Whether there is what refuses closed scopes, and what else it takes to let clients register themselves.
fn can_refuse(info: &Value) -> bool {
    let executors = executors(info);
    let conditions =
        &info["componentTypes"]["org.keycloak.services.clientpolicy.condition.ClientPolicyConditionProvider"];
    registration::EXECUTORS
        .iter()
        .all(|executor| find(executors, "id", executor).is_some())
        && registration::CONDITIONS
            .iter()
            .all(|condition| find(conditions, "id", condition).is_some())
}

/// Keycloak names this executor only while its feature is on.
fn can_read_documents(info: &Value) -> bool {
    find(executors(info), "id", registration::DOCUMENTS).is_some()
}

/// Keycloak names this type of identity provider only while its feature is on; the way to authenticate has another, which
/// comes with it.
fn can_trust(info: &Value) -> bool {
    find(&info["identityProviders"], "id", trust::TYPE).is_some()
}

fn executors(info: &Value) -> &Value {
    &info["componentTypes"]["org.keycloak.services.clientpolicy.executor.ClientPolicyExecutorProvider"]
}

/// Whether the server compares claims of subject tokens as limits need it. One that had the executor without this
/// property would take it for one that only asks whether the claim is there.
fn can_limit(info: &Value) -> bool {
    find(executors(info), "id", limits::EXECUTOR)
        .is_some_and(|executor| find(&executor["properties"], "name", limits::ALLOWED).is_some())
}

fn find<'a>(list: &'a Value, field: &str, value: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry[field] == value)
}

/// Only who manages a realm is told about the system.
fn manages_realm(info: &Value) -> bool {
    info["systemInfo"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executor_must_have_the_property_that_limits_need() {
        let with = |properties: Value| {
            json!({"componentTypes": {"org.keycloak.services.clientpolicy.executor.ClientPolicyExecutorProvider": [
                {"id": "reject-request", "properties": [{"name": "allowed-value"}]},
                {"id": "jwt-claim-enforcer", "properties": properties},
            ]}})
        };
        assert!(can_limit(&with(
            json!([{"name": "claim-name"}, {"name": "allowed-value"}])
        )));
        assert!(!can_limit(&with(
            json!([{"name": "claim-name"}, {"name": "allowed-values"}])
        )));
        assert!(!can_limit(&with(json!(null))));
        assert!(!can_limit(&Value::Null));
    }

    #[test]
    fn secrets_overlap_where_the_executor_is() {
        let with = |id: &str| json!({"componentTypes": {"org.keycloak.services.clientpolicy.executor.ClientPolicyExecutorProvider": [{"id": id}]}});
        assert!(can_overlap(&with("secret-rotation")));
        assert!(!can_overlap(&with("secret")) && !can_overlap(&Value::Null));
    }
}
