//! What a client sends a browser with.

use http::StatusCode;

use crate::auth0::{
    access::of_api,
    clients::Client,
    errors::OAuthRefusal,
    sessions::{Authorized, Challenge, Login},
    tenant::{Place, Tenant},
    wire::{Parameters, is_true, text, texts},
};

/// Whom a problem is told.
pub(super) enum Problem {
    /// The user only: it is not known who the client is, or whether it listens there.
    Page(OAuthRefusal),
    /// The client, by way of this login.
    Client(Box<Login>, OAuthRefusal),
}

/// What a strict third-party client may send ("/authorize parameter validation"), besides `ext-*`.
const STRICT: [&str; 20] = [
    "acr_values",
    "audience",
    "authorization_details",
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "connection",
    "correlation_id",
    "display",
    "dpop_jkt",
    "login_hint",
    "max_age",
    "nonce",
    "prompt",
    "redirect_uri",
    "resource",
    "response_type",
    "scope",
    "state",
    "ui_locales",
];

/// Reads and checks a request. What is the user's part is left out.
pub(super) fn read(tenant: &Tenant, place: &Place, sent: &Parameters) -> Result<Login, Problem> {
    let (client, redirect_uri) = parties(tenant, sent).map_err(Problem::Page)?;
    let asked = sent.scopes();
    let has = |scope: &str| {
        asked
            .as_ref()
            .is_some_and(|asked| asked.iter().any(|one| one == scope))
    };
    let (audience, challenge) = (audience(tenant, place, sent), challenge(client, sent));
    let login = Login {
        authorized: Authorized {
            client: client.id().to_owned(),
            user: String::new(),
            audience: audience.clone().unwrap_or_default(),
            openid: has("openid") && !client.is_strict(),
            offline: has("offline_access") && refreshes(tenant, client, audience.as_deref()),
            asked: asked.map(of_api),
        },
        redirect_uri: redirect_uri.to_owned(),
        state: sent.get("state").map(str::to_owned),
        nonce: sent.get("nonce").map(str::to_owned),
        challenge: challenge.clone().unwrap_or_default(),
        silent: sent.get("prompt") == Some("none"),
    };
    let checked = check(tenant, client, sent, audience.as_deref()).and(challenge.map(|_| ()));
    match checked {
        Ok(()) => Ok(login),
        Err(refusal) => Err(Problem::Client(Box::new(login), refusal)),
    }
}

/// The client, and the address to go back to, which must be one of its callbacks, byte for byte: whether loopback
/// addresses of native clients match with any port is not known.
fn parties<'a>(tenant: &'a Tenant, sent: &'a Parameters) -> Result<(&'a Client, &'a str), OAuthRefusal> {
    let id = sent.need("client_id")?;
    let documents = is_true(&tenant.settings, "client_id_metadata_document_supported");
    let client = tenant
        .clients
        .find(|client| client.oauth_id() == id && (documents || !client.is_document()));
    let unknown = || {
        OAuthRefusal::new(
            StatusCode::FORBIDDEN,
            "invalid_request",
            &format!("Unknown client: {id}"),
        )
    };
    let client = client.ok_or_else(unknown)?;
    let redirect_uri = sent.need("redirect_uri")?;
    if !texts(&client.fields, "callbacks").contains(&redirect_uri) {
        return Err(OAuthRefusal::new(
            StatusCode::FORBIDDEN,
            "invalid_request",
            "Callback URL mismatch. The provided redirect_uri is not in the list of allowed callback URLs.",
        ));
    }
    Ok((client, redirect_uri))
}

/// `audience`, else `resource` if the tenant has the compatibility profile, else the tenant's default. Without any the
/// token is for `/userinfo`.
fn audience(tenant: &Tenant, place: &Place, sent: &Parameters) -> Option<String> {
    let compatible = text(&tenant.settings, "resource_parameter_profile") == "compatibility";
    let resource = sent.get("resource").filter(|_| compatible);
    let default = Some(text(&tenant.settings, "default_audience")).filter(|default| !default.is_empty());
    let audience = sent.get("audience").or(resource).or(default)?;
    (audience != place.userinfo()).then(|| audience.to_owned())
}

/// Whether a refresh token can be had: the API and the client must both allow it.
fn refreshes(tenant: &Tenant, client: &Client, audience: Option<&str>) -> bool {
    let api = audience.and_then(|audience| tenant.api(audience));
    let allowed = match audience {
        Some(_) => api.is_some_and(|api| is_true(api, "allow_offline_access")),
        None => true,
    };
    allowed && client.has_grant_type("refresh_token")
}

/// Strict clients must bind the code, by hash: that `plain` will not do is a choice (OAuth 2.1 wants S256).
fn challenge(client: &Client, sent: &Parameters) -> Result<Option<Challenge>, OAuthRefusal> {
    let method = sent.get("code_challenge_method").unwrap_or("plain");
    match (sent.get("code_challenge"), method) {
        (Some(challenge), "S256") => Ok(Some(Challenge::S256(challenge.to_owned()))),
        (Some(challenge), "plain") if !client.is_strict() => Ok(Some(Challenge::Plain(challenge.to_owned()))),
        (Some(_), _) => Err(OAuthRefusal::request("code_challenge_method must be S256")),
        (None, _) if client.is_strict() => Err(OAuthRefusal::request(
            "Missing required parameter: code_challenge",
        )),
        (None, _) => Ok(None),
    }
}

fn check(
    tenant: &Tenant,
    client: &Client,
    sent: &Parameters,
    audience: Option<&str>,
) -> Result<(), OAuthRefusal> {
    if client.is_strict() {
        let unknown = |name: &&str| !STRICT.contains(name) && !name.starts_with("ext-");
        if let Some(name) = sent.names().find(unknown) {
            let description = format!("Parameter not supported for third-party clients: {name}");
            return Err(OAuthRefusal::request(&description));
        }
    }
    if sent.need("response_type")? != "code" {
        let description = "response_type must be code";
        return Err(OAuthRefusal::new(
            StatusCode::BAD_REQUEST,
            "unsupported_response_type",
            description,
        ));
    }
    if !client.has_grant_type("authorization_code") {
        let description = "Grant type 'authorization_code' not allowed for the client.";
        return Err(OAuthRefusal::client(description));
    }
    match audience {
        None if client.is_strict() => {
            return Err(OAuthRefusal::request(
                "The userinfo audience is not allowed for third party clients. Please specify a valid API audience.",
            ));
        }
        Some(audience) if tenant.api(audience).is_none() => {
            return Err(OAuthRefusal::denied(&format!("Service not found: {audience}")));
        }
        _ => {}
    }
    let mut connections = tenant.connections.values();
    if !connections.any(|connection| connection.serves(client)) {
        return Err(OAuthRefusal::request("no connections enabled for the client"));
    }
    Ok(())
}
