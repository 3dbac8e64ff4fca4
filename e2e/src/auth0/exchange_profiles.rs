//! `/api/v2/token-exchange-profiles`: which action looks at which type of subject token.

use serde_json::json;

use super::{
    actions::{EXCHANGE_TRIGGER, profile_id, trigger_of},
    clock::rfc3339,
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant},
    wire::{Answer, Object, is_true, text},
};

/// What can be changed.
const FIELDS: &[Field] = &[
    Field("name", Kind::Text(3, 50)),
    Field("subject_token_type", Kind::Text(8, 100)),
];
const IDENTITY: &[Field] = &[
    Field("action_id", Kind::Text(1, 36)),
    Field("type", Kind::Choice(&["custom_authentication"])),
];

/// Types that nobody can claim.
const RESERVED: [&str; 7] = [
    "http://auth0.com",
    "https://auth0.com",
    "http://okta.com",
    "https://okta.com",
    "urn:ietf",
    "urn:auth0",
    "urn:okta",
];

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let rows = tenant.exchange_profiles.iter();
    let listing = Listing {
        name: "token_exchange_profiles",
        checkpoint: true,
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, profile)| (number, profile.clone())),
    )
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let profile = tenant
        .exchange_profiles
        .find(|profile| text(profile, "id") == call.id());
    Ok(Answer::ok(profile.ok_or_else(missing)?.clone()))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[FIELDS, IDENTITY])?;
    need(&body, &["name", "subject_token_type", "action_id", "type"])?;
    check_type(tenant, &body, "")?;
    let action = tenant
        .actions
        .find(|action| text(action, "id") == text(&body, "action_id"));
    let action = action.ok_or_else(|| Refusal::not_found("That action does not exist."))?;
    // Not documented in these words; a profile without code that runs could only fail later.
    if trigger_of(action) != EXCHANGE_TRIGGER || !is_true(action, "all_changes_deployed") {
        return Err(Refusal::body(
            "The action is no deployed action of custom-token-exchange",
        ));
    }
    tenant.room(Entity::ExchangeProfiles, tenant.exchange_profiles.len())?;
    body.insert("id".to_owned(), json!(profile_id()));
    for moment in ["created_at", "updated_at"] {
        body.insert(moment.to_owned(), json!(rfc3339(call.now)));
    }
    tenant.exchange_profiles.insert(body.clone());
    Ok(Answer::created(body))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    check_type(tenant, &body, call.id())?;
    let profile = tenant
        .exchange_profiles
        .find_mut(|profile| text(profile, "id") == call.id());
    let profile = profile.ok_or_else(missing)?;
    profile.extend(body);
    profile.insert("updated_at".to_owned(), json!(rfc3339(call.now)));
    Ok(Answer::ok(profile.clone()))
}

pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let is = |profile: &Object| text(profile, "id") == call.id();
    tenant.exchange_profiles.remove(is).ok_or_else(missing)?;
    Ok(Answer::nothing())
}

/// A type is an https URL or a URN, not a reserved one, and belongs to one profile.
fn check_type(tenant: &Tenant, body: &Object, own: &str) -> Result<(), Refusal> {
    let Some(wanted) = body.get("subject_token_type") else {
        return Ok(());
    };
    let text_of_type = text(body, "subject_token_type");
    let form = text_of_type.starts_with("https://") || text_of_type.starts_with("urn:");
    if !form || RESERVED.iter().any(|prefix| text_of_type.starts_with(prefix)) {
        return Err(Refusal::body(
            "subject_token_type is reserved or no https URL or URN",
        ));
    }
    let other =
        |profile: &Object| profile.get("subject_token_type") == Some(wanted) && text(profile, "id") != own;
    match tenant.exchange_profiles.find(other) {
        None => Ok(()),
        Some(_) => Err(Refusal::conflict(
            "A token exchange profile with this subject_token_type already exists.",
        )),
    }
}

/// Answers about profiles have no code.
fn missing() -> Refusal {
    Refusal::not_found("The token exchange profile does not exist")
}
