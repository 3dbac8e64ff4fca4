//! The policy that refuses closed scopes, and how its list changes: names are added and dropped one by one, because whoever
//! makes a scope adds it there first, also while somebody else is at work on the rest of the list.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    super::mark::{self, text},
    strict,
};

/// On a client that somebody else registered: it may have closed scopes.
pub(in super::super) const TRUSTED: &str = "mcpauth.trusted";

/// A change of the policy. Part of a [`super::super::documents::Patch`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Closing {
    /// Name of the policy.
    pub(super) name: String,
    /// Scopes that are refused from now on.
    pub(super) add: BTreeSet<String>,
    /// Scopes that are not.
    pub(super) drop: BTreeSet<String>,
    /// Whether the policy is made where there is none, and set right where it says something else.
    pub(super) whole: bool,
}

impl Closing {
    /// A scope that is about to be made is closed, if there is a policy.
    pub(super) fn scope(name: String, scope: &str) -> Self {
        Self {
            name,
            add: [scope.to_owned()].into(),
            ..Self::default()
        }
    }

    /// A scope is about to be deleted, and must not be named any more.
    pub(super) fn no_more(name: String, scope: &str) -> Self {
        Self {
            name,
            drop: [scope.to_owned()].into(),
            ..Self::default()
        }
    }

    pub(in super::super) fn body(&self) -> Value {
        json!({"name": self.name, "add": self.add, "drop": self.drop, "whole": self.whole})
    }

    pub(in super::super) fn of(body: &Value) -> Option<Self> {
        Some(Self {
            name: text(body, "name")?.to_owned(),
            add: names(&body["add"]),
            drop: names(&body["drop"]),
            whole: body["whole"] == true,
        })
    }

    /// Whether the policy says so.
    pub(in super::super) fn holds(&self, entries: &[Value]) -> bool {
        let Some(entry) = find(entries, &self.name) else {
            return !self.whole;
        };
        let listed = listed(entry);
        self.add.is_subset(&listed)
            && self.drop.is_disjoint(&listed)
            && (!self.whole || *entry == policy(&self.name, &listed))
    }

    /// The entries with the policy changed.
    pub(in super::super) fn apply(&self, mut entries: Vec<Value>) -> Vec<Value> {
        let mut scopes = find(&entries, &self.name).map(listed).unwrap_or_default();
        scopes.extend(self.add.iter().cloned());
        scopes.retain(|scope| !self.drop.contains(scope));
        let changed = policy(&self.name, &scopes);
        match entries
            .iter_mut()
            .find(|entry| text(entry, "name") == Some(&self.name))
        {
            Some(entry) => *entry = changed,
            None if self.whole => entries.push(changed),
            None => {}
        }
        entries
    }
}

/// The scopes that the policy among these entries refuses.
pub(super) fn closed(entries: &[Value], name: &str) -> BTreeSet<String> {
    find(entries, name).map(listed).unwrap_or_default()
}

fn find<'a>(entries: &'a [Value], name: &str) -> Option<&'a Value> {
    entries.iter().find(|entry| text(entry, "name") == Some(name))
}

fn listed(entry: &Value) -> BTreeSet<String> {
    names(&entry["conditions"][0]["configuration"]["scopes"])
}

fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Refuses these scopes to every client that the operator does not register: one that registers itself carries no mark.
fn policy(name: &str, scopes: &BTreeSet<String>) -> Value {
    let without = |key: &str| {
        // A text, with one value for each key.
        let attributes = json!([{"key": key, "value": "true"}]).to_string();
        json!({"condition": "client-attributes", "configuration": {"is-negative-logic": true, "attributes": attributes}})
    };
    strict(
        name,
        "Scopes that no client can have which registers itself, managed by mcp-auth-operator",
        &json!([
            {"condition": "client-scopes", "configuration": {"type": "Any", "scopes": scopes}},
            without(mark::MANAGED),
            without(TRUSTED),
        ]),
        "reject",
    )
}
