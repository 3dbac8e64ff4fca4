//! Limits of token exchange: for some scopes a server may exchange the tokens of some clients only.
//!
//! A limit is a client profile, which compares who the subject token was issued to, and a client policy of the same
//! name, which says when: at a token exchange by this server's client for one of these scopes. Several that match must
//! all let the request pass. So one that is added only takes away, and one that is removed only gives; their names
//! derive from what they say, so that nothing else is ever done to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    TOKEN_EXCHANGE,
    documents::{Document, POLICIES, PROFILES, Patch, entries},
    ids::Ids,
    mark::text,
    render::{Desired, LIMITED},
};
use crate::{
    policy::names,
    provider::{Call, Change, Mark, ObservedLimits, ObservedResource, ResourceSpec, Subjects, Verb},
};

/// Keycloak's executor that compares a claim of the subject token.
pub(super) const EXECUTOR: &str = "jwt-claim-enforcer";
/// Its property with the regular expression that the claim has to match as a whole.
pub(super) const ALLOWED: &str = "allowed-value";

/// A profile and a policy of one name.
#[derive(Clone, Debug, PartialEq)]
struct Limit {
    profile: Value,
    policy: Value,
}

/// What is to be done about a server's limits, and what its client has to wait for.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// What puts limits in force, before scopes are attached.
    pub(super) added: Vec<Call>,
    /// What ends limits, after scopes are detached.
    pub(super) removed: Vec<Call>,
    /// Whether the client has to carry [`LIMITED`].
    marked: bool,
    /// The scopes that the client must not have yet.
    held_back: BTreeSet<String>,
}

impl Limits {
    /// For the server as it is wanted and as it was observed.
    pub(super) fn plan(ids: &Ids, want: &ResourceSpec, observed: &ObservedResource) -> Self {
        let mut limits = Self {
            marked: want.has_limits(),
            ..Self::default()
        };
        let mut in_sight = false;
        match &observed.limits {
            ObservedLimits::Unmarked => {}
            ObservedLimits::Locked => limits.marked = true,
            ObservedLimits::Seen(documents) => {
                limits.marked |= !owned(&want.mark, documents).is_empty();
                // The client comes first: else nothing would say that there are limits.
                if observed.raw.is_some() {
                    in_sight = true;
                    let wanted = wanted(ids, want);
                    limits.added = additions(&wanted, &want.resource, documents);
                    limits.removed = removals(&want.mark, &wanted, &want.resource, documents);
                }
            }
        }
        let limited = want
            .exchange_scopes
            .iter()
            .filter_map(|(scope, subjects)| Some((scope, subjects.only()?)));
        limits.held_back = limited
            .filter(|(_, clients)| !in_sight || clients.is_empty())
            .map(|(scope, _)| scope.clone())
            .collect();
        limits
    }

    /// Makes the server's client wait for its limits.
    pub(super) fn restrain(&self, desired: &mut Desired, observed: &ObservedResource) {
        desired.scopes.retain(|scope| !self.held_back.contains(scope));
        let carries = observed
            .raw
            .as_ref()
            .is_some_and(|raw| super::mark::attribute(raw, LIMITED).is_some());
        if self.marked {
            desired.attributes.insert(LIMITED, desired.id.to_string());
        } else if carries {
            desired.attributes.insert(LIMITED, String::new());
        }
    }
}

/// The calls that end all limits of the server.
pub(super) fn removal(mark: &Mark, observed: &ObservedResource) -> Vec<Call> {
    match &observed.limits {
        ObservedLimits::Seen(documents) => {
            let resource = observed.raw.as_ref().and_then(|raw| text(raw, "clientId"));
            removals(mark, &BTreeMap::new(), resource.unwrap_or(&mark.name), documents)
        }
        ObservedLimits::Unmarked | ObservedLimits::Locked => Vec::new(),
    }
}

/// The limits of a server by name: one for each set of clients.
fn wanted(ids: &Ids, want: &ResourceSpec) -> BTreeMap<String, Limit> {
    let mut scopes: BTreeMap<&BTreeSet<String>, BTreeSet<&str>> = BTreeMap::new();
    for (scope, subjects) in &want.exchange_scopes {
        if let Subjects::Only(clients) = subjects
            && !clients.is_empty()
        {
            scopes.entry(clients).or_default().insert(scope);
        }
    }
    let id = ids.client(&want.mark).to_string();
    scopes
        .into_iter()
        .map(|(clients, scopes)| limit(&want.mark, &id, clients, &scopes))
        .collect()
}

fn limit(mark: &Mark, client: &str, clients: &BTreeSet<String>, scopes: &BTreeSet<&str>) -> (String, Limit) {
    let pattern = pattern(clients);
    let content = json!([client, pattern, scopes]).to_string();
    let name = format!("{}{}", prefix(mark), names::hash(content.as_bytes(), 8));
    let description = format!(
        "Whose tokens McpServer {}/{} may exchange, managed by mcp-auth-operator",
        mark.namespace, mark.name
    );
    let profile = json!({
        "name": name,
        "description": description,
        "executors": [{"executor": EXECUTOR, "configuration": {"claim-name": "azp", ALLOWED: pattern}}],
    });
    // A text, with one value for each key.
    let attributes = json!([{"key": LIMITED, "value": client}]).to_string();
    let policy = json!({
        "name": name,
        "description": description,
        "enabled": true,
        // All conditions have to hold. Otherwise those that have nothing to say of a request would be passed over.
        "mode": "STRICT",
        "conditions": [
            {"condition": "grant-type", "configuration": {"grant_types": [TOKEN_EXCHANGE]}},
            {"condition": "client-attributes", "configuration": {"attributes": attributes}},
            {"condition": "client-scopes", "configuration": {"type": "Optional", "scopes": scopes}},
        ],
        "profiles": [name],
    });
    (name, Limit { profile, policy })
}

/// A regular expression of Java that matches these ids and nothing else.
pub(super) fn pattern(clients: &BTreeSet<String>) -> String {
    let quoted = |id: &String| {
        let letters = id.chars().flat_map(|letter| {
            let plain = letter.is_ascii_alphanumeric() || !letter.is_ascii();
            (!plain).then_some('\\').into_iter().chain([letter])
        });
        letters.collect::<String>()
    };
    clients.iter().map(quoted).collect::<Vec<_>>().join("|")
}

/// What the names of a server's limits begin with. None of the parts holds a dot.
fn prefix(mark: &Mark) -> String {
    format!("mcpauth.{}.{}.{}.", mark.installation, mark.namespace, mark.name)
}

/// The names of the server's entries in either document.
fn owned<'a>(mark: &Mark, documents: &'a Value) -> BTreeSet<&'a str> {
    [PROFILES, POLICIES]
        .iter()
        .flat_map(|document| owned_in(mark, documents, document))
        .collect()
}

fn owned_in<'a>(mark: &Mark, documents: &'a Value, document: &Document) -> BTreeSet<&'a str> {
    let prefix = prefix(mark);
    let names = entries(documents, document)
        .iter()
        .filter_map(|entry| text(entry, "name"));
    names
        .filter(|name| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('.')))
        .collect()
}

/// Profiles first: a policy cannot name one that is not there.
fn additions(wanted: &BTreeMap<String, Limit>, resource: &str, documents: &Value) -> Vec<Call> {
    let missing = |document: Document, of: fn(&Limit) -> &Value| {
        let wanted = wanted.values().map(of).cloned();
        let put: Vec<_> = wanted
            .filter(|entry| !entries(documents, &document).contains(entry))
            .collect();
        let patch = Patch {
            put,
            ..Patch::default()
        };
        (!patch.put.is_empty()).then(|| call(&document, Change::Revoke, "for", resource, &patch))
    };
    let profiles = missing(PROFILES, |limit| &limit.profile);
    profiles
        .into_iter()
        .chain(missing(POLICIES, |limit| &limit.policy))
        .collect()
}

/// Policies first: a profile cannot go while one names it.
fn removals(mark: &Mark, wanted: &BTreeMap<String, Limit>, resource: &str, documents: &Value) -> Vec<Call> {
    let surplus = |document: &Document| {
        let owned = owned_in(mark, documents, document).into_iter();
        let remove: Vec<_> = owned
            .filter(|name| !wanted.contains_key(*name))
            .map(str::to_owned)
            .collect();
        let patch = Patch {
            remove,
            ..Patch::default()
        };
        (!patch.remove.is_empty()).then(|| call(document, Change::Delete, "of", resource, &patch))
    };
    [POLICIES, PROFILES].iter().filter_map(surplus).collect()
}

fn call(document: &Document, change: Change, words: &str, resource: &str, patch: &Patch) -> Call {
    Call {
        operation: document.write,
        change,
        subject: format!(
            "client {} that limit the exchange {words} client {resource}",
            document.field
        ),
        verb: Verb::Merge,
        path: document.path.to_owned(),
        body: Some(patch.body()),
    }
}
