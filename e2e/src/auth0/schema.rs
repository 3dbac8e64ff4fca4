//! What a body may hold. Anything else is refused, as the Management API does (`additionalProperties: false`).

use serde_json::Value;

use super::{errors::Refusal, wire::Object};

/// What a value may be.
pub(super) enum Kind {
    Any,
    Bool,
    /// A whole number in these bounds.
    Int(i64, i64),
    /// A text of so many characters.
    Text(usize, usize),
    /// A text without `<` and `>`, of at most so many characters.
    Name(usize),
    /// An absolute URL.
    Url,
    Choice(&'static [&'static str]),
    /// A list of at most so many.
    List(&'static Kind, usize),
    Object(&'static [Field]),
    /// At most so many texts under free names; null takes one away.
    Texts(usize, usize),
    Nullable(&'static Kind),
}

/// A name and what its value may be.
pub(super) struct Field(pub(super) &'static str, pub(super) Kind);

/// Whether a body holds known fields only, each of its kind.
pub(super) fn check(body: &Object, fields: &[&[Field]]) -> Result<(), Refusal> {
    for (name, value) in body {
        let mut known = fields.iter().copied().flatten();
        let field = known.find(|field| field.0 == name);
        let unknown = || Refusal::body(&format!("Additional properties not allowed: {name}"));
        fits(name, value, &field.ok_or_else(unknown)?.1)?;
    }
    Ok(())
}

/// Whether these fields are there.
pub(super) fn need(body: &Object, names: &[&str]) -> Result<(), Refusal> {
    match names.iter().find(|name| !body.contains_key(**name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::body(&format!("Missing required property: {name}"))),
    }
}

fn fits(name: &str, value: &Value, kind: &Kind) -> Result<(), Refusal> {
    let wrong = |expected: &str| Refusal::body(&format!("Expected {expected} on property {name}"));
    match (kind, value) {
        (Kind::Any, _) | (Kind::Bool, Value::Bool(_)) | (Kind::Nullable(_), Value::Null) => Ok(()),
        (Kind::Nullable(kind), value) => fits(name, value, kind),
        (Kind::Int(least, most), value) => match value.as_i64() {
            Some(number) if (*least..=*most).contains(&number) => Ok(()),
            _ => Err(wrong(&format!("a number from {least} to {most}"))),
        },
        (Kind::Text(least, most), Value::String(text)) if fits_length(text, *least, *most) => Ok(()),
        (Kind::Text(least, most), _) => Err(wrong(&format!("a string of {least} to {most} characters"))),
        (Kind::Name(most), Value::String(text))
            if fits_length(text, 1, *most) && !text.contains(['<', '>']) =>
        {
            Ok(())
        }
        (Kind::Name(most), _) => Err(wrong(&format!("a name of at most {most} characters"))),
        (Kind::Url, Value::String(text)) if url::Url::parse(text).is_ok() => Ok(()),
        (Kind::Url, _) => Err(wrong("a URL")),
        (Kind::Choice(choices), Value::String(text)) if choices.contains(&text.as_str()) => Ok(()),
        (Kind::Choice(choices), _) => Err(wrong(&format!("one of {}", choices.join(", ")))),
        (Kind::List(kind, most), Value::Array(list)) if list.len() <= *most => {
            list.iter().try_for_each(|value| fits(name, value, kind))
        }
        (Kind::List(_, most), _) => Err(wrong(&format!("a list of at most {most}"))),
        (Kind::Object(fields), Value::Object(object)) => check(object, &[fields]),
        (Kind::Texts(most, longest), Value::Object(object)) => texts(name, object, *most, *longest),
        (Kind::Object(_) | Kind::Texts(..), _) => Err(wrong("an object")),
        (Kind::Bool, _) => Err(wrong("a boolean")),
    }
}

fn texts(name: &str, object: &Object, most: usize, longest: usize) -> Result<(), Refusal> {
    if object.len() > most {
        return Err(Refusal::body(&format!("{name} has more than {most} entries")));
    }
    let fit = object.iter().all(|(key, value)| match value {
        Value::Null => true,
        Value::String(text) => fits_length(text, 0, longest) && fits_length(key, 1, longest),
        _ => false,
    });
    if fit {
        return Ok(());
    }
    let problem = format!("Expected strings of at most {longest} characters in {name}");
    Err(Refusal::body(&problem))
}

fn fits_length(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.chars().count())
}
