//! Custom token exchange: a profile names the action that looks at a type of subject token.

use http::StatusCode;
use serde_json::json;

use super::{ACCESS_TOKEN, Asking, Outcome, exchange::consent_required, mint::Minting};
use crate::auth0::{
    access::{Subject, Wanted, decide, of_api},
    actions::{Event, Verdict},
    clients::Client,
    errors::OAuthRefusal,
    tenant::Tenant,
    wire::{Object, is_true, text},
};

/// Any client with `custom_authentication` can use any profile: telling clients apart is the action's task.
pub(super) fn exchange(tenant: &Tenant, asking: &Asking<'_>) -> Outcome {
    let sent = asking.sent;
    let client = asking.client(tenant)?;
    may_exchange(client)?;
    let kind = sent.need("subject_token_type")?;
    let profile = tenant
        .exchange_profiles
        .find(|profile| text(profile, "subject_token_type") == kind);
    let profile =
        profile.ok_or_else(|| OAuthRefusal::request("There is no profile for this subject_token_type"))?;
    let compatible = text(&tenant.settings, "resource_parameter_profile") == "compatibility";
    let resource = sent.get("resource").filter(|_| compatible);
    let audience = sent.get("audience").or(resource);
    let audience = audience.ok_or_else(|| OAuthRefusal::request("Missing required parameter: audience"))?;
    let asked = sent.scopes().map(of_api);
    let event = Event {
        client_id: client.oauth_id().to_owned(),
        subject_token: sent.need("subject_token")?.to_owned(),
        subject_token_type: kind.to_owned(),
        audience: audience.to_owned(),
        scopes: asked.clone().unwrap_or_default(),
    };
    let user = judged(tenant, profile, &event)?;
    let user = tenant.users.find(|found| found.id == user);
    let user = user.ok_or_else(|| OAuthRefusal::request("The user that the action set does not exist"))?;
    let access = decide(
        tenant,
        &Wanted {
            client,
            audience,
            subject: Subject::User(user),
            scopes: asked.as_deref(),
            by_grant_only: false,
        },
    )?;
    if !is_true(access.server, "skip_consent_for_verifiable_first_party_clients") {
        return Err(consent_required());
    }
    let mut answer = Minting::new(client, &access, &user.id).answer(asking.shared)?;
    answer.insert("issued_token_type".to_owned(), json!(ACCESS_TOKEN));
    Ok(answer)
}

fn may_exchange(client: &Client) -> Result<(), OAuthRefusal> {
    if client.exchanges("custom_authentication") && !client.is_third_party() && !client.is_public() {
        return Ok(());
    }
    Err(OAuthRefusal::client(
        "Custom token exchange is not allowed for the client.",
    ))
}

/// The user that the action of a profile finds in a token. An action for which a test has set no rule finds nobody.
fn judged(tenant: &Tenant, profile: &Object, event: &Event) -> Result<String, OAuthRefusal> {
    let id = text(profile, "action_id");
    let action = tenant.actions.find(|action| text(action, "id") == id);
    let rule = action.and_then(|action| tenant.rules.get(text(action, "name")));
    match rule.map_or(Verdict::Nobody, |rule| rule(event)) {
        Verdict::User(id) => Ok(id),
        // Codes of actions are free text.
        Verdict::Deny(code, reason) => Err(OAuthRefusal::new(
            StatusCode::FORBIDDEN,
            "access_denied",
            &format!("{code}: {reason}"),
        )),
        Verdict::RejectSubjectToken(reason) => Err(OAuthRefusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            &format!("Invalid subject token: {reason}"),
        )),
        Verdict::Nobody => Err(OAuthRefusal::request("The action has set no user")),
    }
}
