//! What of a realm is read for all of this.

use std::sync::{Arc, PoisonError};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::{Keycloak, admin::Get, observe::since},
    doors::TYPE,
    guards::probe_scope,
    keeper::{self, Record},
};
use crate::{
    policy::names,
    provider::{Credential, ObservedRegistration, ProviderError, Read, RegistrationSpec, http::LIST},
};

/// What was read, and when it was asked for.
pub(in super::super) type Known = (Instant, Arc<Value>);

/// When closed scopes were refused last, and by which policies.
pub(in super::super) type Refused = (Instant, String);

impl Keycloak {
    /// See [`crate::provider::Provider::observe_registration`].
    pub(in super::super) async fn registration(
        &self,
        want: Option<&RegistrationSpec>,
        read: Read,
    ) -> Result<ObservedRegistration, ProviderError> {
        let recalled = {
            let known = self.registration.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.as_ref().filter(|(asked, _)| Some(*asked) >= since(read));
            fresh.map(|(_, known)| Arc::clone(known))
        };
        if let Some(known) = recalled.filter(|known| !is_to_be_searched(want, known)) {
            return Ok(ObservedRegistration::Seen(known));
        }
        let asked = Instant::now();
        let observed = Arc::new(self.read_registration(want, read).await?);
        self.remember_registration(Some((asked, Arc::clone(&observed))));
        Ok(ObservedRegistration::Seen(observed))
    }

    pub(in super::super) fn remember_registration(&self, known: Option<Known>) {
        *self.registration.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    async fn read_registration(
        &self,
        want: Option<&RegistrationSpec>,
        read: Read,
    ) -> Result<Value, ProviderError> {
        let documents = self.both_documents(read).await?;
        let keeper = self
            .client(&keeper::client_id(&self.installation), read)
            .await?
            .raw;
        let mut observed = Value::clone(&documents);
        observed["components"] = self
            .read_list("list_components", "/components", &[("type", TYPE)])
            .await?;
        for list in ["default", "optional"] {
            let path = format!("/default-{list}-client-scopes");
            observed[list] = self.read_list("read_realm_scopes", &path, &[]).await?;
        }
        observed["keeper"] = keeper.unwrap_or_default();
        if is_to_be_searched(want, &observed) {
            observed["clients"] = json!(self.all_clients().await?);
        }
        Ok(observed)
    }

    async fn read_list(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, ProviderError> {
        let get = Get {
            operation,
            path,
            query,
            limit: LIST,
        };
        let found = self.admin.get(&get).await?;
        found.filter(Value::is_array).ok_or(ProviderError::Malformed {
            operation,
            why: "it is no list",
        })
    }

    /// See [`crate::provider::Provider::prove_closed`].
    pub(in super::super) async fn closed_is_refused(
        &self,
        observed: &ObservedRegistration,
        read: Read,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        let (secret, version) = match observed {
            ObservedRegistration::Seen(observed) => (
                observed["keeper"]["secret"].as_str().map(Credential::new),
                names::hash(observed["policies"].to_string().as_bytes(), 16),
            ),
            ObservedRegistration::Unsupported => (None, String::new()),
        };
        let asked = Instant::now();
        {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let known = |(shown, of): &Refused| Some(*shown) >= since(read) && *of == version;
            if refused.as_ref().is_some_and(known) {
                return Ok(());
            }
        }
        let secret = secret.ok_or(ProviderError::Unproved {
            why: "there is no client yet to prove it with".to_owned(),
        })?;
        let client_id = keeper::client_id(&self.installation);
        let scope = probe_scope(&self.installation);
        self.prover(now).refuses(&client_id, &secret, &scope).await?;
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, version));
        Ok(())
    }
}

/// Whether it takes a look at all clients that was not taken yet: some may have come from where none may come from now.
fn is_to_be_searched(want: Option<&RegistrationSpec>, observed: &Value) -> bool {
    if observed["clients"].is_array() || observed["keeper"].is_null() {
        return false;
    }
    let allowed = want.and_then(|want| want.documents.as_ref());
    let domains = Record::of(&observed["keeper"]).domains;
    let all_allowed = allowed.is_some_and(|allowed| domains.is_subset(&allowed.domains));
    want.is_none() || !(domains.is_empty() || all_allowed)
}
