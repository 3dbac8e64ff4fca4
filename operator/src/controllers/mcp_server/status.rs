//! How far a pass got, and the status that follows from it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::{
    condition::{self, Report, types},
    v1alpha1::{ExchangeLimit, McpServer, McpServerStatus},
};

use crate::{
    controllers::halt::{self, Halt},
    policy::{Refusal, enforcement, exchange::in_force, names, scopes},
    provider::{ResourceSpec, Subjects},
};

/// The conditions in the order in which a pass reaches them. Only a server that has credentials of its own says that
/// they are ready.
const ORDER: [&str; 5] = [
    types::ACCEPTED,
    types::REGISTERED,
    types::METADATA_PUBLISHED,
    types::CREDENTIALS_READY,
    types::ENFORCED,
];

/// How far a pass got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reports: Vec<Report>,
    scopes: Option<Vec<String>>,
    exchange: Option<BTreeMap<String, Subjects>>,
    /// Whether the server needs credentials of its own; `None` while the pass does not know.
    credentials: Option<bool>,
    secret: Option<(String, String)>,
}

impl Progress {
    pub(super) fn accepted(&mut self, server: &McpServer) {
        let message = format!("{} may be registered", server.spec.resource);
        self.reports
            .push(Report::yes(types::ACCEPTED, "Accepted", message));
    }

    /// It is there as wanted; `locked` tells of limits that are there besides, and cannot be removed.
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
    }

    /// It was refused, and has no more than what is left of what it had.
    pub(super) fn lost(&mut self, server: &McpServer, want: &ResourceSpec) {
        self.exchange = Some(left(server, want));
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

    pub(super) fn handed_over(&mut self, name: String, hash: String) {
        let message = format!("The credential in the Secret {name} was proved at the token endpoint");
        self.reports
            .push(Report::yes(types::CREDENTIALS_READY, "Proved", message));
        self.secret = Some((name, hash));
    }

    pub(super) fn enforced(&mut self, report: Report) {
        self.reports.push(report);
    }
}

/// The status after a pass. What the pass did not reach stays as it was.
pub(super) fn status(
    server: &McpServer,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (McpServerStatus, Vec<Report>) {
    let old = server.status.clone().unwrap_or_default();
    let credentials = progress.credentials.unwrap_or(old.secret_name.is_some());
    let order: Vec<_> = ORDER
        .into_iter()
        .filter(|type_| credentials || *type_ != types::CREDENTIALS_READY)
        .collect();
    let parts = halt::complete(&order, progress.reports, halt);
    let reports = condition::summarize(
        parts,
        &[types::ENFORCED],
        "Registered, and its metadata is published",
    );
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
    let generation = server.metadata.generation;
    let status = McpServerStatus {
        observed_generation: generation,
        conditions: condition::merge(&old.conditions, &reports, generation, now),
        scopes: progress.scopes.unwrap_or(old.scopes),
        challenge_scopes: scopes::challenged(server).into_iter().collect(),
        enforcement: Some(enforcement::mode(server)),
        gate: None,
        metadata_url: names::metadata_url(&server.spec.resource),
        exchange_scopes,
        exchange_limits,
        secret_name,
        secret_hash,
    };
    (status, reports)
}

/// The status of a paused server that lost what is not in `want`: policies that end wait until it says so. The rest
/// stays as it is. `None`: it lost nothing.
pub(super) fn without(server: &McpServer, want: &ResourceSpec) -> Option<McpServerStatus> {
    let left = left(server, want);
    if left == in_force(server) {
        return None;
    }
    let mut status = server.status.clone()?;
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
mod tests {
    use super::*;

    fn server() -> McpServer {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team", "name": "orders", "generation": 3},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp", "enforcement": {"mode": "External"}},
            "status": {"scopes": ["read"], "secretName": "orders-mcp-auth", "secretHash": "abc"},
        }))
        .unwrap()
    }

    #[test]
    fn what_a_pass_did_not_reach_stays_and_what_it_did_changes() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let halt = Halt::waiting("AuthorizationServerNotReady", "Wait");
        let (stopped, _) = status(&server(), Progress::default(), Some(&halt), now);
        assert_eq!(
            (stopped.scopes.len(), stopped.secret_name.as_deref()),
            (1, Some("orders-mcp-auth"))
        );
        assert!(condition::find(&stopped.conditions, types::RECONCILING).is_some());

        let mut progress = Progress::default();
        progress.accepted(&server());
        progress.published(&server());
        let (whole, _) = status(&server(), progress, None, now);
        assert_eq!(whole.secret_name, None, "no policy needs it any more");
        assert!(condition::is_true(&whole.conditions, types::READY));
        assert_eq!(whole.observed_generation, Some(3));
    }

    #[test]
    fn a_paused_server_says_what_it_lost_and_nothing_else() {
        let only = |clients: &[&str]| Subjects::Only(clients.iter().map(|id| (*id).to_owned()).collect());
        let mark = crate::controllers::home::mark(&server(), "i");
        let mut want = super::super::desired::bare_resource(&server(), mark);
        want.exchange_scopes = [
            ("kept".to_owned(), Subjects::Any),
            ("wider".to_owned(), only(&["a", "b"])),
            ("narrower".to_owned(), only(&["a"])),
            ("detached".to_owned(), only(&["a"])),
            ("new".to_owned(), Subjects::Any),
        ]
        .into();
        let mut server = server();
        assert_eq!(without(&server, &want), None);
        let mut status = server.status.clone().unwrap();
        let say = |status: &mut McpServerStatus, held: &[(&str, Subjects)]| {
            let held = held
                .iter()
                .map(|(scope, subjects)| ((*scope).to_owned(), subjects.clone()));
            (status.exchange_scopes, status.exchange_limits) = exchange(&held.collect());
        };
        let held = [
            ("kept", Subjects::Any),
            ("wider", only(&["a"])),
            ("narrower", only(&["a", "b"])),
            ("detached", Subjects::Any),
            ("lost", Subjects::Any),
        ];
        say(&mut status, &held);
        server.status = Some(status.clone());
        let left = [
            ("kept", Subjects::Any),
            ("wider", only(&["a"])),
            ("narrower", only(&["a"])),
        ];
        say(&mut status, &left);
        assert_eq!(without(&server, &want), Some(status.clone()));
        server.status = Some(status);
        assert_eq!(without(&server, &want), None, "it was said");
    }

    #[test]
    fn whose_tokens_can_be_exchanged_is_said_and_what_cannot_be_removed_too() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mark = crate::controllers::home::mark(&server(), "i");
        let want = ResourceSpec {
            exchange_scopes: [
                ("a".to_owned(), Subjects::Any),
                ("b".to_owned(), Subjects::Only(["x".to_owned()].into())),
            ]
            .into(),
            ..super::super::desired::bare_resource(&server(), mark)
        };
        let after = |locked: Option<Refusal>| {
            let mut progress = Progress::default();
            progress.accepted(&server());
            progress.registered(&want, locked);
            progress.published(&server());
            status(&server(), progress, None, now).0
        };
        let whole = after(None);
        assert_eq!(whole.exchange_scopes, ["a", "b"]);
        let limit = ExchangeLimit {
            scope: "b".into(),
            clients: vec!["x".into()],
        };
        assert_eq!(whole.exchange_limits, [limit]);
        assert!(condition::is_true(&whole.conditions, types::READY));
        let stuck = after(Some(Refusal::new("PermissionMissing", "Grant it")));
        assert_eq!(stuck.exchange_limits, whole.exchange_limits);
        let ready = condition::find(&stuck.conditions, types::READY).unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "PermissionMissing")
        );
    }

    #[test]
    fn only_a_server_with_credentials_says_whether_they_are_ready() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let says = |needs: Option<bool>| {
            let (mut server, mut progress) = (server(), Progress::default());
            progress.accepted(&server);
            progress.published(&server);
            if let Some(needs) = needs {
                server.status = None;
                progress.needs_credentials(needs);
            }
            let halt = Halt::refused("SecretNotOwned", "Delete it");
            let (status, _) = status(&server, progress, Some(&halt), now);
            let reason =
                |type_| condition::find(&status.conditions, type_).map(|condition| condition.reason.clone());
            reason(types::CREDENTIALS_READY)
        };
        assert_eq!(says(Some(false)), None);
        assert_eq!(says(Some(true)).as_deref(), Some("Waiting"), "for Registered");
        assert!(says(None).is_some(), "it had some before");
    }

    #[test]
    fn the_same_pass_at_another_time_gives_the_same_conditions() {
        let halt = Halt::refused("HostNotGranted", "Ask");
        let mut server = server();
        let (first, _) = status(
            &server,
            Progress::default(),
            Some(&halt),
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        server.status = Some(first.clone());
        let (second, _) = status(
            &server,
            Progress::default(),
            Some(&halt),
            "2026-06-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(first, second);
    }
}
