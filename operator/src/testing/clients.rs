//! Plans for the clients of the authorization server in memory.

use serde_json::{Value, json};

use super::provider::call;
use crate::provider::{Call, Change, ClientSpec, Credentials};

/// The secret before the current one, as the server tells it.
pub(super) fn previous(credentials: &Credentials) -> Value {
    let previous = credentials.previous.as_ref();
    json!(previous.map(|previous| (previous.credential.expose(), previous.until.as_second())))
}

/// Takes away what the client is not to have any more, and nothing else.
pub(super) fn revocation(want: &ClientSpec, raw: &Value) -> Option<Call> {
    let held = raw[1].as_array().into_iter().flatten().filter_map(Value::as_str);
    let (kept, lost): (Vec<_>, Vec<_>) = held.partition(|scope| want.scopes.contains(*scope));
    let (is_on, stays_on) = (raw[2] == json!(true), want.enabled);
    if lost.is_empty() && (stays_on || !is_on) {
        return None;
    }
    let body = json!({"spec": [raw[0], kept, is_on && stays_on, raw[3]]});
    Some(call(Change::Revoke, &want.client_id, body))
}
