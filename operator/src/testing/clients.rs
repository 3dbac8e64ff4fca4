//! The clients of the authorization server in memory, and plans for them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::provider::{
    Call, Change, ClientSpec, Conflict, Credential, Credentials, Mark, ObservedClient, Plan, Presence, Verb,
    key::PrivateKey,
};

/// A client there.
#[derive(Clone, Debug)]
pub(crate) struct FakeClient {
    /// Whose it is; nobody's when `None`.
    pub(crate) mark: Option<Mark>,
    /// Its secret; a public client has none, and any works.
    pub(crate) secret: String,
    /// The secret before it, with the second until which it is valid.
    pub(crate) previous: Option<(String, i64)>,
    /// What it was last told to be.
    pub(crate) spec: String,
    /// The scopes that it may ask for.
    pub(crate) scopes: BTreeSet<String>,
    /// Whether it is not switched off.
    pub(crate) enabled: bool,
    /// How often it was created.
    pub(crate) created: usize,
}

/// Thumbprints of the keys that the client may sign with.
pub(super) fn keys(client: &FakeClient) -> BTreeSet<String> {
    let previous = client.previous.iter().map(|(secret, _)| secret);
    let all = previous.chain([&client.secret]).map(Credential::new);
    all.filter_map(|credential| Some(PrivateKey::of(&credential)?.id()))
        .collect()
}

pub(super) fn call(change: Change, id: &str, body: Value) -> Call {
    Call {
        operation: "test",
        change,
        subject: format!("client {id}"),
        verb: if change == Change::Delete {
            Verb::Delete
        } else {
            Verb::Put
        },
        path: id.to_owned(),
        body: Some(body),
    }
}

/// The secret before the current one, as the server tells it.
pub(super) fn previous(credentials: &Credentials) -> Value {
    let previous = credentials.previous.as_ref();
    json!(previous.map(|previous| (previous.credential.expose(), previous.until.as_second())))
}

/// Takes away what the client is not to have any more, and nothing else.
fn revocation(want: &ClientSpec, raw: &Value) -> Option<Call> {
    let held = raw[1].as_array().into_iter().flatten().filter_map(Value::as_str);
    let (kept, lost): (Vec<_>, Vec<_>) = held.partition(|scope| want.scopes.contains(*scope));
    let (is_on, stays_on) = (raw[2] == json!(true), want.enabled);
    if lost.is_empty() && (stays_on || !is_on) {
        return None;
    }
    let body = json!({"spec": [raw[0], kept, is_on && stays_on, raw[3]]});
    Some(call(Change::Revoke, &want.client_id, body))
}

/// As [`crate::provider::Provider::plan_client`].
pub(super) fn plan(want: &ClientSpec, observed: &ObservedClient, credentials: Option<&Credentials>) -> Plan {
    if !observed.presence.claimable(&want.mark, want.adopt) {
        let Presence::Held(holder) = observed.presence.clone() else {
            return Plan::default();
        };
        let subject = format!("client {}", want.client_id);
        return Plan {
            calls: vec![],
            conflicts: vec![Conflict { subject, holder }],
        };
    }
    let before = || observed.raw.as_ref().map_or(Value::Null, |raw| raw[3].clone());
    let previous = credentials.map_or_else(before, previous);
    let spec = json!([format!("{want:?}"), want.scopes, want.enabled, previous]);
    let secret = credentials.map(|credentials| &credentials.current);
    let same = observed.raw.as_ref() == Some(&spec)
        && secret.is_none_or(|secret| observed.secret.as_ref() == Some(secret));
    if same {
        return Plan::default();
    }
    let change = if observed.presence == Presence::Absent {
        Change::Create
    } else {
        Change::Update
    };
    let mut calls: Vec<_> = observed
        .raw
        .as_ref()
        .and_then(|raw| revocation(want, raw))
        .into_iter()
        .collect();
    let body = json!({"spec": spec, "secret": secret.map(Credential::expose), "mark": [
        want.mark.installation, want.mark.kind, want.mark.namespace, want.mark.name, want.mark.uid]});
    calls.push(call(change, &want.client_id, body));
    Plan {
        calls,
        conflicts: vec![],
    }
}
