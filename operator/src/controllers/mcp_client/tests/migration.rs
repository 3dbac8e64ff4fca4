//! Passes over a client that moves from one authorization server to another.

mod courses;
mod guarded;

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    connections::Side,
    testing::{FakeRegistrar, FakeServer, connect_as, connect_side},
};

const MAIN: &str = "https://as.example/realms/r";
const NEXT: &str = "https://next.example/realms/n";
const OPEN: &str = "https://open.example";

/// A client, and three authorization servers: `main` and `next` are administered, at `open` one can only register.
struct Moving {
    stage: Stage,
    next: FakeServer,
    open: FakeRegistrar,
    method: &'static str,
}

fn authorization_server(name: &str, issuer: &str, side: Value, grants: Value) -> Value {
    let mut server = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": name, "uid": uid(name)},
        "spec": {"issuer": issuer, "grants": grants},
    });
    for (field, value) in side.as_object().unwrap() {
        server["spec"][field] = value.clone();
    }
    server
}

fn uid(name: &str) -> String {
    if name == "main" {
        "as".into()
    } else {
        name.to_owned()
    }
}

fn everybody() -> Value {
    json!([{"namespaces": {"from": "All"}, "clients": {"redirectHosts": ["*"]}}])
}

fn server(name: &str, home: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": name, "uid": name},
        "spec": {"authorizationServerRef": {"namespace": "platform", "name": home},
                 "resource": format!("https://{name}.example/mcp"), "enforcement": {"mode": "External"},
                 "scopes": [{"name": format!("{name}:read")}]},
    })
}

impl Moving {
    async fn new(method: &'static str) -> Self {
        Self::with(method, &[]).await
    }

    async fn with(method: &'static str, more: &[Value]) -> Self {
        let keycloak = json!({"keycloak": {"realm": "r"}, "credentials": {"secretRef": {"name": "c"}}});
        let objects = [
            authorization_server("main", MAIN, keycloak.clone(), everybody()),
            authorization_server("next", NEXT, keycloak, everybody()),
            authorization_server("open", OPEN, json!({"dynamicRegistration": {}}), everybody()),
            server("bills", "next"),
        ];
        let stage = at_work_beside(&[&objects[..], more].concat()).await;
        let next = FakeServer::of_realm("next", stage.writes.clone());
        next.put_scope("bills:read", Holder::Marked(mark("McpServer", "team", "bills")));
        let open = FakeRegistrar::new(stage.writes.clone());
        let moving = Self {
            stage,
            next,
            open,
            method,
        };
        moving.connect();
        moving
    }

    fn connect(&self) {
        connect_side(
            &self.stage.ctx,
            Side::Administered(Arc::new(self.stage.server.clone())),
        );
        self.connect_next();
        let open = Side::Registering(Arc::new(self.open.clone()));
        connect_as(&self.stage.ctx, "open", "open", OPEN, open);
    }

    fn connect_next(&self) {
        let next = Side::Administered(Arc::new(self.next.clone()));
        connect_as(&self.stage.ctx, "next", "next", NEXT, next);
    }

    /// The client is to be registered there, with access to what is there.
    fn to(&self, home: &str) {
        let mut client = self.stage.cluster.get(CLIENT).unwrap();
        client["spec"] = json!({
            "authorizationServerRef": {"namespace": "platform", "name": home},
            "managed": managed(self.method),
            "access": match home {
                "main" => json!([{"server": {"name": "orders"}}]),
                "next" => json!([{"server": {"name": "bills"}}]),
                _ => json!([]),
            },
        });
        if self.method != "None" {
            client["spec"]["rotation"] = json!({"overlap": "1m"});
        }
        self.stage.cluster.put(client);
    }

    /// It was registered there, and nothing is left to do.
    async fn at(home: &str, method: &'static str) -> Self {
        let moving = Self::new(method).await;
        moving.to(home);
        moving.settle().await;
        moving.check(home);
        moving
    }

    async fn restart(&mut self) {
        self.stage.writes.live();
        self.stage.restart_alone().await;
        self.connect();
    }

    /// Passes until nothing is written any more; the pauses between attempts to register pass too.
    async fn settle(&self) {
        for _ in 0..20 {
            self.stage.writes.live();
            if self.stage.pass().await && self.stage.writes.made() == 0 {
                return;
            }
            self.stage.clock.advance(Duration::from_secs(2));
        }
        panic!("it does not settle: {}", self.status());
    }

    /// The overlap passes.
    async fn rest(&self) {
        self.settle().await;
        // One without a credential has no rotation of which it could say the overlap.
        let overlap = if self.method == "None" {
            Duration::from_hours(1)
        } else {
            Duration::from_mins(1)
        };
        self.stage.clock.advance(overlap + Duration::from_secs(1));
        self.settle().await;
    }

    fn annotate(&self, annotation: &str, value: &str) {
        let mut client = self.stage.cluster.get(CLIENT).unwrap();
        client["metadata"]["annotations"][annotation] = json!(value);
        self.stage.cluster.put(client);
    }

    fn status(&self) -> Value {
        let client = self.stage.cluster.get(CLIENT);
        client.map(|client| client["status"].clone()).unwrap_or_default()
    }

    fn reason(&self, type_: &str) -> String {
        let conditions = self.status()["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == type_);
        found.map_or_else(String::new, |found| found["reason"].as_str().unwrap().to_owned())
    }

    /// The credential in the workload's Secret, with its issuer.
    fn workload(&self) -> Option<(String, String)> {
        let value = |key| self.stage.value(SECRET, key);
        let credential = value("client-secret").or_else(|| value("client-key.pem"));
        Some((value("issuer")?, credential.unwrap_or_default()))
    }

    /// Whether what the workload has works at the issuer that it names.
    fn works(&self) -> bool {
        let Some((issuer, secret)) = self.workload() else {
            return false;
        };
        let id = self.stage.value(SECRET, "client-id").unwrap();
        let by = |server: &FakeServer| {
            let clients = server.clients();
            clients.get(&id).is_some_and(|client| {
                let is_public = self.method == "None";
                client.enabled && (is_public || client.secret == secret)
            })
        };
        match issuer.as_str() {
            MAIN => by(&self.stage.server),
            NEXT => by(&self.next),
            _ => self
                .open
                .clients()
                .get(&id)
                .is_some_and(|client| client.secret == secret),
        }
    }

    /// Where it has a client.
    fn places(&self) -> BTreeSet<&'static str> {
        let all = [
            ("main", self.stage.server.clients().len()),
            ("next", self.next.clients().len()),
            ("open", self.open.clients().len()),
        ];
        let held = all.into_iter().filter(|(_, count)| *count > 0);
        held.map(|(name, _)| name).collect()
    }

    fn homes(&self) -> Value {
        let text = self.stage.value(&journal_path(), "homes");
        text.map(|text| serde_json::from_str(&text).unwrap())
            .unwrap_or_default()
    }

    /// What must hold whenever nothing is left to do.
    fn check(&self, home: &str) {
        assert!(self.works(), "{home}: {}", self.status());
        assert_eq!(self.stage.ready(), ("True".into(), "Ready".into()), "{home}");
        assert_eq!(self.reason("Migrated"), "", "{home}");
        assert_eq!(self.places(), BTreeSet::from([uname(home)]), "{}", self.homes());
        assert_eq!(self.homes()["here"]["name"], home);
        assert_eq!(self.homes()["parked"], json!([]));
        let issuer = self.workload().unwrap().0;
        let at = json!({"authorizationServerRef": {"namespace": "platform", "name": home}, "issuer": issuer});
        assert_eq!(self.status()["registeredAt"], at);
        let id = self.stage.value(SECRET, "client-id").unwrap();
        assert_eq!(self.status()["clientId"], json!(id));
        self.check_apart();
    }

    /// No authorization server was ever told or shown a credential of another.
    fn check_apart(&self) {
        let [main, next] = [&self.stage.server, &self.next].map(|server| {
            let shown = server.shown().into_iter().filter(|secret| !secret.is_empty());
            shown.collect::<BTreeSet<_>>()
        });
        let given: BTreeSet<_> = self.open.shown().into_iter().collect();
        for (one, other) in [(&main, &next), (&main, &given), (&next, &given)] {
            assert_eq!(
                one.intersection(other).count(),
                0,
                "a credential of one was shown to another"
            );
        }
    }
}

fn uname(home: &str) -> &'static str {
    ["main", "next", "open"]
        .into_iter()
        .find(|name| *name == home)
        .unwrap()
}

fn managed(method: &str) -> Value {
    let authentication = json!({"method": method});
    match method {
        "None" => json!({"grantTypes": ["authorization_code"], "authentication": authentication,
            "redirectUris": ["https://app.example/callback"]}),
        _ => json!({"grantTypes": ["client_credentials"], "authentication": authentication}),
    }
}
