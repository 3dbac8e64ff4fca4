//! One JSON text, read so that no reader could read it otherwise.

use std::{borrow::Cow, collections::HashSet, fmt};

use memchr::memmem::Finder;
use serde::{
    Deserializer as _,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::BodyError;

/// Where a value stands in a message. Only what decisions look at is kept; the rest is read and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    Params,
    Reference,
    Notifications,
    /// A value that decisions look at.
    Leaf,
    /// Anything else: what a tool is given is its own affair.
    Elsewhere,
}

impl Place {
    /// The keys here that decisions look at, or that would be confused with them.
    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["jsonrpc", "id", "method", "params", "result", "error"],
            Self::Params => &["name", "uri", "ref", "notifications", "arguments", "_meta"],
            Self::Reference => &["type", "name", "uri"],
            Self::Notifications => &["resourceSubscriptions"],
            Self::Leaf | Self::Elsewhere => &[],
        }
    }

    fn of(self, key: &str) -> Self {
        match (self, key) {
            (Self::Root, "params") => Self::Params,
            (Self::Params, "ref") => Self::Reference,
            (Self::Params, "notifications") => Self::Notifications,
            (Self::Root, "jsonrpc" | "id" | "method")
            | (Self::Params, "name" | "uri")
            | (Self::Reference, _)
            | (Self::Notifications, "resourceSubscriptions") => Self::Leaf,
            _ => Self::Elsewhere,
        }
    }

    /// Whether a key here is not a known one, but some reader takes it for one: Go's `encoding/json` ignores case.
    fn is_disguised(self, key: &str) -> bool {
        let mut known = self.known().iter();
        known.any(|known| *known != key && folds_to(key, known))
    }
}

/// Copying an object key by key, as JavaScript programs do, makes its value the new object's prototype.
const PROTOTYPE: &str = "__proto__";

/// The part of a token that makes it good: its signature. Whatever holds it could be used as the token.
pub struct Needle<'a>(Finder<'a>);

impl fmt::Debug for Needle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needle(…)")
    }
}

impl<'a> Needle<'a> {
    /// The needle of a token in JWS form; `None` for what is too short to be the signature of one.
    pub fn new(token: &'a str) -> Option<Self> {
        const SHORTEST: usize = 40;
        let signature = token.rsplit('.').next().unwrap_or_default();
        (signature.len() >= SHORTEST).then(|| Self(Finder::new(signature)))
    }

    /// Whether the token is in these bytes, as it is.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.find(bytes).is_some()
    }
}

/// Reads a JSON text. What decisions do not look at comes back as null.
pub(super) fn parse(body: &[u8], needle: Option<&Needle<'_>>) -> Result<Value, BodyError> {
    // What stands outside of strings is ASCII in any case; inside of them the parser checks it.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut found = None;
    let walk = Walk {
        place: Place::Root,
        needle,
        found: &mut found,
    };
    let Ok(value) = deserializer.deserialize_any(walk) else {
        return Err(found.unwrap_or(BodyError::NotJson));
    };
    deserializer.end().map_err(|_| BodyError::NotJson)?;
    Ok(value)
}

/// Walks through a value. What it finds is noted in `found`, since the errors of the parser are text.
struct Walk<'w, 'n> {
    place: Place,
    needle: Option<&'w Needle<'n>>,
    found: &'w mut Option<BodyError>,
}

impl<'n> Walk<'_, 'n> {
    fn refuse<T, E: de::Error>(self, why: BodyError) -> Result<T, E> {
        self.found.get_or_insert(why);
        Err(E::custom("refused"))
    }

    fn at(&mut self, place: Place) -> Walk<'_, 'n> {
        Walk {
            place,
            needle: self.needle,
            found: self.found,
        }
    }

    fn hides_token(&self, unescaped: &str) -> bool {
        self.needle
            .is_some_and(|needle| needle.is_in(unescaped.as_bytes()))
    }

    fn keep(&self, value: impl FnOnce() -> Value) -> Value {
        match self.place {
            Place::Elsewhere => Value::Null,
            _ => value(),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// Without escapes: the bytes are those of the body, in which the token was looked for already.
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value, E> {
        Ok(self.keep(|| Value::String(text.to_owned())))
    }

    /// With escapes, behind which a token could hide.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        if self.hides_token(text) {
            return self.refuse(BodyError::HoldsToken);
        }
        Ok(self.keep(|| Value::String(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        if self.place == Place::Root {
            return self.refuse(BodyError::Batch);
        }
        let place = match self.place {
            Place::Leaf => Place::Leaf,
            _ => Place::Elsewhere,
        };
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(self.at(place))? {
            if place == Place::Leaf {
                kept.push(item);
            }
        }
        Ok(self.keep(|| Value::Array(kept)))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut seen = Seen::default();
        let mut kept = Map::new();
        while let Some(Text(key)) = entries.next_key::<Text<'de>>()? {
            if matches!(key, Cow::Owned(_)) && self.hides_token(&key) {
                return self.refuse(BodyError::HoldsToken);
            }
            if key == PROTOTYPE || self.place.is_disguised(&key) || !seen.insert(key.clone()) {
                return self.refuse(BodyError::AmbiguousKey);
            }
            let place = self.place.of(&key);
            let value = entries.next_value_seed(self.at(place))?;
            if self.place.known().contains(&key.as_ref()) {
                kept.insert(key.into_owned(), value);
            }
        }
        Ok(self.keep(|| Value::Object(kept)))
    }
}

/// A key or text as the parser gives it: borrowed where nothing was escaped.
struct Text<'de>(Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Text<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// The keys of an object so far. Most objects have few: those are compared one by one.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    const FEW: usize = 16;

    /// Notes a key; `false` if it was there.
    fn insert(&mut self, key: Cow<'de, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > Self::FEW {
            self.many.extend(self.few.drain(..));
        }
        true
    }
}

/// Whether `key` is `known` (ASCII) to a reader that ignores case as Unicode does: K and ſ fold to letters of ASCII.
fn folds_to(key: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}
