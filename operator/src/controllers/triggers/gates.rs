//! What concerns the gates of servers.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    annotations::SERVER,
    v1alpha1::{McpClient, McpServer},
};

use super::{
    super::mcp_server::{COMPONENT, GATE},
    all, owner,
};
use crate::{
    policy::{denial::denied_at, enforcement, names},
    watch::{Feed, Touch},
};

/// Where the tokens of which clients are refused. Clients are touched with every rotation: only what changes at gates
/// wakes their servers.
#[derive(Debug, Default)]
pub(super) struct Denials(HashMap<ObjectRef<McpClient>, BTreeSet<(String, String)>>);

impl Denials {
    /// The servers whose gates begin or cease to refuse the client.
    pub(super) fn changed(&mut self, touch: &Touch<McpClient>) -> Vec<ObjectRef<McpServer>> {
        let client = ObjectRef::from_obj(&*touch.object);
        let now = if touch.deleted {
            BTreeSet::new()
        } else {
            denied_at(&touch.object)
        };
        let before = if now.is_empty() {
            self.0.remove(&client)
        } else {
            self.0.insert(client, now.clone())
        };
        let changed = before.unwrap_or_default();
        let changed = changed.symmetric_difference(&now);
        changed
            .map(|(namespace, name)| ObjectRef::new(name).within(namespace))
            .collect()
    }
}

/// The servers that there are. They are touched with every status: only one that comes or goes is news to those that share
/// its host.
#[derive(Debug, Default)]
pub(super) struct Census(HashSet<ObjectRef<McpServer>>);

impl Census {
    /// Whether the server came or went.
    pub(super) fn is_news(&mut self, touch: &Touch<McpServer>) -> bool {
        let server = ObjectRef::from_obj(&*touch.object);
        if touch.deleted {
            self.0.remove(&server)
        } else {
            self.0.insert(server)
        }
    }
}

/// The server that the label of an object names.
pub(super) fn labelled<T: Resource>(object: &T) -> Option<ObjectRef<McpServer>> {
    let meta = object.meta();
    let server = meta.labels.as_ref()?.get(SERVER)?;
    Some(ObjectRef::new(server).within(meta.namespace.as_deref()?))
}

/// The servers to which a NetworkPolicy matters: of one around a gate its own, of any other all of the namespace that have a
/// gate, because policies add up.
pub(super) fn policed(servers: &Feed<McpServer>, policy: &NetworkPolicy) -> Vec<ObjectRef<McpServer>> {
    let is_around_gate = policy.labels().get(COMPONENT).is_some_and(|part| part == GATE);
    let own = owner(policy);
    if own.is_some() && is_around_gate {
        return own.into_iter().collect();
    }
    // Its own server may have no gate any more.
    let beside = all(servers, |server| {
        server.metadata.namespace == policy.metadata.namespace && enforcement::has_gate(server)
    });
    own.into_iter().chain(beside).collect()
}

/// Whether a server wants an object of this name for its gate, or reads it there.
pub(super) fn uses(server: &McpServer, name: &str) -> bool {
    let own = server.name_any();
    let gate = server
        .spec
        .enforcement
        .as_ref()
        .and_then(|enforcement| enforcement.gate.as_ref());
    let certificate = gate
        .and_then(|gate| gate.tls.as_ref())
        .is_some_and(|tls| tls.secret_name == name);
    enforcement::has_gate(server)
        && (certificate
            || [
                names::gate(&own),
                names::gate_peers(&own),
                names::gate_origin(&own),
            ]
            .iter()
            .any(|n| n == name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{super::super::mcp_server::ORIGIN, *};

    fn client(suspended: bool, servers: &[&str], deleted: bool) -> Touch<McpClient> {
        let access: Vec<Value> = servers
            .iter()
            .map(|name| json!({"server": {"name": name}, "scopes": ["a"]}))
            .collect();
        let client = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "n", "name": "c"},
            "spec": {"authorizationServerRef": {"name": "main"}, "suspended": suspended, "access": access},
        });
        Touch {
            object: Arc::new(serde_json::from_value(client).unwrap()),
            deleted,
        }
    }

    #[test]
    fn only_servers_where_a_client_is_refused_from_now_on_or_no_more_are_woken() {
        let mut denials = Denials::default();
        for (touch, woken) in [
            (client(false, &["a", "b"], false), &[][..]),
            (client(true, &["a", "b"], false), &["a", "b"]),
            (client(true, &["a", "b"], false), &[]),
            (client(true, &["b", "c"], false), &["a", "c"]),
            (client(false, &["b", "c"], false), &["b", "c"]),
            (client(true, &["b"], false), &["b"]),
            (client(true, &["b"], true), &["b"]),
            (client(true, &["b"], true), &[]),
        ] {
            let names: Vec<_> = denials
                .changed(&touch)
                .into_iter()
                .map(|server| server.name)
                .collect();
            assert_eq!(names, woken);
        }
    }

    #[tokio::test]
    async fn a_network_policy_wakes_every_gate_of_its_namespace_unless_it_is_around_one() {
        let server = |namespace: &str, name: &str, mode: &str| {
            json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": namespace, "name": name},
                "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/",
                         "target": {"service": "s"}, "enforcement": {"mode": mode}},
            })
        };
        let stage = crate::testing::stage(&[
            server("n", "a", "Gate"),
            server("n", "b", "Gate"),
            server("n", "c", "External"),
            server("o", "d", "Gate"),
        ])
        .await;
        let owners =
            json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "name": "a", "uid": "u"}]);
        for (component, owners, woken, why) in [
            (GATE, owners.clone(), &["a"][..], "around a gate"),
            (ORIGIN, owners, &["a", "a", "b"], "around a server"),
            (GATE, json!([]), &["a", "b"], "somebody else's with our label"),
        ] {
            let policy = json!({"metadata": {"namespace": "n", "name": "p", "labels": {COMPONENT: component}, "ownerReferences": owners}});
            let policy = serde_json::from_value(policy).unwrap();
            let found = policed(&stage.ctx.feeds.servers, &policy);
            let mut names: Vec<_> = found.into_iter().map(|server| server.name).collect();
            names.sort_unstable();
            assert_eq!(names, woken, "{why}");
        }
    }

    #[test]
    fn a_server_is_news_when_it_comes_and_when_it_goes() {
        let server: Arc<McpServer> = Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "n", "name": "s"},
                "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/"},
            }))
            .unwrap(),
        );
        let mut census = Census::default();
        for (deleted, news) in [
            (false, true),
            (false, false),
            (true, true),
            (true, false),
            (false, true),
        ] {
            let touch = Touch {
                object: Arc::clone(&server),
                deleted,
            };
            assert_eq!(census.is_news(&touch), news);
        }
    }
}
