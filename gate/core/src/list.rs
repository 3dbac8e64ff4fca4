//! Answers that list tools, prompts or resources, without what the caller may not call.
//!
//! What stays keeps its bytes and its order: numbers, escapes and unknown fields come out as the server wrote them.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{document::Kind, policy::Policy};

/// Which lists are looked for in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Those of one kind: the message answers a request for them.
    Of(Kind),
    /// Any: the message may answer whatever was asked before, as in a stream that is taken up again.
    Any,
}

impl Listing {
    /// The lists in answers to a method, if it asks for some.
    pub fn asked_by(method: &str) -> Option<Self> {
        match method {
            "tools/list" => Some(Self::Of(Kind::Tool)),
            "prompts/list" => Some(Self::Of(Kind::Prompt)),
            "resources/list" => Some(Self::Of(Kind::Resource)),
            _ => None,
        }
    }

    /// The kind that a field of a result lists, and the field of its entries that rules look at.
    fn kind_of(self, field: &str) -> Option<(Kind, &'static str)> {
        let (kind, key) = match field {
            "tools" => (Kind::Tool, "name"),
            "prompts" => (Kind::Prompt, "name"),
            "resources" => (Kind::Resource, "uri"),
            _ => return None,
        };
        (self == Self::Any || self == Self::Of(kind)).then_some((kind, key))
    }
}

/// A message that is no JSON, so that nobody can say what it lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is no JSON")]
pub struct Unreadable;

/// The message, or batch of messages, without what the caller may not call; `None` when nothing is to be left out. Only
/// answers are touched, never requests of the server.
///
/// # Errors
/// [`Unreadable`].
pub fn filter(
    message: &[u8],
    listing: Listing,
    policy: &Policy,
    held: &BTreeSet<String>,
) -> Result<Option<Vec<u8>>, Unreadable> {
    let message = std::str::from_utf8(message).map_err(|_| Unreadable)?;
    let message: &RawValue = serde_json::from_str(message).map_err(|_| Unreadable)?;
    let filter = Filter {
        listing,
        policy,
        held,
    };
    Ok(filter.message(message).map(String::into_bytes))
}

struct Filter<'a> {
    listing: Listing,
    policy: &'a Policy,
    held: &'a BTreeSet<String>,
}

impl Filter<'_> {
    /// Each step gives `None` where nothing changes, so that the bytes of all around stay.
    fn message(&self, message: &RawValue) -> Option<String> {
        if let Ok(batch) = serde_json::from_str::<Vec<&RawValue>>(message.get()) {
            // A batch within a batch is no message to anybody.
            let each = batch.iter().map(|one| (*one, self.single(one)));
            let each: Vec<(&RawValue, Option<String>)> = each.collect();
            each.iter().any(|(_, changed)| changed.is_some()).then(|| {
                array(
                    each.iter()
                        .map(|(one, changed)| changed.as_deref().unwrap_or(one.get())),
                )
            })
        } else {
            self.single(message)
        }
    }

    fn single(&self, message: &RawValue) -> Option<String> {
        change_members(message, |key, value| {
            (key == "result").then(|| self.result(value)).flatten()
        })
    }

    fn result(&self, result: &RawValue) -> Option<String> {
        let lists = members(result)?
            .iter()
            .any(|(key, _)| text(key).is_some_and(|field| self.listing.kind_of(&field).is_some()));
        let instead = |value: &RawValue, fresh: &str| (value.get() != fresh).then(|| fresh.to_owned());
        change_members(result, |field, value| {
            // With another token the list is another one, so that nobody may keep it, and for others least of all.
            match field {
                "ttlMs" if lists => return instead(value, "0"),
                "cacheScope" if lists => return instead(value, "\"private\""),
                _ => {}
            }
            let (kind, key) = self.listing.kind_of(field)?;
            let entries: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            let kept = entries.iter().filter(|entry| self.may(kind, key, entry));
            let kept: Vec<&str> = kept.map(|entry| entry.get()).collect();
            (kept.len() != entries.len()).then(|| array(kept.into_iter()))
        })
    }

    /// An entry that says its name in two ways has to be allowed by both.
    fn may(&self, kind: Kind, key: &str, entry: &RawValue) -> bool {
        let Ok(Members(members)) = serde_json::from_str(entry.get()) else {
            return false;
        };
        let mut names = members
            .iter()
            .filter(|(name, _)| text(name).as_deref() == Some(key))
            .map(|(_, value)| text(value))
            .peekable();
        names.peek().is_some()
            && names.all(|name| name.is_some_and(|name| self.policy.may(kind, &name, self.held)))
    }
}

/// An object in which `change` may give another value for a member; `None` when it changes none, or this is no object.
fn change_members(object: &RawValue, change: impl Fn(&str, &RawValue) -> Option<String>) -> Option<String> {
    let members = members(object)?;
    let changed: Vec<Option<String>> = members
        .iter()
        .map(|(key, value)| change(&text(key)?, value))
        .collect();
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let mut out = String::with_capacity(object.get().len());
    for ((key, value), changed) in members.iter().zip(&changed) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(key.get());
        out.push(':');
        out.push_str(changed.as_deref().unwrap_or(value.get()));
    }
    out.push('}');
    Some(out)
}

fn members(object: &RawValue) -> Option<Vec<(&RawValue, &RawValue)>> {
    let Members(members) = serde_json::from_str(object.get()).ok()?;
    Some(members)
}

fn array<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<&str> = values.collect();
    format!("[{}]", values.join(","))
}

/// The text that a JSON string stands for.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    match raw.strip_prefix('"')?.strip_suffix('"') {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
    }
}

/// The members of an object as they are written: in order, and as often as they are there.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests;
