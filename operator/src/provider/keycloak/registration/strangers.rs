//! Clients that registered themselves, once what refuses them closed scopes is about to go: those of metadata documents are
//! deleted, and from all others that carry no mark our scopes are taken.

use std::collections::BTreeSet;

use serde_json::Value;
use url::Url;

use super::{
    super::{
        diff::texts,
        mark::{self, attribute, text},
    },
    closing::TRUSTED,
    guards::Sorted,
};
use crate::provider::{Call, Change, Holder, ObservedClient, ObservedScopes, Presence, Verb};

/// On every client that was made from a metadata document.
const CACHED: &str = "cimd.cache.expiry.time.in.sec";

/// Whether the client was made from a document of this domain.
pub(super) fn is_of(domain: &str, client: &Value) -> bool {
    let id = text(client, "clientId").and_then(|id| Url::parse(id).ok());
    attribute(client, CACHED).is_some() && id.is_some_and(|id| id.host_str() == Some(domain))
}

/// The call that deletes a client that was made from a document.
pub(super) fn deletion(client: &Value) -> Option<Call> {
    Some(Call {
        operation: "delete_client",
        change: Change::Revoke,
        subject: format!("client {}", text(client, "clientId").unwrap_or_default()),
        verb: Verb::Delete,
        path: format!("/clients/{}", text(client, "id")?),
        body: None,
    })
}

/// The calls that take our scopes from clients that are neither ours nor trusted.
pub(super) fn detachments(
    installation: &str,
    clients: &[Value],
    gone: &BTreeSet<String>,
    at_server: &ObservedScopes,
) -> Vec<Call> {
    let ours = Sorted::of(installation, at_server).ours;
    let mut calls = Vec::new();
    for client in clients {
        let is_theirs =
            attribute(client, mark::MANAGED) != Some("true") && attribute(client, TRUSTED) != Some("true");
        let goes = gone.iter().any(|domain| is_of(domain, client));
        let Some(id) = text(client, "id").filter(|_| is_theirs && !goes) else {
            continue;
        };
        let client_id = text(client, "clientId").unwrap_or_default();
        for (field, segment) in [
            ("defaultClientScopes", "default-client-scopes"),
            ("optionalClientScopes", "optional-client-scopes"),
        ] {
            let held = texts(client.get(field));
            for scope in ours.iter().filter(|scope| held.contains(scope.as_str())) {
                let Some(scope_id) = at_server.get(scope).and_then(|owner| text(&owner.raw, "id")) else {
                    continue;
                };
                calls.push(Call {
                    operation: "detach_scope",
                    change: Change::Revoke,
                    subject: format!("scope {scope} from client {client_id}"),
                    verb: Verb::Delete,
                    path: format!("/clients/{id}/{segment}/{scope_id}"),
                    body: None,
                });
            }
        }
    }
    calls
}

/// A client that carries no mark may have registered itself, also under the id that only we give: whoever did that holds a
/// token by which to read its secret and to change it. When it becomes ours, that ends.
pub(in super::super) fn end_of_registration(observed: &ObservedClient) -> Option<Call> {
    let unmarked = matches!(observed.presence, Presence::Held(Holder::Unmarked { .. }));
    let raw = observed.raw.as_ref().filter(|_| unmarked)?;
    let id = text(raw, "id")?;
    Some(Call {
        operation: "end_registration",
        change: Change::Revoke,
        subject: format!(
            "registration access token of client {}",
            text(raw, "clientId").unwrap_or_default()
        ),
        verb: Verb::Post,
        path: format!("/clients/{id}/registration-access-token"),
        body: None,
    })
}
