//! `/api/v2/resource-servers`: APIs, found by id or by URL-encoded identifier.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Place, Tenant, random_id},
    wire::{Answer, Object, is_true, object, text},
};

/// What can be set at any time.
const FIELDS: &[Field] = &[
    Field("name", Kind::Name(200)),
    Field("scopes", Kind::List(&SCOPE, 1000)),
    Field("signing_alg", Kind::Choice(&["HS256", "RS256", "RS512", "PS256"])),
    Field("signing_secret", Kind::Text(16, 4096)),
    Field("token_dialect", Kind::Choice(&DIALECTS)),
    Field("token_lifetime", Kind::Int(0, 2_592_000)),
    Field("token_lifetime_for_web", Kind::Int(0, 2_592_000)),
    Field("allow_offline_access", Kind::Bool),
    Field("allow_online_access", Kind::Bool),
    Field("allow_online_access_with_ephemeral_sessions", Kind::Bool),
    Field("enforce_policies", Kind::Bool),
    Field("skip_consent_for_verifiable_first_party_clients", Kind::Bool),
    Field("subject_type_authorization", Kind::Object(SUBJECTS)),
    Field("token_encryption", Kind::Nullable(&Kind::Any)),
    Field("consent_policy", Kind::Nullable(&Kind::Text(1, 100))),
    Field(
        "authorization_details",
        Kind::Nullable(&Kind::List(&Kind::Any, 10)),
    ),
    Field("proof_of_possession", Kind::Nullable(&Kind::Any)),
    Field("authorization_policy", Kind::Nullable(&Kind::Any)),
];
const SCOPE: Kind = Kind::Object(&[
    Field("value", Kind::Text(1, 280)),
    Field("description", Kind::Text(0, 500)),
]);
const DIALECTS: [&str; 4] = [
    "access_token",
    "access_token_authz",
    "rfc9068_profile",
    "rfc9068_profile_authz",
];
const SUBJECTS: &[Field] = &[
    Field("user", Kind::Object(&[Field("policy", Kind::Choice(&USERS))])),
    Field("client", Kind::Object(&[Field("policy", Kind::Choice(&CLIENTS))])),
];
const USERS: [&str; 3] = ["allow_all", "deny_all", "require_client_grant"];
const CLIENTS: [&str; 2] = ["deny_all", "require_client_grant"];

/// What only a new one can be given.
const IDENTITY: &[Field] = &[Field("identifier", Kind::Text(1, 600))];

/// What of an API of the system can be set.
const OF_SYSTEM: [&str; 5] = [
    "token_lifetime",
    "proof_of_possession",
    "skip_consent_for_verifiable_first_party_clients",
    "subject_type_authorization",
    "authorization_policy",
];

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let query = &call.request.query;
    let wanted: Vec<&str> = query
        .iter()
        .filter(|(name, _)| name == "identifiers")
        .map(|(_, value)| value.as_str())
        .collect();
    if wanted.len() > 10 {
        return Err(Refusal::query("identifiers: at most 10"));
    }
    let rows = tenant.resource_servers.iter();
    let rows = rows.filter(|(_, server)| wanted.is_empty() || wanted.contains(&text(server, "identifier")));
    let listing = Listing {
        name: "resource_servers",
        offset: true,
        filters: &["identifiers", "include_fields"],
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, server)| (number, shown(tenant, server))),
    )
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let server = tenant.resource_servers.find(|server| is(server, call.id()));
    let server = server.ok_or_else(Refusal::no_resource_server)?;
    Ok(Answer::ok(shown(tenant, server)))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS, IDENTITY])?;
    need(&body, &["identifier"])?;
    check_scopes(&body)?;
    let identifier = text(&body, "identifier");
    if tenant.api(identifier).is_some() {
        let message = "A resource server with the same identifier already exists.";
        return Err(Refusal::conflict(message));
    }
    if identifier == call.place.account() {
        let api = account_api(call.place, &body);
        tenant.resource_servers.insert(api.clone());
        return Ok(Answer::created(api));
    }
    if identifier.starts_with(&format!("https://{}/", call.place.domain)) {
        // Not documented; a tenant's own addresses are hardly free for the taking.
        return Err(Refusal::unsupported("The identifier is reserved"));
    }
    let own = tenant.resource_servers.values();
    tenant.room(
        Entity::Apis,
        own.filter(|server| !is_true(server, "is_system")).count(),
    )?;
    let mut server = defaults();
    merge(&mut server, body);
    if text(&server, "signing_alg") == "HS256" && !server.contains_key("signing_secret") {
        server.insert("signing_secret".to_owned(), json!(random_id("", 32)));
    }
    server.insert("id".to_owned(), json!(hex_id()));
    let answer = shown(tenant, &server);
    tenant.resource_servers.insert(server);
    Ok(Answer::created(answer))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    check_scopes(&body)?;
    let server = tenant.resource_servers.find_mut(|server| is(server, call.id()));
    let server = server.ok_or_else(Refusal::no_resource_server)?;
    if is_true(server, "is_system")
        && let Some(name) = body.keys().find(|name| !OF_SYSTEM.contains(&name.as_str()))
    {
        let problem = format!("Additional properties not allowed: {name}");
        return Err(Refusal::body(&problem));
    }
    merge(server, body);
    let server = server.clone();
    Ok(Answer::ok(shown(tenant, &server)))
}

/// Whether the grants of a removed API go with it is not known. Here they stay, so that they count again once the
/// identifier is used again: whoever removes an API has to remove its grants first.
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let server = tenant.resource_servers.find(|server| is(server, call.id()));
    let server = server.ok_or_else(Refusal::no_resource_server)?;
    if is_true(server, "is_system") {
        return Err(Refusal::unsupported("APIs of the system cannot be deleted"));
    }
    tenant.resource_servers.remove(|server| is(server, call.id()));
    Ok(Answer::nothing())
}

fn is(server: &Object, id: &str) -> bool {
    text(server, "id") == id || text(server, "identifier") == id
}

/// With the client that is linked to it, once there is one.
fn shown(tenant: &Tenant, server: &Object) -> Object {
    let identifier = text(server, "identifier");
    let mut server = server.clone();
    let linked = tenant
        .clients
        .find(|client| client.text("resource_server_identifier") == identifier);
    if let Some(client) = linked {
        server.insert("client_id".to_owned(), json!(client.id()));
    }
    server
}

/// The defaults of recorded answers. What is not set is absent, not null.
fn defaults() -> Object {
    object(json!({
        "allow_offline_access": false,
        "skip_consent_for_verifiable_first_party_clients": false,
        "subject_type_authorization": {
            "user": {"policy": "allow_all"}, "client": {"policy": "require_client_grant"},
        },
        "token_lifetime": 86_400,
        "token_lifetime_for_web": 7200,
        "signing_alg": "RS256",
    }))
}

/// Sets fields: lists are replaced whole, null takes a field away; of the two kinds of subjects one that is not named
/// stays.
fn merge(server: &mut Object, body: Object) {
    for (name, value) in body {
        match value {
            Value::Null => {
                server.remove(&name);
            }
            Value::Object(subjects) if name == "subject_type_authorization" => {
                if let Some(Value::Object(present)) = server.get_mut(&name) {
                    present.extend(subjects);
                }
            }
            value => {
                server.insert(name, value);
            }
        }
    }
}

/// Each scope has a value, and none comes twice.
fn check_scopes(body: &Object) -> Result<(), Refusal> {
    let scopes = body.get("scopes").and_then(Value::as_array);
    let mut seen = BTreeSet::new();
    for scope in scopes.into_iter().flatten() {
        let value = scope["value"]
            .as_str()
            .ok_or_else(|| Refusal::body("Missing required property: value"))?;
        if !seen.insert(value) {
            return Err(Refusal::body(&format!("Array items are not unique: {value}")));
        }
    }
    Ok(())
}

/// The My Account API, which a tenant gets by asking for its identifier; the rest of the body is ignored.
fn account_api(place: &Place, body: &Object) -> Object {
    let kinds = ["create", "read", "delete"];
    let scopes = kinds.map(|verb| json!({"value": format!("{verb}:me:connected_accounts")}));
    let mut api = object(json!({
        "id": hex_id(),
        "name": "Auth0 My Account API",
        "identifier": place.account(),
        "is_system": true,
        "skip_consent_for_verifiable_first_party_clients": true,
        "allow_offline_access": true,
        "subject_type_authorization": {
            "user": {"policy": "require_client_grant"}, "client": {"policy": "deny_all"},
        },
        "token_lifetime": 600,
        "token_lifetime_for_web": 600,
        "signing_alg": "RS256",
        "scopes": scopes,
    }));
    if let Some(policy) = body.get("authorization_policy") {
        api.insert("authorization_policy".to_owned(), policy.clone());
    }
    api
}

/// Ids of resource servers are 24 hexadecimal digits.
fn hex_id() -> String {
    format!("{:032x}", rand::random::<u128>()).split_off(8)
}
