//! Answers that list tools, prompts or resources, without what the caller may not call.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{document::Kind, policy::Policy};

/// What the answer to a method lists: the kind, the field of the result, and the field of an entry that rules look at.
fn listed(method: &str) -> Option<(Kind, &'static str, &'static str)> {
    match method {
        "tools/list" => Some((Kind::Tool, "tools", "name")),
        "prompts/list" => Some((Kind::Prompt, "prompts", "name")),
        "resources/list" => Some((Kind::Resource, "resources", "uri")),
        _ => None,
    }
}

/// Whether answers to this method are lists.
pub fn is_list(method: &str) -> bool {
    listed(method).is_some()
}

/// The message without what the caller may not call; `None` when nothing is to be left out. Only answers to the
/// request are touched, never requests of the server.
pub fn filter(message: &[u8], method: &str, policy: &Policy, held: &BTreeSet<String>) -> Option<Vec<u8>> {
    let (kind, list, key) = listed(method)?;
    let mut value: Value = serde_json::from_slice(message).ok()?;
    let entries = value.get_mut("result")?.get_mut(list)?.as_array_mut()?;
    let before = entries.len();
    entries.retain(|entry| {
        let name = entry.get(key).and_then(Value::as_str);
        name.is_some_and(|name| policy.may(kind, name, held))
    });
    if entries.len() == before {
        return None;
    }
    serde_json::to_vec(&value).ok()
}
