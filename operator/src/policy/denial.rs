//! Clients whose tokens gates refuse although they have not expired.
//!
//! What is denied is remembered beside the policy, with the times: tokens of a client that was suspended stay denied when it
//! is deleted, or gives up its access, until none of them can be valid any more.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{McpClient, McpServer};
use serde::{Deserialize, Serialize};

use super::{
    access::{Caller, allowed},
    grants::Tenant,
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
        .filter(|(client, _)| !is_suspended(client))
        // Several can know the credential of one client: nobody lifts a denial where they have no access.
        .filter(|(client, labels)| client.spec.existing.is_none() || can_have_tokens(server, client, labels))
        .filter_map(|(client, _)| id(client, installation))
        .collect();
    let mut all: Denials = before
        .iter()
        .filter(|(id, _)| !admitted.contains(*id))
        .filter_map(|(id, denial)| Some((id.clone(), gone(*denial, now.as_second())?)))
        .collect();
    for (client, labels) in clients {
        if !is_suspended(client) || !can_have_tokens(server, client, labels) {
            continue;
        }
        for id in id(client, installation).into_iter().chain(previous_ids(client)) {
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

fn is_suspended(client: &McpClient) -> bool {
    client.spec.suspended == Some(true)
}

/// Whether a client can hold tokens for the server: it uses the same authorization server, and it has access, or asks for
/// it and would be allowed it.
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
    same_home && (granted(client).any(|granted| granted == name) || asks())
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
    if is_suspended(client) {
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
    let granted = client.status.iter().flat_map(|status| &status.granted);
    let names = granted.filter_map(|granted| granted.server.split_once('/'));
    names.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

/// The id for which the client speaks. One that somebody else registers speaks for what it has proved to be, and for
/// nothing else: it could name any other's id, to have it denied or admitted.
fn id(client: &McpClient, installation: &str) -> Option<String> {
    let known = known_id(client).map(str::to_owned);
    if client.spec.existing.is_some() {
        return known;
    }
    known.or_else(|| {
        let namespace = client.namespace().unwrap_or_default();
        Some(names::client_id(installation, &namespace, &client.name_any()))
    })
}

#[cfg(test)]
#[path = "denial_tests.rs"]
mod tests;
