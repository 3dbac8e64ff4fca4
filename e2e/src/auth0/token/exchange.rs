//! On-behalf-of token exchange (RFC 8693): the client of an API turns a user's token for that API into one for another.

use serde_json::{Value, json};

use super::{ACCESS_TOKEN, Asking, Outcome, mint::Minting};
use crate::auth0::{
    access::{Subject, Wanted, decide, of_api},
    clients::Client,
    errors::OAuthRefusal,
    server::Shared,
    tenant::Tenant,
    wire::is_true,
};

/// How deep the chain of actors of a subject token may be.
const DEEPEST: usize = 4;

/// The new token has the same user, the other API, and in `act` all who are on the way. There is no refresh token.
///
/// A grant is needed whatever the policy of the other API, and that API must skip consent, since nobody is there to give
/// it: the reference lists both among what has to be set up. What a live tenant answers without them is not known; the
/// codes here are a choice.
pub(super) fn on_behalf_of(tenant: &Tenant, asking: &Asking<'_>) -> Outcome {
    let client = asking.client(tenant)?;
    may_exchange(client)?;
    let sent = asking.sent;
    if sent
        .get("requested_token_type")
        .is_some_and(|kind| kind != ACCESS_TOKEN)
    {
        return Err(OAuthRefusal::request(
            "requested_token_type must be that of an access token",
        ));
    }
    let subject = subject(asking.shared, client, sent.need("subject_token")?)?;
    let audience = sent.need("audience")?;
    let user = subject["sub"].as_str().unwrap_or_default();
    let user = tenant.users.find(|found| found.id == user);
    let user = user.ok_or_else(|| OAuthRefusal::grant("subject_token is not a user's"))?;
    let asked = sent.scopes().map(of_api);
    let access = decide(
        tenant,
        &Wanted {
            client,
            audience,
            subject: Subject::User(user),
            scopes: asked.as_deref(),
            by_grant_only: true,
        },
    )?;
    if !is_true(access.server, "skip_consent_for_verifiable_first_party_clients") {
        return Err(consent_required());
    }
    let mut minting = Minting::new(client, &access, &user.id);
    minting.actor = Some(chain(&subject, client)?);
    let mut answer = minting.answer(asking.shared)?;
    answer.insert("issued_token_type".to_owned(), json!(ACCESS_TOKEN));
    Ok(answer)
}

/// An exchange in which a user would have to be asked.
pub(super) fn consent_required() -> OAuthRefusal {
    OAuthRefusal::new(
        http::StatusCode::FORBIDDEN,
        "consent_required",
        "Consent required",
    )
}

/// "Only Custom API clients associated with a resource server can use the OBO token exchange."
fn may_exchange(client: &Client) -> Result<(), OAuthRefusal> {
    let linked = client.text("app_type") == "resource_server";
    if linked && client.exchanges("on_behalf_of_token_exchange") && !client.is_public() {
        return Ok(());
    }
    Err(OAuthRefusal::client(
        "On-behalf-of token exchange is not allowed for the client.",
    ))
}

/// The claims of a subject token that is valid here and for the API of this client.
fn subject(shared: &Shared, client: &Client, token: &str) -> Result<Value, OAuthRefusal> {
    let invalid = || OAuthRefusal::grant("subject_token is invalid");
    let claims = shared.keys.read(token, shared.clock.now()).ok_or_else(invalid)?;
    let own = Value::from(client.text("resource_server_identifier"));
    let is_for_it = match &claims["aud"] {
        Value::Array(audiences) => audiences.contains(&own),
        one => *one == own,
    };
    if is_for_it { Ok(claims) } else { Err(invalid()) }
}

/// The client in front of those who acted before; the first of all is the client that the user logged in at.
fn chain(subject: &Value, client: &Client) -> Result<Value, OAuthRefusal> {
    let before = match &subject["act"] {
        Value::Null => {
            let first = subject.get("client_id").or_else(|| subject.get("azp"));
            json!({"sub": first})
        }
        chain => chain.clone(),
    };
    let mut depth = 0;
    let mut link = &before;
    while link.is_object() {
        depth += 1;
        link = &link["act"];
    }
    if depth > DEEPEST {
        return Err(OAuthRefusal::request(&format!(
            "Delegation chain (act claim) depth exceeds the maximum allowed limit of {DEEPEST}"
        )));
    }
    Ok(json!({"sub": client.oauth_id(), "act": before}))
}
