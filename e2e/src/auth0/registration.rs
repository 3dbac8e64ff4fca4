//! `/oidc/register`: clients that register themselves (Dynamic Client Registration). There is no registration access
//! token and no RFC 7592: what is registered can only be changed by an administrator.

use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::{
    clients,
    errors::{OAuthRefusal, Refusal},
    server::Shared,
    settings,
    wire::{Answer, Body, Object, Request, object, text, texts},
};

/// What such a client may use; others that it asks for are left out, not refused.
const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];

/// Anybody may, while the flag is on. How a tenant answers while it is off is not documented; here as if the endpoint did
/// not exist.
pub(super) fn register(shared: &Shared, request: &Request) -> Answer {
    let mut tenant = shared.tenant();
    if !tenant.flag("enable_dynamic_client_registration") {
        return Refusal::not_found("Not Found").into();
    }
    let body = match request.object() {
        Ok(body) => body,
        Err(refusal) => return refusal.into(),
    };
    let fields = match fields(&body) {
        Ok(fields) => fields,
        Err(refusal) => return refusal.into(),
    };
    let origin = object(json!({"external_metadata_type": "dcr", "external_metadata_created_by": "client"}));
    let strict = settings::registers_strictly(&tenant);
    let client = clients::registered(fields, origin, strict);
    if let Err(refusal) = clients::check_registered(&tenant, &client) {
        return refusal.into();
    }
    let mut answer = object(json!({
        "client_id": client.id(),
        "client_name": client.text("name"),
        "redirect_uris": client.fields.get("callbacks"),
        "grant_types": client.fields.get("grant_types"),
        "token_endpoint_auth_method": client.text("token_endpoint_auth_method"),
        "client_secret_expires_at": 0,
    }));
    if !client.is_public() {
        answer.insert("client_secret".to_owned(), json!(client.secret.current()));
    }
    match clients::add(&mut tenant, client) {
        Ok(()) => Answer::new(StatusCode::CREATED, Body::Json(Value::Object(answer))),
        Err(refusal) => refusal.into(),
    }
}

/// The client that the caller describes. What RFC 7591 knows besides is passed over (its section 2).
fn fields(body: &Object) -> Result<Object, OAuthRefusal> {
    let no = |error: &'static str, description: &str| {
        Err(OAuthRefusal::new(StatusCode::BAD_REQUEST, error, description))
    };
    let callbacks = texts(body, "redirect_uris");
    let fit = |uri: &&str| Url::parse(uri).is_ok_and(|url| url.fragment().is_none()) && !uri.contains('*');
    if callbacks.is_empty() || !callbacks.iter().all(fit) {
        return no("invalid_redirect_uri", "redirect_uris must be URLs");
    }
    let method = match text(body, "token_endpoint_auth_method") {
        "" => "client_secret_post",
        method => method,
    };
    if !["none", "client_secret_post"].contains(&method) {
        return no(
            "invalid_client_metadata",
            "token_endpoint_auth_method must be none or client_secret_post",
        );
    }
    if texts(body, "response_types")
        .iter()
        .any(|response| *response != "code")
    {
        return no("invalid_client_metadata", "response_types must be code");
    }
    let mut grant_types = texts(body, "grant_types");
    grant_types.retain(|grant_type| GRANT_TYPES.contains(grant_type));
    if grant_types.is_empty() {
        grant_types.push("authorization_code");
    }
    let name = match text(body, "client_name") {
        "" => "My Application",
        name if name.chars().count() > 200 || name.contains(['<', '>']) => {
            return no("invalid_client_metadata", "client_name is no name");
        }
        name => name,
    };
    let app_type = if method == "none" { "native" } else { "regular_web" };
    Ok(object(json!({
        "name": name,
        "app_type": app_type,
        "is_first_party": false,
        "callbacks": callbacks,
        "grant_types": grant_types,
        "token_endpoint_auth_method": method,
    })))
}
