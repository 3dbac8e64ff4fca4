//! What of an AuthorizationServer matters to those who refer to it.

use std::collections::{BTreeSet, HashMap};

use kube::runtime::reflector::ObjectRef;
use mcp_auth_crds::{
    condition,
    v1alpha1::{AuthorizationServer, ServiceAccountTrust},
};

use crate::{cluster::is_deleting, watch::Touch};

/// What one subscriber last saw of each AuthorizationServer. Its status counts who refers to it, so it is touched with
/// each of them that comes or goes: if that woke all the others, every new one would cost a pass of each.
#[derive(Debug, Default)]
pub(super) struct Faces(HashMap<ObjectRef<AuthorizationServer>, Face>);

/// What is read of an AuthorizationServer by passes over other objects. Of conditions, messages name what only people
/// need, and times change with the rest.
#[derive(Debug, PartialEq, Eq)]
struct Face {
    uid: Option<String>,
    generation: Option<i64>,
    deleting: bool,
    /// Only now is in force, or given up, what the generation says.
    observed: Option<i64>,
    conditions: BTreeSet<[String; 3]>,
    capabilities: Vec<String>,
    trust: Option<ServiceAccountTrust>,
}

impl Faces {
    /// Whether the touch is news for those who refer to the AuthorizationServer.
    pub(super) fn is_news(&mut self, touch: &Touch<AuthorizationServer>) -> bool {
        let server = ObjectRef::from_obj(&*touch.object);
        if touch.deleted {
            self.0.remove(&server);
            return true;
        }
        let face = Face::of(&touch.object);
        if self.0.get(&server) == Some(&face) {
            return false;
        }
        self.0.insert(server, face);
        true
    }
}

impl Face {
    fn of(server: &AuthorizationServer) -> Self {
        let status = server.status.clone().unwrap_or_default();
        Self {
            uid: server.metadata.uid.clone(),
            generation: server.metadata.generation,
            deleting: is_deleting(server),
            observed: status.observed_generation,
            conditions: status
                .conditions
                .into_iter()
                .filter(|condition| condition::is_ours(&condition.type_))
                .map(|condition| [condition.type_, condition.status, condition.reason])
                .collect(),
            capabilities: status.capabilities,
            trust: status.service_account_issuer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn server() -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main", "uid": "1", "generation": 1, "resourceVersion": "1"},
            "spec": {"issuer": "https://as/realms/r", "credentials": {"secretRef": {"name": "c"}}},
            "status": {
                "observedGeneration": 1, "capabilities": ["TokenExchange"], "servers": 1, "clients": 1,
                "serviceAccountIssuer": {"identityProvider": "k", "trusted": false},
                "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        })
    }

    fn touch(object: Value, deleted: bool) -> Touch<AuthorizationServer> {
        let object = Arc::new(serde_json::from_value(object).unwrap());
        Touch { object, deleted }
    }

    #[test]
    fn only_what_others_read_wakes_them() {
        let with = |path: &str, value: Value| {
            let mut server = server();
            *server.pointer_mut(path).unwrap() = value;
            server
        };
        let mut deleting = server();
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let cases = [
            ("nothing", server(), false),
            (
                "its version",
                with("/metadata/resourceVersion", json!("2")),
                false,
            ),
            ("how many servers", with("/status/servers", json!(2)), false),
            ("how many clients", with("/status/clients", json!(null)), false),
            (
                "a message",
                with("/status/conditions/0/message", json!("n")),
                false,
            ),
            (
                "its spec, as with a grant",
                with("/metadata/generation", json!(2)),
                true,
            ),
            (
                "its spec in force",
                with("/status/observedGeneration", json!(2)),
                true,
            ),
            ("Ready", with("/status/conditions/0/status", json!("False")), true),
            (
                "why it is not Ready",
                with("/status/conditions/0/reason", json!("Unreachable")),
                true,
            ),
            ("what it can do", with("/status/capabilities", json!([])), true),
            (
                "whose tokens it trusts",
                with("/status/serviceAccountIssuer/trusted", json!(true)),
                true,
            ),
            ("its status", with("/status", json!(null)), true),
            ("another one of the name", with("/metadata/uid", json!("2")), true),
            ("its coming end", deleting, true),
        ];
        for (what, after, news) in cases {
            let mut faces = Faces::default();
            assert!(faces.is_news(&touch(server(), false)), "never seen");
            assert_eq!(faces.is_news(&touch(after.clone(), false)), news, "{what}");
            assert!(!faces.is_news(&touch(after, false)), "{what}, again");
        }
    }

    #[test]
    fn its_end_and_its_return_wake_all() {
        let mut faces = Faces::default();
        for deleted in [false, true, false] {
            assert!(faces.is_news(&touch(server(), deleted)), "{deleted}");
        }
        let mut other = server();
        other["metadata"]["name"] = json!("other");
        assert!(faces.is_news(&touch(other, false)), "each by itself");
        assert!(!faces.is_news(&touch(server(), false)));
    }
}
