//! What the server in memory holds, and what a call makes of that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    provider::{Call, Change, Holder, Mark, Read},
    testing::clients::FakeClient,
};

/// What the path of a call about a scope begins with: all it can do is to remove one.
pub(crate) const SCOPE: &str = "scope ";

/// The path of a call about whose tokens of ServiceAccounts count.
pub(crate) const TRUST: &str = "trust";

/// The path of a call about clients that register themselves.
pub(crate) const REGISTRATION: &str = "registration";

/// The path of a call about settings of the tenant.
pub(crate) const SETTINGS: &str = "settings";

/// Settings of a tenant that decide how clients register themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    /// Whether they get nothing without a grant.
    pub(crate) strict: bool,
    /// Whether they can.
    pub(crate) open: bool,
}

/// All of it.
#[derive(Default)]
pub(super) struct State {
    pub(super) clients: BTreeMap<String, FakeClient>,
    pub(super) scopes: BTreeMap<String, Holder>,
    pub(super) proofs: Vec<String>,
    pub(super) shown: Vec<String>,
    /// What was asked for as it is at that moment.
    pub(super) reads: Vec<(&'static str, Read)>,
    pub(super) trusts: Option<String>,
    pub(super) registration: Value,
    pub(super) tenant: Option<Tenant>,
    pub(super) refuses_proofs: bool,
    pub(super) drops_previous: bool,
}

impl State {
    /// Carries out a call.
    pub(super) fn take(&mut self, call: &Call) {
        if let Some(scope) = call.path.strip_prefix(SCOPE) {
            self.scopes.remove(scope);
            return;
        }
        if call.path == REGISTRATION {
            self.registration = call.body.clone().unwrap_or_default();
            return;
        }
        if call.path == SETTINGS {
            let body = call.body.clone().unwrap_or_default();
            if let Some(tenant) = &mut self.tenant {
                tenant.strict |= body["strict"] == json!(true);
                tenant.open = body["open"] == json!(true);
            }
            return;
        }
        if call.path == TRUST {
            self.trusts = serde_json::from_value(call.body.clone().unwrap_or_default()).unwrap();
            return;
        }
        if call.change == Change::Delete {
            self.clients.remove(&call.path);
            return;
        }
        let drops_previous = self.drops_previous;
        let body = call.body.clone().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mark = Mark {
            installation: text(&body["mark"][0]),
            kind: text(&body["mark"][1]),
            namespace: text(&body["mark"][2]),
            name: text(&body["mark"][3]),
            uid: text(&body["mark"][4]),
        };
        let created = usize::from(call.change == Change::Create);
        let client = self
            .clients
            .entry(call.path.clone())
            .or_insert_with(|| FakeClient {
                mark: None,
                secret: "made by the server".to_owned(),
                previous: None,
                spec: String::new(),
                scopes: BTreeSet::new(),
                enabled: true,
                created: 0,
            });
        client.created += created;
        if body["mark"].is_array() {
            client.mark = Some(mark);
        }
        client.spec = text(&body["spec"][0]);
        let scopes = body["spec"][1].as_array().into_iter().flatten();
        client.scopes = scopes.map(text).collect();
        client.enabled = body["spec"][2] == json!(true);
        let previous = serde_json::from_value(body["spec"][3].clone()).unwrap_or_default();
        client.previous = if drops_previous { None } else { previous };
        if let Some(secret) = body["secret"].as_str() {
            client.secret = secret.to_owned();
            self.shown.push(secret.to_owned());
        }
    }
}
