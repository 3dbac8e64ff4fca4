//! The Management API: who calls, how often, and whether that is allowed.

use std::collections::BTreeSet;

use super::{
    cimd,
    errors::Refusal,
    limits::GLOBAL,
    routes::{ROUTES, Route, Run, Scopes},
    server::Shared,
    tenant::{Call, Outcome},
    wire::{Answer, Request},
};

/// Every answer to a caller with a token carries `x-ratelimit-*`; refused calls count as well.
pub(super) async fn respond(shared: &Shared, request: &Request) -> Answer {
    let Some((route, ids)) = route(request) else {
        return Refusal::not_found("Not Found").into();
    };
    let scopes = match caller(shared, request) {
        Ok(scopes) => scopes,
        Err(refusal) => return refusal.into(),
    };
    let standing = shared.limits().take(&[GLOBAL, &route.name()], shared.clock.now());
    let outcome = if standing.is_some_and(|standing| !standing.allowed) {
        Err(Refusal::too_many())
    } else {
        carry_out(shared, request, route, ids, &scopes).await
    };
    let answer = outcome.unwrap_or_else(Answer::from);
    match standing {
        Some(standing) => standing.mark(answer),
        None => answer,
    }
}

/// The endpoint of a call, and what stands for its placeholders.
pub(super) fn route(request: &Request) -> Option<(&'static Route, Vec<&str>)> {
    let path = request.path.get(2..)?;
    ROUTES
        .iter()
        .find_map(|route| Some((route, route.matches(request.method.as_str(), path)?)))
}

/// Carries a call out for somebody with these scopes.
pub(super) async fn carry_out(
    shared: &Shared,
    request: &Request,
    route: &Route,
    ids: Vec<&str>,
    scopes: &BTreeSet<String>,
) -> Outcome {
    let call = Call {
        request,
        ids,
        scopes,
        place: &shared.place,
        now: shared.clock.now(),
    };
    check_scopes(&call, &route.scopes)?;
    check_query(request, route)?;
    match route.run {
        Run::Now(run) => run(&mut shared.tenant(), &call),
        Run::Preview => cimd::preview(shared, &call).await,
        Run::Register => cimd::register(shared, &call).await,
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
    // What was got at the custom domain is good there only, and the other way round.
    if claims["iss"] != shared.place.issuer() {
        return Err(Refusal::unauthorized("Bad issuer"));
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

/// What reads one object can be told which fields; what changes something takes no parameters. Lists look at theirs
/// themselves. That others are refused, not passed over, is a choice where the documentation is silent.
fn check_query(request: &Request, route: &Route) -> Result<(), Refusal> {
    let reads = route.method == "GET";
    let one = route.path.ends_with("{id}") || route.path == "tenants/settings";
    if reads && !one {
        return Ok(());
    }
    let known: &[&str] = if reads { &["fields", "include_fields"] } else { &[] };
    match request
        .query
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::query(&format!(
            "Additional properties not allowed: {name}"
        ))),
    }
}
