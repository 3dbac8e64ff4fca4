//! `/api/v2/actions/actions`: code that Auth0 runs. Nobody runs any here: what an action does when a token is exchanged
//! is a rule that a test sets under the action's name.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    clock::rfc3339,
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant, random_id},
    wire::{Answer, Object, text},
};

/// What `onExecuteCustomTokenExchange` of an action decides about a subject token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `api.authentication.setUserById`.
    User(String),
    /// `api.access.deny`, with a code and a reason.
    Deny(String, String),
    /// `api.access.rejectInvalidSubjectToken`, with a reason.
    RejectSubjectToken(String),
    /// The action ends without having set anybody.
    Nobody,
}

/// What an action sees of an exchange. It holds a token, and so prints nothing.
#[derive(Clone)]
pub struct Event {
    /// `event.client.client_id`.
    pub client_id: String,
    /// `event.transaction.subject_token`.
    pub subject_token: String,
    /// `event.transaction.subject_token_type`.
    pub subject_token_type: String,
    /// The identifier of the API that the token is for.
    pub audience: String,
    /// The scopes that were asked for.
    pub scopes: Vec<String>,
}

/// What an action does.
pub type Rule = Arc<dyn Fn(&Event) -> Verdict + Send + Sync>;

/// By the name of the action.
pub(super) type Rules = BTreeMap<String, Rule>;

const FIELDS: &[Field] = &[
    Field("name", Kind::Text(1, 100)),
    Field("supported_triggers", Kind::List(&TRIGGER, 1)),
    Field("code", Kind::Text(1, 100_000)),
    Field("runtime", Kind::Choice(&["node18", "node22"])),
    Field("dependencies", Kind::List(&Kind::Any, 50)),
    Field("secrets", Kind::List(&Kind::Any, 50)),
];
const TRIGGER: Kind = Kind::Object(&[
    Field("id", Kind::Text(1, 50)),
    Field("version", Kind::Text(1, 10)),
]);

/// What runs when a token is exchanged by a profile.
pub(super) const EXCHANGE_TRIGGER: &str = "custom-token-exchange";

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    if call.request.query("include_totals").is_some() {
        // The reference of this list has no such parameter, and its answer has the total anyway.
        return Err(Refusal::query(
            "Additional properties not allowed: include_totals",
        ));
    }
    let (name, trigger) = (call.request.query("actionName"), call.request.query("triggerId"));
    let rows = tenant.actions.iter().filter(|(_, action)| {
        name.is_none_or(|name| text(action, "name") == name)
            && trigger.is_none_or(|wanted| trigger_of(action) == wanted)
    });
    let listing = Listing {
        name: "actions",
        offset: true,
        filters: &["actionName", "triggerId", "deployed", "installed"],
        ..LISTING
    };
    let rows: Vec<_> = rows.map(|(number, action)| (number, shown(action))).collect();
    let total = rows.len();
    let answer = listing.answer(call.request, rows.into_iter())?;
    // Actions are the list that is always an object.
    match answer.body {
        super::wire::Body::Json(Value::Array(actions)) => Ok(Answer::ok(json!({
            "actions": actions, "total": total, "page": 0, "per_page": actions.len(),
        }))),
        _ => Ok(answer),
    }
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let action = find(tenant, call)?;
    // It is built by the time that somebody looks.
    action.insert("status".to_owned(), json!("built"));
    Ok(Answer::ok(shown(action)))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[FIELDS])?;
    need(&body, &["name", "supported_triggers"])?;
    tenant.room(Entity::Actions, tenant.actions.len())?;
    body.insert("id".to_owned(), json!(uuid()));
    body.insert("status".to_owned(), json!("pending"));
    body.insert("all_changes_deployed".to_owned(), json!(false));
    body.insert("created_at".to_owned(), json!(rfc3339(call.now)));
    tenant.actions.insert(body.clone());
    Ok(Answer::created(shown(&body)))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    let action = find(tenant, call)?;
    action.extend(body);
    action.insert("status".to_owned(), json!("pending"));
    action.insert("all_changes_deployed".to_owned(), json!(false));
    Ok(Answer::ok(shown(action)))
}

/// Only what was built can be deployed. Answers 200.
pub(super) fn deploy(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let action = find(tenant, call)?;
    if text(action, "status") != "built" {
        return Err(Refusal::unsupported("The action is not built"));
    }
    action.insert("all_changes_deployed".to_owned(), json!(true));
    action.insert("deployed".to_owned(), json!(true));
    Ok(Answer::ok(shown(action)))
}

/// One that a profile names stays.
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    find(tenant, call)?;
    let named = |profile: &Object| text(profile, "action_id") == call.id();
    if tenant.exchange_profiles.find(named).is_some() {
        return Err(Refusal::conflict(
            "The action is bound to a token exchange profile",
        ));
    }
    tenant.actions.remove(|action| text(action, "id") == call.id());
    Ok(Answer::nothing())
}

/// Values of secrets are never shown.
fn shown(action: &Object) -> Object {
    let mut shown = action.clone();
    if let Some(Value::Array(secrets)) = shown.get_mut("secrets") {
        for secret in secrets.iter_mut().filter_map(Value::as_object_mut) {
            secret.remove("value");
        }
    }
    shown
}

pub(super) fn trigger_of(action: &Object) -> &str {
    let triggers = action.get("supported_triggers");
    let id = triggers.and_then(|triggers| triggers[0]["id"].as_str());
    id.unwrap_or_default()
}

fn find<'a>(tenant: &'a mut Tenant, call: &Call<'_>) -> Result<&'a mut Object, Refusal> {
    let found = tenant.actions.find_mut(|action| text(action, "id") == call.id());
    found.ok_or_else(|| Refusal::not_found("That action does not exist."))
}

/// In the form of a random UUID.
fn uuid() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    let (variable, node) = (&hex[..16], &hex[20..]);
    let (low, mid, high) = (&variable[..8], &variable[8..12], &variable[13..]);
    format!("{low}-{mid}-4{high}-a{}-{node}", &hex[17..20])
}

/// A new id for something that has no other form.
pub(super) fn profile_id() -> String {
    random_id("tep_", 16)
}
