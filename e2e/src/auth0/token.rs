//! `/oauth/token`, `/oauth/revoke` and `/userinfo`.

mod assertion;
mod codes;
mod custom;
mod exchange;
mod mint;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{StatusCode, header};
use serde_json::{Value, json};

use self::mint::Minting;
use super::{
    access::{Subject, Wanted, decide},
    clients::Client,
    errors::{OAuthRefusal, Refusal},
    server::Shared,
    tenant::Tenant,
    wire::{Answer, Object, Parameters, Request, text},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What an endpoint of OAuth answers with.
type Outcome = Result<Object, OAuthRefusal>;

/// A request for a token by a client that is who it says.
struct Asking<'a> {
    shared: &'a Shared,
    sent: &'a Parameters,
    /// Its id in the Management API.
    client: &'a str,
}

pub(super) fn respond(shared: &Shared, request: &Request) -> Answer {
    match issue(shared, request) {
        Ok(body) => Answer::ok(body),
        Err(refusal) => refusal.into(),
    }
}

fn issue(shared: &Shared, request: &Request) -> Outcome {
    let sent = request.parameters()?;
    let grant_type = sent.need("grant_type")?;
    let mut tenant = shared.tenant();
    let client = authenticate(shared, &mut tenant, request, &sent)?;
    let asking = Asking {
        shared,
        sent: &sent,
        client: &client,
    };
    match grant_type {
        "client_credentials" => client_credentials(&tenant, &asking),
        "authorization_code" => codes::redeem(&mut tenant, &asking),
        "refresh_token" => codes::refresh(&mut tenant, &asking),
        EXCHANGE if sent.get("subject_token_type") == Some(ACCESS_TOKEN) => {
            exchange::on_behalf_of(&tenant, &asking)
        }
        EXCHANGE => custom::exchange(&tenant, &asking),
        other => Err(OAuthRefusal::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            &format!("Unsupported grant type: {other}"),
        )),
    }
}

impl Asking<'_> {
    fn client<'t>(&self, tenant: &'t Tenant) -> Result<&'t Client, OAuthRefusal> {
        let client = tenant.clients.find(|client| client.id() == self.client);
        client.ok_or_else(OAuthRefusal::credentials)
    }
}

/// A token for the client itself. The API is named by `audience` (or the tenant's default): `resource` is not among what
/// the compatibility profile covers for this grant.
fn client_credentials(tenant: &Tenant, asking: &Asking<'_>) -> Outcome {
    let client = asking.client(tenant)?;
    need_grant_type(client, "client_credentials")?;
    if client.is_public() {
        return Err(OAuthRefusal::client("The client has no credential"));
    }
    let default = Some(text(&tenant.settings, "default_audience")).filter(|default| !default.is_empty());
    let audience = asking.sent.get("audience").or(default);
    let audience =
        audience.ok_or_else(|| OAuthRefusal::denied("Non-global clients are not allowed access to APIv1"))?;
    let asked = asking.sent.scopes();
    let access = decide(
        tenant,
        &Wanted {
            client,
            audience,
            subject: Subject::Client,
            scopes: asked.as_deref(),
            by_grant_only: false,
        },
    )?;
    let subject = format!("{}@clients", client.oauth_id());
    let mut minting = Minting::new(client, &access, &subject);
    minting.machine = true;
    minting.answer(asking.shared)
}

fn need_grant_type(client: &Client, grant_type: &str) -> Result<(), OAuthRefusal> {
    if client.has_grant_type(grant_type) {
        return Ok(());
    }
    let description = format!("Grant type '{grant_type}' not allowed for the client.");
    Err(OAuthRefusal::client(&description))
}

/// Who asks, by exactly the method that the client has; its id in the Management API.
fn authenticate(
    shared: &Shared,
    tenant: &mut Tenant,
    request: &Request,
    sent: &Parameters,
) -> Result<String, OAuthRefusal> {
    let now = shared.clock.now();
    let basic = basic(request)?;
    let in_body = sent.get("client_secret").is_some() || sent.get("client_assertion").is_some();
    if basic.is_some() && in_body {
        return Err(OAuthRefusal::request(
            "a client must authenticate in one way only",
        ));
    }
    let id = match &basic {
        Some((id, _)) => id.as_str(),
        None => sent.need("client_id")?,
    };
    let client = tenant.clients.find(|client| client.oauth_id() == id);
    let client = client.ok_or_else(OAuthRefusal::credentials)?;
    let name = client.id().to_owned();
    // Without a method of its own, a client sends its secret in the body; that no other way will do is a choice.
    let method = match client.text("token_endpoint_auth_method") {
        _ if client.uses_keys() => "private_key_jwt",
        "" => "client_secret_post",
        method => method,
    };
    let secret = match (method, &basic) {
        ("none", None) if !in_body => return Ok(name),
        ("private_key_jwt", None) => {
            let used = assertion::check(client, sent, &shared.place.issuer(), now)?;
            if !tenant.sessions.assertions.insert((name.clone(), used)) {
                return Err(OAuthRefusal::credentials());
            }
            return Ok(name);
        }
        ("client_secret_post", None) => sent.get("client_secret"),
        ("client_secret_basic", Some((_, secret))) => Some(secret.as_str()),
        _ => None,
    };
    match secret {
        Some(secret) if client.secret.is(secret, now) => Ok(name),
        _ => Err(OAuthRefusal::credentials()),
    }
}

/// Id and secret of the header, each encoded as in a form first (RFC 6749 section 2.3.1).
fn basic(request: &Request) -> Result<Option<(String, String)>, OAuthRefusal> {
    let Some(sent) = request.header(&header::AUTHORIZATION) else {
        return Ok(None);
    };
    let read = || {
        let bytes = STANDARD.decode(sent.strip_prefix("Basic ")?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (id, secret) = text.split_once(':')?;
        let plain = |half: &str| {
            let pairs = format!("x={half}");
            let pair = url::form_urlencoded::parse(pairs.as_bytes()).next();
            pair.map(|(_, value)| value.into_owned())
        };
        Some((plain(id)?, plain(secret)?))
    };
    match read() {
        Some(credential) => Ok(Some(credential)),
        None => Err(OAuthRefusal::request("the Authorization header is not Basic")),
    }
}

/// RFC 7009, for refresh tokens; what is unknown counts as revoked.
pub(super) fn revoke(shared: &Shared, request: &Request) -> Answer {
    let revoke = || {
        let sent = request.parameters()?;
        let token = sent.need("token")?.to_owned();
        let mut tenant = shared.tenant();
        let client = authenticate(shared, &mut tenant, request, &sent)?;
        let known = tenant.sessions.refresh_tokens.get(&token);
        if let Some(family) = known
            .filter(|known| known.authorized.client == client)
            .map(|known| known.family.clone())
        {
            tenant.sessions.end_family(&family);
        }
        Ok(())
    };
    match revoke() {
        Ok(()) => Answer::new(StatusCode::OK, super::wire::Body::Empty),
        Err(refusal) => OAuthRefusal::into(refusal),
    }
}

/// Who the user of a token for `/userinfo` is.
pub(super) fn userinfo(shared: &Shared, request: &Request) -> Answer {
    let claims = request
        .bearer()
        .and_then(|token| shared.keys.read(token, shared.clock.now()));
    let own = Value::from(shared.place.userinfo());
    let subject = claims.filter(|claims| match &claims["aud"] {
        Value::Array(audiences) => audiences.contains(&own),
        one => *one == own,
    });
    match subject {
        Some(claims) => Answer::ok(json!({"sub": claims["sub"]})),
        None => Refusal::unauthorized("Unauthorized").into(),
    }
}
