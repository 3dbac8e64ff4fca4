//! Reading, with the least work: what many ask for is read once for all, and what was read a moment ago is not read again.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded::byte_serialize;

use super::{
    Auth0,
    admin::{List, Pages},
    mark::{client_holder, concerns_us, text},
    memory::Known,
    plan::{KEYS, accepted_keys},
    render::{AUTH_METHOD, METHODS},
};
use crate::{
    policy::names,
    provider::{Credential, Holder, ObservedClient, ObservedLimits, Presence, ProviderError, Read},
};

/// Since when a question may have been sent whose answer will do; `None`: any time.
pub(super) fn since(read: Read) -> Option<Instant> {
    match read {
        Read::Fresh => Some(Instant::now()),
        // Further back than the clock reaches.
        Read::Within(age) | Read::Alone(age) => Instant::now().checked_sub(age),
    }
}

impl Auth0 {
    /// See [`crate::provider::Provider::observe_client`].
    pub(super) async fn client(&self, derived: &str, read: Read) -> Result<ObservedClient, ProviderError> {
        let since = since(read);
        if !derived.starts_with(&names::client_id_prefix(&self.ours.installation)) {
            return self.client_of_others(derived, since).await;
        }
        let mut found = self.find(derived, since).await?;
        if found.is_empty() {
            return Ok(absent());
        }
        let client = found.remove(0);
        let id = text(&client, "client_id");
        let grants = self.grants(id, read).await?;
        let keys = if client[METHODS].is_object() {
            self.keys(id, since).await?
        } else {
            Value::Null
        };
        // One that only consents is no second one of ours.
        let surplus: Vec<&str> = found
            .iter()
            .filter(|other| matches!(self.holder(other), Holder::Marked(_)))
            .map(|other| text(other, "client_id"))
            .collect();
        let raw = json!({"client": *client, "grants": grants, "keys": keys, "surplus": surplus});
        Ok(observed(&client, self.holder(&client), raw))
    }

    /// A client by the id that Auth0 knows it by: somebody else registers it, or it is one of ours that is not asked for as
    /// such. What only plans need of it is not read.
    async fn client_of_others(
        &self,
        id: &str,
        since: Option<Instant>,
    ) -> Result<ObservedClient, ProviderError> {
        // What is not ours was left out of the list.
        let known = self.memory().clients.recall_row(id, since);
        let client = match known {
            Some(client) => client,
            None => self.ask_for_client(id).await?,
        };
        Ok(client.map_or_else(absent, |client| {
            observed(&client, self.holder(&client), json!({"client": *client}))
        }))
    }

    /// The clients that carry our mark or consent, the one in use first.
    async fn find(&self, derived: &str, since: Option<Instant>) -> Result<Vec<Arc<Value>>, ProviderError> {
        for _ in 0..2 {
            let known = self.memory().ids(derived, since);
            let ids = if let Some(ids) = known {
                ids
            } else {
                self.list_clients(since, Some(derived)).await?;
                self.memory().ids(derived, None).unwrap_or_default()
            };
            let mut found = Vec::new();
            for id in &ids {
                found.extend(self.one_client(id, since).await?);
            }
            // Those that are gone were noted; whether there are others now, only a new list tells.
            let is_same = found.len() == ids.len()
                && found
                    .iter()
                    .all(|client| self.derived(client).as_deref() == Some(derived));
            if is_same {
                return Ok(found);
            }
            self.memory().may_have_made(derived, Instant::now());
        }
        Err(ProviderError::Malformed {
            operation: "list_clients",
            why: "it names clients that are not there",
        })
    }

    /// Reads the list of clients, unless another has while this waited.
    pub(super) async fn list_clients(
        &self,
        since: Option<Instant>,
        derived: Option<&str>,
    ) -> Result<(), ProviderError> {
        let _one_at_a_time = self.listing.lock().await;
        let is_known = {
            let memory = self.memory();
            match derived {
                Some(derived) => memory.ids(derived, since).is_some(),
                None => memory.clients.is_listed(since),
            }
        };
        if is_known {
            return Ok(());
        }
        let asked = Instant::now();
        let mut clients = self
            .admin
            .list(&List {
                operation: "list_clients",
                path: "/clients",
                name: "clients",
                pages: Pages::Checkpoint,
                query: &[],
            })
            .await?;
        let probes = clients.iter().filter(|client| self.is_probe(client));
        let probes: Vec<String> = probes
            .map(|client| text(client, "client_id").to_owned())
            .collect();
        clients.retain(|client| concerns_us(client, &self.ours));
        let mut memory = self.memory();
        memory.probes.keep(asked, probes);
        memory.keep_clients(asked, clients, &self.ours);
        Ok(())
    }

    /// A client by the id that Auth0 knows it by.
    pub(super) async fn one_client(&self, id: &str, since: Option<Instant>) -> Result<Known, ProviderError> {
        let known = self.memory().clients.recall(id, since);
        match known {
            Some(Some(client)) => Ok(Some(client)),
            _ => self.ask_for_client(id).await,
        }
    }

    async fn ask_for_client(&self, id: &str) -> Result<Known, ProviderError> {
        let asked = Instant::now();
        let path = format!("/clients/{}", escaped(id));
        let client = self.admin.get("read_client", &path, &[]).await?;
        // Whatever an odd id leads to, it is not the client.
        let client = client
            .filter(|client| text(client, "client_id") == id)
            .map(Arc::new);
        self.memory().keep_client(id, asked, client.clone(), &self.ours);
        Ok(client)
    }

    /// The grants of a client as one list.
    pub(super) async fn grants(&self, client: &str, read: Read) -> Result<Value, ProviderError> {
        self.grants_by(client, &[("client_id", client)], read).await
    }

    /// The grants that are remembered under this id, and found by this query.
    pub(super) async fn grants_by(
        &self,
        client: &str,
        query: &[(&str, &str)],
        read: Read,
    ) -> Result<Value, ProviderError> {
        let since = since(read);
        if matches!(read, Read::Within(_)) {
            self.list_grants(since).await?;
        }
        let known = self.memory().grants.recall(client, since);
        if let Some(known) = known {
            return Ok(known.map_or_else(|| json!([]), |grants| (*grants).clone()));
        }
        let asked = Instant::now();
        let found = self.ask_for_grants(query).await?;
        let grants = Value::Array(found);
        self.memory()
            .grants
            .keep(client, asked, Some(Arc::new(grants.clone())));
        Ok(grants)
    }

    /// Reads the list of grants, unless another has while this waited.
    async fn list_grants(&self, since: Option<Instant>) -> Result<(), ProviderError> {
        let _one_at_a_time = self.listing.lock().await;
        if self.memory().grants.is_listed(since) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut by_client: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for grant in self.ask_for_grants(&[]).await? {
            by_client
                .entry(text(&grant, "client_id").to_owned())
                .or_default()
                .push(grant);
        }
        let rows = by_client
            .into_iter()
            .map(|(client, grants)| (client, Value::Array(grants)));
        self.memory().grants.keep_list(asked, rows);
        Ok(())
    }

    pub(super) async fn ask_for_grants(&self, query: &[(&str, &str)]) -> Result<Vec<Value>, ProviderError> {
        self.admin
            .list(&List {
                operation: "list_client_grants",
                path: "/client-grants",
                name: "client_grants",
                pages: Pages::Checkpoint,
                query,
            })
            .await
    }

    /// The keys that a client has stored.
    async fn keys(&self, client: &str, since: Option<Instant>) -> Result<Value, ProviderError> {
        let known = self.memory().keys.recall(client, since);
        if let Some(Some(keys)) = known {
            return Ok((*keys).clone());
        }
        let asked = Instant::now();
        let keys = self
            .stored_keys(&format!("/clients/{}{KEYS}", escaped(client)))
            .await?;
        let keys = Value::Array(keys);
        self.memory()
            .keys
            .keep(client, asked, Some(Arc::new(keys.clone())));
        Ok(keys)
    }

    pub(super) fn is_operator(&self, id: &str) -> bool {
        self.admin.http.limits.is_operator(id)
    }

    fn holder(&self, client: &Value) -> Holder {
        client_holder(client, &self.ours, |id| self.is_operator(id))
    }

    fn derived(&self, client: &Value) -> Option<String> {
        super::mark::derived_client_id(client, &self.ours)
    }
}

pub(super) fn observed(client: &Value, holder: Holder, raw: Value) -> ObservedClient {
    let secret = text(client, "client_secret");
    ObservedClient {
        presence: Presence::Held(holder),
        client_id: Some(text(client, "client_id").to_owned()).filter(|id| !id.is_empty()),
        secret: (!secret.is_empty()).then(|| Credential::new(secret)),
        is_public: text(client, AUTH_METHOD) == "none",
        secret_expires: None,
        keys: accepted_keys(&raw),
        raw: Some(raw),
        limits: ObservedLimits::Unmarked,
    }
}

pub(super) fn absent() -> ObservedClient {
    ObservedClient {
        presence: Presence::Absent,
        client_id: None,
        secret: None,
        is_public: false,
        secret_expires: None,
        keys: std::collections::BTreeSet::new(),
        raw: None,
        limits: ObservedLimits::Unmarked,
    }
}

/// One segment of a path.
pub(super) fn escaped(segment: &str) -> String {
    // As in a form, but for what stands for a space there.
    byte_serialize(segment.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}
