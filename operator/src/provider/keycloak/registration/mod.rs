//! Clients that register themselves: by RFC 7591 without a token, or by a metadata document whose address is their id.
//!
//! A document says itself which scopes its client has, and says so again whenever Keycloak reads it anew. So what a client
//! has says nothing, and what it asks for is refused: by client policies, which see every request but those of the device
//! flow (see [`guards`]). They are in force, and shown to be, before a way in is opened (see [`doors`], [`keeper`]).
//!
//! Keycloak takes a policy that names a scope only while there is such a scope, and no other policy either while one names
//! a scope that is gone. So a scope is made without its audience, then closed, and then gets its audience; and it loses that
//! before it is closed no more and deleted (see [`making`]).

mod closing;
mod doors;
mod guards;
mod keeper;
mod making;
mod seeing;
mod strangers;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::keeper::Record;
pub(super) use self::{
    closing::Closing,
    seeing::{Known, Refused},
    strangers::end_of_registration,
};
use super::{
    documents::{Document, Patch},
    ids::Ids,
    mark::text,
    seen,
};
use crate::provider::{
    Call, Change, Doors, ObservedRegistration, ObservedScopes, Plan, RegistrationSpec, Verb,
};

/// Keycloak's executor that reads metadata documents.
pub(super) const DOCUMENTS: &str = "client-id-metadata-document";

/// The other executors that it takes.
pub(super) const EXECUTORS: [&str; 6] = [
    "reject-request",
    "pkce-enforcer",
    "consent-required",
    "full-scope-disabled",
    "reject-implicit-grant",
    "reject-ropc-grant",
];

/// The conditions that it takes.
pub(super) const CONDITIONS: [&str; 4] = [
    "client-scopes",
    "client-attributes",
    "client-updater-context",
    "grant-type",
];

/// Whether a call changes what decides which clients can register themselves, the documents of the realm aside.
pub(super) fn concerns(call: &Call) -> bool {
    let of_realm = call.path.starts_with("/components") || call.path.starts_with("/default-");
    let takes = matches!(call.operation, "delete_client" | "detach_scope");
    of_realm || takes || keeper::is_kept_by(call.body.as_ref())
}

/// Names of ours in the documents of the realm. What belongs to an McpServer has more dots.
fn name(installation: &str, what: &str) -> String {
    format!("mcpauth.{installation}.{what}")
}

fn profile(installation: &str, what: &str, description: &str, executors: &Value) -> Value {
    json!({"name": name(installation, what), "description": description, "executors": executors})
}

/// A policy all of whose conditions have to hold. Otherwise those that have nothing to say of a request would be passed
/// over. `profile` is named in the way of its own name.
fn strict(name: &str, description: &str, conditions: &Value, profile: &str) -> Value {
    let beginning = name.rsplit_once('.').map_or(name, |(beginning, _)| beginning);
    json!({
        "name": name,
        "description": description,
        "enabled": true,
        "mode": "STRICT",
        "conditions": conditions,
        "profiles": [format!("{beginning}.{profile}")],
    })
}

fn merge(document: &Document, change: Change, words: &str, patch: &Patch) -> Call {
    Call {
        operation: document.write,
        change,
        subject: format!("client {} {words}", document.field),
        verb: Verb::Merge,
        path: document.path.to_owned(),
        body: Some(patch.body()),
    }
}

/// See [`crate::provider::Provider::plan_registration`].
pub(super) fn plan(
    ids: &Ids,
    installation: &str,
    want: Option<&RegistrationSpec>,
    doors: Doors,
    observed: &ObservedRegistration,
    at_server: &ObservedScopes,
) -> Plan {
    let ObservedRegistration::Seen(observed) = observed else {
        return Plan::default();
    };
    let realm = Realm {
        ids,
        installation,
        observed,
        at_server,
        record: Record::of(&observed["keeper"]),
    };
    match want {
        Some(want) => realm.keep(want, doors),
        None => Plan {
            calls: realm.end(),
            conflicts: Vec::new(),
        },
    }
}

/// A realm as it was observed.
struct Realm<'a> {
    ids: &'a Ids,
    installation: &'a str,
    observed: &'a Value,
    at_server: &'a ObservedScopes,
    record: Record,
}

impl Realm<'_> {
    /// What shuts comes before all; what refuses comes before what opens, in a plan of its own.
    fn keep(&self, want: &RegistrationSpec, doors: Doors) -> Plan {
        let gone = self.gone(want);
        let record = self.wanted_record(want, doors, &gone);
        let mut calls = self.doors(Some(want), doors);
        let opening: Vec<_> = calls
            .extract_if(.., |call| call.change != Change::Revoke)
            .collect();
        if calls.is_empty() {
            calls.extend(self.of(&gone).filter_map(strangers::deletion));
        }
        let keeper = seen(&self.observed["keeper"]);
        let keeper = keeper::calls(self.ids, self.installation, &record, &keeper, self.at_server);
        let conflicts = keeper.conflicts;
        if !conflicts.is_empty() {
            return Plan { calls, conflicts };
        }
        let mut ready = keeper.calls.is_empty();
        calls.extend(keeper.calls);
        // A policy can only name a scope that is there.
        let probe = guards::probe_scope(self.installation);
        if self.at_server.contains_key(&probe) {
            let guards = self.guards(want, &record);
            ready &= guards.is_empty();
            calls.extend(guards);
        }
        if ready {
            calls.extend(opening);
        }
        let domains = Some(&record.domains);
        calls.extend(guards::removals(self.installation, domains, self.observed));
        Plan { calls, conflicts }
    }

    /// Domains from which clients may have come, and none may come now.
    fn gone(&self, want: &RegistrationSpec) -> BTreeSet<String> {
        let allowed = want.documents.iter().flat_map(|documents| &documents.domains);
        let allowed: BTreeSet<_> = allowed.cloned().collect();
        self.record.domains.difference(&allowed).cloned().collect()
    }

    fn wanted_record(&self, want: &RegistrationSpec, doors: Doors, gone: &BTreeSet<String>) -> Record {
        let components = self.observed["components"].as_array().into_iter().flatten();
        let theirs: Vec<&Value> = components
            .filter(|component| !doors::is_own(self.installation, component))
            .collect();
        let there = |domain: &str| {
            let searched = self.clients().is_some();
            // Nobody looked while no domain is gone.
            !gone.contains(domain) || !searched || self.of(&[domain.to_owned()].into()).next().is_some()
        };
        self.record.wanted(want, doors, &json!(theirs), there)
    }

    /// The clients that were made from documents of these domains.
    fn of<'a>(&'a self, domains: &'a BTreeSet<String>) -> impl Iterator<Item = &'a Value> {
        let clients = self.clients().unwrap_or_default().iter();
        clients.filter(|client| domains.iter().any(|domain| strangers::is_of(domain, client)))
    }

    /// The ways are shut, then those who came by them lose what they have, and then what refused it to them goes.
    fn end(&self) -> Vec<Call> {
        if self.observed["keeper"].is_null() {
            return Vec::new();
        }
        let shut = self.doors(None, Doors::Shut);
        if !shut.is_empty() {
            return shut;
        }
        let gone = &self.record.domains;
        let mut calls: Vec<_> = self.of(gone).filter_map(strangers::deletion).collect();
        let clients = self.clients().unwrap_or_default();
        calls.extend(strangers::detachments(
            self.installation,
            clients,
            gone,
            self.at_server,
        ));
        if !calls.is_empty() {
            return calls;
        }
        calls = guards::removals(self.installation, None, self.observed);
        calls.extend(self.allowed_scopes().filter_map(doors::delete));
        let keeper = Some(&self.observed["keeper"]);
        calls.extend(keeper::removal(
            self.ids,
            self.installation,
            keeper,
            self.at_server,
        ));
        calls
    }

    fn doors(&self, want: Option<&RegistrationSpec>, doors: Doors) -> Vec<Call> {
        let none = BTreeSet::new();
        let open = want
            .filter(|_| doors != Doors::Shut)
            .map_or(&none, |want| &want.open);
        let dynamic = want.and_then(|want| want.dynamic.as_ref());
        let documents = want.and_then(|want| want.documents.as_ref());
        let (installation, observed) = (self.installation, self.observed);
        let mut calls = doors::documents(installation, documents, doors, observed);
        calls.extend(doors::components(
            installation,
            dynamic,
            doors,
            observed,
            &self.record.previous,
        ));
        calls.extend(doors::scopes(
            installation,
            open,
            doors == Doors::Open,
            observed,
            self.at_server,
        ));
        calls
    }

    fn guards(&self, want: &RegistrationSpec, record: &Record) -> Vec<Call> {
        let given: BTreeSet<String> = ["default", "optional"]
            .iter()
            .flat_map(|list| self.observed[list].as_array().into_iter().flatten())
            .filter_map(|scope| text(scope, "name").map(str::to_owned))
            .collect();
        let installation = self.installation;
        let wanted = guards::Wanted {
            open: &want.open,
            domains: &record.domains,
            given,
            refuse_device_flow: want.refuse_device_flow,
        };
        let mut calls = guards::additions(installation, &wanted, self.observed, self.at_server);
        let allowed = want.dynamic.as_ref().map(|_| doors::allowed_scopes(&want.open));
        let name = self.allowed_scopes_name();
        match (allowed, self.allowed_scopes().next()) {
            (Some(config), None) => calls.push(doors::own(&name, doors::ALLOWED_SCOPES, &config)),
            (Some(config), Some(component)) => calls.extend(doors::set(component, &config, Change::Update)),
            (None, Some(component)) => calls.extend(doors::delete(component)),
            (None, None) => {}
        }
        calls
    }

    /// The policy of ours that refuses registrations with other scopes.
    fn allowed_scopes(&self) -> impl Iterator<Item = &Value> {
        let name = self.allowed_scopes_name();
        doors::anonymous(&self.observed["components"], doors::ALLOWED_SCOPES)
            .filter(move |component| text(component, "name") == Some(&name))
    }

    fn allowed_scopes_name(&self) -> String {
        name(self.installation, "scopes")
    }

    /// All clients of the realm, where somebody had to look.
    fn clients(&self) -> Option<&[Value]> {
        self.observed["clients"].as_array().map(Vec::as_slice)
    }
}
