//! Codes and refresh tokens.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Asking, Outcome, mint::Minting, need_grant_type};
use crate::auth0::{
    access::{Subject, Wanted, decide, of_api},
    clients::Client,
    errors::OAuthRefusal,
    sessions::{Authorized, Challenge, Login, Refresh},
    tenant::{Tenant, random_id},
    wire::{Object, object, text},
};

/// Redeems a code, once.
pub(super) fn redeem(tenant: &mut Tenant, asking: &Asking<'_>) -> Outcome {
    need_grant_type(asking.client(tenant)?, "authorization_code")?;
    let invalid = || OAuthRefusal::grant("Invalid authorization code");
    let sent = asking.sent;
    let code = sent.need("code")?;
    let known = tenant.sessions.codes.get(code).ok_or_else(invalid)?;
    if known.login.authorized.client != asking.client {
        return Err(invalid());
    }
    let code = tenant.sessions.codes.remove(code).ok_or_else(invalid)?;
    let login = code.login;
    if asking.shared.clock.now() >= code.until {
        return Err(invalid());
    }
    if sent.get("redirect_uri") != Some(login.redirect_uri.as_str()) {
        return Err(OAuthRefusal::grant("redirect_uri is another one"));
    }
    check_verifier(&login, sent.get("code_verifier"))?;
    // RFC 8707 section 2.2: not documented for Auth0, which knows the API since the login.
    let other = sent
        .get("resource")
        .is_some_and(|resource| resource != login.authorized.audience);
    if other && text(&tenant.settings, "resource_parameter_profile") == "compatibility" {
        return Err(OAuthRefusal::grant("resource is not that of the login"));
    }
    let mut answer = issue(tenant, asking, &login.authorized, None)?;
    if login.authorized.openid {
        let token = id_token(tenant, asking, &login)?;
        answer.insert("id_token".to_owned(), json!(token));
    }
    if login.authorized.offline {
        let token = new_refresh_token(tenant, asking, login.authorized, random_id("", 16))?;
        answer.insert("refresh_token".to_owned(), json!(token));
    }
    Ok(answer)
}

/// RFC 7636 section 4.6. A verifier without a challenge is not passed over (RFC 9700 section 2.1.1).
fn check_verifier(login: &Login, verifier: Option<&str>) -> Result<(), OAuthRefusal> {
    let fits = match (&login.challenge, verifier) {
        (None, None) => true,
        (Some(Challenge::Plain(challenge)), Some(verifier)) => challenge == verifier,
        (Some(Challenge::S256(challenge)), Some(verifier)) => {
            *challenge == URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(OAuthRefusal::grant("Failed to verify code verifier"))
}

/// A token for what was authorized, or for less of it. Grants, roles and the API are looked at as they are now.
fn issue(
    tenant: &Tenant,
    asking: &Asking<'_>,
    authorized: &Authorized,
    less: Option<Vec<String>>,
) -> Outcome {
    let client = asking.client(tenant)?;
    let gone = || OAuthRefusal::grant("The user is gone");
    let user = tenant
        .users
        .find(|user| user.id == authorized.user)
        .ok_or_else(gone)?;
    if authorized.audience.is_empty() {
        let token = random_id("", 32);
        return Ok(object(
            json!({"access_token": token, "token_type": "Bearer", "expires_in": 86_400}),
        ));
    }
    let asked = less.or_else(|| authorized.asked.clone());
    let access = decide(
        tenant,
        &Wanted {
            client,
            audience: &authorized.audience,
            subject: Subject::User(user),
            scopes: asked.as_deref(),
            by_grant_only: false,
        },
    )?;
    let mut minting = Minting::new(client, &access, &user.id);
    minting.openid = authorized.openid;
    if authorized.openid {
        minting.scopes.insert("openid".to_owned());
    }
    if authorized.offline {
        minting.scopes.insert("offline_access".to_owned());
    }
    minting.answer(asking.shared)
}

/// New tokens for a refresh token. One that was replaced ends, when it is used again, all of its family, unless that is
/// within the client's leeway.
pub(super) fn refresh(tenant: &mut Tenant, asking: &Asking<'_>) -> Outcome {
    need_grant_type(asking.client(tenant)?, "refresh_token")?;
    let invalid = || OAuthRefusal::grant("Unknown or invalid refresh token.");
    let now = asking.shared.clock.now();
    let sent = asking.sent.need("refresh_token")?.to_owned();
    let known = tenant.sessions.refresh_tokens.get(&sent).cloned();
    let known = known.filter(|known| known.authorized.client == asking.client);
    let known = known.ok_or_else(invalid)?;
    let client = asking.client(tenant)?;
    let leeway = Duration::from_secs(
        client
            .refresh("leeway")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
    );
    let rotating = client.refresh("rotation_type") == Some(&json!("rotating"));
    let reused = known.replaced.is_some_and(|replaced| now >= replaced + leeway);
    if reused || known.until.is_some_and(|until| now >= until) {
        tenant.sessions.end_family(&known.family);
        return Err(invalid());
    }
    check_same_api(tenant, asking, &known.authorized)?;
    let less = asking.sent.scopes().map(of_api);
    if let (Some(less), Some(asked)) = (&less, &known.authorized.asked)
        && !less.iter().all(|scope| asked.contains(scope))
    {
        return Err(OAuthRefusal::grant("scope is more than the user authorized"));
    }
    let mut answer = issue(tenant, asking, &known.authorized, less)?;
    if rotating {
        if let Some(old) = tenant.sessions.refresh_tokens.get_mut(&sent) {
            old.replaced.get_or_insert(now);
        }
        let token = new_refresh_token(tenant, asking, known.authorized, known.family)?;
        answer.insert("refresh_token".to_owned(), json!(token));
    }
    Ok(answer)
}

/// A refresh token is for the API of its login: refresh tokens for several APIs (`policies`) are not imitated.
fn check_same_api(tenant: &Tenant, asking: &Asking<'_>, authorized: &Authorized) -> Result<(), OAuthRefusal> {
    let compatible = text(&tenant.settings, "resource_parameter_profile") == "compatibility";
    let resource = asking.sent.get("resource").filter(|_| compatible);
    match asking.sent.get("audience").or(resource) {
        Some(other) if other != authorized.audience => {
            Err(OAuthRefusal::denied("The refresh token is for another audience"))
        }
        _ => Ok(()),
    }
}

fn new_refresh_token(
    tenant: &mut Tenant,
    asking: &Asking<'_>,
    authorized: Authorized,
    family: String,
) -> Result<String, OAuthRefusal> {
    let until = lifetime(asking.client(tenant)?).map(|life| asking.shared.clock.now() + life);
    let token = random_id("v1.", 60);
    let refresh = Refresh {
        authorized,
        family,
        until,
        replaced: None,
    };
    tenant.sessions.refresh_tokens.insert(token.clone(), refresh);
    Ok(token)
}

/// How long a new refresh token lasts, if it expires at all; since each use of a rotating one makes a new one, the idle
/// lifetime counts from here too.
fn lifetime(client: &Client) -> Option<Duration> {
    if client.refresh("expiration_type") != Some(&json!("expiring")) {
        return None;
    }
    let of = |endless: &str, lifetime: &str| {
        let endless = client.refresh(endless) == Some(&json!(true));
        let seconds = client.refresh(lifetime).and_then(Value::as_u64);
        seconds.filter(|_| !endless)
    };
    let absolute = of("infinite_token_lifetime", "token_lifetime");
    let idle = of("infinite_idle_token_lifetime", "idle_token_lifetime");
    let seconds = absolute.into_iter().chain(idle).min();
    seconds.map(Duration::from_secs)
}

fn id_token(tenant: &Tenant, asking: &Asking<'_>, login: &Login) -> Result<String, OAuthRefusal> {
    let client = asking.client(tenant)?;
    let now = asking.shared.clock.now().as_secs();
    let mut claims: Object = object(json!({
        "iss": asking.shared.place.issuer(), "sub": login.authorized.user, "aud": client.oauth_id(),
        "iat": now, "exp": now + 36_000,
    }));
    if let Some(nonce) = &login.nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    let token = asking.shared.keys.sign("JWT", "RS256", &Value::Object(claims));
    token.map_err(|_| OAuthRefusal::grant("the token cannot be signed"))
}
