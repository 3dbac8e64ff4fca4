//! How far a pass got, and the status that follows from it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::{
    condition::{self, Report, Status, types},
    v1alpha1::{ExchangeAction, ExchangeLimit, GateStatus, McpServer, McpServerStatus},
};

use super::gate;
use crate::{
    controllers::{
        halt::{self, Halt},
        pass::Next,
    },
    policy::{Refusal, enforcement, exchange::in_force, names, scopes},
    provider::{Mark, ResourceSpec, Subjects},
};

/// The conditions in the order in which a pass reaches them. Only a server that has credentials of its own says that
/// they are ready, and only one with a gate what is about gates.
const ORDER: [&str; 7] = [
    types::ACCEPTED,
    types::REGISTERED,
    types::METADATA_PUBLISHED,
    types::CREDENTIALS_READY,
    types::GATE_READY,
    types::ENFORCED,
    types::BYPASS_CLOSED,
];

/// How soon a server is looked at again whose gate is not ready, or not found behind the public address: some of what it
/// waits for is not seen by any watch. The pauses grow while nothing changes.
const SOON: Duration = Duration::from_secs(30);

/// How far a pass got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reports: Vec<Report>,
    scopes: Option<Vec<String>>,
    exchange: Option<BTreeMap<String, Subjects>>,
    actions: Option<Vec<ExchangeAction>>,
    /// Whether the server needs credentials of its own; `None` while the pass does not know.
    credentials: Option<bool>,
    secret: Option<(String, String)>,
    gate: Option<GateStatus>,
    /// What it may still exchange tokens for, where a pass stops that knows it.
    left: Option<BTreeMap<String, Subjects>>,
}

impl Progress {
    pub(super) fn accepted(&mut self, server: &McpServer) {
        let message = format!("{} may be registered", server.spec.resource);
        self.reports
            .push(Report::yes(types::ACCEPTED, "Accepted", message));
    }

    /// It is there as wanted; `locked` tells of limits that are there besides, and cannot be removed.
    /// Somebody else has made it, and says so.
    pub(super) fn external(&mut self, want: &ResourceSpec) {
        self.scopes = Some(want.scopes.keys().cloned().collect());
        self.exchange = Some(BTreeMap::new());
        self.actions = Some(Vec::new());
        let message = "The AuthorizationServer says that somebody else has made audience and scopes there";
        self.reports
            .push(Report::yes(types::REGISTERED, "RegisteredExternally", message));
    }

    pub(super) fn registered(&mut self, want: &ResourceSpec, locked: Option<Refusal>) {
        self.scopes = Some(want.scopes.keys().cloned().collect());
        self.exchange = Some(want.exchange_scopes.clone());
        let message = "Audience and scopes exist at the authorization server as declared";
        self.reports.push(match locked {
            None => Report::yes(types::REGISTERED, "Registered", message),
            Some(refusal) => Report::no(types::REGISTERED, refusal.reason, refusal.message),
        });
    }

    /// Nothing of it is in force any more.
    pub(super) fn withdrawn(&mut self) {
        self.scopes = Some(Vec::new());
        self.exchange = Some(BTreeMap::new());
        self.actions = Some(Vec::new());
        self.left = Some(BTreeMap::new());
    }

    /// What it exchanges by actions, by the profile that lets it do so.
    pub(super) fn acts_by(&mut self, want: &ResourceSpec, profiles: &BTreeMap<String, String>) {
        let Mark {
            installation,
            namespace,
            name,
            ..
        } = &want.mark;
        let all = profiles.iter().map(|(action, profile)| ExchangeAction {
            name: action.clone(),
            profile: profile.clone(),
            subject_token_type: names::subject_token_type(installation, namespace, name, action),
        });
        self.actions = Some(all.collect());
    }

    /// Whatever comes of the pass, it may exchange tokens for no more than this.
    pub(super) fn leaves(&mut self, given: BTreeMap<String, Subjects>) {
        self.left = Some(given);
    }

    /// What it may still exchange tokens for, if the pass knows it.
    pub(super) const fn left(&self) -> Option<&BTreeMap<String, Subjects>> {
        self.left.as_ref()
    }

    /// It was refused, and has no more than what is left of what it had.
    pub(super) fn lost(&mut self, server: &McpServer, want: &ResourceSpec) {
        self.exchange = Some(left(server, want));
        self.actions = Some(actions_left(server, want));
    }

    pub(super) fn published(&mut self, server: &McpServer) {
        let name = server.metadata.name.as_deref().unwrap_or_default();
        let message = format!(
            "ConfigMaps {} and {} are up to date",
            names::server_auth(name),
            names::server_metadata(name)
        );
        self.reports
            .push(Report::yes(types::METADATA_PUBLISHED, "Published", message));
    }

    pub(super) fn needs_credentials(&mut self, needs: bool) {
        self.credentials = Some(needs);
    }

    /// The credential works; `secret` is the one of the workload, which has it while it exchanges by itself.
    pub(super) fn handed_over(&mut self, server: &McpServer, secret: Option<(String, String)>) {
        let gate = || names::gate(server.metadata.name.as_deref().unwrap_or_default());
        let name = secret.as_ref().map_or_else(gate, |(name, _)| name.clone());
        let message = format!("The credential in the Secret {name} was proved at the token endpoint");
        self.reports
            .push(Report::yes(types::CREDENTIALS_READY, "Proved", message));
        self.secret = secret;
    }

    /// What is known of its gate.
    pub(super) fn gate(&mut self, reports: [Report; 2], status: GateStatus) {
        self.reports.extend(reports);
        self.gate = Some(status);
    }

    /// When to look at it again.
    pub(super) fn next(&self, server: &McpServer, now: Timestamp) -> Next {
        let allowed = enforcement::allows_bypass(server);
        let is_open = |report: &&Report| match report.type_ {
            types::GATE_READY | types::ENFORCED => report.status != Status::True,
            types::BYPASS_CLOSED => report.status != Status::True && !allowed,
            _ => false,
        };
        let open: Vec<_> = self.reports.iter().filter(is_open).collect();
        if self.gate.is_none() || open.is_empty() {
            return Next::Resync;
        }
        let ages = open
            .iter()
            .map(|report| age(server, report.type_, report.status, now));
        Next::After(ages.min().unwrap_or_default().max(SOON))
    }

    pub(super) fn enforced(&mut self, report: Report) {
        self.reports.push(report);
    }
}

/// When to look again at a server in whose way something stands that no watch sees.
pub(super) fn again(server: &McpServer, now: Timestamp) -> Next {
    Next::After(age(server, types::GATE_READY, Status::False, now).max(SOON))
}

/// For how long a condition has been what it is. What waits for as long again is looked at more and more seldom.
fn age(server: &McpServer, type_: &str, status: Status, now: Timestamp) -> Duration {
    let conditions = server.status.iter().flat_map(|status| &status.conditions);
    let same = conditions
        .into_iter()
        .find(|condition| condition.type_ == type_ && condition.status == status.as_str());
    let since = same.map(|condition| now.duration_since(condition.last_transition_time.0));
    since
        .and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default()
}

/// The status after a pass. What the pass did not reach stays as it was.
pub(super) fn status(
    server: &McpServer,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (McpServerStatus, Vec<Report>) {
    let old = server.status.clone().unwrap_or_default();
    let had_some =
        old.secret_name.is_some() || condition::find(&old.conditions, types::CREDENTIALS_READY).is_some();
    let credentials = progress.credentials.unwrap_or(had_some);
    let has_gate = enforcement::has_gate(server);
    let order: Vec<_> = ORDER
        .into_iter()
        .filter(|type_| credentials || *type_ != types::CREDENTIALS_READY)
        .filter(|type_| has_gate || !gate::CONDITIONS.contains(type_))
        .collect();
    let mut parts = halt::complete(&order, progress.reports, halt);
    // A way past the gate that is allowed is told of, and held against nobody.
    let allowed = enforcement::allows_bypass(server);
    let forgiven = parts
        .extract_if(.., |part| allowed && part.type_ == types::BYPASS_CLOSED)
        .collect::<Vec<_>>();
    let well = if has_gate {
        "Registered, its metadata is published, and its gate has its policy"
    } else {
        "Registered, and its metadata is published"
    };
    let mut reports = condition::summarize(parts, &[types::ENFORCED, types::BYPASS_CLOSED], well);
    reports.extend(forgiven);
    let reached_end = halt.is_none();
    let (secret_name, secret_hash) = match progress.secret {
        Some((name, hash)) => (Some(name), Some(hash)),
        None if reached_end => (None, None),
        None => (old.secret_name, old.secret_hash),
    };
    let (exchange_scopes, exchange_limits) = match &progress.exchange {
        Some(given) => exchange(given),
        None => (old.exchange_scopes, old.exchange_limits),
    };
    let exchange_actions = progress.actions.unwrap_or(old.exchange_actions);
    let generation = server.metadata.generation;
    let status = McpServerStatus {
        observed_generation: generation,
        conditions: condition::merge(&old.conditions, &reports, generation, now),
        scopes: progress.scopes.unwrap_or(old.scopes),
        challenge_scopes: scopes::challenged(server).into_iter().collect(),
        enforcement: Some(enforcement::mode(server)),
        gate: if has_gate {
            progress.gate.or(old.gate)
        } else {
            None
        },
        metadata_url: names::metadata_url(&server.spec.resource),
        exchange_scopes,
        exchange_limits,
        exchange_actions,
        secret_name,
        secret_hash,
    };
    (status, reports)
}

/// The status of a paused server that lost what is not in `want`: policies that end wait until it says so. The rest
/// stays as it is. `None`: it lost nothing.
pub(super) fn without(server: &McpServer, want: &ResourceSpec) -> Option<McpServerStatus> {
    let left = left(server, want);
    let mut status = server.status.clone()?;
    let actions = actions_left(server, want);
    if left == in_force(server) && actions == status.exchange_actions {
        return None;
    }
    status.exchange_actions = actions;
    (status.exchange_scopes, status.exchange_limits) = exchange(&left);
    status
        .conditions
        .retain(|condition| condition::is_ours(&condition.type_));
    Some(status)
}

/// What is left of what the server could exchange tokens for, after what is not in `want` was taken away.
fn left(server: &McpServer, want: &ResourceSpec) -> BTreeMap<String, Subjects> {
    let left = in_force(server).into_iter().filter_map(|(scope, subjects)| {
        let subjects = match (want.exchange_scopes.get(&scope)?, subjects) {
            // A scope is detached before its first limit, and comes back when nothing stands in the way any more.
            (Subjects::Only(_), Subjects::Any) => return None,
            (wanted, subjects) => subjects.and(wanted)?,
        };
        Some((scope, subjects))
    });
    left.collect()
}

/// What is left of the actions by which it could.
fn actions_left(server: &McpServer, want: &ResourceSpec) -> Vec<ExchangeAction> {
    let held = server.status.iter().flat_map(|status| &status.exchange_actions);
    held.filter(|action| want.exchange_actions.names.contains(&action.name))
        .cloned()
        .collect()
}

/// How a status says what tokens can be exchanged for, and whose.
fn exchange(given: &BTreeMap<String, Subjects>) -> (Vec<String>, Vec<ExchangeLimit>) {
    let limit = |(scope, subjects): (&String, &Subjects)| {
        Some(ExchangeLimit {
            scope: scope.clone(),
            clients: subjects.only()?.iter().cloned().collect(),
        })
    };
    (
        given.keys().cloned().collect(),
        given.iter().filter_map(limit).collect(),
    )
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
