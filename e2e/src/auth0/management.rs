//! The Management API: who calls, how often, and whether that is allowed.

use std::collections::BTreeSet;

use super::{
    cimd,
    errors::Refusal,
    limits::GLOBAL,
    routes::{ROUTES, Run, Scopes},
    server::Shared,
    tenant::Call,
    wire::{Answer, Request},
};

/// Every answer to a caller with a token carries `x-ratelimit-*`; refused calls count as well.
pub(super) async fn respond(shared: &Shared, request: &Request) -> Answer {
    let path = &request.path[2..];
    let found = ROUTES
        .iter()
        .find_map(|route| Some((route, route.matches(request.method.as_str(), path)?)));
    let Some((route, ids)) = found else {
        return Refusal::not_found("Not Found").into();
    };
    let scopes = match caller(shared, request) {
        Ok(scopes) => scopes,
        Err(refusal) => return refusal.into(),
    };
    let now = shared.clock.now();
    let standing = shared.limits().take(&[GLOBAL, &route.name()], now);
    let call = Call {
        request,
        ids,
        scopes: &scopes,
        place: &shared.place,
        now,
    };
    let outcome = if standing.is_some_and(|standing| !standing.allowed) {
        Err(Refusal::too_many())
    } else if let Err(refusal) = check_scopes(&call, &route.scopes) {
        Err(refusal)
    } else {
        match route.run {
            Run::Now(run) => run(&mut shared.tenant(), &call),
            Run::Preview => cimd::preview(shared, &call).await,
            Run::Register => cimd::register(shared, &call).await,
        }
    };
    let answer = outcome.unwrap_or_else(Answer::from);
    match standing {
        Some(standing) => standing.mark(answer),
        None => answer,
    }
}

/// The scopes of the token that a caller shows.
fn caller(shared: &Shared, request: &Request) -> Result<BTreeSet<String>, Refusal> {
    let token = request.bearer();
    let token = token.ok_or_else(|| Refusal::unauthorized("Missing authentication"))?;
    let claims = shared.keys.read(token, shared.clock.now());
    let claims = claims.ok_or_else(|| Refusal::unauthorized("Invalid token"))?;
    if claims["aud"] != shared.place.management() {
        return Err(Refusal::unauthorized("Bad audience"));
    }
    let scope = claims["scope"].as_str().unwrap_or_default();
    Ok(scope.split_ascii_whitespace().map(str::to_owned).collect())
}

fn check_scopes(call: &Call<'_>, scopes: &Scopes) -> Result<(), Refusal> {
    match scopes {
        Scopes::Any(scopes) => call.need(scopes),
        Scopes::All(scopes) => scopes.iter().try_for_each(|scope| call.need(&[scope])),
    }
}
