//! Wanted against observed. Only what we set is compared; fields and attributes that others added stay.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    mark::{attribute, text},
    render::{AUTHENTICATOR, CLIENT_AUDIENCE, Desired, DesiredScope, LIMITED, SWITCHES},
};
use crate::provider::Credential;

/// Flags of a client that give it a way to tokens, or more in them.
const POWERS: [&str; 7] = [
    "enabled",
    "standardFlowEnabled",
    "implicitFlowEnabled",
    "directAccessGrantsEnabled",
    "serviceAccountsEnabled",
    "authorizationServicesEnabled",
    "fullScopeAllowed",
];

/// Lists of a client whose every entry is a permission.
const PERMISSIONS: [&str; 2] = ["redirectUris", WEB_ORIGINS];
/// Where an audience mapper names an audience that is no client; empty in ours.
const CUSTOM_AUDIENCE: &str = "included.custom.audience";
const WEB_ORIGINS: &str = "webOrigins";

/// The names of what differs, as people find them in Keycloak.
pub(super) fn client(want: &Desired, observed: &Value, secret: Option<&Credential>) -> Vec<String> {
    let mut names = fields(&want.fields, observed);
    names.extend(attributes(want.all_attributes(), observed));
    if !mappers(observed).is_empty() {
        names.push("protocolMappers".to_owned());
    }
    // Keycloak drops the secret of a client that is written while it is public: it is sent along when that ends.
    let dropped = observed.get("publicClient") == Some(&json!(true));
    if secret.is_some_and(|secret| dropped || text(observed, "secret") != Some(secret.expose())) {
        names.push("secret".to_owned());
    }
    names
}

/// The part of the difference that only takes away, as a body of its own: it must not wait for anything that the rest
/// may have to wait for. `not_before` is the time, in seconds since 1970, before which a client that is switched off
/// cannot have got its tokens.
pub(super) fn revocation(want: &Desired, observed: &Value, not_before: i64) -> Option<(Value, Vec<String>)> {
    let mut body = Map::new();
    for power in POWERS {
        if want.fields.get(power) == Some(&json!(false)) && observed.get(power) == Some(&json!(true)) {
            body.insert(power.to_owned(), json!(false));
        }
    }
    for list in PERMISSIONS {
        let (had, wanted) = (texts(observed.get(list)), texts(want.fields.get(list)));
        if !had.is_subset(&wanted) {
            body.insert(
                list.to_owned(),
                json!(had.intersection(&wanted).collect::<Vec<_>>()),
            );
        }
    }
    if !mappers(observed).is_empty() {
        body.insert("protocolMappers".to_owned(), json!([]));
    }
    let mut names: Vec<String> = body.keys().cloned().collect();
    let mut off: Map<String, Value> = SWITCHES
        .into_iter()
        .filter(|name| want.attributes.get(name).is_some_and(|value| value == "false"))
        .filter(|name| attribute(observed, name) == Some("true"))
        .map(|name| (name.to_owned(), json!("false")))
        .collect();
    // Without it the limits of its exchange do not find the client.
    let limited = want.attributes.get(LIMITED).filter(|value| !value.is_empty());
    if let Some(value) = limited.filter(|value| attribute(observed, LIMITED) != Some(value)) {
        off.insert(LIMITED.to_owned(), json!(value));
    }
    if !off.is_empty() {
        names.extend(off.keys().cloned());
        body.insert("attributes".to_owned(), Value::Object(off));
    }
    if body.is_empty() {
        return None;
    }
    if body.contains_key("enabled") {
        body.insert("notBefore".to_owned(), json!(not_before));
    }
    // Where it is not said, Keycloak makes up origins from the redirect URIs.
    body.entry(WEB_ORIGINS)
        .or_insert_with(|| kept(WEB_ORIGINS, want, observed));
    // Where a client policy lets secrets expire, Keycloak 26.7 fails at a change without any.
    body.entry("attributes").or_insert_with(|| json!({}));
    Some((Value::Object(body), names))
}

/// The part of the difference that is about credentials, as a body of its own.
pub(super) fn credentials(want: &Desired, observed: &Value, secret: Option<&Credential>) -> Option<Value> {
    let authenticator = &want.fields[AUTHENTICATOR];
    let same = secret.is_none_or(|secret| text(observed, "secret") == Some(secret.expose()))
        && same(authenticator, observed.get(AUTHENTICATOR));
    if same && attributes(want.secrets.iter(), observed).next().is_none() {
        return None;
    }
    let secrets: Map<_, _> = want
        .secrets
        .iter()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    let mut body = json!({
        AUTHENTICATOR: authenticator,
        "attributes": secrets,
        WEB_ORIGINS: kept(WEB_ORIGINS, want, observed),
    });
    if let Some(secret) = secret {
        body["secret"] = json!(secret.expose());
    }
    Some(body)
}

/// The entries of a list that are there and may stay.
fn kept(list: &str, want: &Desired, observed: &Value) -> Value {
    let (had, wanted) = (texts(observed.get(list)), texts(want.fields.get(list)));
    json!(had.intersection(&wanted).collect::<Vec<_>>())
}

/// What Keycloak makes of a client when it is changed by `body`: fields are replaced, attributes merged by name.
pub(super) fn after(observed: &Value, body: &Value) -> Value {
    let mut client = observed.clone();
    let (Some(client_fields), Some(changed)) = (client.as_object_mut(), body.as_object()) else {
        return client;
    };
    for (name, value) in changed {
        match (name.as_str(), value) {
            ("attributes", Value::Object(changed)) => {
                let merged = client_fields.entry("attributes").or_insert_with(|| json!({}));
                for (name, value) in changed {
                    merged[name] = value.clone();
                }
            }
            _ => {
                client_fields.insert(name.clone(), value.clone());
            }
        }
    }
    client
}

/// The names of what differs in a scope, its mappers aside.
pub(super) fn scope(want: &DesiredScope, observed: &Value) -> Vec<String> {
    let mut names = fields(&want.fields, observed);
    names.extend(attributes(
        want.attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
        observed,
    ));
    names
}

/// Whether a mapper is the one that the scope is to have.
pub(super) fn is_wanted_mapper(want: &DesiredScope, mapper: &Value) -> bool {
    want.mapper
        .iter()
        .all(|(name, value)| config(mapper, name) == value)
        && config(mapper, CUSTOM_AUDIENCE).is_empty()
        && text(mapper, "protocol") == Some("openid-connect")
}

/// Whether a mapper adds an audience that is not the scope's.
pub(super) fn names_foreign_audience(want: &DesiredScope, mapper: &Value) -> bool {
    let client = config(mapper, CLIENT_AUDIENCE);
    !config(mapper, CUSTOM_AUDIENCE).is_empty()
        || (!client.is_empty() && client != want.mapper[CLIENT_AUDIENCE])
}

fn config<'a>(mapper: &'a Value, name: &str) -> &'a str {
    mapper
        .get("config")
        .and_then(|config| config.get(name)?.as_str())
        .unwrap_or_default()
}

/// The protocol mappers of a representation.
pub(super) fn mappers(observed: &Value) -> &[Value] {
    observed
        .get("protocolMappers")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// A list of texts as a set: Keycloak keeps no order.
pub(super) fn texts(list: Option<&Value>) -> BTreeSet<&str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn fields(want: &Map<String, Value>, observed: &Value) -> Vec<String> {
    want.iter()
        .filter(|(name, value)| !same(value, observed.get(*name)))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Keycloak leaves out what is false or empty.
fn same(want: &Value, observed: Option<&Value>) -> bool {
    match want {
        Value::Bool(want) => observed.and_then(Value::as_bool).unwrap_or(false) == *want,
        Value::String(want) => observed.and_then(Value::as_str).unwrap_or_default() == want,
        Value::Array(_) => texts(Some(want)) == texts(observed),
        other => observed == Some(other),
    }
}

fn attributes<'a>(
    want: impl Iterator<Item = (&'static str, &'a str)>,
    observed: &Value,
) -> impl Iterator<Item = String> {
    want.filter(|(name, value)| attribute(observed, name).unwrap_or_default() != *value)
        .map(|(name, _)| name.to_owned())
}
