//! An authorization server in memory: clients with secrets, and scopes. It plans like a provider and executes calls.

mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Writes,
    clients::{self, FakeClient, call, keys},
    resources,
};
use mcp_auth_gate_core::document::TokenType;

use self::state::State;
pub(crate) use self::state::Tenant;
pub(super) use self::state::{REGISTRATION, SCOPE, SETTINGS, TRUST};
use crate::provider::{
    Access, Change, ClientSpec, Credential, Credentials, Doors, Holder, Mark, ObservedClient, ObservedLimits,
    ObservedOverlap, ObservedRegistration, ObservedResource, ObservedScopes, ObservedSettings, ObservedTrust,
    Plan, Presence, Proof, Provider, ProviderError, Read, RegistrationSpec, ResourceSpec, ScopeOwner,
    ScopeSpec, SettingsSpec,
};

/// The server.
#[derive(Clone, Default)]
pub(crate) struct FakeServer {
    state: Arc<Mutex<State>>,
    writes: Writes,
    realm: &'static str,
}

impl FakeServer {
    pub(super) fn new(writes: Writes) -> Self {
        Self::of_realm("realm", writes)
    }

    /// One of its own.
    pub(crate) fn of_realm(realm: &'static str, writes: Writes) -> Self {
        Self {
            state: Arc::default(),
            writes,
            realm,
        }
    }

    /// All clients.
    pub(crate) fn clients(&self) -> BTreeMap<String, FakeClient> {
        self.lock().clients.clone()
    }

    /// Puts a client there, or changes it, behind our back.
    pub(crate) fn put_client(&self, id: &str, client: FakeClient) {
        self.lock().clients.insert(id.to_owned(), client);
    }

    /// Deletes a client behind our back.
    pub(crate) fn remove_client(&self, id: &str) {
        self.lock().clients.remove(id);
    }

    /// Puts a scope there.
    pub(crate) fn put_scope(&self, name: &str, holder: Holder) {
        self.lock().scopes.insert(name.to_owned(), holder);
    }

    /// The names of all scopes.
    pub(crate) fn scopes(&self) -> Vec<String> {
        self.lock().scopes.keys().cloned().collect()
    }

    /// What was asked for as it is at that moment, since this was asked last.
    pub(crate) fn fresh_reads(&self) -> Vec<&'static str> {
        let reads = self.reads().into_iter();
        reads
            .filter(|(_, read)| *read == Read::Fresh)
            .map(|(what, _)| what)
            .collect()
    }

    /// What was asked for, and how, since this was asked last.
    pub(crate) fn reads(&self) -> Vec<(&'static str, Read)> {
        std::mem::take(&mut self.lock().reads)
    }

    fn note(&self, what: &'static str, read: Read) {
        self.lock().reads.push((what, read));
    }

    /// Which clients were proved, in order.
    pub(crate) fn proofs(&self) -> Vec<String> {
        self.lock().proofs.clone()
    }

    /// Which credentials it was told or shown, whether they work or not.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.lock().shown.clone()
    }

    /// From whom tokens of ServiceAccounts count.
    pub(crate) fn trusts(&self) -> Option<String> {
        self.lock().trusts.clone()
    }

    /// What is in force for clients that register themselves: null, or whether what refuses is (`guards`), and the scopes
    /// that are open to them (`open`; null while no way is).
    pub(crate) fn registration(&self) -> Value {
        self.lock().registration.clone()
    }

    /// How clients register themselves where a setting of the tenant's says it; `None`: none does.
    pub(crate) fn tenant(&self) -> Option<Tenant> {
        self.lock().tenant
    }

    /// Somebody else sets it.
    pub(crate) fn set_tenant(&self, tenant: Tenant) {
        self.lock().tenant = Some(tenant);
    }

    /// From now on no credential works, and closed scopes are given to everybody.
    pub(crate) fn refuse_proofs(&self) {
        self.lock().refuses_proofs = true;
    }

    /// From now on it throws the secret before the current one away, and says that it took it.
    pub(crate) fn drop_previous(&self) {
        self.lock().drops_previous = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl Provider for FakeServer {
    async fn check_access(&self) -> Result<Access, ProviderError> {
        Ok(Access::default())
    }

    async fn take_over(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    fn token_types(&self) -> Vec<TokenType> {
        Vec::new()
    }

    fn realm(&self) -> &'static str {
        self.realm
    }

    fn own_client_id(&self) -> &'static str {
        "operator"
    }

    async fn observe_client(&self, id: &str, read: Read) -> Result<ObservedClient, ProviderError> {
        self.note("client", read);
        let found = self.lock().clients.get(id).cloned();
        let secret = found.as_ref().map(|client| client.secret.clone());
        let holder = |client: &FakeClient| match &client.mark {
            Some(mark) => Holder::Marked(mark.clone()),
            None => Holder::Unmarked { adopter: None },
        };
        Ok(ObservedClient {
            presence: found
                .as_ref()
                .map_or(Presence::Absent, |client| Presence::Held(holder(client))),
            client_id: found.is_some().then(|| id.to_owned()),
            secret: secret.clone().map(Credential::new),
            is_public: secret.is_some_and(|secret| secret.is_empty()),
            secret_expires: None,
            keys: found.as_ref().map(keys).unwrap_or_default(),
            raw: found.map(|client| json!([client.spec, client.scopes, client.enabled, client.previous])),
            limits: ObservedLimits::Unmarked,
        })
    }

    fn plan_client(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        _: &ObservedScopes,
        credentials: Option<&Credentials>,
        _: Timestamp,
    ) -> Plan {
        clients::plan(want, observed, credentials)
    }

    fn plan_credentials(
        &self,
        want: &ClientSpec,
        observed: &ObservedClient,
        credentials: &Credentials,
    ) -> Plan {
        let Some(raw) = &observed.raw else {
            return Plan::default();
        };
        let spec = json!([raw[0], raw[1], raw[2], clients::previous(credentials)]);
        let body = json!({"spec": spec, "secret": credentials.current.expose()});
        Plan {
            calls: vec![call(Change::Revoke, &want.client_id, body)],
            conflicts: vec![],
        }
    }

    async fn observe_overlap(&self, _: Read) -> Result<ObservedOverlap, ProviderError> {
        Ok(ObservedOverlap::Unsupported)
    }

    fn plan_overlap(&self, _: bool, _: &ObservedOverlap) -> Plan {
        Plan::default()
    }

    async fn observe_settings(&self, want: SettingsSpec, _: Read) -> Result<ObservedSettings, ProviderError> {
        Ok(resources::observe_settings(want, self.tenant()))
    }

    fn plan_settings(&self, want: SettingsSpec, observed: &ObservedSettings) -> Plan {
        resources::plan_settings(want, observed)
    }

    fn trust_name(&self) -> String {
        "i-accounts".to_owned()
    }

    async fn observe_trust(&self, _: Read) -> Result<ObservedTrust, ProviderError> {
        Ok(Arc::new(json!(self.trusts())))
    }

    fn plan_trust(&self, issuer: Option<&str>, observed: &ObservedTrust) -> Plan {
        resources::plan_trust(issuer, observed)
    }

    async fn observe_registration(
        &self,
        _: Option<&RegistrationSpec>,
        _: Read,
    ) -> Result<ObservedRegistration, ProviderError> {
        Ok(ObservedRegistration::Seen(Arc::new(self.registration())))
    }

    fn plan_registration(
        &self,
        want: Option<&RegistrationSpec>,
        doors: Doors,
        observed: &ObservedRegistration,
        _: &ObservedScopes,
    ) -> Plan {
        resources::plan_registration(want, doors, observed)
    }

    async fn prove_closed(
        &self,
        observed: &ObservedRegistration,
        _: Read,
        _: Timestamp,
    ) -> Result<(), ProviderError> {
        let guarded = matches!(observed, ObservedRegistration::Seen(seen) if seen["guards"] == true);
        if guarded && !self.lock().refuses_proofs {
            return Ok(());
        }
        Err(ProviderError::Ungranted {
            why: "it gives closed scopes".to_owned(),
        })
    }

    fn plan_client_removal(&self, mark: &Mark, observed: &ObservedClient) -> Plan {
        let Presence::Held(Holder::Marked(holder)) = &observed.presence else {
            return Plan::default();
        };
        if !holder.same_object(mark) {
            return Plan::default();
        }
        let id = format!("{}.{}.{}", mark.installation, mark.namespace, mark.name);
        Plan {
            calls: vec![call(Change::Delete, &id, Value::Null)],
            conflicts: vec![],
        }
    }

    async fn observe_scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError> {
        self.note("scopes", read);
        let scopes = self.lock().scopes.clone();
        Ok(Arc::new(
            scopes
                .into_iter()
                .map(|(name, holder)| {
                    let raw = Value::Null;
                    (name, Arc::new(ScopeOwner { holder, raw }))
                })
                .collect(),
        ))
    }

    async fn observe_resource(&self, resource: &str, read: Read) -> Result<ObservedResource, ProviderError> {
        self.observe_client(resource, read).await
    }

    fn plan_resource(
        &self,
        want: &ResourceSpec,
        observed: &ObservedResource,
        scopes: &ObservedScopes,
        secret: Option<&Credential>,
    ) -> Plan {
        resources::plan(want, observed, scopes, secret)
    }

    fn plan_resource_removal(&self, _: &Mark, _: &ObservedResource, _: &ObservedScopes) -> Plan {
        Plan::default()
    }

    fn plan_scopes(
        &self,
        mark: &Mark,
        want: &[ScopeSpec],
        scopes: &ObservedScopes,
        _: &dyn Fn(&str) -> bool,
    ) -> Plan {
        resources::plan_scopes(mark, want, scopes)
    }

    async fn execute(&self, plan: &Plan) -> Result<(), ProviderError> {
        for call in &plan.calls {
            if !self.writes.happens() {
                return Err(ProviderError::NotLeading);
            }
            self.lock().take(call);
        }
        Ok(())
    }

    async fn prove(&self, proof: &Proof, _: Timestamp) -> Result<(), ProviderError> {
        let (id, secret) = match proof {
            Proof::ClientCredentials {
                client_id, secret, ..
            }
            | Proof::AuthorizationCode {
                client_id, secret, ..
            }
            | Proof::TokenExchange {
                client_id, secret, ..
            } => (client_id, secret),
        };
        let mut state = self.lock();
        let works = state
            .clients
            .get(id)
            .is_some_and(|client| client.secret.is_empty() || client.secret == secret.expose())
            && !state.refuses_proofs;
        state.proofs.push(id.clone());
        state.shown.push(secret.expose().to_owned());
        if !works {
            return Err(ProviderError::Unproved {
                why: "it does not work".to_owned(),
            });
        }
        let assigned = &state.clients[id].scopes;
        match proof {
            Proof::ClientCredentials { scopes, .. } if !scopes.is_subset(assigned) => {
                Err(ProviderError::Ungranted {
                    why: "the token lacks a scope".to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}
