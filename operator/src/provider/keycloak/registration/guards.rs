//! What refuses: client policies, and one policy of client registration. All of it is in force before any way in is opened.
//!
//! - `closed`: the scopes of ours that are not open, to every client that carries no mark of ours (see [`super::closing`]).
//! - `foreign-…`: scopes of others, to the clients of one domain of metadata documents. Keycloak writes the domain on each
//!   of its clients, by which they are told from the clients whose scopes those are.
//! - `devices`: the device flow is one that no policy can look into. Who registers itself cannot have it.
//! - `marks`, `trusted`: nobody registers with a mark of ours, or as one whom we trust.
//! - `registered`: who registers itself gets PKCE, consent, and no role of its users.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::{
        documents::{POLICIES, PROFILES, Patch, entries},
        mark::{self, text},
    },
    EXECUTORS,
    closing::{Closing, TRUSTED, closed},
    merge, name, profile, strict,
};
use crate::{
    policy::names,
    provider::{Call, Change, Holder, ObservedScopes},
};

/// RFC 8628.
const DEVICE_FLOW: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Keycloak's executor that refuses whatever comes to it.
const REJECT: &str = "reject-request";

/// A scope that is always closed: by it is shown that closed scopes are refused.
pub(super) fn probe_scope(installation: &str) -> String {
    name(installation, "probe")
}

/// The name of the policy with the closed scopes.
pub(super) fn closed_policy(installation: &str) -> String {
    name(installation, "closed")
}

/// What it depends on.
pub(super) struct Wanted<'a> {
    /// Scopes of ours that are open.
    pub(super) open: &'a BTreeSet<String>,
    /// Domains of documents.
    pub(super) domains: &'a BTreeSet<String>,
    /// The scopes that the realm gives every new client: of others, they are the realm's own decision.
    pub(super) given: BTreeSet<String>,
    /// Whether nobody uses the device flow.
    pub(super) refuse_device_flow: bool,
}

/// The scopes of the realm by whose they are.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Scopes of this installation.
    pub(super) ours: BTreeSet<String>,
    /// Scopes of others, those aside that the server itself brings.
    pub(super) foreign: BTreeSet<String>,
}

impl Sorted {
    pub(super) fn of(installation: &str, scopes: &ObservedScopes) -> Self {
        let mut sorted = Self::default();
        for (name, owner) in scopes.iter() {
            match &owner.holder {
                Holder::Marked(mark) if mark.installation == installation => {
                    sorted.ours.insert(name.clone());
                }
                Holder::Marked(_) | Holder::Unmarked { .. } => {
                    sorted.foreign.insert(name.clone());
                }
                Holder::BuiltIn => {}
            }
        }
        sorted
    }
}

/// The calls that put it in force.
pub(super) fn additions(
    installation: &str,
    wanted: &Wanted<'_>,
    documents: &Value,
    scopes: &ObservedScopes,
) -> Vec<Call> {
    let sorted = Sorted::of(installation, scopes);
    let profiles: Vec<_> = [reject(installation), registered_profile(installation)].into();
    let foreign: BTreeSet<_> = sorted.foreign.difference(&wanted.given).cloned().collect();
    let mut policies = rules(installation);
    policies.push(devices(installation, wanted.refuse_device_flow));
    // Keycloak takes no empty list.
    if !foreign.is_empty() {
        let each = wanted
            .domains
            .iter()
            .map(|domain| foreign_policy(installation, domain, &foreign));
        policies.extend(each);
    }
    let missing = |wanted: Vec<Value>, document| {
        let there = entries(documents, &document);
        let wanted = wanted.into_iter().filter(|entry| !there.contains(entry));
        wanted.collect::<Vec<_>>()
    };
    let profiles = Patch {
        put: missing(profiles, PROFILES),
        ..Patch::default()
    };
    let policies = Patch {
        put: missing(policies, POLICIES),
        closing: Some(closing(installation, wanted.open, &sorted, documents)),
        ..Patch::default()
    };
    [(PROFILES, profiles), (POLICIES, policies)]
        .into_iter()
        .filter(|(document, patch)| !patch.holds(entries(documents, document)))
        .map(|(document, patch)| merge(&document, Change::Revoke, "that refuse closed scopes", &patch))
        .collect()
}

fn closing(installation: &str, open: &BTreeSet<String>, sorted: &Sorted, documents: &Value) -> Closing {
    let add: BTreeSet<String> = sorted.ours.difference(open).cloned().collect();
    let name = closed_policy(installation);
    let listed = closed(entries(documents, &POLICIES), &name);
    Closing {
        drop: listed.difference(&add).cloned().collect(),
        add,
        name,
        whole: true,
    }
}

/// The calls that take away what refuses clients of other domains than these; without any set of domains all of it.
/// Policies first: a profile cannot go while one names it.
pub(super) fn removals(
    installation: &str,
    domains: Option<&BTreeSet<String>>,
    documents: &Value,
) -> Vec<Call> {
    let all = domains.is_none();
    let wanted: BTreeSet<String> = domains
        .into_iter()
        .flatten()
        .map(|domain| foreign_name(installation, domain))
        .collect();
    let fixed = ["closed", "devices", "marks", "registered", "reject", "trusted"]
        .map(|what| name(installation, what));
    let beginning = name(installation, "foreign-");
    let goes = |entry: &str| {
        let rest = entry.strip_prefix(&beginning);
        let foreign = rest.is_some_and(|rest| !rest.contains('.'));
        (foreign && !wanted.contains(entry)) || (all && fixed.iter().any(|name| name == entry))
    };
    [POLICIES, PROFILES]
        .into_iter()
        .filter_map(|document| {
            let names = entries(documents, &document)
                .iter()
                .filter_map(|entry| text(entry, "name"));
            let remove: Vec<_> = names.filter(|name| goes(name)).map(str::to_owned).collect();
            let patch = Patch {
                remove,
                ..Patch::default()
            };
            (!patch.remove.is_empty())
                .then(|| merge(&document, Change::Delete, "that refused closed scopes", &patch))
        })
        .collect()
}

fn reject(installation: &str) -> Value {
    profile(
        installation,
        "reject",
        "Refuses requests, managed by mcp-auth-operator",
        &json!([{"executor": REJECT, "configuration": {}}]),
    )
}

/// Each is set where the client does not say so itself.
fn registered_profile(installation: &str) -> Value {
    let settling = EXECUTORS.iter().filter(|executor| **executor != REJECT);
    let executors: Vec<_> = settling
        .map(|executor| json!({"executor": executor, "configuration": {"auto-configure": true}}))
        .collect();
    profile(
        installation,
        "registered",
        "What clients get that register themselves, managed by mcp-auth-operator",
        &json!(executors),
    )
}

/// The policies that are the same whatever is wanted.
fn rules(installation: &str) -> Vec<Value> {
    vec![
        let_nobody_write(installation, "marks", mark::MANAGED),
        let_nobody_write(installation, "trusted", TRUSTED),
        strict(
            &name(installation, "registered"),
            "Clients that register themselves, managed by mcp-auth-operator",
            &json!([by(&["ByAnonymous"])]),
            "registered",
        ),
    ]
}

/// Nobody has an attribute that only administrators write, whichever way he registers or changes his client. All attributes
/// of one condition would have to be there at once: so there is a policy for each.
fn let_nobody_write(installation: &str, what: &str, attribute: &str) -> Value {
    strict(
        &name(installation, what),
        &format!("No client registers itself with the attribute {attribute}, managed by mcp-auth-operator"),
        &json!([
            with(attribute),
            by(&["ByAnonymous", "ByInitialAccessToken", "ByRegistrationAccessToken"]),
        ]),
        "reject",
    )
}

/// No policy can tell whose client uses the device flow, or for which scopes. So nobody uses it, or nobody who registers
/// himself has it.
fn devices(installation: &str, for_all: bool) -> Value {
    let conditions = if for_all {
        json!([{"condition": "grant-type", "configuration": {"grant_types": [DEVICE_FLOW]}}])
    } else {
        json!([
            with("oauth2.device.authorization.grant.enabled"),
            by(&["ByAnonymous", "ByRegistrationAccessToken"]),
        ])
    };
    strict(
        &name(installation, "devices"),
        "Keeps the device flow from clients that register themselves, managed by mcp-auth-operator",
        &conditions,
        "reject",
    )
}

/// A client that is registered or changed in one of these ways.
fn by(ways: &[&str]) -> Value {
    json!({"condition": "client-updater-context", "configuration": {"update-client-source": ways}})
}

/// A client with this attribute.
fn with(key: &str) -> Value {
    // A text, with one value for each key.
    let attributes = json!([{"key": key, "value": "true"}]).to_string();
    json!({"condition": "client-attributes", "configuration": {"attributes": attributes}})
}

fn foreign_name(installation: &str, domain: &str) -> String {
    // None of the parts holds a dot.
    let hash = names::hash(domain.as_bytes(), 8);
    name(installation, &format!("foreign-{hash}"))
}

fn foreign_policy(installation: &str, domain: &str, scopes: &BTreeSet<String>) -> Value {
    strict(
        &foreign_name(installation, domain),
        &format!("Scopes of others that no client of {domain} can have, managed by mcp-auth-operator"),
        &json!([
            {"condition": "client-scopes", "configuration": {"type": "Any", "scopes": scopes}},
            {"condition": "client-attributes", "configuration": {"attributes": stamp(domain)}},
        ]),
        "reject",
    )
}

/// What Keycloak writes on the clients whose documents come from a host.
fn stamp(domain: &str) -> String {
    let stamp = BTreeMap::from([
        (
            "consent.screen.text",
            format!("The client's hostname is {domain}"),
        ),
        ("display.on.consent.screen", "true".to_owned()),
    ]);
    let pairs: Vec<_> = stamp
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    json!(pairs).to_string()
}
