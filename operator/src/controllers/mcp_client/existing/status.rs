//! How far a pass over a client that somebody else registers got, and the status that follows from it. Pure.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::{
    condition::{self, Report, Status, types},
    v1alpha1::{ExistingClient, GrantedAccess, McpClient, McpClientStatus},
};

use super::{
    super::{
        desired::Granted,
        status::{access_report, everything_granted},
    },
    claim::Claim,
    proof::Question,
};
use crate::controllers::halt::{self, Halt};

/// The conditions in the order in which a pass reaches them: access can be seen only with a credential that works.
const ORDER: [&str; 4] = [
    types::ACCEPTED,
    types::REGISTERED,
    types::CREDENTIALS_READY,
    types::ACCESS_GRANTED,
];

/// What is said of a suspended client.
pub(super) const SUSPENDED: &str = "The client is suspended: gates refuse its tokens until suspended is false. At the authorization server it is as its administrator left it";

/// The reason of what is somebody else's to do.
const NOT_MANAGED: &str = "NotManaged";

/// How far a pass got. What it does not reach stays as it was.
#[derive(Debug)]
pub(super) struct Progress {
    reports: Vec<Report>,
    /// The id for which the McpClient may speak.
    client_id: Option<String>,
    /// The version of the Secret.
    version: Option<String>,
    granted: Vec<GrantedAccess>,
    /// Whether a token showed that `granted` is assigned.
    shown: bool,
    /// When to look again at what no watch shows.
    awaited: Option<Duration>,
}

impl Progress {
    /// What is known from before.
    pub(super) fn from(client: &McpClient) -> Self {
        let before = client.status.clone().unwrap_or_default();
        Self {
            reports: Vec::new(),
            shown: condition::find(&before.conditions, types::ACCESS_GRANTED).is_some_and(|access| {
                access.status == "True" && access.reason == everything_granted().reason
            }),
            client_id: before.client_id,
            version: before.secret_hash,
            granted: before.granted,
            awaited: None,
        }
    }

    /// It is not allowed, or not for this client: it speaks for none.
    pub(super) fn withdrawn(&mut self) {
        self.disproved();
        self.granted = Vec::new();
    }

    /// The Secret says nothing, or not enough.
    pub(super) fn unclaimed(&mut self, existing: &ExistingClient) {
        self.disproved();
        self.version = None;
        self.accepted();
        let message = format!(
            "Secret {} is to say which client it is; the operator registers none",
            existing.secret_ref.name
        );
        self.reports
            .push(Report::pending(types::REGISTERED, NOT_MANAGED, message));
    }

    /// The Secret was read. If it is not the one that was proved, nothing is proved any more.
    pub(super) fn claimed(&mut self, claim: &Claim) {
        let before = self.version.replace(claim.version.clone());
        if before != self.version {
            self.disproved();
        }
    }

    /// What servers allow it.
    pub(super) fn allowed(&mut self, access: &Granted) {
        let granted = granted(access);
        self.shown &= self.granted == granted;
        self.granted = granted;
    }

    pub(super) fn accepted(&mut self) {
        self.reports.push(Report::yes(
            types::ACCEPTED,
            "Accepted",
            "The client may be used here",
        ));
    }

    pub(super) fn registered(&mut self, claim: &Claim) {
        let message = format!(
            "The client that Secret {} names exists at the authorization server, where somebody else registers it",
            claim.secret_name
        );
        self.reports
            .push(Report::yes(types::REGISTERED, NOT_MANAGED, message));
    }

    /// The credential does not work, or there is no such client: it speaks for none until somebody has set that right,
    /// which is looked at after this time.
    pub(super) fn refuted(&mut self, again: Duration) {
        self.disproved();
        self.awaited = Some(again);
    }

    /// It speaks for no client.
    fn disproved(&mut self) {
        self.client_id = None;
        self.shown = false;
    }

    pub(super) fn proved(&mut self, claim: &Claim) {
        self.client_id = Some(claim.client_id.clone());
    }

    /// What is known of the access, given what the token `lacks`, and when to ask for another one then.
    pub(super) fn assigned(&mut self, question: &Question<'_>, lacks: Option<(&str, Duration)>) {
        let allowed = access_report(question.access);
        let is_open = allowed.status == Status::True && !question.access.decisions.is_empty();
        let scopes = || {
            question
                .access
                .scopes()
                .into_iter()
                .collect::<Vec<_>>()
                .join(", ")
        };
        self.reports.push(match lacks {
            _ if !is_open => allowed,
            Some((why, again)) => {
                self.awaited = Some(again);
                let message = format!(
                    "The servers allow it, but {why}: let whoever registers the client assign exactly the scopes {} there",
                    scopes()
                );
                Report::no(types::ACCESS_GRANTED, "NotAssigned", message)
            }
            None if question.shows_access() => allowed,
            None => {
                let message = format!(
                    "The servers allow it; whoever registers the client has to assign the scopes {} at the authorization server, which only a sign-in would show",
                    scopes()
                );
                Report::pending(types::ACCESS_GRANTED, NOT_MANAGED, message)
            }
        });
    }

    pub(super) fn works(&mut self) {
        let message = "The credential in the Secret was proved at the token endpoint";
        self.reports
            .push(Report::yes(types::CREDENTIALS_READY, "Proved", message));
    }

    /// What is to be said. What a token showed is not forgotten, and asked for again, because the pass did not get so far: an
    /// operator that starts has no connection yet.
    fn reports(self) -> Vec<Report> {
        let mut reports = self.reports;
        let is_said = reports.iter().any(|report| report.type_ == types::ACCESS_GRANTED);
        if self.shown && !is_said {
            reports.push(everything_granted());
        }
        reports
    }

    /// When to look again, if something is awaited that no watch shows.
    pub(super) const fn awaited(&self) -> Option<Duration> {
        self.awaited
    }
}

/// What servers allow the client, as the status shows it.
pub(super) fn granted(access: &Granted) -> Vec<GrantedAccess> {
    let entries = access.decisions.iter().map(|decision| GrantedAccess {
        server: decision.server.clone(),
        resource: decision.resource.clone(),
        scopes: decision.granted.iter().cloned().collect(),
    });
    entries.collect()
}

/// The status after a pass.
pub(super) fn status(
    client: &McpClient,
    existing: &ExistingClient,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (McpClientStatus, Vec<Report>) {
    let old = client
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let (client_id, secret_hash) = (progress.client_id.clone(), progress.version.clone());
    let granted = progress.granted.clone();
    let parts = halt::complete(&ORDER, progress.reports(), halt);
    // That the registrar has to do something cannot be seen to be done, and so holds nothing up.
    let advisory: &[&str] = if parts
        .iter()
        .any(|part| part.type_ == types::ACCESS_GRANTED && part.reason == NOT_MANAGED)
    {
        &[types::ACCESS_GRANTED]
    } else {
        &[]
    };
    let reports = condition::summarize(parts, advisory, "Its credential was proved");
    let generation = client.metadata.generation;
    let status = McpClientStatus {
        observed_generation: generation,
        conditions: condition::merge(old, &reports, generation, now),
        client_id,
        granted,
        secret_name: Some(existing.secret_ref.name.clone()),
        secret_hash,
        ..McpClientStatus::default()
    };
    (status, reports)
}
