//! What is the case: reads only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, Delivery, McpServer, TokenExchangePolicy};
use mcp_auth_gate_core::document::{Delivery as By, Document, Exchange, ExchangeScope};

use super::gate;
use crate::{
    connections::Connection,
    context::Context,
    controllers::{
        exchange,
        halt::{self, Halt},
        home,
    },
    credential::{flow, journal::Journal},
    policy::{
        delivery::deliverable,
        enforcement,
        exchange::{Accepted, enforceable, give, in_force, subjects},
        external,
        grants::Tenant,
        names,
    },
    provider::{ExchangeActions, ObservedResource, ObservedScopes, Read, Subjects},
};

/// The AuthorizationServer of a server, connected.
pub(super) struct Home {
    pub(super) authorization_server: Arc<AuthorizationServer>,
    pub(super) connection: Arc<Connection>,
}

/// What a pass needs to know.
#[derive(Debug)]
pub(super) struct Observed {
    /// The audience at the authorization server.
    pub(super) resource: ObservedResource,
    /// The realm's scopes.
    pub(super) scopes: ObservedScopes,
    /// What accepted policies let this server exchange tokens for.
    pub(super) given: Given,
    /// The journal of the server's own credential.
    pub(super) journal: Option<Journal>,
    /// The gate's policy and credentials, where it has one.
    pub(super) gate: gate::Seen,
}

/// What a server may exchange tokens for.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// The scopes of others that it may get, and for whose tokens.
    pub(super) scopes: BTreeMap<String, Subjects>,
    /// The same scopes by the audience that each is for.
    pub(super) audiences: BTreeMap<String, BTreeSet<String>>,
    /// What its gate exchanges for it.
    pub(super) exchanges: Vec<Exchange>,
    /// A policy wants it to exchange by itself.
    pub(super) by_itself: bool,
    /// The actions by which it exchanges.
    by_actions: BTreeSet<String>,
    /// A policy wants no action.
    without_action: bool,
}

impl Given {
    /// Whether the server needs a credential of its own, wherever that is kept.
    pub(super) fn needs_credential(&self) -> bool {
        self.by_itself || !self.exchanges.is_empty()
    }

    /// The actions that judge what it exchanges.
    pub(super) fn actions(&self) -> ExchangeActions {
        ExchangeActions {
            only: !self.by_actions.is_empty() && !self.without_action,
            names: self.by_actions.clone(),
        }
    }

    fn acts_by(&mut self, action: Option<&String>) {
        self.by_actions.extend(action.cloned());
        self.without_action |= action.is_none();
    }
}

pub(super) async fn observe(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    read: Read,
    ctx: &Context,
) -> Result<Observed, Halt> {
    let (resource, scopes) = match home.connection.provider() {
        Some(provider) => futures::try_join!(
            provider.observe_resource(&server.spec.resource, read),
            provider.observe_scopes(read)
        )?,
        None => (
            external::resource(),
            external::scopes_of(server, &ctx.installation),
        ),
    };
    let gate = if enforcement::has_gate(server) {
        gate::observe(server, ctx).await?
    } else {
        gate::Seen::default()
    };
    let policies = exchange::policies_of(server, ctx)?;
    let given = given(
        server,
        home,
        tenant,
        &policies,
        &scopes,
        gate.document().as_ref(),
        ctx,
    )?;
    let mark = home::mark(server, &ctx.installation);
    Ok(Observed {
        resource,
        scopes,
        given,
        journal: flow::read(ctx, &mark).await?,
        gate,
    })
}

/// The scopes of others that the policies give, for whose tokens, and how the server gets them.
fn given(
    server: &McpServer,
    home: &Home,
    tenant: Tenant<'_>,
    policies: &[Arc<TokenExchangePolicy>],
    scopes: &ObservedScopes,
    in_force: Option<&Document>,
    ctx: &Context,
) -> Result<Given, Halt> {
    let authorization_server = &home.authorization_server;
    let read = |accepted: &Accepted<'_>| {
        let attachable = accepted.attachable(&ctx.installation, authorization_server, scopes);
        (accepted.target.audience().to_owned(), attachable)
    };
    let mut all = Given::default();
    for policy in policies {
        let others = policies.iter().map(|other| &**other);
        if enforceable(policy, &home.connection.access).is_err()
            || deliverable(policy, server, others).is_err()
            || (halt::is_paused(&**policy) && has_another_action(policy))
        {
            continue;
        }
        let accepted = exchange::accepted(policy, server, authorization_server, tenant, ctx, read)?;
        let Some((audience, attachable)) = accepted else {
            continue;
        };
        let own = subjects(policy, &ctx.installation);
        let scopes = scopes_of(policy, server, attachable, &own);
        if !scopes.is_empty() {
            all.acts_by(policy.spec.action.as_ref());
            let of_it = all.audiences.entry(audience.clone()).or_default();
            of_it.extend(scopes.keys().cloned());
        }
        if policy.spec.delivery == Delivery::Secret {
            all.by_itself |= !scopes.is_empty();
        } else {
            let exchange = exchange_of(policy, audience, scopes.keys(), &own, &ctx.installation);
            let held = |exchange| gate::held(in_force, exchange);
            let paused = halt::is_paused(&**policy);
            all.exchanges
                .extend(exchange.and_then(|exchange| if paused { held(exchange) } else { Some(exchange) }));
        }
        for (scope, subjects) in scopes {
            give(&mut all.scopes, [scope], &subjects);
        }
    }
    all.exchanges
        .sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// What a gate does by a policy; nothing without scopes.
fn exchange_of<'a>(
    policy: &TokenExchangePolicy,
    audience: String,
    scopes: impl Iterator<Item = &'a String>,
    subjects: &Subjects,
    installation: &str,
) -> Option<Exchange> {
    let delivery = match policy.spec.delivery {
        Delivery::Header => By::Header,
        Delivery::Endpoint => By::Endpoint,
        Delivery::Secret => return None,
    };
    let scope = |name: &String| {
        let declared = policy.spec.scopes.iter().find(|scope| &scope.name.0 == name);
        let requires = declared.iter().flat_map(|scope| scope.requires.iter().flatten());
        ExchangeScope {
            name: name.clone(),
            requires: requires.map(|scope| scope.0.clone()).collect(),
        }
    };
    let scopes: Vec<_> = scopes.map(scope).collect();
    (!scopes.is_empty()).then(|| Exchange {
        name: policy.name_any(),
        delivery,
        audience,
        scopes,
        subject_clients: subjects.only().cloned(),
        subject_token_type: policy.spec.action.as_ref().map(|action| {
            let namespace = policy.namespace().unwrap_or_default();
            names::subject_token_type(installation, &namespace, &policy.spec.server_ref.name, action)
        }),
    })
}

/// Whether the policy asks for another action than the one by which it is in force, or for none where there is one.
fn has_another_action(policy: &TokenExchangePolicy) -> bool {
    let in_force = policy.status.as_ref().and_then(|status| status.action.as_ref());
    in_force.map(|action| &action.name) != policy.spec.action.as_ref()
}

/// What a policy gives of what could be attached, and for whose tokens: a paused one no more than before.
fn scopes_of(
    policy: &TokenExchangePolicy,
    server: &McpServer,
    attachable: BTreeSet<String>,
    own: &Subjects,
) -> BTreeMap<String, Subjects> {
    if !halt::is_paused(policy) {
        return attachable.into_iter().map(|scope| (scope, own.clone())).collect();
    }
    let in_force = in_force(server);
    let before = policy.status.iter().flat_map(|status| &status.assigned_scopes);
    before
        .filter(|scope| attachable.contains(*scope))
        .filter_map(|scope| Some((scope.clone(), own.and(in_force.get(scope)?)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(wanted: Option<&str>, in_force: Option<&str>) -> TokenExchangePolicy {
        let action =
            in_force.map(|name| json!({"name": name, "profile": "tep_1", "subjectTokenType": "urn:x"}));
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
            "metadata": {"namespace": "team", "name": "p"},
            "spec": {"serverRef": {"name": "notes"}, "apiRef": {"name": "orders"}, "action": wanted,
                     "scopes": [{"name": "read"}], "delivery": "Header"},
            "status": {"action": action},
        }))
        .unwrap()
    }

    /// A policy that is paused must not lose its action by what is written meanwhile: without one, nothing of the tenant's
    /// judges the tokens.
    #[test]
    fn another_action_is_told_from_the_one_in_force() {
        for (wanted, in_force, is_another) in [
            (None, None, false),
            (Some("a"), Some("a"), false),
            (Some("b"), Some("a"), true),
            (None, Some("a"), true),
            (Some("a"), None, true),
        ] {
            assert_eq!(
                has_another_action(&policy(wanted, in_force)),
                is_another,
                "{wanted:?} {in_force:?}"
            );
        }
    }

    #[test]
    fn there_is_an_exchange_without_action_only_where_a_policy_wants_one() {
        let actions = |wanted: &[Option<&str>]| {
            let mut given = Given::default();
            for action in wanted {
                given.acts_by(action.map(str::to_owned).as_ref());
            }
            let actions = given.actions();
            (actions.names.len(), actions.only)
        };
        assert_eq!(actions(&[]), (0, false));
        assert_eq!(actions(&[None]), (0, false));
        assert_eq!(actions(&[Some("a"), Some("b"), Some("a")]), (2, true));
        assert_eq!(actions(&[Some("a"), None]), (1, false));
    }

    #[test]
    fn a_gate_presents_tokens_as_the_type_of_the_action() {
        let exchange = |policy: &TokenExchangePolicy| {
            let scopes = ["read".to_owned()];
            exchange_of(
                policy,
                "https://orders/".into(),
                scopes.iter(),
                &Subjects::Any,
                "i",
            )
            .unwrap()
        };
        let own = names::subject_token_type("i", "team", "notes", "a");
        assert_eq!(exchange(&policy(Some("a"), None)).subject_token_type, Some(own));
        assert_eq!(exchange(&policy(None, None)).subject_token_type, None);
    }
}
