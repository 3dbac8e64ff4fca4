mod accounts;
mod clients;
mod documents;
mod keys;
mod limits;
mod memory;
mod properties;
mod reading;
mod realm;
mod registration;
mod resources;
mod server;
mod signing_in;
mod starting;
mod taking_over;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use self::realm::Realm;
use super::{ids::Ids, plan};
use crate::provider::{
    Authentication, Call, Change, ClientSpec, Credential, Credentials, ExchangeActions, Grant, Mark, Plan,
    ResourceSpec,
};

fn ids() -> Ids {
    Ids::of("r")
}

fn mark(kind: &str, name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: kind.into(),
        namespace: "team".into(),
        name: name.into(),
        uid: "uid-1".into(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn agent() -> ClientSpec {
    ClientSpec {
        mark: mark("McpClient", "agent"),
        client_id: "prod.team.agent".into(),
        display_name: "Agent".into(),
        enabled: true,
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        redirect_uris: set(&["https://app.example.com/cb"]),
        authentication: Authentication::ClientSecret,
        consent: true,
        token_lifetime: Duration::from_secs(300),
        scopes: set(&["orders:read"]),
        audiences: [("https://mcp.example.com/orders".to_owned(), set(&["orders:read"]))].into(),
        adopt: false,
    }
}

fn orders() -> ResourceSpec {
    ResourceSpec {
        mark: mark("McpServer", "orders"),
        resource: "https://mcp.example.com/orders".into(),
        display_name: "orders".into(),
        scopes: [
            ("orders:read".to_owned(), "Read orders".to_owned()),
            ("orders:write".to_owned(), String::new()),
        ]
        .into(),
        exchange_scopes: BTreeMap::new(),
        exchange_audiences: BTreeMap::new(),
        exchange_actions: ExchangeActions::default(),
        exchange_token_lifetime: Duration::from_secs(300),
        adopt: false,
        adopt_scopes: BTreeSet::new(),
    }
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn plan_client(realm: &Realm, want: &ClientSpec) -> Plan {
    let observed = realm.client(&want.client_id);
    plan::client(
        &ids(),
        want,
        &observed,
        &realm.observed_scopes(),
        Some(&Credentials::only(Credential::new("s3cret"))),
        NOW,
    )
}

fn plan_resource(realm: &Realm, want: &ResourceSpec) -> Plan {
    plan::resource(
        &ids(),
        want,
        &realm.client(&want.resource),
        &realm.observed_scopes(),
        None,
    )
}

/// A realm in which both samples are in force.
fn settled() -> Realm {
    let mut realm = Realm::new();
    realm.apply(&plan_resource(&realm, &orders()).calls);
    realm.apply(&plan_client(&realm, &agent()).calls);
    realm
}

fn changes(plan: &Plan) -> Vec<(Change, &str)> {
    plan.calls
        .iter()
        .map(|call| (call.change, call.subject.as_str()))
        .collect()
}

fn body(call: &Call) -> &Value {
    call.body.as_ref().unwrap()
}

fn client_mut<'a>(realm: &'a mut Realm, client_id: &str) -> &'a mut Value {
    realm
        .clients
        .values_mut()
        .find(|client| client["clientId"] == client_id)
        .unwrap()
}

fn scope_mut<'a>(realm: &'a mut Realm, name: &str) -> &'a mut Value {
    realm
        .scopes
        .values_mut()
        .find(|scope| scope["name"] == name)
        .unwrap()
}
