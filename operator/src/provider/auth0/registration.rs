//! Clients that register themselves. Auth0 makes strict third-party clients of them, which get nothing without a grant
//! ([`super::settings`] keeps it so). What is open to them is one grant for all third-party clients at each API that an
//! McpServer opens, for users and with exactly the open scopes; a grant of a client's own counts for more.
//!
//! Grants have no place for a mark. There is at most one such grant for users at an API, so the client that is linked to the
//! API says that it is ours, before it is made and until it is gone. What somebody else has made is never touched, and
//! nothing is open beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Auth0, diff,
    grants::{self, Grants},
    mark::{default_grant_metadata, owns_default_grant, text},
    plan,
};
use crate::{
    policy::names,
    provider::{
        Call, Change, Conflict, Doors, Holder, ObservedRegistration, ObservedScopes, Plan, ProviderError,
        Read, RegistrationSpec, Verb,
    },
};

/// The clients for which such a grant is.
const THIRD_PARTIES: &str = "third_party_clients";

/// Under which client's id those grants are remembered: they have none.
const NOBODY: &str = "";

/// How the client is called by which it is proved that closed scopes are refused.
pub(super) fn probe_name(installation: &str) -> String {
    format!(
        "mcp-auth-operator probe {}",
        names::hash(installation.as_bytes(), 8)
    )
}

/// Whether a client is such a one: it registered itself, under that name. There can be more than one, where an answer was
/// lost, and somebody who takes the name is removed like them.
pub(super) fn is_probe(client: &Value, installation: &str) -> bool {
    text(client, "external_metadata_type") == "dcr" && text(client, "name") == probe_name(installation)
}

/// The removal of one.
pub(super) fn probe_removal(id: &str) -> Call {
    let path = format!("/clients/{}", super::observe::escaped(id));
    Call {
        change: Change::Revoke,
        ..plan::delete("delete_client", path, format!("probe {id}"))
    }
}

impl Auth0 {
    /// See [`crate::provider::Provider::observe_registration`].
    pub(super) async fn registration(&self, read: Read) -> Result<ObservedRegistration, ProviderError> {
        let grants = self.default_grants(read).await?;
        let probes = self.probes(read).await?;
        Ok(ObservedRegistration::Seen(
            json!({"grants": grants, "probes": probes}).into(),
        ))
    }

    /// The grants for all third-party clients, whoever made them.
    async fn default_grants(&self, read: Read) -> Result<Value, ProviderError> {
        self.grants_by(NOBODY, &[("default_for", THIRD_PARTIES)], read)
            .await
    }
}

/// See [`crate::provider::Provider::plan_registration`].
pub(super) fn plan(
    installation: &str,
    want: Option<&RegistrationSpec>,
    doors: Doors,
    observed: &ObservedRegistration,
    at_server: &ObservedScopes,
) -> Plan {
    let ObservedRegistration::Seen(observed) = observed else {
        return Plan::default();
    };
    let open = want
        .filter(|_| doors != Doors::Shut)
        .map(|want| by_audience(&want.open))
        .unwrap_or_default();
    let tenant = Tenant {
        installation,
        at_server,
        grants: diff::list(&observed["grants"]),
    };
    // Where nobody is to register, it is nobody's business who else gives what.
    let conflicts = want.map(|_| tenant.conflicts()).unwrap_or_default();
    // Who registers gets what they give, so nothing is open beside them.
    let open = if conflicts.is_empty() {
        open
    } else {
        BTreeMap::new()
    };
    let mut calls: Vec<Call> = Vec::new();
    let mut given = Vec::new();
    for (audience, client) in tenant.apis() {
        let grants = tenant.change(audience, client, open.get(audience), doors == Doors::Open);
        calls.extend(grants.revoked);
        given.extend(grants.given);
    }
    calls.extend(diff::texts(&observed["probes"]).into_iter().map(probe_removal));
    if conflicts.is_empty() {
        calls.extend(given);
    }
    Plan { calls, conflicts }
}

/// The scopes that are open, by the API that has them.
fn by_audience(open: &BTreeSet<String>) -> BTreeMap<&str, BTreeSet<String>> {
    let mut by_audience: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (audience, scope) in open.iter().filter_map(|key| key.split_once(' ')) {
        by_audience.entry(audience).or_default().insert(scope.to_owned());
    }
    by_audience
}

/// What there is.
struct Tenant<'a> {
    installation: &'a str,
    at_server: &'a ObservedScopes,
    /// The grants for third-party clients.
    grants: &'a [Value],
}

impl<'a> Tenant<'a> {
    /// Our APIs that have their client, with it.
    fn apis(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let installation = self.installation;
        // The others among them are scopes.
        let apis = self.at_server.iter().filter(|(key, _)| !key.contains(' '));
        apis.filter(move |(_, owner)| {
            matches!(&owner.holder, Holder::Marked(mark) if mark.installation == installation)
        })
        .map(|(audience, owner)| (audience.as_str(), &owner.raw["client"]))
    }

    fn of(&self, audience: &str) -> impl Iterator<Item = &'a Value> {
        self.grants
            .iter()
            .filter(move |grant| text(grant, "audience") == audience)
    }

    /// Grants at our APIs that are not ours.
    fn conflicts(&self) -> Vec<Conflict> {
        let foreign = self.apis().flat_map(|(audience, client)| {
            self.of(audience)
                .filter(|grant| !is_ours(client, grant))
                .map(|grant| Conflict {
                    subject: grants::described(grant),
                    holder: Holder::Unmarked { adopter: None },
                })
        });
        foreign.collect()
    }

    /// The changes at one API that make exactly `open` be granted there; `opens`: also what is not granted yet.
    fn change(&self, audience: &str, client: &Value, open: Option<&BTreeSet<String>>, opens: bool) -> Grants {
        let mut grants = Grants::default();
        let ours = self.of(audience).find(|grant| is_ours(client, grant));
        match (ours, open) {
            (Some(grant), Some(open)) => {
                grants.adjust(grant, open);
                if !opens {
                    grants.given.clear();
                }
            }
            (Some(grant), None) => {
                grants.revoked.push(grants::revocation(grant));
                grants.given.push(note(audience, client, false));
            }
            (None, Some(open)) if opens => {
                if !owns_default_grant(client) {
                    grants.given.push(note(audience, client, true));
                }
                grants.given.push(creation(audience, open));
            }
            (None, None) if owns_default_grant(client) => {
                grants.given.push(note(audience, client, false));
            }
            (None, _) => {}
        }
        grants
    }
}

fn is_ours(client: &Value, grant: &Value) -> bool {
    owns_default_grant(client) && text(grant, "subject_type") == "user"
}

/// Says on the client of an API whether the grant is ours.
fn note(audience: &str, client: &Value, is_ours: bool) -> Call {
    Call {
        operation: "update_client",
        change: Change::Update,
        subject: format!("client of {audience}: whose the grant of third-party clients is"),
        verb: Verb::Patch,
        path: format!("/clients/{}", text(client, "client_id")),
        body: Some(json!({"client_metadata": default_grant_metadata(is_ours)})),
    }
}

fn creation(audience: &str, open: &BTreeSet<String>) -> Call {
    Call {
        operation: "create_client_grant",
        change: Change::Create,
        subject: format!("user grant of third-party clients for {audience}"),
        verb: Verb::Post,
        path: "/client-grants".to_owned(),
        // Without a subject type it would be one that no user's token comes from.
        body: Some(json!({
            "default_for": THIRD_PARTIES, "audience": audience, "scope": open, "subject_type": "user",
        })),
    }
}

#[cfg(test)]
mod tests;
