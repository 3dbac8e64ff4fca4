//! The documents that belong to the realm as a whole: client profiles and client policies. Each is one JSON document
//! without a version, written whole, and others keep entries in it too. So whoever changes something in one reads it,
//! changes its own entries and writes it back, one at a time per realm, and looks afterwards whether it stayed.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Keycloak,
    admin::Get,
    mark::{attribute, text},
    observe::since,
    registration::Closing,
    render::LIMITED,
};
use crate::provider::{Call, ObservedLimits, ProviderError, Read, http::LIST};

/// The document of client profiles: what is enforced.
pub(super) const PROFILES: Document = Document {
    field: "profiles",
    path: "/client-policies/profiles",
    read: "read_client_profiles",
    write: "update_client_profiles",
};

/// The document of client policies: when a profile is enforced.
pub(super) const POLICIES: Document = Document {
    field: "policies",
    path: "/client-policies/policies",
    read: "read_client_policies",
    write: "update_client_policies",
};

/// How often entries are written again that somebody else has just overwritten.
const ROUNDS: u32 = 3;

/// One of the documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document {
    /// Where its entries are.
    pub(super) field: &'static str,
    pub(super) path: &'static str,
    read: &'static str,
    pub(super) write: &'static str,
}

/// The entries of both documents by field, and when they were asked for.
pub(super) type Known = (Instant, Arc<Value>);

/// A change of some entries of a document, all others aside. The body of a [`crate::provider::Verb::Merge`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patch {
    /// Entries to have, in place of those of the same name.
    pub(super) put: Vec<Value>,
    /// Names of entries not to have.
    pub(super) remove: Vec<String>,
    /// What is to become of the policy that refuses closed scopes.
    pub(super) closing: Option<Closing>,
}

impl Patch {
    pub(super) fn body(&self) -> Value {
        let mut body = json!({"put": self.put, "remove": self.remove});
        if let Some(closing) = &self.closing {
            body["closing"] = closing.body();
        }
        body
    }

    pub(super) fn of(body: Option<&Value>) -> Self {
        let list = |field: &str| {
            let entries = body.and_then(|body| body.get(field)?.as_array());
            entries.cloned().unwrap_or_default()
        };
        Self {
            put: list("put"),
            remove: list("remove")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            closing: body.and_then(|body| Closing::of(body.get("closing")?)),
        }
    }

    /// Whether the entries are as the patch makes them.
    pub(super) fn holds(&self, entries: &[Value]) -> bool {
        let named = |name: &str| entries.iter().find(|entry| text(entry, "name") == Some(name));
        self.put
            .iter()
            .all(|entry| text(entry, "name").and_then(named) == Some(entry))
            && self.remove.iter().all(|name| named(name).is_none())
            && self.closing.as_ref().is_none_or(|closing| closing.holds(entries))
    }

    /// The entries as the patch makes them. Those of others stay what and where they are.
    pub(super) fn apply(&self, entries: &[Value]) -> Vec<Value> {
        let put = |entry: &Value| self.put.iter().any(|put| put["name"] == entry["name"]);
        let removed = |entry: &Value| self.remove.iter().any(|name| entry["name"] == **name);
        let kept = entries.iter().filter(|entry| !put(entry) && !removed(entry));
        let applied = kept.chain(&self.put).cloned().collect();
        match &self.closing {
            Some(closing) => closing.apply(applied),
            None => applied,
        }
    }
}

/// The entries of a document.
pub(super) fn entries<'a>(documents: &'a Value, document: &Document) -> &'a [Value] {
    documents
        .get(document.field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

impl Keycloak {
    /// The limits of exchange of a server's client, if its own mark, or its absence, says that there may be some.
    pub(super) async fn limits_of(
        &self,
        client: Option<&Value>,
        read: Read,
    ) -> Result<ObservedLimits, ProviderError> {
        let marked = client.map(|client| attribute(client, LIMITED).is_some());
        match (marked, self.may_limit.load(Ordering::Relaxed)) {
            (Some(false), _) | (None, false) => Ok(ObservedLimits::Unmarked),
            (Some(true), false) => Ok(ObservedLimits::Locked),
            (Some(true) | None, true) => Ok(ObservedLimits::Seen(self.both_documents(read).await?)),
        }
    }

    /// The entries of both documents by field.
    pub(super) async fn both_documents(&self, read: Read) -> Result<Arc<Value>, ProviderError> {
        let since = since(read);
        let recall = || {
            let known = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            known
                .as_ref()
                .filter(|(asked, _)| Some(*asked) >= since)
                .map(|(_, known)| Arc::clone(known))
        };
        if let Some(known) = recall() {
            return Ok(known);
        }
        let _one_at_a_time = self.admin.http.limits.documents.lock().await;
        if let Some(known) = recall() {
            return Ok(known);
        }
        let asked = Instant::now();
        let mut both = Map::new();
        for document in [PROFILES, POLICIES] {
            both.insert(
                document.field.to_owned(),
                self.read_document(&document).await?[document.field].take(),
            );
        }
        let both = Arc::new(Value::Object(both));
        self.remember_documents(Some((asked, Arc::clone(&both))));
        Ok(both)
    }

    /// Carries out a [`Patch`].
    pub(super) async fn merge(&self, call: &Call) -> Result<(), ProviderError> {
        let document = if call.path == PROFILES.path {
            PROFILES
        } else {
            POLICIES
        };
        self.merge_patch(&document, &Patch::of(call.body.as_ref()), call)
            .await
    }

    /// Carries out `patch`, as `call` says it is called.
    pub(super) async fn merge_patch(
        &self,
        document: &Document,
        patch: &Patch,
        call: &Call,
    ) -> Result<(), ProviderError> {
        let _one_writer = self.admin.http.limits.documents.lock().await;
        self.remember_documents(None);
        self.remember_registration(None);
        for _ in 0..ROUNDS {
            let mut whole = self.read_document(document).await?;
            if patch.holds(entries(&whole, document)) {
                return Ok(());
            }
            whole[document.field] = json!(patch.apply(entries(&whole, document)));
            let write = Call {
                body: Some(whole),
                ..call.clone()
            };
            self.admin.write(&write).await?;
        }
        let whole = self.read_document(document).await?;
        if patch.holds(entries(&whole, document)) {
            return Ok(());
        }
        Err(ProviderError::Malformed {
            operation: document.write,
            why: "the authorization server does not keep what it was told",
        })
    }

    /// A document as it is to be sent back: without the entries that Keycloak itself brings.
    async fn read_document(&self, document: &Document) -> Result<Value, ProviderError> {
        let get = Get {
            operation: document.read,
            path: document.path,
            query: &[],
            limit: LIST,
        };
        let malformed = || ProviderError::Malformed {
            operation: document.read,
            why: "it has no list of entries",
        };
        let mut whole = self.admin.get(&get).await?.ok_or_else(malformed)?;
        let fields = whole.as_object_mut().ok_or_else(malformed)?;
        fields.retain(|field, _| !field.starts_with("global"));
        if fields.get(document.field).is_some_and(Value::is_array) {
            Ok(whole)
        } else {
            Err(malformed())
        }
    }

    fn remember_documents(&self, known: Option<Known>) {
        *self.documents.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}
