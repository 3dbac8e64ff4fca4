//! TokenExchangePolicy: judged here, carried out by the controller of the McpServer that exchanges.
//!
//! One object at the authorization server has one writer: what a server may exchange for is part of the server
//! there. So this controller reads, says what it finds, and keeps a deleted policy until its permission is gone.

mod remains;
mod status;

use std::{collections::BTreeSet, sync::Arc};

use kube::{ResourceExt as _, runtime::controller::Action};
use mcp_auth_crds::v1alpha1::{McpServer, TokenExchangePolicy};

use self::status::Progress;
use super::{
    deletion,
    halt::Halt,
    home,
    pass::{self, Next},
    settle,
};
use crate::{
    cluster::{has_finalizer, is_deleting},
    context::{Context, find},
    error::Error,
    metrics::Kind,
    policy::{
        exchange::{Accepted, Parties, judge},
        grants::Tenant,
    },
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
    status::report(policy, progress, result, ctx).await
}

fn server(policy: &TokenExchangePolicy, ctx: &Context) -> Result<Arc<McpServer>, Halt> {
    let (namespace, name) = (
        policy.namespace().unwrap_or_default(),
        &policy.spec.server_ref.name,
    );
    find(&ctx.feeds.servers.store(), &namespace, name).ok_or_else(|| {
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
    progress.lasting(remains::lasting(policy, &server));
    let authorization_server =
        home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace)?;
    let reference = policy.spec.mcp_server_ref.as_ref();
    let target = reference.map(|target| (target.namespace_or(&namespace), target.name.as_str()));
    let found = target.and_then(|(at, name)| find(&ctx.feeds.servers.store(), at, name));
    let facts = ctx.namespace(&namespace);
    let parties = Parties {
        server: &server,
        authorization_server: &authorization_server,
        tenant: Tenant {
            namespace: &namespace,
            labels: &facts.labels,
        },
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
    if settle::is_paused(policy) {
        return Err(Halt::Paused);
    }
    // The server counts only policies that carry the finalizer: from here on it may be programmed.
    ctx.cluster.add_finalizer(policy).await?;
    programmed(&server, &accepted)?;
    ended(policy, &server, ctx)?;
    progress.programmed(&server);
    Ok(Next::Resync)
}

/// Whether the server's own status says that it can exchange for all of it.
fn programmed(server: &McpServer, accepted: &Accepted<'_>) -> Result<(), Halt> {
    let name = server.name_any();
    let status = server.status.as_ref();
    let held: BTreeSet<&String> = status
        .into_iter()
        .flat_map(|status| &status.exchange_scopes)
        .collect();
    if let Some(lacking) = accepted.scopes.iter().find(|scope| !held.contains(scope)) {
        return Err(Halt::waiting(
            "NotProgrammed",
            format!("McpServer {name} cannot exchange for {lacking} yet"),
        ));
    }
    if status.is_none_or(|status| status.secret_name.is_none()) {
        return Err(Halt::waiting(
            "CredentialsNotReady",
            format!("McpServer {name} has no proved credentials yet"),
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
    match remains::left_over(policy, server, &ctx.feeds.policies.store().state()) {
        None => Ok(()),
        Some(scope) => Err(Halt::waiting(
            "NotProgrammed",
            format!("McpServer {} can still exchange for {scope}", server.name_any()),
        )),
    }
}

/// Whether the permission is gone: what only this policy gave is not among the server's exchange scopes any more.
fn taken_back(policy: &TokenExchangePolicy, ctx: &Context) -> Result<(), Halt> {
    let Ok(server) = server(policy, ctx) else {
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
    let others: BTreeSet<String> = ctx
        .feeds
        .policies
        .store()
        .state()
        .iter()
        .filter(|other| {
            other.namespace() == policy.namespace()
                && other.spec.server_ref == policy.spec.server_ref
                && !is_deleting(&***other)
        })
        .flat_map(|other| scopes(other))
        .collect();
    let held: BTreeSet<&String> = server
        .status
        .iter()
        .flat_map(|status| &status.exchange_scopes)
        .collect();
    match scopes(policy)
        .iter()
        .find(|scope| held.contains(scope) && !others.contains(*scope))
    {
        Some(scope) => {
            let name = server.name_any();
            Err(Halt::waiting(
                "Deleting",
                format!("Waits until McpServer {name} cannot exchange for {scope} any more"),
            ))
        }
        None => Ok(()),
    }
}
