//! What a client asks of the rotation of its credential, and what its status says of it. Pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use mcp_auth_crds::{
    annotations,
    v1alpha1::{AuthenticationMethod, DurationText, McpClient, Overlap, RotationPhase, RotationStatus},
};

use super::desired;
use crate::{
    controllers::{halt::Halt, pass::Next},
    credential::{self, Choice, Facts, Reason, journal::Journal, window::Window},
    provider::{CredentialKind, Credentials},
};

/// How long the old credential stays valid, unless the spec says otherwise: longer than a kubelet takes to refresh what
/// is mounted, and a workload to read it.
const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// So much later than something ends it is looked at, so that it has ended by everybody's clock.
const AFTER: std::time::Duration = std::time::Duration::from_millis(100);

/// The wishes of a client, read once in a pass.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    kind: CredentialKind,
    request: Option<String>,
    revocation: Option<String>,
    interval: Option<SignedDuration>,
    window: Option<Window>,
    /// What is wrong with the window.
    problem: Option<String>,
    overlap: Option<SignedDuration>,
}

impl Rotation {
    /// What the client asks for, at a server that can or cannot let two secrets be valid. Two keys always can.
    pub(super) fn of(client: &McpClient, can_overlap: bool) -> Self {
        let kind = match client.spec.managed.as_ref().map(desired::method) {
            Some(AuthenticationMethod::PrivateKeyJwt) => CredentialKind::PrivateKey,
            _ => CredentialKind::Secret,
        };
        let can_overlap = can_overlap || kind == CredentialKind::PrivateKey;
        let spec = client.spec.rotation.clone().unwrap_or_default();
        let length = |text: &Option<DurationText>| {
            let text = text.as_ref().and_then(DurationText::duration);
            text.and_then(|length| SignedDuration::try_from(length).ok())
        };
        let interval = length(&spec.interval);
        // One that nobody chose fits any interval.
        let usual = interval.map_or(OVERLAP, |interval| OVERLAP.min(interval / 2));
        let (window, problem) = match spec.window.as_ref().map(Window::new) {
            None => (None, None),
            Some(Ok(window)) => (Some(window), None),
            Some(Err(problem)) => (None, Some(problem)),
        };
        let annotation = |name: &str| client.annotations().get(name).cloned();
        Self {
            kind,
            request: annotation(annotations::ROTATE_REQUESTED_AT),
            revocation: annotation(annotations::REVOKE_REQUESTED_AT),
            // At which age is not known, without the window that it is meant with.
            interval: interval.filter(|_| problem.is_none()),
            window,
            problem,
            overlap: can_overlap.then(|| length(&spec.overlap).unwrap_or(usual)),
        }
    }

    /// How long the old credential stays valid.
    pub(super) fn overlap(&self) -> Option<SignedDuration> {
        self.overlap
    }

    /// The same where only one secret can be valid.
    pub(super) fn without_overlap(&self) -> Self {
        Self {
            overlap: None,
            ..self.clone()
        }
    }

    /// Why the client cannot be served as it asks.
    pub(super) fn refusal(&self) -> Option<Halt> {
        let problem = self.problem.clone()?;
        Some(Halt::refused("RotationWindowInvalid", problem))
    }

    /// Whether the credential is being revoked, or is to be.
    pub(super) fn revokes(&self, journal: Option<&Journal>, now: Timestamp) -> bool {
        let pending = journal.and_then(|journal| journal.pending.as_ref());
        match pending {
            Some(pending) => pending.reason == Reason::Revoked,
            None => credential::choose(self.facts(journal, now)) == Choice::Make(Reason::Revoked),
        }
    }

    /// What the authorization server is to accept.
    pub(super) fn accepted(&self, journal: &Journal, now: Timestamp) -> Option<Credentials> {
        credential::accepted(journal, &self.facts(Some(journal), now))
    }

    /// With what is known besides.
    pub(super) fn facts<'a>(&'a self, journal: Option<&'a Journal>, now: Timestamp) -> Facts<'a> {
        Facts {
            kind: self.kind,
            request: self.request.as_deref(),
            revocation: self.revocation.as_deref(),
            interval: self.interval,
            window: self.window.as_ref(),
            overlap: self.overlap,
            ..Facts::unrotated(journal, None, now)
        }
    }

    /// What the status says.
    pub(super) fn status(&self, journal: &Journal, now: Timestamp) -> RotationStatus {
        let facts = self.facts(Some(journal), now);
        let previous = self.accepted(journal, now).and_then(|accepted| accepted.previous);
        let phase = match (&journal.pending, &previous) {
            (Some(_), _) => RotationPhase::Rotating,
            (None, Some(_)) => RotationPhase::Overlapping,
            (None, None) => RotationPhase::Settled,
        };
        // While it is being replaced, nobody knows yet.
        let previous = previous.filter(|_| journal.pending.is_none());
        RotationStatus {
            last_rotated: journal.rotated_at.map(|time| time.to_string()),
            next: credential::next(&facts).map(|time| time.to_string()),
            previous_valid_until: previous.map(|previous| previous.until.to_string()),
            phase: Some(phase),
            overlap: Some(if self.overlap.is_some() {
                Overlap::Supported
            } else {
                Overlap::Unsupported
            }),
        }
    }

    /// When to look again. `deferred`: how long the next turn of the realm is away, if one is due.
    pub(super) fn look_again(
        &self,
        journal: &Journal,
        deferred: Option<std::time::Duration>,
        now: Timestamp,
    ) -> Next {
        if let Some(wait) = deferred {
            return Next::After(wait + AFTER);
        }
        let at = credential::look_again(&self.facts(Some(journal), now));
        match at.map(|at| at.duration_since(now)) {
            Some(wait) => Next::After(std::time::Duration::try_from(wait).unwrap_or_default() + AFTER),
            None => Next::Resync,
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_auth_crds::v1alpha1::RotationPhase::{Overlapping, Rotating, Settled};
    use serde_json::json;

    use super::*;
    use crate::{
        credential::journal::Pending,
        provider::{Credential, Previous},
    };

    fn client(rotation: &serde_json::Value) -> McpClient {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"name": "c"},
            "spec": {"authorizationServerRef": {"name": "a"}, "rotation": rotation},
        }))
        .unwrap()
    }

    #[test]
    fn an_overlap_that_nobody_chose_fits_the_interval() {
        let minutes = |count| Some(SignedDuration::from_mins(count));
        for (rotation, overlap) in [
            (json!({}), minutes(60)),
            (json!({"interval": "720h"}), minutes(60)),
            (json!({"interval": "20m"}), minutes(10)),
            (json!({"interval": "720h", "overlap": "24h"}), minutes(24 * 60)),
            (json!({"overlap": "0s"}), minutes(0)),
        ] {
            assert_eq!(
                Rotation::of(&client(&rotation), true).overlap,
                overlap,
                "{rotation}"
            );
            assert_eq!(Rotation::of(&client(&rotation), false).overlap, None);
        }
    }

    #[test]
    fn a_window_that_never_comes_is_refused() {
        let window = json!({"schedule": "0 2 30 2 *", "duration": "1h"});
        let rotation = Rotation::of(&client(&json!({"interval": "1h", "window": window})), true);
        let refused = rotation.refusal();
        assert!(
            matches!(&refused, Some(Halt::Refused(refusal)) if refusal.reason == "RotationWindowInvalid"),
            "{refused:?}"
        );
        assert_eq!(rotation.interval, None, "it does not rotate at any time instead");
    }

    #[test]
    fn the_status_says_how_far_it_is() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let rotation = Rotation::of(&client(&json!({"interval": "24h"})), true);
        let settled = Journal {
            current: Some(Credential::new("now")),
            rotated_at: Some(now),
            ..Journal::default()
        };
        let rotating = Journal {
            pending: Some(Pending {
                credential: Credential::new("next"),
                reason: Reason::Due,
                since: now,
                request: None,
                revocation: None,
            }),
            ..settled.clone()
        };
        let overlapping = Journal {
            previous: Some(Previous {
                credential: Credential::new("before"),
                until: "2026-01-01T01:00:00Z".parse().unwrap(),
            }),
            ..settled.clone()
        };
        let until = Some("2026-01-01T01:00:00Z");
        for (journal, phase, previous, wait) in [
            (&settled, Settled, None, 24),
            (&rotating, Rotating, None, 24),
            (&overlapping, Overlapping, until, 1),
        ] {
            let status = rotation.status(journal, now);
            assert_eq!(status.phase, Some(phase));
            assert_eq!(status.previous_valid_until.as_deref(), previous);
            assert_eq!(status.next.as_deref(), Some("2026-01-02T00:00:00Z"));
            let hours = std::time::Duration::from_hours(wait);
            assert_eq!(
                rotation.look_again(journal, None, now),
                Next::After(hours + AFTER)
            );
        }
        let deferred = std::time::Duration::from_secs(5);
        assert_eq!(
            rotation.look_again(&settled, Some(deferred), now),
            Next::After(deferred + AFTER)
        );
    }
}
