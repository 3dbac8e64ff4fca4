//! The gate in front of a server: its objects in the cluster, and whether it does what it should.

mod ask;
mod closing;
mod container;
mod credentials;
mod denials;
mod deployment;
mod document;
mod ending;
mod isolation;
mod network;
mod objects;
mod parts;
mod ready;
mod resources;
mod services;
mod survey;
#[cfg(test)]
mod testing;
mod ways_in;
mod words;

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::{Api, Resource as _, ResourceExt as _};
use mcp_auth_crds::{
    annotations::GATE_VERSION,
    condition::{Report, Status, types},
    v1alpha1::{GateStatus, McpServer},
};
use mcp_auth_gate_core::document::{Delivery, Document, Exchange};

pub(in crate::controllers) use self::parts::{COMPONENT, GATE, ORIGIN};
use self::{
    denials::denied,
    ready::{InForce, Wanted},
    services::Origin,
    survey::Ground,
};
pub(super) use self::{
    document::{Withdrawn, held},
    ending::{remove, withdraw},
    parts::TOKENS_PORT,
    ready::Said,
    survey::stored as stored_ways_in,
};
use super::{
    observe::{Home, Observed},
    probe,
};
use crate::{
    cluster::{self, Ownership, ownership},
    context::{Context, find},
    controllers::{halt::Halt, owned},
    error::Error,
    kinds::{PodFacts, SliceFacts},
    metrics::Kind,
    policy::{denial::Denials, hosts, names},
    provider::Credential,
};

/// What is the case about the gate.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its ConfigMap.
    pub(super) policy: Option<Arc<ConfigMap>>,
    /// Its Secret.
    credentials: Option<Arc<Secret>>,
}

impl Seen {
    /// The policy in force, as far as this version of the operator can read it.
    pub(super) fn document(&self) -> Option<Document> {
        document::stored(self.policy.as_deref())
    }
}

/// What came of a pass over the gate.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The conditions `GateReady` and `BypassClosed`.
    pub(super) reports: [Report; 2],
    /// What the status says of it.
    pub(super) status: GateStatus,
    /// Changes when the answer of the public address may.
    pub(super) version: String,
}

/// Reads what is there of the gate.
pub(super) async fn observe(server: &McpServer, ctx: &Context) -> Result<Seen, Error> {
    let (namespace, name) = (
        server.namespace().unwrap_or_default(),
        names::gate(&server.name_any()),
    );
    let (maps, secrets): (Api<ConfigMap>, Api<Secret>) =
        (ctx.cluster.api(&namespace), ctx.cluster.api(&namespace));
    let (memory, feeds) = (&ctx.memory, &ctx.feeds);
    let (policy, credentials) = futures::try_join!(
        memory
            .whole_config_maps
            .read(&maps, &feeds.config_maps, &namespace, &name),
        memory
            .whole_secrets
            .read(&secrets, &feeds.secrets, &namespace, &name)
    )?;
    Ok(Seen { policy, credentials })
}

/// Its ConfigMap or its Secret is written, or may have been: what is remembered of them is not what there is.
fn doubt(server: &McpServer, ctx: &Context) {
    let (namespace, name) = (
        server.namespace().unwrap_or_default(),
        names::gate(&server.name_any()),
    );
    ctx.memory.whole_config_maps.doubt(&namespace, &name);
    ctx.memory.whole_secrets.doubt(&namespace, &name);
}

/// Makes the gate's Secret hold its keys and, where it exchanges tokens, the server's own id and credential. Returns by what the
/// gate tells it from others.
pub(super) async fn give_credentials(
    server: &McpServer,
    own: Option<(&str, &Credential)>,
    seen: &Seen,
    ctx: &Context,
) -> Result<String, Halt> {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return Ok(String::new());
    };
    let name = names::gate(&server.name_any());
    let existing = seen.credentials.as_deref();
    let alive = match ownership(existing.map(|secret| &secret.metadata), &owner) {
        Ownership::Foreign => {
            return Err(Halt::refused(
                "SecretNotOwned",
                format!("Secret {name} exists and does not belong to this McpServer: delete it or rename it"),
            ));
        }
        Ownership::Ours { alive } => alive,
        Ownership::Absent => false,
    };
    let content = credentials::Content::new(existing, &rand::random(), own);
    if alive && existing.is_some_and(|secret| content.is_in(secret)) {
        return Ok(content.hash());
    }
    doubt(server, ctx);
    if let (Some(dead), false) = (existing, alive) {
        ctx.cluster.delete(dead).await?;
    }
    let namespace = server.namespace().unwrap_or_default();
    let secret = cluster::secret(
        &namespace,
        &name,
        &owner,
        parts::labels(server, GATE),
        content.data(),
    );
    ctx.cluster.apply(&secret).await?;
    Ok(content.hash())
}

/// Makes everything of the gate be as wanted, and finds out whether it does what it should.
pub(super) async fn keep(
    server: &Arc<McpServer>,
    home: &Home,
    observed: &Observed,
    exchanges: &[Exchange],
    credentials: &str,
    ctx: &Arc<Context>,
) -> Result<Outcome, Halt> {
    let target = target(server, ctx);
    if let Some(target) = &target {
        isolation::check_target(target, &ctx.config.gate.labels).map_err(Halt::Refused)?;
    }
    let slices = slices(server, ctx);
    let origin = services::origin(server, target.as_deref(), &slices)?;
    let denials = denied(server, observed.gate.policy.as_deref(), ctx);
    let policy = policy(server, home, exchanges, &origin, &denials, ctx);
    let text = policy.to_text();
    let wanted = InForce {
        policy: Document::hash(text.as_bytes()),
        credentials: credentials.to_owned(),
        keys: true,
    };
    let map = document::config_map(server, text, &denials);
    let existing = observed.gate.policy.as_deref();
    let kept = owned::keep_seen(Kind::McpServer, &**server, &map, existing, ctx).await;
    if !matches!(&kept, Ok(kept) if !kept.wrote) {
        doubt(server, ctx);
    }
    let kept = kept?;
    let told = server.status.as_ref().and_then(|status| status.gate.as_ref());
    if kept.wrote && told.is_some_and(|gate| gate.policy_hash == wanted.policy) {
        // It is the policy of before: its pods may have read what somebody else wrote meanwhile.
        ctx.probes.pods.reopen(&probe::key(server), Said::default());
    }
    refresh(server, &wanted.policy, Some(credentials), ctx).await?;
    let sells = exchanges
        .iter()
        .any(|exchange| exchange.delivery == Delivery::Endpoint);
    objects::keep_services(server, &origin, sells, ctx).await?;
    closing::keep_gate(server, &origin, ctx).await?;
    let kept = objects::keep_pods(server, ctx).await;
    let can_start = kept.is_ok() || closing::has_gate(server, ctx);
    closing::keep_server(server, &origin, can_start, ctx).await?;
    let wanted = Wanted {
        in_force: &wanted,
        jwks_uri: &policy.authorization_server.jwks_uri,
    };
    Ok(outcome(server, target, origin, kept?, wanted, ctx))
}

/// The exchanges that a policy may have before the server's credential is proved: of those that are in force, as much as
/// is wanted now.
pub(super) fn proved(in_force: Option<&Document>, exchanges: &[Exchange]) -> Vec<Exchange> {
    let exchanges = exchanges.iter().cloned();
    exchanges.filter_map(|wanted| held(in_force, wanted)).collect()
}

/// The policy as it is to be.
fn policy(
    server: &McpServer,
    home: &Home,
    exchanges: &[Exchange],
    origin: &Origin,
    denials: &Denials,
    ctx: &Context,
) -> Document {
    let given = document::Given {
        metadata: &home.connection.metadata,
        endpoints: home.authorization_server.spec.endpoints.as_ref(),
        ca_bundle: home.connection.ca_bundle.as_deref(),
        token_types: home.connection.token_types(),
        other_audiences: home.connection.other_audiences(),
        exchange_by: home.connection.exchange_by(),
        alone_on_host: hosts::is_alone(
            server,
            ctx.feeds.servers.store().state().iter().map(|server| &**server),
        ),
        denied: denials.keys().cloned().collect(),
        exchanges: exchanges.to_vec(),
        upstream: &origin.url,
    };
    document::document(server, given)
}

fn target(server: &McpServer, ctx: &Context) -> Option<Arc<Service>> {
    let target = server.spec.target.as_ref()?;
    find(&ctx.feeds.services.store(), &server.namespace()?, &target.service)
}

/// What is behind the headless Service of the server.
fn slices(server: &McpServer, ctx: &Context) -> Vec<SliceFacts> {
    let (namespace, name) = (server.namespace(), server.name_any());
    let slices = ctx.feeds.gates.slices.store().state();
    let ours = slices.iter().filter(|slice| {
        slice.namespace() == namespace
            && slice.labels().get(mcp_auth_crds::annotations::SERVER) == Some(&name)
    });
    ours.map(|slice| (**slice).clone()).collect()
}

/// Tells the kubelets of the gate's pods that what is mounted has changed: a pod that changes is looked at at once.
/// Without `credentials` they stay as they are, whichever they be.
async fn refresh(
    server: &McpServer,
    policy: &str,
    credentials: Option<&str>,
    ctx: &Context,
) -> Result<(), Error> {
    let start = format!("{policy}.");
    let version = format!("{start}{}", credentials.unwrap_or("withdrawn"));
    let is_told = |told: &String| match credentials {
        Some(_) => *told == version,
        None => told.starts_with(&start),
    };
    let is_old = |pod: &Arc<PodFacts>| {
        pod.metadata.deletion_timestamp.is_none() && !pod.annotations().get(GATE_VERSION).is_some_and(is_told)
    };
    let old: Vec<_> = ask::pods(server, ctx).into_iter().filter(is_old).collect();
    let refreshed = old
        .iter()
        .map(|pod| ctx.cluster.annotate(&**pod, GATE_VERSION, &version));
    join_all(refreshed).await.into_iter().collect()
}

fn outcome(
    server: &Arc<McpServer>,
    target: Option<Arc<Service>>,
    origin: Origin,
    generation: Option<i64>,
    wanted: Wanted<'_>,
    ctx: &Arc<Context>,
) -> Outcome {
    let in_force = wanted.in_force;
    let name = names::gate(&server.name_any());
    let namespace = server.namespace().unwrap_or_default();
    let deployment = find(&ctx.feeds.gates.deployments.store(), &namespace, &name);
    let pods = ask::pods(server, ctx);
    let pods: Vec<_> = pods.iter().map(|pod| &**pod).collect();
    let said = ask::said(server, in_force, ctx);
    let mut ready = ready::report(deployment.as_deref(), generation, &pods, &said, wanted);
    if ready.reason == ready::NOT_ASKED && !ctx.probes.pods.is_concluded(&probe::key(server)) {
        // A start of the operator changes nothing at gates.
        ready = ready::stored(server, &in_force.policy).unwrap_or(ready);
    }
    let is_ready = ready.status == Status::True;
    let bypass = target.map_or_else(
        || stored_ways_in(server),
        |target| {
            let ground = Ground {
                target,
                port: origin.port,
                reaches_pods: pods
                    .iter()
                    .any(|pod| said.contains_key(&pod.uid().unwrap_or_default())),
            };
            // A new pod of the server may be another way in.
            let behind = slices(server, ctx);
            let behind: BTreeSet<_> = behind.iter().flat_map(SliceFacts::ready).collect();
            let version = format!("{is_ready} {} {behind:?}", network::wanted(server));
            survey::ways_in(server, &ground, &version, ctx)
        },
    );
    Outcome {
        version: format!("{} {is_ready}", in_force.policy),
        reports: [ready, bypass],
        status: GateStatus {
            service: name,
            port: services::front_port(server),
            policy_hash: in_force.policy.clone(),
        },
    }
}

/// The conditions that only a server with a gate has.
pub(super) const CONDITIONS: [&str; 2] = [types::GATE_READY, types::BYPASS_CLOSED];
