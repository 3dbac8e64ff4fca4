//! A realm in memory that refuses what Keycloak 26.7.3 refuses.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    super::{ids, realm::Realm, set},
    KEEPER,
};
use crate::provider::{
    Call, Change, Doors, Mark, ObservedRegistration, ObservedScopes, Plan, RegistrationSpec, ScopeSpec, Verb,
    keycloak::{registration, scopes},
};

/// A realm with what registration is about.
#[derive(Clone)]
pub(super) struct Wide {
    pub(super) realm: Realm,
    pub(super) components: Vec<Value>,
    pub(super) default: BTreeSet<String>,
    pub(super) optional: BTreeSet<String>,
}

fn component(id: &str, provider: &str, sub_type: &str, config: &Value) -> Value {
    json!({"id": id, "name": id, "providerId": provider, "subType": sub_type, "parentId": "realm", "config": config})
}

impl Wide {
    /// As Keycloak makes it, with somebody else's scope and policies in it.
    pub(super) fn new() -> Self {
        let mut realm = Realm::new();
        realm.scopes.insert(
            "id-of-payroll".into(),
            json!({"id": "id-of-payroll", "name": "payroll"}),
        );
        let theirs =
            json!({"name": "theirs", "executors": [{"executor": "x", "configuration": {"z": 1, "a": null}}]});
        realm.documents.get_mut("profiles").unwrap().push(theirs);
        let policy =
            json!({"name": "their policy", "enabled": false, "conditions": [], "profiles": ["theirs"]});
        realm.documents.get_mut("policies").unwrap().push(policy);
        let must_match = json!({"host-sending-registration-request-must-match": ["true"], "client-uris-must-match": ["true"]});
        Self {
            realm,
            components: vec![
                component("hosts", "trusted-hosts", "anonymous", &must_match),
                component(
                    "most",
                    "max-clients",
                    "anonymous",
                    &json!({"max-clients": ["200"]}),
                ),
                component(
                    "scopes",
                    "allowed-client-templates",
                    "anonymous",
                    &json!({"allow-default-scopes": ["true"]}),
                ),
                component(
                    "signed in",
                    "allowed-client-templates",
                    "authenticated",
                    &json!({}),
                ),
            ],
            default: set(&["basic"]),
            optional: set(&["offline_access"]),
        }
    }

    fn observed(&self) -> ObservedRegistration {
        let list = |names: &BTreeSet<String>| -> Vec<Value> {
            names.iter().map(|name| json!({"name": name})).collect()
        };
        let mut observed = json!(self.realm.documents);
        observed["components"] = json!(self.components);
        observed["default"] = json!(list(&self.default));
        observed["optional"] = json!(list(&self.optional));
        observed["keeper"] = self.realm.client(KEEPER).raw.unwrap_or_default();
        observed["clients"] = json!(self.realm.clients.values().collect::<Vec<_>>());
        ObservedRegistration::Seen(Arc::new(observed))
    }

    pub(super) fn plan(&self, want: Option<&RegistrationSpec>, doors: Doors) -> Plan {
        let scopes: ObservedScopes = self.realm.observed_scopes();
        registration::plan(&ids(), "prod", want, doors, &self.observed(), &scopes)
    }

    /// Carries out plans until none is left, and gives all calls.
    pub(super) fn settle(&mut self, want: Option<&RegistrationSpec>, doors: Doors) -> Vec<Call> {
        let mut all = Vec::new();
        for _ in 0..3 {
            let plan = self.plan(want, doors);
            assert!(plan.conflicts.is_empty(), "{plan:?}");
            if plan.calls.is_empty() {
                return all;
            }
            for call in &plan.calls {
                self.carry_out(call);
            }
            all.extend(plan.calls);
        }
        let left = self.plan(want, doors);
        assert!(left.calls.is_empty(), "it does not settle: {left:?}");
        all
    }

    fn carry_out(&mut self, call: &Call) {
        let path: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        match (call.verb, path.as_slice()) {
            (Verb::Post, ["components"]) => {
                let mut body = call.body.clone().unwrap();
                body["id"] = json!(format!("id-{}", self.components.len()));
                self.components.push(body);
            }
            (Verb::Put, ["components", id]) => {
                let mut body = call.body.clone().unwrap();
                let config = body["config"].as_object_mut().unwrap();
                config.retain(|_, values| *values != json!([]));
                *self
                    .components
                    .iter_mut()
                    .find(|known| known["id"] == *id)
                    .unwrap() = body;
            }
            (Verb::Delete, ["components", id]) => self.components.retain(|known| known["id"] != *id),
            (
                verb,
                [
                    list @ ("default-default-client-scopes" | "default-optional-client-scopes"),
                    id,
                ],
            ) => {
                let name = self.realm.scopes[*id]["name"].as_str().unwrap().to_owned();
                let names = if *list == "default-default-client-scopes" {
                    &mut self.default
                } else {
                    &mut self.optional
                };
                if verb == Verb::Put {
                    names.insert(name);
                } else {
                    names.remove(&name);
                }
            }
            _ => self.realm.apply(std::slice::from_ref(call)),
        }
        let known: BTreeSet<&str> = self
            .realm
            .scopes
            .values()
            .filter_map(|scope| scope["name"].as_str())
            .collect();
        for policy in &self.realm.documents["policies"] {
            for scope in closed_by(policy) {
                assert!(known.contains(scope), "{policy} names a scope that is gone");
            }
        }
    }

    pub(super) fn add_scope(&mut self, mark: &Mark, name: &str) {
        let spec = ScopeSpec {
            name: name.into(),
            description: String::new(),
            audience: "https://mcp.example.com/".into(),
        };
        let calls = scopes::plan(&ids(), mark, &[spec], &self.realm.observed_scopes(), &|_| false).calls;
        let creations = calls.into_iter().filter(|call| call.change == Change::Create);
        self.realm.apply(&creations.collect::<Vec<_>>());
    }

    pub(super) fn policy(&self, what: &str) -> Option<&Value> {
        let name = format!("mcpauth.prod.{what}");
        self.realm.documents["policies"]
            .iter()
            .find(|policy| policy["name"] == name)
    }

    pub(super) fn component(&self, id: &str) -> &Value {
        self.components
            .iter()
            .find(|component| component["id"] == id)
            .unwrap()
    }

    /// A client as it is after it registered itself.
    pub(super) fn stranger(&mut self, client_id: &str, optional: &[&str], attributes: &Value) {
        let id = format!("id-of-{}", client_id.replace('/', "_"));
        let client = json!({
            "id": id, "clientId": client_id, "defaultClientScopes": ["basic"],
            "optionalClientScopes": optional, "attributes": attributes,
        });
        self.realm.clients.insert(id, client);
    }
}

/// The scopes that a policy refuses.
pub(super) fn closed_by(policy: &Value) -> Vec<&str> {
    let conditions = policy["conditions"].as_array().into_iter().flatten();
    let scopes = conditions.filter(|condition| condition["condition"] == "client-scopes");
    scopes
        .flat_map(|condition| condition["configuration"]["scopes"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect()
}
