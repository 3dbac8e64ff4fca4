//! `/authorize`, and the pages that it leads a user to: login and consent.

mod pages;
mod request;

use http::{StatusCode, header};
use serde_json::Value;
use url::Url;

use self::request::Problem;
use super::{
    access::{Access, Subject, Wanted, decide},
    errors::OAuthRefusal,
    server::Shared,
    sessions::{Code, Login},
    tenant::{Tenant, User, random_id},
    wire::{Answer, Body, Parameters, Request, is_true, text},
};

/// How long a code can be redeemed, in seconds. Not documented; short.
const CODE_LIFETIME: u64 = 60;
const COOKIE: &str = "auth0";

/// Checks what a client sent a browser with, and sends the browser on to the first page.
pub(super) fn begin(shared: &Shared, request: &Request) -> Answer {
    let mut tenant = shared.tenant();
    let parameters = match Parameters::new(request.query.clone()) {
        Ok(parameters) => parameters,
        Err(refusal) => return page(&refusal),
    };
    match request::read(&tenant, &shared.place, &parameters) {
        Err(Problem::Page(refusal)) => page(&refusal),
        Err(Problem::Client(target, refusal)) => back(shared, &tenant, &target, &refusal),
        Ok(login) => {
            let known = user(&tenant, request, &login).is_some();
            if !known && login.silent {
                let refusal = OAuthRefusal::new(StatusCode::FORBIDDEN, "login_required", "Login required");
                return back(shared, &tenant, &login, &refusal);
            }
            let state = random_id("", 32);
            tenant.sessions.logins.insert(state.clone(), login);
            let next = if known { "authorize/resume" } else { "u/login" };
            Answer::redirect(&format!("/{next}?state={state}"))
        }
    }
}

/// The login page, and what it sends.
pub(super) fn login(shared: &Shared, request: &Request) -> Answer {
    let mut tenant = shared.tenant();
    let state = request.query("state").unwrap_or_default().to_owned();
    let Some(login) = tenant.sessions.logins.get(&state).cloned() else {
        return page(&OAuthRefusal::request("There is no such login"));
    };
    if request.method == http::Method::GET {
        return html(StatusCode::OK, pages::login(&state, None));
    }
    let form = match request.parameters() {
        Ok(form) => form,
        Err(refusal) => return page(&refusal),
    };
    let (username, password) = (form.get("username"), form.get("password"));
    let user = tenant.users.find(|user| {
        let same = secrecy::ExposeSecret::expose_secret(&user.password);
        Some(user.username.as_str()) == username && Some(same) == password && reaches(&tenant, user, &login)
    });
    let Some(id) = user.map(|user| user.id.clone()) else {
        let wrong = pages::login(&state, Some("Wrong email or password"));
        return html(StatusCode::BAD_REQUEST, wrong);
    };
    let cookie = random_id("", 32);
    tenant.sessions.browsers.insert(cookie.clone(), id);
    let cookie = format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax");
    Answer::redirect(&format!("/authorize/resume?state={state}")).with(header::SET_COOKIE, &cookie)
}

/// Once somebody is signed in: decides what the client gets, and asks for consent where that is needed.
pub(super) fn resume(shared: &Shared, request: &Request) -> Answer {
    let mut tenant = shared.tenant();
    let state = request.query("state").unwrap_or_default().to_owned();
    let Some((login, user)) = under_way(&tenant, request, &state) else {
        return page(&OAuthRefusal::request("There is no such login"));
    };
    match asked_of_user(&tenant, &login, &user) {
        Err(refusal) => {
            tenant.sessions.logins.remove(&state);
            back(shared, &tenant, &login, &refusal)
        }
        Ok(asked) if asked.is_empty() => finish(shared, &mut tenant, &state, &user),
        Ok(_) if login.silent => {
            tenant.sessions.logins.remove(&state);
            let refusal = OAuthRefusal::new(StatusCode::FORBIDDEN, "consent_required", "Consent required");
            back(shared, &tenant, &login, &refusal)
        }
        Ok(_) => Answer::redirect(&format!("/u/consent?state={state}")),
    }
}

/// The consent page, and what it sends.
pub(super) fn consent(shared: &Shared, request: &Request) -> Answer {
    let mut tenant = shared.tenant();
    let state = request.query("state").unwrap_or_default().to_owned();
    let Some((login, user)) = under_way(&tenant, request, &state) else {
        return page(&OAuthRefusal::request("There is no such login"));
    };
    let asked = match asked_of_user(&tenant, &login, &user) {
        Ok(asked) => asked,
        Err(refusal) => return back(shared, &tenant, &login, &refusal),
    };
    let client = &login.authorized.client;
    if request.method == http::Method::GET {
        let name = tenant.clients.find(|found| found.id() == client);
        let name = name.map_or("", |client| client.text("name")).to_owned();
        return html(
            StatusCode::OK,
            pages::consent(&state, &name, &words(&tenant, &login, &asked)),
        );
    }
    let accepts = request
        .parameters()
        .is_ok_and(|form| form.get("action") == Some("accept"));
    if !accepts {
        tenant.sessions.logins.remove(&state);
        let refusal = OAuthRefusal::denied("User did not authorize the request");
        return back(shared, &tenant, &login, &refusal);
    }
    let audience = &login.authorized.audience;
    for scope in asked {
        let consent = [user.clone(), client.clone(), audience.clone(), scope];
        tenant.sessions.consents.insert(consent);
    }
    finish(shared, &mut tenant, &state, &user)
}

/// Sends the browser back with a code.
fn finish(shared: &Shared, tenant: &mut Tenant, state: &str, user: &str) -> Answer {
    let Some(mut login) = tenant.sessions.logins.remove(state) else {
        return page(&OAuthRefusal::request("There is no such login"));
    };
    user.clone_into(&mut login.authorized.user);
    let code = random_id("", 43);
    let until = shared.clock.now() + std::time::Duration::from_secs(CODE_LIFETIME);
    let answer = returning(shared, tenant, &login, &[("code", &code)]);
    tenant.sessions.codes.insert(code, Code { login, until });
    answer
}

/// What the user has to agree to, besides what the user agreed to before. A client of our own is not asked about where
/// the API says so, unless anybody on the user's machine could be listening at its callback.
fn asked_of_user(tenant: &Tenant, login: &Login, user: &str) -> Result<Vec<String>, OAuthRefusal> {
    let authorized = &login.authorized;
    let missing = || OAuthRefusal::request("The client is gone");
    let client = tenant.clients.find(|client| client.id() == authorized.client);
    let client = client.ok_or_else(missing)?;
    let found = tenant.users.find(|found| found.id == user).ok_or_else(missing)?;
    if authorized.audience.is_empty() {
        return Ok(Vec::new());
    }
    let access = decide(
        tenant,
        &Wanted {
            client,
            audience: &authorized.audience,
            subject: Subject::User(found),
            scopes: authorized.asked.as_deref(),
            by_grant_only: false,
        },
    )?;
    let Access { server, scopes, .. } = access;
    let verifiable = Url::parse(&login.redirect_uri).is_ok_and(|url| is_verifiable(&url));
    let skips = is_true(server, "skip_consent_for_verifiable_first_party_clients");
    if skips && verifiable && !client.is_third_party() {
        return Ok(Vec::new());
    }
    let mut asked: Vec<String> = scopes.into_iter().collect();
    if authorized.offline {
        asked.push("offline_access".to_owned());
    }
    asked.retain(|scope| {
        let consent = [
            user.to_owned(),
            authorized.client.clone(),
            authorized.audience.clone(),
            scope.clone(),
        ];
        !tenant.sessions.consents.contains(&consent)
    });
    Ok(asked)
}

/// Whether nobody but the client can be behind an address.
fn is_verifiable(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&host) || host.ends_with(".localhost");
    url.scheme() == "https" && !loopback
}

/// How scopes are put to the user: by name, or in the words of the API.
fn words(tenant: &Tenant, login: &Login, asked: &[String]) -> Vec<String> {
    let server = tenant.api(&login.authorized.audience);
    let list = server
        .and_then(|server| server.get("scopes"))
        .and_then(Value::as_array);
    let described = tenant.flag("use_scope_descriptions_for_consent");
    let words = asked.iter().map(|scope| {
        let of_scope = |entry: &&Value| entry["value"] == *scope;
        let entry = list.into_iter().flatten().find(of_scope);
        let description = entry.and_then(|entry| entry["description"].as_str());
        description.filter(|_| described).unwrap_or(scope).to_owned()
    });
    words.collect()
}

fn under_way(tenant: &Tenant, request: &Request, state: &str) -> Option<(Login, String)> {
    let login = tenant.sessions.logins.get(state)?;
    let user = user(tenant, request, login)?;
    Some((login.clone(), user.id.clone()))
}

/// Who sits in front of this browser, if the client can have that user.
fn user<'a>(tenant: &'a Tenant, request: &Request, login: &Login) -> Option<&'a User> {
    let cookies = request.header(&header::COOKIE)?.split(';');
    let mut cookies = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    let (_, cookie) = cookies.find(|(name, _)| *name == COOKIE)?;
    let id = tenant.sessions.browsers.get(cookie)?;
    tenant
        .users
        .find(|user| user.id == *id && reaches(tenant, user, login))
}

/// Whether a user's connection serves the client.
fn reaches(tenant: &Tenant, user: &User, login: &Login) -> bool {
    let client = tenant
        .clients
        .find(|client| client.id() == login.authorized.client);
    let connection = tenant
        .connections
        .find(|connection| connection.id() == user.connection);
    client.is_some_and(|client| connection.is_some_and(|connection| connection.serves(client)))
}

/// Tells the client, or, with `open_redirect_protection`, only the user: then the client never hears of it.
fn back(shared: &Shared, tenant: &Tenant, login: &Login, refusal: &OAuthRefusal) -> Answer {
    let client = tenant
        .clients
        .find(|client| client.id() == login.authorized.client);
    let protected =
        client.is_some_and(|client| text(&client.fields, "redirection_policy") == "open_redirect_protection");
    if protected {
        return page(refusal);
    }
    let answer = [
        ("error", refusal.error),
        ("error_description", refusal.description.as_str()),
    ];
    returning(shared, tenant, login, &answer)
}

/// The way back to the client, with `state`, and with `iss` (RFC 9207) if the tenant is set to.
fn returning(shared: &Shared, tenant: &Tenant, login: &Login, answer: &[(&str, &str)]) -> Answer {
    let Ok(mut url) = Url::parse(&login.redirect_uri) else {
        return page(&OAuthRefusal::request("redirect_uri is no URL"));
    };
    url.query_pairs_mut().extend_pairs(answer);
    if let Some(state) = &login.state {
        url.query_pairs_mut().append_pair("state", state);
    }
    if is_true(&tenant.settings, "authorization_response_iss_parameter_supported") {
        url.query_pairs_mut().append_pair("iss", &shared.place.issuer());
    }
    Answer::redirect(url.as_str())
}

fn page(refusal: &OAuthRefusal) -> Answer {
    let problem = format!("{}: {}", refusal.error, refusal.description);
    html(refusal.status, pages::problem(&problem))
}

fn html(status: StatusCode, page: String) -> Answer {
    Answer::new(status, Body::Page(page))
}
