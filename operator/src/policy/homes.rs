//! The AuthorizationServers that an McpClient has to do with: the one that it names, and those at which it is or was
//! registered. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{GrantedAccess, McpClient, ObjectReference};

/// Namespace and name.
pub type Name = (String, String);

fn named(reference: &ObjectReference, client: &McpClient) -> Name {
    let own = client.namespace().unwrap_or_default();
    (reference.namespace_or(&own).to_owned(), reference.name.clone())
}

/// Where the client is registered, or is to be: with `gone`, also where it was, as long as its status tells.
pub fn homes(client: &McpClient, gone: bool) -> BTreeSet<Name> {
    let references = [&client.spec.authorization_server_ref].into_iter();
    let references = references.chain(said(client, gone));
    references.map(|reference| named(reference, client)).collect()
}

/// Where the client is registered, as far as its status says; of one of which it says nothing, where it is to be.
pub fn held(client: &McpClient) -> BTreeSet<Name> {
    let said = said(client, false);
    let status = client.status.as_ref();
    // One that has an id is registered somewhere.
    let is_unsaid = status.is_none_or(|status| status.registered_at.is_none() && status.client_id.is_some());
    let wanted = is_unsaid.then_some(&client.spec.authorization_server_ref);
    let references = said.into_iter().chain(wanted);
    references.map(|reference| named(reference, client)).collect()
}

/// The references in its status.
fn said(client: &McpClient, gone: bool) -> Vec<&ObjectReference> {
    let status = client.status.as_ref();
    let here = status.and_then(|status| status.registered_at.as_ref());
    let previous = status.into_iter().flat_map(|status| &status.previous);
    let previous = previous.filter(|home| gone || home.tokens_until.is_none());
    let here = here.map(|home| &home.authorization_server_ref);
    here.into_iter()
        .chain(previous.map(|home| &home.authorization_server_ref))
        .collect()
}

/// Where, as far as its status says, tokens of this ServiceAccount stand for the client.
pub fn by_account(client: &McpClient, account: &str) -> BTreeSet<Name> {
    let Some(status) = &client.status else {
        return BTreeSet::new();
    };
    let here = status.registered_at.iter();
    let here = here.map(|home| (&home.authorization_server_ref, &home.service_account));
    let kept = status.previous.iter().filter(|home| home.tokens_until.is_none());
    let kept = kept.map(|home| (&home.authorization_server_ref, &home.service_account));
    let found = here.chain(kept).filter(|(_, by)| by.as_deref() == Some(account));
    found.map(|(reference, _)| named(reference, client)).collect()
}

/// Whether the client is registered at this AuthorizationServer, as far as is known, and not just kept there.
pub fn is_at(client: &McpClient, home: &Name) -> bool {
    let status = client.status.as_ref();
    let here = status.and_then(|status| status.registered_at.as_ref());
    let here = here.map_or(&client.spec.authorization_server_ref, |home| {
        &home.authorization_server_ref
    });
    named(here, client) == *home
}

/// What the client can, or could, get tokens for at one AuthorizationServer, with the client id that it has or had there.
pub fn granted_at<'a>(
    client: &'a McpClient,
    home: &'a Name,
) -> impl Iterator<Item = (Option<&'a str>, &'a GrantedAccess)> {
    let status = client.status.as_ref();
    let is_here = is_at(client, home);
    let current = status.into_iter().filter(move |_| is_here).flat_map(|status| {
        let id = status.client_id.as_deref();
        status.granted.iter().map(move |granted| (id, granted))
    });
    let previous = status.into_iter().flat_map(|status| &status.previous);
    let previous = previous
        .filter(move |previous| named(&previous.authorization_server_ref, client) == *home)
        .flat_map(|previous| {
            let id = Some(previous.client_id.as_str());
            previous.granted.iter().map(move |granted| (id, granted))
        });
    current.chain(previous)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client() -> McpClient {
        let granted = |server: &str| json!([{"server": server, "resource": "https://r/", "scopes": ["s"]}]);
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "team", "name": "c"},
            "spec": {"authorizationServerRef": {"name": "next"}, "managed": {"grantTypes": ["client_credentials"]}},
            "status": {
                "clientId": "now", "granted": granted("team/here"),
                "registeredAt": {"authorizationServerRef": {"namespace": "p", "name": "here"}, "issuer": "i"},
                "previous": [
                    {"authorizationServerRef": {"namespace": "p", "name": "kept"}, "issuer": "k", "clientId": "old",
                     "granted": granted("team/kept")},
                    {"authorizationServerRef": {"namespace": "p", "name": "gone"}, "issuer": "g", "clientId": "older",
                     "granted": granted("team/gone"), "tokensUntil": "2026-01-01T00:00:00Z"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn it_is_where_it_is_to_be_and_where_it_still_is() {
        let names = |gone| {
            let homes = homes(&client(), gone).into_iter();
            homes
                .map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["p/here", "p/kept", "team/next"]);
        assert_eq!(names(true), ["p/gone", "p/here", "p/kept", "team/next"]);
    }

    #[test]
    fn what_it_has_at_one_is_nothing_at_another() {
        for (home, expected) in [
            ("here", vec![(Some("now"), "team/here")]),
            ("kept", vec![(Some("old"), "team/kept")]),
            ("gone", vec![(Some("older"), "team/gone")]),
            ("next", vec![]),
        ] {
            let (client, name) = (client(), ("p".to_owned(), home.to_owned()));
            let found = granted_at(&client, &name).map(|(id, granted)| (id, granted.server.as_str()));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{home}");
        }
    }
}
