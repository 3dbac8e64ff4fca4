//! `/api/v2/client-grants`: which client may call which API, in its own name (`client`) or a user's (`user`).

use serde_json::{Value, json};

use super::{
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant, random_id, scopes_of},
    wire::{Answer, Object, is_true, text, texts},
};

/// What can be changed.
const FIELDS: &[Field] = &[
    Field("scope", Kind::List(&Kind::Text(1, 280), 1000)),
    Field("allow_all_scopes", Kind::Nullable(&Kind::Bool)),
    Field(
        "organization_usage",
        Kind::Nullable(&Kind::Choice(&["deny", "allow", "require"])),
    ),
    Field("allow_any_organization", Kind::Nullable(&Kind::Bool)),
    Field("authorization_details_types", Kind::List(&Kind::Text(1, 255), 10)),
];

/// What makes a grant what it is: to change one of these is another grant.
const IDENTITY: &[Field] = &[
    Field("client_id", Kind::Text(1, 255)),
    Field("audience", Kind::Text(1, 600)),
    Field("subject_type", Kind::Choice(&["user", "client"])),
    Field("default_for", Kind::Choice(&["third_party_clients"])),
];

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    const FILTERS: [&str; 4] = ["client_id", "audience", "subject_type", "default_for"];
    let rows = tenant.grants.iter().filter(|(_, grant)| {
        let fits = |name: &&str| {
            let wanted = call.request.query(name);
            wanted.is_none_or(|wanted| text(grant, name) == wanted)
        };
        FILTERS.iter().all(fits)
    });
    let listing = Listing {
        name: "client_grants",
        checkpoint: true,
        offset: true,
        filters: &FILTERS,
        ..LISTING
    };
    listing.answer(call.request, rows.map(|(number, grant)| (number, grant.clone())))
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let grant = tenant.grants.find(|grant| text(grant, "id") == call.id());
    let grant = grant.ok_or_else(|| Refusal::not_found("The client grant does not exist"))?;
    Ok(Answer::ok(grant.clone()))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[FIELDS, IDENTITY])?;
    need(&body, &["audience"])?;
    if body.contains_key("client_id") == body.contains_key("default_for") {
        return Err(Refusal::body("Expected exactly one of client_id, default_for"));
    }
    if body.contains_key("scope") == is_true(&body, "allow_all_scopes") {
        return Err(Refusal::body("Expected exactly one of scope, allow_all_scopes"));
    }
    // The trap of this endpoint: whoever does not say `user` gets a grant that no user's token comes from.
    body.entry("subject_type").or_insert_with(|| json!("client"));
    check_parties(tenant, &body)?;
    check_scopes(tenant, text(&body, "audience"), &body)?;
    let same = |grant: &Object| {
        IDENTITY
            .iter()
            .all(|field| grant.get(field.0) == body.get(field.0))
    };
    if tenant.grants.find(same).is_some() {
        return Err(Refusal::conflict(
            "A client grant for the specified client, audience and subject type already exists.",
        ));
    }
    tenant.room(Entity::Grants, tenant.grants.len())?;
    body.insert("id".to_owned(), json!(random_id("cgr_", 16)));
    tenant.grants.insert(body.clone());
    Ok(Answer::created(body))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    let found = tenant.grants.find(|grant| text(grant, "id") == call.id());
    let found = found.ok_or_else(|| Refusal::not_found("The client grant does not exist"))?;
    let mut grant = found.clone();
    check_scopes(tenant, text(&grant, "audience"), &body)?;
    for (name, value) in body {
        match value {
            Value::Null => grant.remove(&name),
            value => grant.insert(name, value),
        };
    }
    if let Some(found) = tenant.grants.find_mut(|other| text(other, "id") == call.id()) {
        found.clone_from(&grant);
    }
    Ok(Answer::ok(grant))
}

/// The same id twice gives 204 twice.
#[expect(clippy::unnecessary_wraps, reason = "all endpoints have one form")]
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    tenant.grants.remove(|grant| text(grant, "id") == call.id());
    Ok(Answer::nothing())
}

/// The API and the client exist, and no third party gets at an API of the system.
fn check_parties(tenant: &Tenant, grant: &Object) -> Result<(), Refusal> {
    let server = tenant.api(text(grant, "audience"));
    let server = server.ok_or_else(Refusal::no_resource_server)?;
    let third_party = match text(grant, "client_id") {
        "" => true,
        id => {
            let client = tenant.clients.find(|client| client.id() == id);
            client.ok_or_else(Refusal::no_client)?.is_third_party()
        }
    };
    if third_party && is_true(server, "is_system") {
        return Err(Refusal::unsupported(
            "Third-party clients cannot be granted access to system APIs",
        ));
    }
    Ok(())
}

/// The scopes that a body names are those of the API.
fn check_scopes(tenant: &Tenant, audience: &str, body: &Object) -> Result<(), Refusal> {
    let defined = tenant.api(audience).map(scopes_of).unwrap_or_default();
    let scopes = texts(body, "scope").into_iter();
    match scopes.into_iter().find(|scope| !defined.contains(*scope)) {
        None => Ok(()),
        Some(scope) => {
            let problem = format!("Scope '{scope}' is not defined by the API");
            Err(Refusal::body(&problem))
        }
    }
}
