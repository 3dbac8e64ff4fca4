//! Credentials of clients and servers: which one to use now, and the journal that makes the answer survive a crash.
//!
//! Every change goes journal → authorization server → workload Secret → proof → retire the old one. Killed between
//! any two of these, the next run reads the journal and goes on with the same secret, so there is never a second
//! client, nor an invalid credential in a Secret for longer than one pass.

pub mod flow;
pub mod journal;
pub mod secret;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use self::journal::Journal;
use crate::provider::Credential;

/// Why a new credential is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none.
    First,
    /// The annotation asked for it.
    Requested,
    /// It reached its age.
    Due,
}

impl Reason {
    /// The label that metrics and Events show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "First",
            Self::Requested => "Requested",
            Self::Due => "Due",
        }
    }
}

/// What is known when a credential is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the journal says; `None` when there is none (new, or lost with the operator's namespace).
    pub journal: Option<&'a Journal>,
    /// The secret that the authorization server tells for our client.
    pub at_server: Option<&'a Credential>,
    /// The value of the rotation annotation.
    pub request: Option<&'a str>,
    /// The age at which a credential is replaced.
    pub interval: Option<SignedDuration>,
    /// The time.
    pub now: Timestamp,
}

/// Which credential to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one in force.
    Keep(Credential),
    /// The one that the journal has begun to put in force.
    Finish(Credential),
    /// The one that the authorization server tells; the journal was lost.
    Adopt(Credential),
    /// A new one.
    Make(Reason),
}

/// Chooses. The checks in their order: an unfinished change is finished first; a lost journal is filled from the
/// server; then come first use, request and age.
pub fn choose(facts: Facts<'_>) -> Choice {
    let journal = facts.journal;
    if let Some(pending) = journal.and_then(|journal| journal.pending.clone()) {
        return Choice::Finish(pending);
    }
    let Some(current) = journal.and_then(|journal| journal.current.clone()) else {
        return facts
            .at_server
            .cloned()
            .map_or(Choice::Make(Reason::First), Choice::Adopt);
    };
    if requested(facts) {
        return Choice::Make(Reason::Requested);
    }
    match due_at(facts) {
        Some(due) if due <= facts.now => Choice::Make(Reason::Due),
        _ => Choice::Keep(current),
    }
}

fn requested(facts: Facts<'_>) -> bool {
    facts.request.is_some()
        && facts.request
            != facts
                .journal
                .and_then(|journal| journal.handled_request.as_deref())
}

/// When the credential in force reaches its age.
pub fn due_at(facts: Facts<'_>) -> Option<Timestamp> {
    let since = facts.journal?.rotated_at?;
    since.checked_add(facts.interval?).ok()
}

/// The journal to write before anything else, given the choice; `made` is the secret that was made for
/// [`Choice::Make`]. `None`: the journal already says so.
pub fn begin(facts: Facts<'_>, choice: &Choice, made: Option<Credential>) -> Option<Journal> {
    let before = facts.journal.cloned().unwrap_or_default();
    match choice {
        Choice::Keep(_) | Choice::Finish(_) => None,
        Choice::Adopt(secret) => Some(Journal {
            current: Some(secret.clone()),
            rotated_at: Some(facts.now),
            // What was asked for before the journal was lost cannot be known: acting on it again would rotate a
            // credential that a restore has just brought back.
            handled_request: facts.request.map(str::to_owned),
            ..before
        }),
        Choice::Make(_) => Some(Journal {
            pending: made,
            pending_request: facts.request.map(str::to_owned),
            ..before
        }),
    }
}

/// The journal after the proof: what was pending is in force. `None`: nothing was pending.
pub fn finish(journal: &Journal, now: Timestamp) -> Option<Journal> {
    let pending = journal.pending.clone()?;
    Some(Journal {
        current: Some(pending),
        pending: None,
        rotated_at: Some(now),
        handled_request: journal
            .pending_request
            .clone()
            .or_else(|| journal.handled_request.clone()),
        pending_request: None,
        ..journal.clone()
    })
}

/// A new secret: 256 bits of the system's randomness, in URL-safe base64.
pub fn make() -> Credential {
    use base64::Engine as _;
    let bytes: [u8; 32] = rand::random();
    Credential::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
