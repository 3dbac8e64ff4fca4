//! What concerns the gates of servers.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures::stream;
use k8s_openapi::api::{core::v1::Service, networking::v1::NetworkPolicy};
use kube::{
    Resource, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use mcp_auth_crds::{
    annotations::SERVER,
    v1alpha1::{McpClient, McpServer},
};

use super::{
    super::mcp_server::{COMPONENT, GATE},
    Queue, keys, on, owner,
};
use crate::{
    context::Context,
    policy::{
        denial::{denied_at, known_id},
        hosts, names,
    },
    watch::{Feed, Index, Touch},
};

/// What concerns the gates of McpServers.
pub(super) fn gates(ctx: &Arc<Context>) -> Queue<McpServer> {
    let feeds = &ctx.feeds;
    let by_host = feeds.servers.index(keys::gate_host);
    let by_service = WithGate::of(&feeds.servers);
    let by_policy = by_service.by_namespace.clone();
    let (mut denials, mut census) = (Denials::default(), Census::default());
    let mut services = Services::default();
    stream::select_all([
        on(&feeds.gates.deployments, |touch| labelled(&*touch.object)),
        on(&feeds.gates.pods, |touch| labelled(&*touch.object)),
        on(&feeds.gates.slices, |touch| labelled(&*touch.object)),
        on(&feeds.gates.network_policies, move |touch| {
            policed(&by_policy, &touch.object)
        }),
        on(&feeds.gates.disruption_budgets, |touch| labelled(&*touch.object)),
        // Any Service can lead to a server, past its gate.
        on(&feeds.services, move |touch| services.woken(touch, &by_service)),
        on(&feeds.clients, move |touch| denials.changed(touch)),
        // Where the metadata stand depends on who else is at the host.
        on(&feeds.servers, move |touch| {
            if !census.is_news(touch) {
                return Vec::new();
            }
            let host = hosts::origin(&touch.object);
            host.map(|host| by_host.get(&host)).unwrap_or_default()
        }),
    ])
}

/// Where the tokens of which clients are refused, and by which id if that can change. Clients are touched with every
/// rotation: only what changes at gates wakes their servers.
#[derive(Debug, Default)]
pub(super) struct Denials(HashMap<ObjectRef<McpClient>, (Option<String>, Servers)>);

/// Namespaces and names.
type Servers = BTreeSet<(String, String)>;

impl Denials {
    /// The servers whose gates begin or cease to refuse the client.
    pub(super) fn changed(&mut self, touch: &Touch<McpClient>) -> Vec<ObjectRef<McpServer>> {
        let client = ObjectRef::from_obj(&*touch.object);
        let now = if touch.deleted {
            BTreeSet::new()
        } else {
            denied_at(&touch.object)
        };
        let id = known_id(&touch.object).map(str::to_owned);
        let before = if now.is_empty() {
            self.0.remove(&client)
        } else {
            self.0.insert(client, (id.clone(), now.clone()))
        };
        let (id_before, before) = before.unwrap_or_default();
        let changed: BTreeSet<_> = if id_before == id {
            before.symmetric_difference(&now).collect()
        } else {
            before.union(&now).collect()
        };
        let server = |(namespace, name): &(String, String)| ObjectRef::new(name).within(namespace);
        changed.into_iter().map(server).collect()
    }
}

/// The servers that are accepted. They are touched with every status: only one that comes to be accepted, or is so no more,
/// is news to those that share its host.
#[derive(Debug, Default)]
pub(super) struct Census(HashSet<ObjectRef<McpServer>>);

impl Census {
    /// Whether the server came to be accepted, or ceased to be.
    pub(super) fn is_news(&mut self, touch: &Touch<McpServer>) -> bool {
        let server = ObjectRef::from_obj(&*touch.object);
        if touch.deleted || !hosts::is_accepted(&touch.object) {
            self.0.remove(&server)
        } else {
            self.0.insert(server)
        }
    }
}

/// The servers that have a gate.
pub(super) struct WithGate {
    by_namespace: Index<McpServer, String>,
    servers: Store<McpServer>,
}

impl WithGate {
    fn of(servers: &Feed<McpServer>) -> Self {
        Self {
            by_namespace: servers.index(keys::gate_namespace),
            servers: servers.store(),
        }
    }

    /// The Service behind the gate of a server.
    fn target(&self, server: &ObjectRef<McpServer>) -> Option<String> {
        let server = self.servers.get(server)?;
        server.spec.target.as_ref().map(|target| target.service.clone())
    }
}

/// What Services say, and whether each is of a gate. Their status is no news to servers.
#[derive(Debug, Default)]
pub(super) struct Services(HashMap<ObjectRef<Service>, (bool, String)>);

impl Services {
    /// The servers to which it matters what happened to the Service. All of it does to the one to whose gate it belongs. If
    /// it came, went or leads elsewhere, it also does to the others of its namespace that have a gate, as another way to
    /// them; a Service of a gate is none, but it may be what one of them has as its target.
    pub(super) fn woken(
        &mut self,
        touch: &Touch<Service>,
        with_gate: &WithGate,
    ) -> Vec<ObjectRef<McpServer>> {
        let service = &touch.object;
        let own = of_a_gate(service);
        let spec = names::hash(format!("{:?}", service.spec).as_bytes(), 16);
        let now = (!touch.deleted).then_some((own.is_some(), spec));
        let before = match &now {
            Some(now) => self.0.insert(ObjectRef::from_obj(&**service), now.clone()),
            None => self.0.remove(&ObjectRef::from_obj(&**service)),
        };
        let is_news = touch.deleted || before != now;
        let is_a_way = own.is_none() || before.is_some_and(|(was_of_a_gate, _)| !was_of_a_gate);
        if !is_news {
            return own.into_iter().collect();
        }
        let (namespace, name) = keys::name(&**service);
        let mut others = with_gate.by_namespace.get(&namespace);
        others.retain(|server| is_a_way || with_gate.target(server).as_ref() == Some(&name));
        own.into_iter().chain(others).collect()
    }
}

/// The server to whose gate a Service belongs, by its controller.
pub(super) fn of_a_gate(service: &Service) -> Option<ObjectRef<McpServer>> {
    let owner = service
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == McpServer::kind(&()))?;
    Some(ObjectRef::new(&owner.name).within(&service.namespace()?))
}

/// The server that the label of an object names.
pub(super) fn labelled<T: Resource>(object: &T) -> Option<ObjectRef<McpServer>> {
    let meta = object.meta();
    let server = meta.labels.as_ref()?.get(SERVER)?;
    Some(ObjectRef::new(server).within(meta.namespace.as_deref()?))
}

/// The servers to which a NetworkPolicy matters: of one around a gate its own, of any other all of the namespace that have a
/// gate, because policies add up.
pub(super) fn policed(
    with_gate: &Index<McpServer, String>,
    policy: &NetworkPolicy,
) -> Vec<ObjectRef<McpServer>> {
    let is_around_gate = policy.labels().get(COMPONENT).is_some_and(|part| part == GATE);
    let own = owner(policy);
    if own.is_some() && is_around_gate {
        return own.into_iter().collect();
    }
    // Its own server may have no gate any more.
    let beside = with_gate.get(&policy.namespace().unwrap_or_default());
    own.into_iter().chain(beside).collect()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_suspended_client_that_proves_to_be_another_wakes_its_servers() {
        let mut denials = Denials::default();
        let mut woken = |id: Option<&str>| {
            let client = json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "n", "name": "c"},
                "spec": {"authorizationServerRef": {"name": "main"}, "suspended": true, "access": [{"server": {"name": "s"}}],
                         "existing": {"secretRef": {"name": "x"}, "grantTypes": ["client_credentials"]}},
                "status": {"clientId": id},
            });
            let object = Arc::new(serde_json::from_value(client).unwrap());
            !denials
                .changed(&Touch {
                    object,
                    deleted: false,
                })
                .is_empty()
        };
        for (id, news) in [
            (None, true),
            (None, false),
            (Some("a"), true),
            (Some("a"), false),
            (Some("b"), true),
            (None, true),
        ] {
            assert_eq!(woken(id), news, "{id:?}");
        }
    }

    #[tokio::test]
    async fn a_network_policy_wakes_every_gate_of_its_namespace_unless_it_is_around_one() {
        let stage = crate::testing::stage(&[
            server("n", "a", "s", "Gate"),
            server("n", "b", "s", "Gate"),
            server("n", "c", "s", "External"),
            server("o", "d", "s", "Gate"),
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
            let found = policed(&stage.ctx.feeds.servers.index(keys::gate_namespace), &policy);
            let mut names: Vec<_> = found.into_iter().map(|server| server.name).collect();
            names.sort_unstable();
            assert_eq!(names, woken, "{why}");
        }
    }

    fn server(namespace: &str, name: &str, target: &str, mode: &str) -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": namespace, "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/",
                     "target": {"service": target}, "enforcement": {"mode": mode}},
        })
    }

    #[tokio::test]
    async fn a_service_wakes_those_to_whom_it_matters_when_it_comes_goes_or_leads_elsewhere() {
        let stage = crate::testing::stage(&[
            server("n", "a", "s", "Gate"),
            server("n", "b", "other", "Gate"),
            server("n", "c", "s", "External"),
            server("n", "d", "other", "Gate"),
            server("o", "e", "s", "Gate"),
        ])
        .await;
        let owner = |controller: bool| {
            json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "name": "b", "uid": "u",
                    "controller": controller}])
        };
        let (nobodys, of_b) = (Value::Null, owner(true));
        let mut services = Services::default();
        let mut check = |port: i32, seen: &str, owners: &Value, deleted: bool, woken: &[&str], why: &str| {
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"namespace": "n", "name": "s", "annotations": {"seen": seen}, "ownerReferences": owners},
                "spec": {"ports": [{"port": port}]},
                "status": {"loadBalancer": {"ingress": [{"ip": seen}]}},
            });
            let object = Arc::new(serde_json::from_value(service).unwrap());
            let found = services.woken(
                &Touch { object, deleted },
                &WithGate::of(&stage.ctx.feeds.servers),
            );
            let mut names: Vec<_> = found.into_iter().map(|server| server.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names, woken, "{why}");
        };
        let (all, own) = (&["a", "b", "d"][..], &["b"][..]);
        check(80, "1.2.3.4", &nobodys, false, all, "it comes");
        check(80, "1.2.3.5", &nobodys, false, &[], "its status");
        check(81, "1.2.3.5", &nobodys, false, all, "another port");
        check(81, "1.2.3.5", &nobodys, true, all, "it goes");
        check(81, "1.2.3.5", &nobodys, false, all, "it comes back");
        check(81, "", &owner(false), false, &[], "anybody can name a server");
        check(81, "", &of_b, false, all, "what was a way in is one no more");
        check(81, "x", &of_b, false, own, "its gate keeps all of it as it is");
        check(82, "x", &of_b, false, &["a", "b"], "it is the target of another");
        check(82, "x", &of_b, true, &["a", "b"], "a target goes");
        check(82, "x", &of_b, false, &["a", "b"], "a gate as a target comes");
        check(82, "x", &nobodys, false, all, "it is of no gate any more");
    }

    #[test]
    fn a_server_is_news_when_it_comes_to_be_accepted_and_when_that_ends() {
        let server = |accepted: &str| -> Arc<McpServer> {
            let accepted = json!({"type": "Accepted", "status": accepted, "reason": "R", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let server = json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer", "metadata": {"namespace": "n", "name": "s"},
                "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h/"},
                "status": {"conditions": [accepted]},
            });
            Arc::new(serde_json::from_value(server).unwrap())
        };
        let mut census = Census::default();
        for (accepted, deleted, news) in [
            ("False", false, false),
            ("True", false, true),
            ("True", false, false),
            ("False", false, true),
            ("True", false, true),
            ("True", true, true),
            ("True", true, false),
            ("True", false, true),
        ] {
            let touch = Touch {
                object: server(accepted),
                deleted,
            };
            assert_eq!(census.is_news(&touch), news, "{accepted} {deleted}");
        }
    }
}
