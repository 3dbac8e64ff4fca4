//! Why a pass stops before its end, and what conditions come of it.

use kube::Resource;
use mcp_auth_crds::{
    annotations,
    condition::{Report, Status},
};

use super::home::CONNECTING;
use crate::{error::Error, policy::Refusal, provider::ProviderError};

/// Whether the user paused the object. Revocation, deletion and loss of permission are never delayed by it.
pub fn is_paused<K: Resource>(object: &K) -> bool {
    let annotations = object.meta().annotations.as_ref();
    annotations
        .and_then(|all| all.get(annotations::RECONCILE))
        .is_some_and(|v| v == annotations::RECONCILE_PAUSED)
}

/// Why a pass stops.
#[derive(Debug)]
pub enum Halt {
    /// A person must act. Trying again before something changes is of no use.
    Refused(Refusal),
    /// Something that can still arrive by itself is missing; its arrival wakes the object.
    Waiting(Refusal),
    /// Something failed; it is tried again.
    Failed(Error),
    /// The user paused the object: its status stays as it is.
    Paused,
}

impl Halt {
    /// A person must act.
    pub fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(reason, message))
    }

    /// Something is missing that can still arrive by itself.
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Waiting(Refusal::new(reason, message))
    }

    /// Whether the state that is known from before still stands, for all we know: one failed probe flips nothing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed(Error::Provider(error)) => {
                matches!(
                    error,
                    ProviderError::Unreachable { .. }
                        | ProviderError::Unavailable { .. }
                        | ProviderError::Conflict { .. }
                        | ProviderError::Gone { .. }
                )
            }
            Self::Failed(Error::Cluster { reason, .. }) => matches!(*reason, "Conflict" | "Unreachable"),
            Self::Failed(Error::Discovery(error)) => !error.needs_a_person(),
            Self::Failed(Error::KeyNotMade | Error::NotLeading) => true,
            Self::Waiting(refusal) => refusal.reason == CONNECTING,
            Self::Failed(Error::Setup(_) | Error::PermissionsMissing { .. })
            | Self::Refused(_)
            | Self::Paused => false,
        }
    }

    /// The reason in a word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) | Self::Waiting(refusal) => refusal.reason,
            Self::Failed(error) => error.reason(),
            Self::Paused => "Paused",
        }
    }

    fn report(&self, type_: &'static str) -> Report {
        let (status, reason, message) = match self {
            Self::Refused(refusal) => (Status::False, refusal.reason, refusal.message.clone()),
            Self::Waiting(refusal) => (Status::Unknown, refusal.reason, refusal.message.clone()),
            Self::Failed(error) => {
                let status = if error.needs_a_person() {
                    Status::False
                } else {
                    Status::Unknown
                };
                (status, error.reason(), sentence(&error.to_string()))
            }
            Self::Paused => (Status::Unknown, "Paused", "Paused by annotation".to_owned()),
        };
        Report {
            type_,
            status,
            reason,
            message,
        }
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ProviderError> for Halt {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<kube::Error> for Halt {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Completes the reports of a pass that stopped: the first type of `order` that was not reached says why, the ones
/// after it wait for it.
pub fn complete(order: &[&'static str], mut reports: Vec<Report>, halt: Option<&Halt>) -> Vec<Report> {
    let Some(halt) = halt else { return reports };
    let mut first: Option<&'static str> = None;
    for type_ in order {
        if reports.iter().any(|report| report.type_ == *type_) {
            continue;
        }
        reports.push(match first {
            None => halt.report(type_),
            Some(before) => Report::pending(type_, "Waiting", format!("Waits for {before}")),
        });
        first = first.or(Some(*type_));
    }
    reports
}

/// Text that begins with a capital letter, as messages do.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_was_not_reached_says_why_and_the_next_ones_wait() {
        let order = ["Accepted", "Registered", "CredentialsReady"];
        let accepted = Report::yes("Accepted", "Accepted", "Fine");
        let halt = Halt::from(ProviderError::Forbidden {
            operation: "create clients",
            permission: "manage-clients",
        });
        let reports = complete(&order, vec![accepted.clone()], Some(&halt));
        assert_eq!(
            reports,
            [
                accepted,
                Report::no(
                    "Registered",
                    "PermissionMissing",
                    "The operator's credential may not create clients: it lacks manage-clients"
                ),
                Report::pending("CredentialsReady", "Waiting", "Waits for Registered"),
            ]
        );
    }

    #[test]
    fn what_may_still_arrive_is_unknown_and_what_needs_a_person_is_false() {
        let cases = [
            (Halt::refused("HostNotGranted", "Ask"), Status::False),
            (Halt::waiting("NotFound", "Wait"), Status::Unknown),
            (Halt::from(ProviderError::NotLeading), Status::Unknown),
            (
                Halt::from(ProviderError::Unauthenticated {
                    code: "invalid_client".into(),
                }),
                Status::False,
            ),
        ];
        for (halt, status) in cases {
            assert_eq!(
                complete(&["Accepted"], vec![], Some(&halt))[0].status,
                status,
                "{halt:?}"
            );
        }
    }
}
