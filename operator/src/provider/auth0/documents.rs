//! Clients whose metadata is a document of their own (CIMD). Auth0 fetches no document by itself: whoever administers the
//! tenant registers each address, and registers it again to have the client follow its document.
//!
//! Only Auth0 reads the documents. What the client is registered with counts, whatever was said before: between a preview and
//! a registration a document can change.

mod plan;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

pub(super) use self::plan::{plan, removal};
use super::{
    Auth0,
    admin::{List, Pages},
    diff::{list, texts},
    mark::{document_holder, text},
    observe::since,
    render::{AUTH_METHOD, grant_named},
};
use crate::{
    policy::names,
    provider::{ObservedDocument, Presence, ProviderError, Read, Reading},
};

/// Where a document is looked at without anything coming of it.
pub(super) const PREVIEW: &str = "/clients/cimd/preview";
/// Where a client is made of a document, or brought up to date.
pub(super) const REGISTER: &str = "/clients/cimd/register";

/// What a document that changes all the time brings about is at most this often, within one pass.
const PAUSE: Duration = Duration::from_mins(1);

/// What is remembered of documents, by their addresses.
#[derive(Default)]
pub(super) struct Documents {
    kept: HashMap<String, Kept>,
    /// When each was registered last, or may have been.
    registered: HashMap<String, Instant>,
}

#[derive(Clone)]
struct Kept {
    asked: Instant,
    /// Null: there is none.
    client: Value,
    preview: Value,
}

impl Documents {
    /// Forgets the client with this id, which was written to.
    pub(super) fn wrote(&mut self, id: &str) {
        self.kept.retain(|_, kept| text(&kept.client, "client_id") != id);
    }

    /// Notes that this one was registered, or may have been.
    pub(super) fn registered(&mut self, url: &str, now: Instant) {
        self.kept.remove(url);
        self.registered.insert(url.to_owned(), now);
    }
}

impl Auth0 {
    pub(super) fn documents(&self) -> MutexGuard<'_, Documents> {
        // Nothing in the critical sections can leave it half-changed.
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`crate::provider::Provider::observe_document`].
    pub(super) async fn client_by_document(
        &self,
        url: &str,
        read: Read,
    ) -> Result<ObservedDocument, ProviderError> {
        let since = since(read);
        let known = self.documents().kept.get(url).cloned();
        let kept = match known.filter(|kept| Some(kept.asked) >= since) {
            Some(kept) => kept,
            None => self.ask_for_document(url).await?,
        };
        let grants = match text(&kept.client, "client_id") {
            "" => json!([]),
            id => self.grants(id, read).await?,
        };
        let registered = self.documents().registered.get(url).copied();
        let turn = Turn::of(registered, read, Instant::now());
        let presence = if kept.client.is_null() {
            Presence::Absent
        } else {
            Presence::Held(document_holder(&kept.client, &self.ours, |id| {
                self.is_operator(id)
            }))
        };
        Ok(observed(presence, &kept.client, &kept.preview, &grants, turn))
    }

    async fn ask_for_document(&self, url: &str) -> Result<Kept, ProviderError> {
        let asked = Instant::now();
        let found = self
            .admin
            .list(&List {
                operation: "find_client_of_document",
                path: "/clients",
                name: "clients",
                pages: Pages::Checkpoint,
                query: &[("external_client_id", url)],
            })
            .await?;
        let is_it = |client: &Value| text(client, "external_client_id") == url;
        let kept = Kept {
            asked,
            client: found.into_iter().find(is_it).unwrap_or_default(),
            preview: self.preview(url).await?,
        };
        self.documents().kept.insert(url.to_owned(), kept.clone());
        Ok(kept)
    }

    /// What Auth0 makes of the document. That it is not reached in time says nothing of Auth0: it waits for whoever has the
    /// document.
    async fn preview(&self, url: &str) -> Result<Value, ProviderError> {
        let body = json!({ "external_client_id": url });
        match self.admin.ask("preview_document", PREVIEW, &body).await {
            Err(ProviderError::Unreachable { .. } | ProviderError::Unavailable { .. }) => {
                Ok(json!({ "errors": ["no answer"] }))
            }
            Err(ProviderError::Rejected { status: 400, .. }) => {
                Ok(json!({ "validation": { "valid": false } }))
            }
            answer => answer,
        }
    }
}

/// Whether it is time to register a document again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It was a moment ago.
    Over,
    /// If it has changed.
    Changed,
    /// In any case: what is not seen of it, its keys, may have changed.
    Due,
}

impl Turn {
    fn of(registered: Option<Instant>, read: Read, now: Instant) -> Self {
        let (pause, is_pass) = match read {
            Read::Fresh => (PAUSE, false),
            Read::Within(age) | Read::Alone(age) => (age, true),
        };
        match registered {
            Some(then) if now.saturating_duration_since(then) < pause => Self::Over,
            _ if is_pass => Self::Due,
            _ => Self::Changed,
        }
    }
}

/// What the document says, if a client can be made of it; else null.
fn read(preview: &Value) -> (Reading, Value) {
    if !list(&preview["errors"]).is_empty() {
        return (Reading::Unreachable, Value::Null);
    }
    if preview["validation"]["valid"] != true {
        return (Reading::Invalid, Value::Null);
    }
    let mapped = preview["mapped_fields"].clone();
    let callbacks = owned(texts(&mapped["callbacks"]));
    (Reading::Valid { callbacks }, mapped)
}

fn owned(texts: BTreeSet<&str>) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn observed(
    presence: Presence,
    client: &Value,
    preview: &Value,
    grants: &Value,
    turn: Turn,
) -> ObservedDocument {
    let (reading, mapped) = read(preview);
    let is_known = !client.is_null() && !mapped.is_null();
    let has_keys = mapped["jwks_uri"].is_string();
    let refresh = is_known
        && match turn {
            Turn::Over => false,
            Turn::Changed => differs(&mapped, client),
            Turn::Due => has_keys || differs(&mapped, client),
        };
    let named = texts(&client["grant_types"]).into_iter();
    ObservedDocument {
        presence,
        callbacks: owned(texts(&client["callbacks"])),
        grants: named.filter_map(grant_named).collect(),
        version: names::hash(format!("{mapped} {}", refresh && has_keys).as_bytes(), 8),
        reading,
        raw: Some(json!({
            "client": client, "grants": grants, "document": mapped, "refresh": refresh,
        })),
    }
}

/// Whether the client is other than its document says. Which grant types it has is ours to say.
fn differs(mapped: &Value, client: &Value) -> bool {
    let is_other = |name: &&str| mapped[*name].is_string() && mapped[*name] != client[*name];
    let is_public = |raw: &Value| text(raw, AUTH_METHOD) == "none";
    ["name", "app_type", "logo_uri", "jwks_uri"].iter().any(is_other)
        || texts(&mapped["callbacks"]) != texts(&client["callbacks"])
        || is_public(mapped) != is_public(client)
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
