//! The gate in front of a server: its objects in the cluster, and whether it does what it should.

mod ask;
mod container;
mod credentials;
mod deployment;
mod document;
mod ending;
mod network;
mod parts;
mod ready;
mod resources;
mod services;
mod survey;
#[cfg(test)]
mod testing;
mod ways_in;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Resource as _, ResourceExt as _};
use mcp_auth_crds::{
    annotations::GATE_VERSION,
    condition::{Report, Status, types},
    v1alpha1::{GateStatus, McpServer},
};
use mcp_auth_gate_core::document::{Delivery, Document, Exchange};

pub(in crate::controllers) use self::parts::{COMPONENT, GATE, ORIGIN};
pub(super) use self::{
    document::{Withdrawn, held},
    ending::{remove, withdraw},
    parts::TOKENS_PORT,
    ready::Said,
    survey::stored as stored_ways_in,
};
use self::{ready::InForce, services::Origin, survey::Ground};
use super::observe::{Home, Observed};
use crate::{
    cluster::{self, Ownership, ownership},
    context::{Context, find},
    controllers::{halt::Halt, owned, pass::key, settle},
    error::Error,
    kinds::{PodFacts, SliceFacts},
    metrics::Kind,
    policy::{
        denial::{self, Denials},
        hosts, names,
    },
    provider::Credential,
};

/// What is the case about the gate.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its ConfigMap.
    pub(super) policy: Option<ConfigMap>,
    /// Its Secret.
    credentials: Option<Secret>,
}

impl Seen {
    /// The policy in force, as far as this version of the operator can read it.
    pub(super) fn document(&self) -> Option<Document> {
        document::stored(self.policy.as_ref())
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
    let (policy, credentials) = futures::try_join!(maps.get_opt(&name), secrets.get_opt(&name))?;
    Ok(Seen { policy, credentials })
}

/// Makes the gate's Secret hold its keys and, where it exchanges tokens, the server's own credential. Returns by what the
/// gate tells it from others.
pub(super) async fn give_credentials(
    server: &McpServer,
    own: Option<&Credential>,
    seen: &Seen,
    ctx: &Context,
) -> Result<String, Halt> {
    let Some(owner) = server.controller_owner_ref(&()) else {
        return Ok(String::new());
    };
    let name = names::gate(&server.name_any());
    let existing = seen.credentials.as_ref();
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
    let own = own.map(|secret| (server.spec.resource.as_str(), secret));
    let content = credentials::Content::new(existing, &rand::random(), own);
    if alive && existing.is_some_and(|secret| content.is_in(secret)) {
        return Ok(content.hash());
    }
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
    credentials: String,
    ctx: &Arc<Context>,
) -> Result<Outcome, Halt> {
    let target = target(server, ctx);
    let slices = slices(server, ctx);
    let origin = services::origin(server, target.as_deref(), &slices)?;
    let denials = denied(server, observed.gate.policy.as_ref(), ctx);
    let exchanges = &observed.given.exchanges;
    let text = policy(server, home, exchanges, &origin, &denials, ctx).to_text();
    let wanted = InForce {
        policy: Document::hash(text.as_bytes()),
        credentials,
    };
    let map = document::config_map(server, text, &denials);
    settle::config_map(
        Kind::McpServer,
        &**server,
        &map,
        observed.gate.policy.as_ref(),
        ctx,
    )
    .await?;
    refresh(server, &wanted, ctx).await?;
    let sells = observed
        .given
        .exchanges
        .iter()
        .any(|exchange| exchange.delivery == Delivery::Endpoint);
    keep_services(server, &origin, sells, ctx).await?;
    keep_network(server, &origin, ctx).await?;
    keep_pods(server, ctx).await?;
    Ok(outcome(server, target, origin, &wanted, ctx))
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
        ca_bundle: home.connection.ca_bundle.as_deref(),
        token_types: home.connection.provider.token_types(),
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

/// Who is denied from now on, given the ConfigMap with the policy in force.
fn denied(server: &McpServer, map: Option<&ConfigMap>, ctx: &Context) -> Denials {
    let clients = ctx.feeds.clients.store().state();
    let namespaces: BTreeSet<_> = clients.iter().filter_map(|client| client.namespace()).collect();
    let labels: HashMap<_, _> = namespaces
        .into_iter()
        .map(|namespace| (namespace.clone(), ctx.namespace(&namespace).labels))
        .collect();
    let none = BTreeMap::new();
    let clients: Vec<_> = clients
        .iter()
        .map(|client| {
            let labels = client.namespace().and_then(|namespace| labels.get(&namespace));
            (&**client, labels.unwrap_or(&none))
        })
        .collect();
    let now = ctx.now();
    let before = document::denials(map, now);
    let mut denials = denial::denials(server, &clients, &before, &ctx.installation, now);
    let over = denial::fit(&mut denials);
    if over > 0 {
        tracing::warn!(server = %key(server), over, "more clients are suspended than a policy can deny");
        ctx.metrics.denials_left_out();
    }
    denials
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

async fn keep_services(server: &McpServer, origin: &Origin, sells: bool, ctx: &Context) -> Result<(), Halt> {
    let feed = &ctx.feeds.services;
    let wanted = [services::front(server, sells), services::peers(server)];
    for service in wanted.iter().chain(origin.service.as_ref()) {
        owned::keep(Kind::McpServer, server, service, feed, ctx).await?;
    }
    if origin.service.is_none() {
        let name = names::gate_origin(&server.name_any());
        owned::remove::<_, Service, _>(server, &name, feed, false, ctx).await?;
    }
    Ok(())
}

async fn keep_network(server: &McpServer, origin: &Origin, ctx: &Context) -> Result<(), Halt> {
    let feed = &ctx.feeds.gates.network_policies;
    let wanted = network::wanted(server);
    if wanted {
        // While the number of its port is not known, what is closed stays closed.
        let around_server = network::around_server(server, origin);
        for policy in [network::around_gate(server, origin)]
            .iter()
            .chain(around_server.as_ref())
        {
            owned::keep(Kind::McpServer, server, policy, feed, ctx).await?;
        }
    }
    let name = server.name_any();
    for (name, stays) in [
        (names::gate(&name), wanted),
        (names::gate_origin(&name), wanted && origin.service.is_some()),
    ] {
        if !stays {
            owned::remove::<_, NetworkPolicy, _>(server, &name, feed, false, ctx).await?;
        }
    }
    Ok(())
}

async fn keep_pods(server: &McpServer, ctx: &Context) -> Result<(), Halt> {
    let certificate = certificate(server, ctx).await?;
    let deployment =
        deployment::deployment(server, &ctx.config.gate, certificate.as_deref()).map_err(Halt::Refused)?;
    owned::keep(
        Kind::McpServer,
        server,
        &deployment,
        &ctx.feeds.gates.deployments,
        ctx,
    )
    .await?;
    let budgets = &ctx.feeds.gates.disruption_budgets;
    if let Some(budget) = deployment::disruption_budget(server) {
        owned::keep(Kind::McpServer, server, &budget, budgets, ctx).await
    } else {
        let name = names::gate(&server.name_any());
        owned::remove::<_, PodDisruptionBudget, _>(server, &name, budgets, false, ctx).await?;
        Ok(())
    }
}

/// By what the certificate is told from others: a new one is read when the pods start.
async fn certificate(server: &McpServer, ctx: &Context) -> Result<Option<String>, Halt> {
    let Some(tls) = parts::options(server).tls else {
        return Ok(None);
    };
    let api: Api<Secret> = ctx.cluster.api(&server.namespace().unwrap_or_default());
    let Some(secret) = api.get_opt(&tls.secret_name).await? else {
        return Err(Halt::waiting(
            "TlsSecretNotFound",
            format!(
                "Secret {} does not exist: create it, or correct enforcement.gate.tls",
                tls.secret_name
            ),
        ));
    };
    let data = secret.data.unwrap_or_default();
    match (data.get("tls.crt"), data.get("tls.key")) {
        (Some(certificate), Some(_)) => Ok(Some(names::hash(&certificate.0, 16))),
        _ => Err(Halt::refused(
            "TlsSecretIncomplete",
            format!("Secret {} lacks tls.crt or tls.key", tls.secret_name),
        )),
    }
}

/// Tells the kubelets of the gate's pods that what is mounted has changed: a pod that changes is looked at at once.
async fn refresh(server: &McpServer, wanted: &InForce, ctx: &Context) -> Result<(), Error> {
    let version = format!("{}.{}", wanted.policy, wanted.credentials);
    let is_old = |pod: &Arc<PodFacts>| {
        pod.metadata.deletion_timestamp.is_none() && pod.annotations().get(GATE_VERSION) != Some(&version)
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
    wanted: &InForce,
    ctx: &Arc<Context>,
) -> Outcome {
    let name = names::gate(&server.name_any());
    let namespace = server.namespace().unwrap_or_default();
    let deployment = find(&ctx.feeds.gates.deployments.store(), &namespace, &name);
    let pods = ask::pods(server, ctx);
    let pods: Vec<_> = pods.iter().map(|pod| &**pod).collect();
    let said = ask::said(server, wanted, ctx);
    let ready = ready::report(deployment.as_deref(), &pods, &said, wanted);
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
        version: format!("{} {is_ready}", wanted.policy),
        reports: [ready, bypass],
        status: GateStatus {
            service: name,
            port: services::front_port(server),
            policy_hash: wanted.policy.clone(),
        },
    }
}

/// The conditions that only a server with a gate has.
pub(super) const CONDITIONS: [&str; 2] = [types::GATE_READY, types::BYPASS_CLOSED];
