//! How far a pass got, and the status that follows from it.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use mcp_auth_crds::{
    condition::{self, Report, types},
    v1alpha1::{ExchangeAction, McpServer, TokenExchangePolicy, TokenExchangePolicyStatus},
};

use crate::{
    controllers::halt::{self, Halt},
    policy::exchange::Accepted,
    provider::Subjects,
};

/// The conditions in the order in which a pass reaches them.
const ORDER: [&str; 2] = [types::ACCEPTED, types::PROGRAMMED];

/// How far a pass got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reports: Vec<Report>,
    audience: Option<String>,
    accepted: Vec<String>,
    unassigned: Vec<String>,
    lasting: Vec<String>,
    action: Option<ExchangeAction>,
    programmed: bool,
}

impl Progress {
    pub(super) fn accepted(&mut self, accepted: &Accepted<'_>) {
        self.audience = Some(accepted.target.audience().to_owned());
        self.accepted = accepted.scopes.iter().cloned().collect();
        self.unassigned = accepted.unassigned.iter().cloned().collect();
        let message = format!("Tokens for {} may be exchanged", accepted.target.audience());
        self.reports
            .push(Report::yes(types::ACCEPTED, "Accepted", message));
    }

    /// The action that the policy names, once the server has it. Until then, that from before stays.
    pub(super) fn acts_by(&mut self, action: Option<&ExchangeAction>) {
        self.action = action.cloned().or(self.action.take());
    }

    /// What is in force from before.
    pub(super) fn lasting(&mut self, scopes: Vec<String>, action: Option<ExchangeAction>) {
        self.lasting = scopes;
        self.action = action;
    }

    /// `more`: other policies of the server give the same scopes to more clients.
    pub(super) fn programmed(
        &mut self,
        server: &McpServer,
        action: Option<&ExchangeAction>,
        own: &Subjects,
        more: bool,
    ) {
        self.programmed = true;
        self.action = action.cloned();
        let name = server.name_any();
        let message = match own {
            Subjects::Any => format!("McpServer {name} can exchange at the authorization server"),
            Subjects::Only(_) if more => format!(
                "McpServer {name} can exchange at the authorization server, for more clients than these: other policies of it give the same scopes"
            ),
            Subjects::Only(_) => {
                format!(
                    "McpServer {name} can exchange the tokens of these clients at the authorization server"
                )
            }
        };
        self.reports
            .push(Report::yes(types::PROGRAMMED, "Programmed", message));
    }
}

/// The status after a pass.
pub(super) fn status(
    policy: &TokenExchangePolicy,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (TokenExchangePolicyStatus, Vec<Report>) {
    let old = policy.status.clone().unwrap_or_default();
    let parts = halt::complete(&ORDER, progress.reports, halt);
    let reports = condition::summarize(parts, &[], "Exchange is set up at the authorization server");
    let generation = policy.metadata.generation;
    let status = TokenExchangePolicyStatus {
        observed_generation: generation,
        conditions: condition::merge(&old.conditions, &reports, generation, now),
        audience: progress.audience,
        assigned_scopes: if progress.programmed {
            progress.accepted
        } else {
            progress.lasting
        },
        unassigned_scopes: progress.unassigned,
        action: progress.action,
    };
    (status, reports)
}
