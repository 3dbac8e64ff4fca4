//! Passes over a server with a gate.

mod denials;
mod narrowing;
mod network;
mod proofs;
mod reading;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

const SERVICE: &str = "/api/v1/namespaces/team/services/notes";
const POD: &str = "/api/v1/namespaces/team/pods/notes-gate-abc-1";
const GATE_MAP: &str = "/api/v1/namespaces/team/configmaps/notes-gate";
const GATE_SECRET: &str = "/api/v1/namespaces/team/secrets/notes-gate";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/notes-gate";

/// Everything that belongs to a gate of two pods.
const ALL: [&str; 9] = [
    GATE_MAP,
    GATE_SECRET,
    DEPLOYMENT,
    "/api/v1/namespaces/team/services/notes-gate",
    "/api/v1/namespaces/team/services/notes-gate-peers",
    "/api/v1/namespaces/team/services/notes-gate-origin",
    "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate",
    "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/notes-gate-origin",
    "/apis/policy/v1/namespaces/team/poddisruptionbudgets/notes-gate",
];

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "team", "name": "notes", "uid": "s"},
        "spec": {"selector": {"app": "notes"}, "ports": [{"port": 80, "targetPort": 3000}]},
    })
}

fn delivered(delivery: &str) -> Value {
    let mut policy = policy();
    policy["spec"]["delivery"] = json!(delivery);
    policy["spec"]["scopes"][0]["requires"] = json!(["notes:read"]);
    policy["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    policy
}

fn client(suspended: bool) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "team", "name": "bad", "uid": "c"},
        "spec": {"authorizationServerRef": {"namespace": "platform", "name": "main"}, "suspended": suspended,
                 "access": [{"server": {"name": "notes"}, "scopes": ["notes:read"]}]},
    })
}

impl Team {
    /// `notes` has a gate of two pods.
    async fn gated(objects: &[Value]) -> Self {
        let mut all = vec![service()];
        all.extend_from_slice(objects);
        let mut team = Self::new(&all).await;
        team.change(NOTES, |notes| {
            notes["spec"]["target"] = json!({"service": "notes"});
            notes["spec"]["enforcement"] = json!({"gate": {"replicas": 2}});
        });
        team.calm().await;
        team
    }

    /// Passes until nothing is written any more, with caches that know what was written.
    async fn calm(&mut self) {
        for _ in 0..10 {
            self.start_over().await;
            self.0.writes.live();
            if self.pass().await && self.0.writes.made() == 0 {
                return;
            }
        }
        panic!("it does not settle");
    }

    /// A new process, which has an image of gates.
    async fn start_over(&mut self) {
        self.0.restart().await;
        let ctx = Arc::get_mut(&mut self.0.ctx).unwrap();
        ctx.config.gate.image = Some("gate:1".to_owned());
        ctx.egress = crate::egress::Egress::new(crate::egress::EgressPolicy {
            insecure_allow_loopback: true,
            ..Default::default()
        });
    }

    fn document(&self) -> Value {
        let map = self.0.cluster.get(GATE_MAP).unwrap();
        serde_json::from_str(map["data"]["policy.json"].as_str().unwrap()).unwrap()
    }

    fn reason(&self, type_: &str) -> String {
        self.condition(type_).1
    }
}

#[tokio::test]
async fn a_gate_is_made_whole_and_then_left_alone() {
    let mut team = Team::gated(&[]).await;
    for path in ALL {
        let object = team.0.cluster.get(path).unwrap_or_else(|| panic!("no {path}"));
        assert_eq!(
            object["metadata"]["ownerReferences"][0]["kind"], "McpServer",
            "{path}"
        );
    }
    assert_eq!(
        team.condition("GateReady"),
        ("Unknown".into(), "RollingOut".into())
    );
    assert_eq!(team.ready(), ("Unknown".into(), "RollingOut".into()));
    let status = team.status();
    assert_eq!(status["enforcement"], "Gate");
    assert_eq!(
        (&status["gate"]["service"], &status["gate"]["port"]),
        (&json!("notes-gate"), &json!(80))
    );
    let document = team.document();
    assert_eq!(
        document["upstream"]["url"],
        "http://notes-gate-origin.team.svc:3000/notes"
    );
    assert_eq!(
        document["aloneOnHost"], true,
        "orders has the same host, but is not accepted"
    );
    let keys = team.0.cluster.get(GATE_SECRET).unwrap()["data"].clone();
    assert_eq!(keys.as_object().unwrap().len(), 1, "no credential is needed");
    let secret = team.0.cluster.get(SERVICE).unwrap();
    assert_eq!(
        secret["spec"],
        service()["spec"],
        "what users applied stays as it is"
    );
    team.change(ORDERS, |orders| {
        orders["status"] = json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted",
            "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    });
    team.calm().await;
    assert_eq!(
        team.document()["aloneOnHost"],
        false,
        "orders has its place there"
    );
}

#[tokio::test]
async fn what_somebody_changes_or_deletes_is_set_right() {
    let mut team = Team::gated(&[]).await;
    let keys = team.0.cluster.get(GATE_SECRET).unwrap()["data"].clone();
    for path in ALL {
        let before = team.0.cluster.get(path).unwrap();
        team.0.cluster.remove(path);
        team.calm().await;
        assert!(team.0.cluster.get(path).is_some(), "{path} was deleted");
        team.change(path, |object| {
            for (part, damaged) in [("data", "nonsense"), ("spec", "nothing")] {
                let fields = object[part].as_object_mut().into_iter().flatten();
                match damaged {
                    "nonsense" => fields.for_each(|(_, value)| *value = json!("bm9uc2Vuc2U=")),
                    _ => fields.for_each(|(_, value)| *value = Value::Null),
                }
            }
        });
        team.calm().await;
        let after = team.0.cluster.get(path).unwrap();
        assert_eq!(after["spec"], before["spec"], "{path} was changed");
        if path != GATE_SECRET {
            assert_eq!(after["data"], before["data"], "{path} was changed");
        }
    }
    let new = team.0.cluster.get(GATE_SECRET).unwrap()["data"].clone();
    assert_ne!(new, keys, "keys that are lost are made anew");
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    for path in ALL {
        let mut team = Team::gated(&[]).await;
        team.change(path, |object| {
            object["metadata"]["ownerReferences"] = json!([]);
            object["theirs"] = json!(true);
        });
        let theirs = team.0.cluster.get(path).unwrap();
        team.calm().await;
        assert_eq!(team.0.cluster.get(path), Some(theirs.clone()), "{path}");
        let reason = match path {
            GATE_MAP => "ConfigMapNotOwned",
            GATE_SECRET => "SecretNotOwned",
            _ => "GateObjectNotOwned",
        };
        assert_eq!(
            team.condition("GateReady"),
            ("False".into(), reason.into()),
            "{path}"
        );
        // Nor when the gate goes.
        team.change(NOTES, |notes| {
            notes["spec"]["enforcement"] = json!({"mode": "External"});
        });
        team.calm().await;
        assert_eq!(team.0.cluster.get(path), Some(theirs), "{path}");
        assert_eq!(
            ALL.iter()
                .filter(|path| team.0.cluster.get(path).is_some())
                .count(),
            1,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_server_may_come_to_have_a_gate_and_lose_it_again() {
    let mut team = Team::gated(&[]).await;
    team.change(NOTES, |notes| {
        notes["spec"]["enforcement"] = json!({"mode": "External"});
    });
    team.calm().await;
    for path in ALL {
        assert!(team.0.cluster.get(path).is_none(), "{path}");
    }
    assert_eq!(team.ready(), ("True".into(), "Ready".into()));
    let conditions = team.status()["conditions"].as_array().unwrap().clone();
    assert!(
        conditions
            .iter()
            .all(|c| c["type"] != "GateReady" && c["type"] != "BypassClosed")
    );
    assert_eq!(team.status().get("gate"), None);
    team.change(NOTES, |notes| {
        notes["spec"]["enforcement"] = json!({"mode": "Gate"});
    });
    team.calm().await;
    assert!(team.0.cluster.get(DEPLOYMENT).is_some());
    let budget = ALL.last().unwrap();
    assert!(team.0.cluster.get(budget).is_none(), "one pod needs none");
}

#[tokio::test]
async fn what_a_gate_lacks_is_said() {
    let without = |field: &'static str, value: Value| move |notes: &mut Value| notes["spec"][field] = value;
    let mut team = Team::gated(&[]).await;
    team.change(NOTES, without("target", json!({"service": "other"})));
    team.calm().await;
    assert_eq!(team.ready(), ("Unknown".into(), "TargetServiceNotFound".into()));
    team.change(NOTES, without("target", json!({"service": "notes", "port": 81})));
    team.calm().await;
    assert_eq!(team.ready(), ("False".into(), "TargetPortNotFound".into()));
    team.change(NOTES, without("target", json!({"service": "notes"})));
    let tls = json!({"gate": {"tls": {"secretName": "cert"}}});
    team.change(NOTES, without("enforcement", tls));
    team.calm().await;
    assert_eq!(team.ready(), ("Unknown".into(), "TlsSecretNotFound".into()));
    let certificate = |content: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "cert"},
               "data": {"tls.crt": STANDARD.encode(content), "tls.key": STANDARD.encode("k")}})
    };
    let started_with = |team: &Team| {
        let deployment = team.0.cluster.get(DEPLOYMENT).unwrap();
        deployment["spec"]["template"]["metadata"]["annotations"]["mcpauth.dev/gate-certificate"].clone()
    };
    team.0.cluster.put(certificate("one"));
    team.calm().await;
    let first = started_with(&team);
    assert!(first.is_string());
    team.0.cluster.put(certificate("two"));
    team.calm().await;
    assert_ne!(
        started_with(&team),
        first,
        "the pods read a certificate when they start"
    );
    team.0.ctx = {
        team.0.restart().await;
        Arc::clone(&team.0.ctx)
    };
    team.settle().await;
    assert_eq!(team.ready(), ("False".into(), "GateImageMissing".into()));
}

#[tokio::test]
async fn a_suspended_client_is_denied_whatever_else_stands_in_the_way() {
    for obstacle in [
        "none",
        "paused",
        "refused",
        "no target",
        "no authorization server",
    ] {
        let mut team = Team::gated(&[client(false)]).await;
        assert_eq!(team.document().get("deniedClients"), None);
        team.0.cluster.put(denials::granted(client(true)));
        team.change(NOTES, |notes| match obstacle {
            "paused" => notes["metadata"]["annotations"] = json!({"mcpauth.dev/reconcile": "paused"}),
            "no target" => notes["spec"]["target"] = json!({"service": "other"}),
            "refused" => notes["spec"]["allowedClients"] = json!([{"selfRegistered": true}]),
            _ => {}
        });
        if obstacle == "no authorization server" {
            team.0.cluster.remove(MAIN);
        }
        team.calm().await;
        assert_eq!(
            team.document()["deniedClients"],
            json!(["i.team.bad"]),
            "{obstacle}"
        );
        team.0.cluster.put(client(false));
        team.calm().await;
        let expected = if obstacle == "none" {
            Value::Null
        } else {
            json!(["i.team.bad"])
        };
        assert_eq!(
            team.document()["deniedClients"],
            expected,
            "{obstacle}: what is denied stays so"
        );
    }
}

#[tokio::test]
async fn a_gate_that_exchanges_has_the_credential_and_the_workload_has_not() {
    for delivery in ["Header", "Endpoint"] {
        let mut team = Team::gated(&[delivered(delivery)]).await;
        assert_eq!(team.exchanged(), ["orders:read".to_owned()].into());
        let exchange = team.document()["exchanges"][0].clone();
        let expected = json!({"name": "orders", "delivery": delivery, "audience": "https://127.0.0.1/orders",
            "scopes": [{"name": "orders:read", "requires": ["notes:read"]}]});
        assert_eq!(exchange, expected);
        let secret = team.0.cluster.get(GATE_SECRET).unwrap();
        let text = |key: &str| {
            String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()).unwrap()
        };
        assert_eq!(text("client-id"), RESOURCE);
        assert_eq!(text("client-secret"), team.0.server.clients()[RESOURCE].secret);
        assert!(team.0.cluster.get(SECRET).is_none(), "the workload has none");
        assert_eq!(
            team.condition("CredentialsReady"),
            ("True".into(), "Proved".into())
        );
        let map = team
            .0
            .cluster
            .get("/api/v1/namespaces/team/configmaps/notes-mcp-auth")
            .unwrap();
        assert_eq!(
            map["data"]["MCP_AUTH_TOKEN_URL"].is_string(),
            delivery == "Endpoint"
        );

        team.0.cluster.remove(POLICY);
        team.calm().await;
        assert_eq!(team.exchanged(), [].into());
        assert_eq!(team.document().get("exchanges"), None);
        let data = team.0.cluster.get(GATE_SECRET).unwrap()["data"].clone();
        assert_eq!(
            data["session-keys"], secret["data"]["session-keys"],
            "sessions go on"
        );
        assert!(team.0.cluster.get(&journal()).is_none());
    }
}

#[tokio::test]
async fn an_exchange_that_is_taken_back_leaves_the_gate_of_a_paused_server() {
    for refused in [false, true] {
        let mut team = Team::gated(&[delivered("Header")]).await;
        team.change(NOTES, |notes| {
            notes["metadata"]["annotations"] = json!({"mcpauth.dev/reconcile": "paused"});
            if refused {
                notes["spec"]["allowedClients"] = json!([{"selfRegistered": true}]);
            }
        });
        team.forbid().await;
        team.calm().await;
        assert_eq!(team.exchanged(), [].into());
        assert_eq!(team.document().get("exchanges"), None, "{refused}");
    }
}

#[tokio::test]
async fn an_exchange_without_a_gate_is_none() {
    let team = Team::new(&[delivered("Header")]).await;
    team.settle().await;
    assert_eq!(team.exchanged(), [].into());
    assert!(team.0.cluster.get(SECRET).is_none());
    assert_eq!(team.ready(), ("True".into(), "Ready".into()));
}
