//! How Keycloak 26.7.3 takes our calls, as far as plans depend on it. Each rule was seen on a running server; the story
//! of the provider checks plans against a real one.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::super::{diff::texts, documents::Patch, mark, render::LIMITED};
use crate::provider::{Call, ObservedClient, ObservedLimits, ObservedScopes, Presence, ScopeOwner, Verb};

/// A realm with clients and client scopes by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Realm {
    /// Entries of client profiles and client policies.
    pub(super) documents: BTreeMap<&'static str, Vec<Value>>,
    /// Whether the operator may change them.
    pub(super) may_limit: bool,
    pub(super) clients: BTreeMap<String, Value>,
    pub(super) scopes: BTreeMap<String, Value>,
}

impl Realm {
    /// With the scopes that every realm has, as far as clients of ours meet them.
    pub(super) fn new() -> Self {
        let mut realm = Self {
            documents: [("profiles", Vec::new()), ("policies", Vec::new())].into(),
            may_limit: true,
            ..Self::default()
        };
        for name in ["basic", "service_account", "offline_access", "roles", "profile"] {
            realm.scopes.insert(
                format!("id-of-{name}"),
                json!({"id": format!("id-of-{name}"), "name": name, "protocol": "openid-connect"}),
            );
        }
        realm
    }

    pub(super) fn client(&self, client_id: &str) -> ObservedClient {
        let Some(raw) = self
            .clients
            .values()
            .find(|client| client["clientId"] == client_id)
        else {
            return ObservedClient {
                presence: Presence::Absent,
                client_id: None,
                secret: None,
                is_public: false,
                secret_expires: None,
                keys: std::collections::BTreeSet::new(),
                raw: None,
                limits: self.limits(None),
            };
        };
        let presence = Presence::Held(mark::client_holder(raw, |id| id == "the-operator"));
        ObservedClient {
            presence,
            client_id: Some(client_id.to_owned()),
            secret: None,
            is_public: raw["publicClient"] == true,
            secret_expires: None,
            keys: std::collections::BTreeSet::new(),
            raw: Some(raw.clone()),
            limits: self.limits(Some(raw)),
        }
    }

    fn limits(&self, client: Option<&Value>) -> ObservedLimits {
        let marked = client.map(|client| mark::attribute(client, LIMITED).is_some());
        match (marked, self.may_limit) {
            (Some(false), _) | (None, false) => ObservedLimits::Unmarked,
            (Some(true), false) => ObservedLimits::Locked,
            (_, true) => ObservedLimits::Seen(Arc::new(json!(self.documents))),
        }
    }

    pub(super) fn observed_scopes(&self) -> ObservedScopes {
        let owned = |raw: &Value| {
            Arc::new(ScopeOwner {
                holder: mark::scope_holder(raw),
                raw: raw.clone(),
            })
        };
        Arc::new(
            self.scopes
                .values()
                .map(|raw| (raw["name"].as_str().unwrap().to_owned(), owned(raw)))
                .collect(),
        )
    }

    pub(super) fn apply(&mut self, calls: &[Call]) {
        for call in calls {
            self.carry_out(call);
        }
    }

    fn carry_out(&mut self, call: &Call) {
        let path: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        match (call.verb, path.as_slice()) {
            (Verb::Post, ["clients"]) => self.create_client(call.body.clone().unwrap()),
            (Verb::Put, ["clients", id]) => self.update_client(id, call.body.as_ref().unwrap()),
            (Verb::Post, ["clients", id, "registration-access-token"]) => {
                self.clients.get_mut(*id).unwrap()["registrationAccessToken"] = json!("another");
            }
            (Verb::Delete, ["clients", id]) => assert!(self.clients.remove(*id).is_some(), "{call:?}"),
            (Verb::Put, ["clients", id, list, scope]) => {
                let name = self.scopes[*scope]["name"].clone();
                let client = self.clients.get_mut(*id).unwrap();
                client[field(list)].as_array_mut().unwrap().push(name);
            }
            (Verb::Delete, ["clients", id, list, scope]) => {
                let name = self.scopes[*scope]["name"].clone();
                let client = self.clients.get_mut(*id).unwrap();
                client[field(list)]
                    .as_array_mut()
                    .unwrap()
                    .retain(|known| *known != name);
            }
            (Verb::Post, ["client-scopes"]) => self.create_scope(call.body.clone().unwrap()),
            (Verb::Put, ["client-scopes", id]) => self.update_scope(id, call.body.as_ref().unwrap()),
            (Verb::Delete, ["client-scopes", id]) => {
                let name = self.scopes.remove(*id).unwrap()["name"].clone();
                for client in self.clients.values_mut() {
                    for list in ["defaultClientScopes", "optionalClientScopes"] {
                        client[list]
                            .as_array_mut()
                            .unwrap()
                            .retain(|known| *known != name);
                    }
                }
            }
            (Verb::Merge, ["client-policies", field]) => {
                let mut documents = self.documents.iter_mut();
                let (_, entries) = documents.find(|(known, _)| *known == field).unwrap();
                let patch = Patch::of(call.body.as_ref());
                *entries = patch.apply(entries);
                let named = |document: &str, name: &Value| {
                    self.documents[document]
                        .iter()
                        .any(|entry| entry["name"] == *name)
                };
                for policy in &self.documents["policies"] {
                    assert!(
                        policy["profiles"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .all(|name| named("profiles", name)),
                        "a profile of {policy} is missing"
                    );
                }
            }
            (verb, ["client-scopes", id, "protocol-mappers", "models", mapper @ ..]) => {
                self.change_mapper(verb, id, mapper.first().copied(), call.body.clone());
            }
            _ => panic!("no such call: {call:?}"),
        }
    }

    fn create_client(&mut self, mut body: Value) {
        let id = body["id"].as_str().unwrap().to_owned();
        assert!(
            !self.clients.contains_key(&id) && self.client(body["clientId"].as_str().unwrap()).raw.is_none()
        );
        let known: Vec<_> = self.scopes.values().map(|scope| scope["name"].clone()).collect();
        for list in ["defaultClientScopes", "optionalClientScopes"] {
            body[list]
                .as_array_mut()
                .unwrap()
                .retain(|scope| known.contains(scope));
        }
        body.as_object_mut()
            .unwrap()
            .entry("secret")
            .or_insert_with(|| json!("made by Keycloak"));
        self.clients.insert(id.clone(), normal(body));
        self.follow_service_account(&id);
    }

    fn update_client(&mut self, id: &str, body: &Value) {
        let client = self.clients.get_mut(id).unwrap();
        if body.get("webOrigins").is_none() && texts(client.get("webOrigins")).is_empty() {
            client["webOrigins"] = json!(["made up by Keycloak"]);
        }
        client["authorizationServicesEnabled"] = json!(false);
        for (name, value) in body.as_object().unwrap() {
            match name.as_str() {
                "defaultClientScopes" | "optionalClientScopes" | "id" => {}
                "attributes" => {
                    let attributes = client["attributes"].as_object_mut().unwrap();
                    attributes.extend(value.as_object().unwrap().clone());
                }
                _ => client[name] = value.clone(),
            }
        }
        *client = normal(client.take());
        self.follow_service_account(id);
    }

    fn follow_service_account(&mut self, id: &str) {
        let client = self.clients.get_mut(id).unwrap();
        let enabled = client["serviceAccountsEnabled"] == true;
        let scopes = client["defaultClientScopes"].as_array_mut().unwrap();
        scopes.retain(|scope| scope != "service_account");
        if enabled {
            scopes.push(json!("service_account"));
        }
    }

    fn create_scope(&mut self, mut body: Value) {
        let id = body["id"].as_str().unwrap().to_owned();
        assert!(!self.scopes.contains_key(&id), "{id}");
        assert!(
            self.scopes.values().all(|scope| scope["name"] != body["name"]),
            "{}",
            body["name"]
        );
        for (n, mapper) in body["protocolMappers"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .enumerate()
        {
            mapper["id"] = json!(format!("{id}-{n}"));
        }
        self.scopes.insert(id, body);
    }

    fn update_scope(&mut self, id: &str, body: &Value) {
        let scope = self.scopes.get_mut(id).unwrap();
        let old = scope["name"].clone();
        for (name, value) in body.as_object().unwrap() {
            match name.as_str() {
                "protocolMappers" | "id" => {}
                "attributes" => {
                    let attributes = scope
                        .as_object_mut()
                        .unwrap()
                        .entry("attributes")
                        .or_insert(json!({}));
                    attributes
                        .as_object_mut()
                        .unwrap()
                        .extend(value.as_object().unwrap().clone());
                }
                _ => scope[name] = value.clone(),
            }
        }
        let new = scope["name"].clone();
        for client in self.clients.values_mut() {
            for list in ["defaultClientScopes", "optionalClientScopes"] {
                for known in client[list]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .filter(|known| **known == old)
                {
                    *known = new.clone();
                }
            }
        }
    }

    fn change_mapper(&mut self, verb: Verb, id: &str, mapper: Option<&str>, body: Option<Value>) {
        let scope = self.scopes.get_mut(id).unwrap();
        let mappers = scope
            .as_object_mut()
            .unwrap()
            .entry("protocolMappers")
            .or_insert(json!([]));
        let mappers = mappers.as_array_mut().unwrap();
        match (verb, mapper) {
            (Verb::Post, None) => {
                let mut body = body.unwrap();
                body["id"] = json!(format!("{id}-new"));
                mappers.push(body);
            }
            (Verb::Put, Some(mapper)) => {
                *mappers.iter_mut().find(|known| known["id"] == mapper).unwrap() = body.unwrap();
            }
            (Verb::Delete, Some(mapper)) => mappers.retain(|known| known["id"] != mapper),
            _ => panic!("no such call on mappers"),
        }
    }
}

fn field(list: &str) -> &'static str {
    match list {
        "default-client-scopes" => "defaultClientScopes",
        "optional-client-scopes" => "optionalClientScopes",
        _ => panic!("no such list: {list}"),
    }
}

/// What Keycloak leaves out when it shows a client.
fn normal(mut client: Value) -> Value {
    let fields = client.as_object_mut().unwrap();
    if fields.get("authorizationServicesEnabled") == Some(&json!(false)) {
        fields.remove("authorizationServicesEnabled");
    }
    if fields.get("protocolMappers") == Some(&json!([])) {
        fields.remove("protocolMappers");
    }
    if fields.get("publicClient") == Some(&json!(true)) {
        fields.remove("secret");
    }
    let attributes = fields.get_mut("attributes").unwrap().as_object_mut().unwrap();
    attributes.retain(|_, value| value != "");
    client
}
