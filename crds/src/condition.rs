//! Conditions: their types and reasons by name, and how a list of them is merged.
//!
//! The rules are those of kstatus: what can still arrive by itself is `Ready=Unknown` with `Reconciling`; where a
//! person must act it is `Ready=False` with `Stalled`. `Reconciling` and `Stalled` are present only while they
//! are true. A message tells the user what to do and never holds a time, a secret, or text from a remote server.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// Condition types.
pub mod types {
    /// The summary: everything that was asked for is in force, and proved.
    pub const READY: &str = "Ready";
    /// The operator is at work or waits for something that can still arrive by itself.
    pub const RECONCILING: &str = "Reconciling";
    /// A person must act.
    pub const STALLED: &str = "Stalled";
    /// The object is valid, and allowed by the owners of what it refers to.
    pub const ACCEPTED: &str = "Accepted";
    /// The object exists at the authorization server as declared.
    pub const REGISTERED: &str = "Registered";
    /// The metadata of the authorization server was found and names our issuer.
    pub const METADATA_DISCOVERED: &str = "MetadataDiscovered";
    /// The operator's credential works at the authorization server and has every permission it needs.
    pub const CREDENTIALS_VALID: &str = "CredentialsValid";
    /// The RFC 9728 document and the variables for the workload are published.
    pub const METADATA_PUBLISHED: &str = "MetadataPublished";
    /// Every pod of the gate has the policy and credentials of this generation.
    pub const GATE_READY: &str = "GateReady";
    /// No way leads to the server past its gate.
    pub const BYPASS_CLOSED: &str = "BypassClosed";
    /// Requests without a valid token are refused.
    pub const ENFORCED: &str = "Enforced";
    /// The client can get tokens for everything that it asked for.
    pub const ACCESS_GRANTED: &str = "AccessGranted";
    /// The workload's Secret holds a credential that was proved to work.
    pub const CREDENTIALS_READY: &str = "CredentialsReady";
    /// What the client has at the authorization server from which it moved is removed there.
    pub const MIGRATED: &str = "Migrated";
    /// Token exchange is set up at the authorization server as declared.
    pub const PROGRAMMED: &str = "Programmed";
}

/// What a condition says: type, status, reason and message, without a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One of [`types`].
    pub type_: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// CamelCase, stable, for machines.
    pub reason: &'static str,
    /// For people: what is the case and what to do about it.
    pub message: String,
}

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known, or not yet.
    Unknown,
}

impl Status {
    /// The value as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Report {
    /// It holds.
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Status::True,
            reason,
            message: message.into(),
        }
    }

    /// It does not hold, and a person must act.
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Status::False,
            reason,
            message: message.into(),
        }
    }

    /// It is not known, or not yet the case, and may still become so by itself.
    pub fn pending(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: Status::Unknown,
            reason,
            message: message.into(),
        }
    }
}

/// The summary of `parts`, with `Reconciling` or `Stalled` beside it.
///
/// The first part that is False decides, then the first that is Unknown; `advisory` names the types that may be
/// Unknown without holding `Ready` back (they do hold it back when False).
pub fn summarize(parts: Vec<Report>, advisory: &[&str], ready: &str) -> Vec<Report> {
    let blocking = parts
        .iter()
        .find(|part| part.status == Status::False)
        .or_else(|| {
            parts
                .iter()
                .find(|part| part.status == Status::Unknown && !advisory.contains(&part.type_))
        });
    let mut reports = match blocking {
        None => vec![Report::yes(types::READY, "Ready", ready)],
        Some(part) if part.status == Status::False => vec![
            Report::no(types::READY, part.reason, part.message.clone()),
            Report::yes(types::STALLED, part.reason, part.message.clone()),
        ],
        Some(part) => vec![
            Report::pending(types::READY, part.reason, part.message.clone()),
            Report::yes(types::RECONCILING, part.reason, part.message.clone()),
        ],
    };
    reports.extend(parts);
    reports
}

/// What `Ready` says when all is well: what was `done`, and what the part of this type says was shown of it, so that the
/// summary never says more.
pub fn well(done: &str, parts: &[Report], type_: &str) -> String {
    match parts.iter().find(|part| part.type_ == type_) {
        Some(part) => format!("{done}. {}", part.message),
        None => done.to_owned(),
    }
}

/// The types that this project sets; a condition of any other type belongs to somebody else and is kept.
const OURS: [&str; 15] = [
    types::READY,
    types::RECONCILING,
    types::STALLED,
    types::ACCEPTED,
    types::REGISTERED,
    types::METADATA_DISCOVERED,
    types::CREDENTIALS_VALID,
    types::METADATA_PUBLISHED,
    types::GATE_READY,
    types::ENFORCED,
    types::BYPASS_CLOSED,
    types::ACCESS_GRANTED,
    types::CREDENTIALS_READY,
    types::MIGRATED,
    types::PROGRAMMED,
];

/// Whether this project sets conditions of this type; any other belongs to somebody else.
pub fn is_ours(type_: &str) -> bool {
    OURS.contains(&type_)
}

/// The conditions to apply: `reports` as of `now`, each keeping its `lastTransitionTime` while its status stays.
///
/// The conditions of others are left out: with server-side apply, what is not applied stays theirs.
pub fn merge(
    old: &[Condition],
    reports: &[Report],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |report: &Report| Condition {
        type_: report.type_.to_owned(),
        status: report.status.as_str().to_owned(),
        reason: report.reason.to_owned(),
        message: report.message.clone(),
        observed_generation: generation,
        last_transition_time: find(old, report.type_)
            .filter(|c| c.status == report.status.as_str())
            .map_or_else(|| Time(now), |c| c.last_transition_time.clone()),
    };
    reports.iter().map(condition).collect()
}

/// A status with conditions.
pub trait Conditioned {
    /// Its conditions.
    fn conditions(&self) -> &Vec<Condition>;
    /// Its conditions, to change.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
}

macro_rules! conditioned {
    ($($status:ident),*) => {$(
        impl Conditioned for crate::v1alpha1::$status {
            fn conditions(&self) -> &Vec<Condition> {
                &self.conditions
            }
            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }
        }
    )*};
}

conditioned!(
    AuthorizationServerStatus,
    McpServerStatus,
    McpClientStatus,
    TokenExchangePolicyStatus
);

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of this type is there and True, whatever generation it speaks of.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_summary_says_as_much_as_was_shown() {
        let parts = [
            Report::yes(types::REGISTERED, "Registered", "It exists"),
            Report::yes(types::CREDENTIALS_READY, "InDocument", "Nobody here has it"),
        ];
        let said = well("Registered", &parts, types::CREDENTIALS_READY);
        assert_eq!(said, "Registered. Nobody here has it");
        assert_eq!(well("Registered", &parts, types::PROGRAMMED), "Registered");
    }

    #[test]
    fn the_first_false_part_decides_then_the_first_unknown_one() {
        let unknown = Report::pending(types::REGISTERED, "Waiting", "Waiting for it");
        let bad = Report::no(types::ACCEPTED, "NotGranted", "Ask for it");
        let good = Report::yes(types::ACCEPTED, "Accepted", "Fine");
        let cases = [
            (vec![good.clone()], Status::True, "Ready", None),
            (
                vec![good.clone(), unknown.clone()],
                Status::Unknown,
                "Waiting",
                Some(types::RECONCILING),
            ),
            (
                vec![unknown, bad],
                Status::False,
                "NotGranted",
                Some(types::STALLED),
            ),
        ];
        for (parts, status, reason, beside) in cases {
            let reports = summarize(parts, &[], "All is well");
            assert_eq!((reports[0].status, reports[0].reason), (status, reason));
            for type_ in [types::RECONCILING, types::STALLED] {
                assert_eq!(
                    reports.iter().any(|r| r.type_ == type_),
                    beside == Some(type_),
                    "{type_}"
                );
            }
        }
    }

    #[test]
    fn an_advisory_part_holds_ready_back_only_when_false() {
        let advisory = [types::ENFORCED];
        let unknown = summarize(
            vec![Report::pending(types::ENFORCED, "ServerValidates", "…")],
            &advisory,
            "Ready",
        );
        assert_eq!(unknown[0].status, Status::True);
        let open = summarize(vec![Report::no(types::ENFORCED, "Open", "…")], &advisory, "Ready");
        assert_eq!(open[0].status, Status::False);
    }

    #[test]
    fn time_moves_only_with_the_status() {
        let first = merge(&[], &[Report::pending(types::READY, "A", "a")], Some(1), at(1));
        let same = merge(&first, &[Report::pending(types::READY, "B", "b")], Some(2), at(2));
        assert_eq!(same[0].last_transition_time, Time(at(1)));
        assert_eq!(
            (same[0].reason.as_str(), same[0].observed_generation),
            ("B", Some(2))
        );
        let changed = merge(&same, &[Report::yes(types::READY, "Ready", "b")], Some(2), at(3));
        assert_eq!(changed[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn only_ours_are_applied() {
        let old = merge(&[], &[Report::yes(types::STALLED, "a", "a")], None, at(1));
        let merged = merge(&old, &[Report::yes(types::READY, "Ready", "r")], None, at(2));
        assert_eq!(
            merged.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            ["Ready"],
            "Stalled no longer holds"
        );
        assert!(is_ours(types::STALLED) && !is_ours("example.com/Audited"));
    }
}
