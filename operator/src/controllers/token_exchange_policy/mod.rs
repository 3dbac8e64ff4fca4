//! TokenExchangePolicy: judged here, carried out by the controller of the McpServer that exchanges.
//!
//! One object at the authorization server has one writer: what a server may exchange for is part of the server
//! there. So this controller reads, says what it finds, and keeps a deleted policy until its permission is gone.

mod remains;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::{
    condition::{self, types},
    v1alpha1::{AuthorizationServer, Delivery, McpServer, TokenExchangePolicy},
};

use self::status::Progress;
use super::{
    deletion, exchange,
    halt::{self, Halt},
    home,
    pass::{self, Next},
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    context::Context,
    error::Error,
    metrics::Kind,
    policy::{
        delivery::deliverable,
        exchange::{self as decide, Accepted, Parties, judge},
        grants::Tenant,
    },
    provider::Subjects,
};

/// The pass, measured and counted.
pub async fn run(policy: Arc<TokenExchangePolicy>, ctx: Arc<Context>) -> Result<Action, Error> {
    pass::run(
        Kind::TokenExchangePolicy,
        &*policy,
        &ctx,
        reconcile(&policy, &ctx),
    )
    .await
}

/// One pass: look, decide, act, report.
async fn reconcile(policy: &TokenExchangePolicy, ctx: &Context) -> Result<Next, Error> {
    if is_deleting(policy) && !has_finalizer(policy) {
        return Ok(Next::Await);
    }
    let mut progress = Progress::default();
    let result = if is_deleting(policy) {
        let cleaned = taken_back(policy, ctx);
        let server = server(policy, ctx).ok();
        let reference = server
            .as_ref()
            .map(|server| &server.spec.authorization_server_ref);
        let forget = std::future::ready(Ok(()));
        deletion::conclude(Kind::TokenExchangePolicy, policy, reference, cleaned, forget, ctx).await
    } else {
        advance(policy, ctx, &mut progress).await
    };
    let now = ctx.now();
    let build = |halt: Option<&Halt>| status::status(policy, progress, halt, now);
    pass::report(
        Kind::TokenExchangePolicy,
        policy,
        policy.status.as_ref(),
        result,
        build,
        ctx,
    )
    .await
}

fn server(policy: &TokenExchangePolicy, ctx: &Context) -> Result<Arc<McpServer>, Halt> {
    let (namespace, name) = (
        policy.namespace().unwrap_or_default(),
        &policy.spec.server_ref.name,
    );
    home::mcp_server(ctx, &namespace, name)?.ok_or_else(|| {
        Halt::waiting(
            "ServerNotFound",
            format!("McpServer {namespace}/{name} does not exist: create it, or correct serverRef"),
        )
    })
}

/// Brings the policy as far as it gets, and notes in `progress` how far that is.
async fn advance(policy: &TokenExchangePolicy, ctx: &Context, progress: &mut Progress) -> Result<Next, Halt> {
    let namespace = policy.namespace().unwrap_or_default();
    let server = server(policy, ctx)?;
    progress.lasting(
        remains::lasting(policy, &server),
        remains::action(policy, &server),
    );
    let authorization_server =
        home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace)?;
    let reference = policy.spec.mcp_server_ref.as_ref();
    let target = reference.map(|target| (target.namespace_or(&namespace), target.name.as_str()));
    let found = match target {
        Some((at, name)) => home::mcp_server(ctx, at, name)?,
        None => None,
    };
    let facts = ctx.namespace(&namespace);
    let tenant = Tenant {
        namespace: &namespace,
        labels: &facts.labels,
    };
    let parties = Parties {
        server: &server,
        authorization_server: &authorization_server,
        tenant,
        target: found.as_deref(),
    };
    let accepted = match judge(policy, parties) {
        Ok(accepted) => accepted,
        Err(Some(refusal)) => return Err(Halt::Refused(refusal)),
        Err(None) => {
            let (at, name) = target.unwrap_or_default();
            return Err(Halt::waiting(
                "TargetNotFound",
                format!("McpServer {at}/{name} does not exist: create it, or correct mcpServerRef"),
            ));
        }
    };
    progress.accepted(&accepted);
    let action = policy.spec.action.as_ref();
    let action = action.and_then(|action| decide::acts_by(&server, action));
    progress.acts_by(action);
    if halt::is_paused(policy) {
        return Err(Halt::Paused);
    }
    enforceable(policy, &authorization_server, ctx)?;
    let others = exchange::policies_of(&server, ctx)?;
    deliverable(policy, &server, others.iter().map(|other| &**other)).map_err(Halt::Refused)?;
    // The server counts only policies that carry the finalizer: from here on it may be programmed.
    ctx.cluster.add_finalizer(policy).await?;
    let own = decide::subjects(policy, &ctx.installation);
    let mut given = given_by_others(policy, &server, &authorization_server, tenant, ctx)?;
    decide::give(&mut given, accepted.scopes.iter().cloned(), &own);
    programmed(policy, &server, &accepted, &own, &given)?;
    ended(policy, &server, ctx)?;
    progress.programmed(
        &server,
        action,
        &own,
        accepted.scopes.iter().any(|scope| given[scope] != own),
    );
    Ok(Next::Resync)
}

/// Whether the authorization server can tell subjects apart as the policy wants it. What the last connection to it showed
/// counts; before the first, nothing is known that speaks against it.
fn enforceable(
    policy: &TokenExchangePolicy,
    authorization_server: &AuthorizationServer,
    ctx: &Context,
) -> Result<(), Halt> {
    let at = authorization_server.namespace().unwrap_or_default();
    match ctx.connections.get(&at, &authorization_server.name_any()) {
        Some(connection) => decide::enforceable(policy, &connection.access).map_err(Halt::Refused),
        None => Ok(()),
    }
}

/// What the other policies of the server give.
fn given_by_others(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    authorization_server: &AuthorizationServer,
    tenant: Tenant<'_>,
    ctx: &Context,
) -> Result<BTreeMap<String, Subjects>, Halt> {
    let mut given = BTreeMap::new();
    let all = exchange::policies_of(server, ctx)?;
    for other in &all {
        if other.name_any() == policy.name_any()
            || enforceable(other, authorization_server, ctx).is_err()
            || deliverable(other, server, all.iter().map(|other| &**other)).is_err()
        {
            continue;
        }
        let scopes = |accepted: &Accepted<'_>| accepted.scopes.clone();
        let scopes = exchange::accepted(other, server, authorization_server, tenant, ctx, scopes)?;
        let subjects = decide::subjects(other, &ctx.installation);
        decide::give(&mut given, scopes.into_iter().flatten(), &subjects);
    }
    Ok(given)
}

/// Whether the server's own status says that it can exchange for all of it: the tokens of all whom this policy means, and
/// of nobody whom no policy means; and with credentials that work.
fn programmed(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    accepted: &Accepted<'_>,
    own: &Subjects,
    given: &BTreeMap<String, Subjects>,
) -> Result<(), Halt> {
    let name = server.name_any();
    let held = decide::in_force(server);
    for scope in &accepted.scopes {
        let wanting = match held.get(scope) {
            None => format!("McpServer {name} cannot exchange for {scope} yet"),
            Some(subjects) if !own.within(subjects) => {
                format!("McpServer {name} cannot exchange for {scope} the tokens of all these clients yet")
            }
            Some(subjects) if !given.get(scope).is_some_and(|given| subjects.within(given)) => {
                format!("McpServer {name} can still exchange for {scope} the tokens of other clients")
            }
            Some(_) => continue,
        };
        return Err(Halt::waiting("NotProgrammed", wanting));
    }
    if let Some(action) = &policy.spec.action
        && decide::acts_by(server, action).is_none()
    {
        return Err(Halt::waiting(
            "ActionNotReady",
            format!(
                "McpServer {name} cannot exchange by the action {action} yet: that takes exactly one deployed action of this name whose trigger is custom-token-exchange"
            ),
        ));
    }
    // Of the server as it is known. A failure that may be over in a moment does not change its conditions at once.
    let conditions = server.status.as_ref().map(|status| &status.conditions);
    let says = |type_| conditions.is_some_and(|conditions| condition::is_true(conditions, type_));
    if !says(types::CREDENTIALS_READY) {
        return Err(Halt::waiting(
            "CredentialsNotReady",
            format!("McpServer {name} has no proved credentials: its condition CredentialsReady says why"),
        ));
    }
    if !says(types::REGISTERED) {
        return Err(Halt::waiting(
            "NotProgrammed",
            format!("McpServer {name} is not registered as declared: its condition Registered says why"),
        ));
    }
    if policy.spec.delivery != Delivery::Secret && !says(types::GATE_READY) {
        return Err(Halt::waiting(
            "GateNotReady",
            format!(
                "The gate of McpServer {name} does not exchange tokens yet: its condition GateReady says why"
            ),
        ));
    }
    if !accepted.unassigned.is_empty() {
        let names = accepted.unassigned.iter().cloned().collect::<Vec<_>>().join(", ");
        return Err(Halt::refused(
            "ScopesNotOffered",
            format!("The target does not offer {names}: remove them, or ask for them"),
        ));
    }
    Ok(())
}

/// Whether what the policy gave before, and gives no more, is gone.
fn ended(policy: &TokenExchangePolicy, server: &McpServer, ctx: &Context) -> Result<(), Halt> {
    let policies = ctx.feeds.policies.store().state();
    let name = server.name_any();
    let wanting = match remains::left_over(policy, server, &policies) {
        Some(scope) => format!("McpServer {name} can still exchange for {scope}"),
        None => match remains::action_left_over(policy, server, &policies) {
            Some(action) => format!("McpServer {name} can still exchange by the action {action}"),
            None => return Ok(()),
        },
    };
    Err(Halt::waiting("NotProgrammed", wanting))
}

/// Whether the permission is gone: what only this policy gave, the server's status does not say any more.
fn taken_back(policy: &TokenExchangePolicy, ctx: &Context) -> Result<(), Halt> {
    let namespace = policy.namespace().unwrap_or_default();
    let Some(server) = home::mcp_server(ctx, &namespace, &policy.spec.server_ref.name)? else {
        return Ok(());
    };
    let scopes = |policy: &TokenExchangePolicy| {
        policy
            .spec
            .scopes
            .iter()
            .map(|s| s.name.0.clone())
            .collect::<Vec<_>>()
    };
    let mut others = BTreeMap::new();
    for other in ctx.feeds.policies.store().state() {
        if other.namespace() == policy.namespace()
            && other.spec.server_ref == policy.spec.server_ref
            && !is_deleting(&*other)
        {
            let subjects = decide::subjects(&other, &ctx.installation);
            decide::give(&mut others, scopes(&other), &subjects);
        }
    }
    let held = decide::in_force(&server);
    let gone = |scope: &String| {
        held.get(scope)
            .is_none_or(|subjects| others.get(scope).is_some_and(|others| subjects.within(others)))
    };
    let name = server.name_any();
    let policies = ctx.feeds.policies.store().state();
    let waits_for = match scopes(policy).iter().find(|scope| !gone(scope)) {
        Some(scope) => format!("for {scope}"),
        None => match remains::action_left_over(policy, &server, &policies) {
            Some(action) => format!("by the action {action}"),
            None => return Ok(()),
        },
    };
    Err(Halt::waiting(
        "Deleting",
        format!("Waits until McpServer {name} cannot exchange {waits_for} any more"),
    ))
}
