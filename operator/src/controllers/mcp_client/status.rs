//! How far a pass got, and the status that follows from it.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::{
    condition::{self, Report, Status, types},
    v1alpha1::{GrantedAccess, McpClient, McpClientStatus, RegistrationStatus, RotationStatus},
};

use super::{
    desired::{Closed, Granted},
    migration,
    rotation::Rotation,
};
use crate::{
    controllers::halt::{self, Halt},
    credential::{
        homes::{Homes, Place},
        journal::Journal,
    },
    policy::access::Decision,
};

/// The conditions in the order in which a pass reaches them.
const ORDER: [&str; 4] = [
    types::ACCEPTED,
    types::REGISTERED,
    types::ACCESS_GRANTED,
    types::CREDENTIALS_READY,
];

/// What is said of a suspended client.
pub(super) const SUSPENDED: &str = "The client is suspended: it gets no tokens until suspended is false";

/// How far a pass got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reports: Vec<Report>,
    sooner: Option<Duration>,
    client_id: Option<String>,
    /// The id of before is not its any more.
    is_unknown: bool,
    registration: Option<RegistrationStatus>,
    housed: Option<Housed>,
    granted: Option<Vec<GrantedAccess>>,
    secret: Option<(String, String)>,
    map: Option<String>,
    rotation: Option<RotationStatus>,
    handled_request: Option<String>,
    handled_revocation: Option<String>,
}

/// Where the client is registered.
#[derive(Debug)]
struct Housed {
    homes: Homes,
    is_home: bool,
    left: Option<(Place, Halt)>,
}

impl Progress {
    /// When to look again although the pass stopped.
    pub(super) fn look_again(&mut self, wait: Duration) {
        self.sooner = Some(wait);
    }

    /// See [`Progress::look_again`].
    pub(super) fn sooner(&self) -> Option<Duration> {
        self.sooner
    }

    /// It works, but not for all that servers allow.
    pub(super) fn not_given(&mut self, report: Report) {
        self.say(report);
    }

    /// Of two reports of a type the later one counts.
    fn say(&mut self, report: Report) {
        self.reports.retain(|said| said.type_ != report.type_);
        self.reports.push(report);
    }

    /// By which id the client is known.
    pub(super) fn identified(&mut self, client_id: &str) {
        self.client_id = Some(client_id.to_owned());
    }

    /// What was registered may not be: nothing of it is in force.
    pub(super) fn unaccepted(&mut self) {
        self.reports.retain(|said| said.type_ != types::ACCEPTED);
        self.withdrawn();
    }

    /// It is known by none.
    pub(super) fn unidentified(&mut self) {
        self.client_id = None;
        self.is_unknown = true;
        self.withdrawn();
    }

    /// Where it is registered, whether that is where it is to be, and what could not be removed elsewhere.
    pub(super) fn housed(&mut self, homes: Homes, is_home: bool, left: Option<(Place, Halt)>) {
        self.housed = Some(Housed { homes, is_home, left });
    }

    /// Whether its credential works, where it is to be registered.
    pub(super) fn works(&self) -> bool {
        let ready = types::CREDENTIALS_READY;
        let is_ready = |said: &Report| said.type_ == ready && said.status == Status::True;
        self.reports.iter().any(is_ready)
    }

    /// How it is registered where the authorization server has chosen its id.
    pub(super) fn registration(&mut self, registration: RegistrationStatus) {
        self.registration = Some(registration);
    }

    pub(super) fn accepted(&mut self) {
        self.accepted_without(None);
    }

    /// The same, with what of the spec has no effect there.
    pub(super) fn accepted_without(&mut self, unheeded: Option<&str>) {
        let message = match unheeded {
            None => "The client may be registered".to_owned(),
            Some(unheeded) => format!("The client may be registered; {unheeded}"),
        };
        self.say(Report::yes(types::ACCEPTED, "Accepted", message));
    }

    pub(super) fn registered(&mut self, client_id: &str) {
        let message = format!("Client {client_id} exists at the authorization server as declared");
        self.say(Report::yes(types::REGISTERED, "Registered", message));
    }

    /// Its document cannot be read, so what that said before goes on counting.
    pub(super) fn registered_from_before(&mut self, client_id: &str) {
        let message = format!(
            "Client {client_id} exists at the authorization server as its document said, which cannot be read at the moment"
        );
        self.say(Report::yes(types::REGISTERED, "DocumentUnreachable", message));
    }

    /// There is no credential that would have to be proved.
    pub(super) fn documented(&mut self) {
        let message = "The client authenticates as its document says; the operator has no credential of it";
        self.say(Report::yes(types::CREDENTIALS_READY, "InDocument", message));
    }

    /// Nothing of it is in force any more.
    pub(super) fn withdrawn(&mut self) {
        self.granted = Some(Vec::new());
    }

    /// It got nothing new, and lost what it may not have any more.
    pub(super) fn held_back(&mut self, client: &McpClient, access: &Granted) {
        self.granted = Some(remaining(client, access));
    }

    pub(super) fn granted(&mut self, access: &Granted) {
        let entries = access.decisions.iter().map(|decision| GrantedAccess {
            server: decision.server.clone(),
            resource: decision.resource.clone(),
            scopes: decision.granted.iter().cloned().collect(),
        });
        self.granted = Some(entries.collect());
        self.say(access_report(access));
    }

    pub(super) fn published(&mut self, name: String, hash: String) {
        self.secret = Some((name, hash));
    }

    /// What the workload reads is a ConfigMap.
    pub(super) fn published_map(&mut self, name: String) {
        self.map = Some(name);
    }

    /// Nobody but the workload can show that it works.
    pub(super) fn trusted(&mut self, account: &str) {
        let message = format!(
            "The authorization server has it that tokens of ServiceAccount {account} stand for this client; the workload proves them itself"
        );
        self.say(Report::yes(
            types::CREDENTIALS_READY,
            "ServiceAccountTrusted",
            message,
        ));
    }

    pub(super) fn proved(&mut self, message: &str) {
        self.say(Report::yes(types::CREDENTIALS_READY, "Proved", message));
    }

    /// Notes how far the credential is on its way from one to the next.
    pub(super) fn rotation(&mut self, rotation: &Rotation, journal: &Journal, now: Timestamp) {
        self.rotation = Some(rotation.status(journal, now));
        self.handled_request.clone_from(&journal.handled_request);
        self.handled_revocation.clone_from(&journal.handled_revocation);
    }
}

/// What is refused is named, and what is still to come is waited for.
pub(super) fn access_report(access: &Granted) -> Report {
    let type_ = types::ACCESS_GRANTED;
    let list =
        |scopes: &std::collections::BTreeSet<String>| scopes.iter().cloned().collect::<Vec<_>>().join(", ");
    let refused: Vec<_> = access
        .decisions
        .iter()
        .filter(|decision| !decision.refused.is_empty())
        .map(|decision| format!("{} does not allow {}", decision.server, list(&decision.refused)))
        .collect();
    if !refused.is_empty() {
        let message = format!(
            "McpServer {}: ask its team for an entry in allowedClients",
            refused.join("; ")
        );
        return Report::no(type_, "ScopesRefused", message);
    }
    if !access.closed.is_empty() {
        return Report::no(type_, "NotAllowed", closed(&access.closed));
    }
    if let Some(missing) = access.missing.first() {
        return Report::pending(
            type_,
            "ServerNotFound",
            format!("McpServer {missing} does not exist: create it, or correct access"),
        );
    }
    let awaited = access
        .decisions
        .iter()
        .find(|decision| !decision.awaited.is_empty());
    if let Some(decision) = awaited {
        let message = format!(
            "McpServer {} has not registered {} yet",
            decision.server,
            list(&decision.awaited)
        );
        return Report::pending(type_, "ServerNotReady", message);
    }
    if access.decisions.is_empty() {
        return Report::yes(type_, "NothingRequested", "The client asks for no access");
    }
    everything_granted()
}

/// Nothing is refused, and nothing is still to come.
pub(super) fn everything_granted() -> Report {
    Report::yes(
        types::ACCESS_GRANTED,
        "Granted",
        "Tokens can be had for everything that was asked for",
    )
}

/// The same whether a server does not exist, uses another AuthorizationServer or does not allow the client.
fn closed(entries: &[Closed]) -> String {
    let named = |entry: &Closed| match entry.scopes.as_slice() {
        [] => entry.server.clone(),
        scopes => format!("{} ({})", entry.server, scopes.join(", ")),
    };
    let servers: Vec<_> = entries.iter().map(named).collect();
    format!(
        "Nobody lets this client use McpServer {} at this AuthorizationServer: ask its team for an entry in allowedClients",
        servers.join("; ")
    )
}

/// What is left of what the client was granted before.
fn remaining(client: &McpClient, access: &Granted) -> Vec<GrantedAccess> {
    let scopes = access.scopes();
    let still_asked = |entry: &&GrantedAccess| {
        let of_server = |decision: &Decision| decision.server == entry.server;
        access.decisions.iter().any(of_server)
    };
    let before = client.status.iter().flat_map(|status| &status.granted);
    before
        .filter(still_asked)
        .map(|entry| GrantedAccess {
            scopes: entry
                .scopes
                .iter()
                .filter(|scope| scopes.contains(*scope))
                .cloned()
                .collect(),
            ..entry.clone()
        })
        .collect()
}

/// The status of a paused client that lost something: what it can get no tokens for any more is gone from it, one that is
/// suspended is not ready, and a credential that was revoked is replaced. The rest stays as it is. `None`: it lost nothing.
pub(super) fn without(
    client: &McpClient,
    enabled: bool,
    access: &Granted,
    progress: &Progress,
    now: Timestamp,
) -> Option<McpClientStatus> {
    let mut status = client.status.clone()?;
    status
        .conditions
        .retain(|condition| condition::is_ours(&condition.type_));
    let before = status.clone();
    status.granted = remaining(client, access);
    if let Some((_, hash)) = &progress.secret {
        status.secret_hash = Some(hash.clone());
    }
    if let Some(rotation) = &progress.rotation {
        status.rotation = Some(rotation.clone());
        status
            .last_handled_rotate_request
            .clone_from(&progress.handled_request);
        status
            .last_handled_revoke_request
            .clone_from(&progress.handled_revocation);
    }
    if !enabled && condition::is_true(&status.conditions, types::READY) {
        let credentials = Report::no(types::CREDENTIALS_READY, "Suspended", SUSPENDED);
        let reports = condition::summarize(vec![credentials], &[], "");
        let said = condition::merge(&status.conditions, &reports, client.metadata.generation, now);
        status
            .conditions
            .retain(|condition| condition::find(&said, &condition.type_).is_none());
        status.conditions.extend(said);
    }
    (status != before).then_some(status)
}

/// The status after a pass. What the pass did not reach stays as it was.
pub(super) fn status(
    client: &McpClient,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (McpClientStatus, Vec<Report>) {
    let old = client.status.clone().unwrap_or_default();
    let mut parts = halt::complete(&ORDER, progress.reports, halt);
    let migrated = progress.housed.as_ref().map_or_else(
        || migration::last_report(&old.conditions),
        |housed| migration::report(&housed.homes, housed.is_home, housed.left.as_ref()),
    );
    parts.extend(migrated);
    let history = progress.housed.as_ref().map_or_else(
        || migration::History::of(&old),
        |housed| migration::history(&housed.homes, &old, now),
    );
    let old = history.at_home(old);
    let well = condition::well("Registered", &parts, types::CREDENTIALS_READY);
    let reports = condition::summarize(parts, &[types::MIGRATED], &well);
    let (secret_name, secret_hash, config_map_name) = match (progress.secret, progress.map) {
        (Some((name, hash)), _) => (Some(name), Some(hash), None),
        (None, Some(map)) => (None, None, Some(map)),
        (None, None) => (old.secret_name, old.secret_hash, old.config_map_name),
    };
    let generation = client.metadata.generation;
    let status = McpClientStatus {
        observed_generation: generation,
        conditions: condition::merge(&old.conditions, &reports, generation, now),
        client_id: progress
            .client_id
            .or(old.client_id.filter(|_| !progress.is_unknown)),
        registered_at: history.registered_at,
        previous: history.previous,
        registration: progress.registration.or(old.registration),
        granted: progress.granted.unwrap_or(old.granted),
        secret_name,
        secret_hash,
        rotation: progress
            .rotation
            .or_else(|| old.rotation.filter(|_| config_map_name.is_none())),
        config_map_name,
        last_handled_rotate_request: progress.handled_request.or(old.last_handled_rotate_request),
        last_handled_revoke_request: progress.handled_revocation.or(old.last_handled_revoke_request),
    };
    (status, reports)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
