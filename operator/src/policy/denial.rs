//! Clients whose tokens gates refuse although they have not expired.
//!
//! What is denied is remembered beside the policy, with the times: tokens of a client that was suspended stay denied when it
//! is deleted, or gives up its access, until none of them can be valid any more.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{GrantedAccess, McpClient, McpServer};
use serde::{Deserialize, Serialize};

use super::{
    access::{Caller, allowed},
    grants::Tenant,
    homes::{Name, granted_at, is_at},
    names,
};

/// The longest lifetime of an access token, in seconds: the schema of McpClients lets none be longer. What a client had
/// last says nothing of the tokens that it got before.
const LONGEST_LIFETIME: i64 = 24 * 60 * 60;
/// How many clients a policy denies at most: with the longest ids this is half of what a ConfigMap can hold.
const MOST: usize = 500;

/// Since when a client is denied. Seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    since: i64,
    /// When it was last known as a suspended client of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<i64>,
}

impl Denial {
    /// Of a client that is denied from now on.
    pub fn new(now: Timestamp) -> Self {
        Self {
            since: now.as_second(),
            left: None,
        }
    }
}

/// The clients that are denied at a server, by their ids.
pub type Denials = BTreeMap<String, Denial>;

/// A client, with the labels of its namespace.
pub type Labelled<'a> = (&'a McpClient, &'a BTreeMap<String, String>);

/// Who is denied from now on, given who was `before`: the suspended clients that can hold tokens for the server, and those
/// of before until they are admitted again or no token of theirs can be valid. Others are not named to the server's team,
/// nor can they make its policy be written.
pub fn denials(
    server: &McpServer,
    clients: &[Labelled<'_>],
    before: &Denials,
    installation: &str,
    now: Timestamp,
) -> Denials {
    let admitted: BTreeSet<String> = clients
        .iter()
        .filter(|(client, _)| !client.spec.is_suspended())
        // Several can know the credential of one client, and authorization servers choose ids as they like: nobody lifts a
        // denial where they have no access.
        .filter(|(client, labels)| {
            has_id_of_its_own(client, installation) || can_have_tokens(server, client, labels)
        })
        .filter_map(|(client, _)| id(client, installation))
        .collect();
    let mut all: Denials = before
        .iter()
        .filter(|(id, _)| !admitted.contains(*id))
        .filter_map(|(id, denial)| Some((id.clone(), gone(*denial, now.as_second())?)))
        .collect();
    for (client, labels) in clients {
        if !client.spec.is_suspended() || !can_have_tokens(server, client, labels) {
            continue;
        }
        for id in ids_at(server, client, installation) {
            let since = before
                .get(&id)
                .map_or_else(|| now.as_second(), |denial| denial.since);
            all.insert(id, Denial { since, left: None });
        }
    }
    all
}

/// What is left of a denial that nothing but the past is a reason for.
fn gone(denial: Denial, now: i64) -> Option<Denial> {
    let left = denial.left.unwrap_or(now).min(now);
    (now - left < LONGEST_LIFETIME).then_some(Denial {
        left: Some(left),
        ..denial
    })
}

/// Leaves no more than a policy can hold: first those that are suspended now, and of these the newest. Returns how many did
/// not fit.
pub fn fit(denials: &mut Denials) -> usize {
    let over = denials.len().saturating_sub(MOST);
    if over > 0 {
        let mut order: Vec<_> = denials
            .iter()
            .map(|(id, denial)| (denial.left.is_none(), denial.since, id.clone()))
            .collect();
        order.sort_unstable();
        for (_, _, id) in order.into_iter().take(over) {
            denials.remove(&id);
        }
    }
    over
}

/// Whether a client can hold tokens for the server: it has or had access at the server's authorization server, or uses that
/// one, asks for access, and would be allowed it.
fn can_have_tokens(server: &McpServer, client: &McpClient, labels: &BTreeMap<String, String>) -> bool {
    let (at, own) = (
        server.namespace().unwrap_or_default(),
        client.namespace().unwrap_or_default(),
    );
    let name = (at.clone(), server.name_any());
    let (here, there) = (
        &server.spec.authorization_server_ref,
        &client.spec.authorization_server_ref,
    );
    let same_home = (here.namespace_or(&at), &here.name) == (there.namespace_or(&own), &there.name);
    let caller = Caller {
        tenant: Tenant {
            namespace: &own,
            labels,
        },
        name: &client.name_any(),
        exchanges: false,
    };
    let asks = || asked(client).any(|asked| asked == name) && !allowed(server, caller).is_empty();
    let has = granted_at(client, &home(server)).any(|(_, granted)| is_of(granted, &name));
    has || (same_home && asks())
}

/// The AuthorizationServer of a server.
fn home(server: &McpServer) -> Name {
    let reference = &server.spec.authorization_server_ref;
    let own = server.namespace().unwrap_or_default();
    (reference.namespace_or(&own).to_owned(), reference.name.clone())
}

fn is_of(granted: &GrantedAccess, server: &Name) -> bool {
    granted.server.split_once('/') == Some((&server.0, &server.1))
}

/// The ids that the client has or had at the server's authorization server. What another one calls it is nothing here: that
/// could be the id of somebody else.
fn ids_at(server: &McpServer, client: &McpClient, installation: &str) -> BTreeSet<String> {
    let (name, home) = (
        (server.namespace().unwrap_or_default(), server.name_any()),
        home(server),
    );
    let held = granted_at(client, &home).filter(|(_, granted)| is_of(granted, &name));
    let mut ids: BTreeSet<_> = held.filter_map(|(id, _)| Some(id?.to_owned())).collect();
    if is_at(client, &home) {
        ids.extend(id(client, installation));
        ids.extend(previous_ids(client));
    }
    ids
}

/// The id by which a client is known, as it was found at the authorization server or proved.
pub fn known_id(client: &McpClient) -> Option<&str> {
    client.status.as_ref()?.client_id.as_deref()
}

/// The ids that it had before, where the authorization server chooses a new one with each credential.
fn previous_ids(client: &McpClient) -> impl Iterator<Item = String> {
    let registration = client
        .status
        .iter()
        .filter_map(|status| status.registration.as_ref());
    registration.flat_map(|registration| registration.previous.iter().map(|id| id.client_id.clone()))
}

/// The McpServers, by namespace and name, whose gates may refuse the tokens of a client: none as long as it is not
/// suspended.
pub fn denied_at(client: &McpClient) -> BTreeSet<(String, String)> {
    if client.spec.is_suspended() {
        asked(client).chain(granted(client)).collect()
    } else {
        BTreeSet::new()
    }
}

fn asked(client: &McpClient) -> impl Iterator<Item = (String, String)> {
    let own = client.namespace().unwrap_or_default();
    client.spec.access.iter().map(move |access| {
        let server = &access.server;
        (server.namespace_or(&own).to_owned(), server.name.clone())
    })
}

fn granted(client: &McpClient) -> impl Iterator<Item = (String, String)> {
    let status = client.status.as_ref();
    let granted = status.into_iter().flat_map(|status| &status.granted);
    let previous = status.into_iter().flat_map(|status| &status.previous);
    let granted = granted.chain(previous.flat_map(|previous| &previous.granted));
    let names = granted.filter_map(|granted| granted.server.split_once('/'));
    names.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

/// The id for which the client speaks. One that somebody else registers speaks for what it has proved to be, one with a
/// metadata document for what is registered for it, and both for nothing else: they could name any other's id, to have it
/// denied or admitted.
fn id(client: &McpClient, installation: &str) -> Option<String> {
    let known = known_id(client).map(str::to_owned);
    if !has_own_id(client) {
        return known;
    }
    known.or_else(|| Some(own_id(client, installation)))
}

/// Whether that is the id that the operator gave it, which no other client can have.
fn has_id_of_its_own(client: &McpClient, installation: &str) -> bool {
    has_own_id(client) && id(client, installation) == Some(own_id(client, installation))
}

/// Whether the operator gives it an id, or asks for one.
fn has_own_id(client: &McpClient) -> bool {
    client.spec.existing.is_none() && client.spec.metadata_document.is_none()
}

fn own_id(client: &McpClient, installation: &str) -> String {
    let namespace = client.namespace().unwrap_or_default();
    names::client_id(installation, &namespace, &client.name_any())
}

#[cfg(test)]
#[path = "denial_tests.rs"]
mod tests;
