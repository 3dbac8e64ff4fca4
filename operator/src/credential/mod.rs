//! Credentials of clients and servers: which one to use now, and the journal that makes the answer survive a crash.
//!
//! Every change goes journal → authorization server → workload Secret → proof → retire the old one. Killed between
//! any two of these, the next run reads the journal and goes on with the same secret, so there is never a second
//! client, nor an invalid credential in a Secret for longer than one pass. Where the authorization server lets two
//! secrets be valid, the old one stays so from before the new one is anywhere until [`Facts::overlap`] after it was
//! proved, so that nobody who reads the Secret late is refused.

pub mod book;
pub mod flow;
pub mod homes;
pub mod journal;
pub mod moving;
pub mod pace;
pub mod secret;
pub mod window;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use self::{
    journal::{Journal, Pending},
    window::Window,
};
use crate::provider::{Credential, CredentialKind, Credentials, Previous};

/// For how long the authorization server is told to accept the old secret while the new one is not proved. It ends
/// [`Facts::overlap`] after the proof; until then, and if the operator is down for long, the workload depends on it.
const UNFINISHED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A secret is replaced so long before the authorization server lets it expire; sooner after a part of its life, where it
/// does not live for days.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// That part is all but this one.
const LAST_PART: i32 = 3;

/// Why a new credential is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none.
    First,
    /// The client authenticates in another way now.
    MethodChanged,
    /// The annotation asked for it, and for the end of the old one.
    Revoked,
    /// The annotation asked for it.
    Requested,
    /// The authorization server would let the old one expire.
    Expiring,
    /// It reached its age.
    Due,
    /// The client is to be another, and the authorization server does not change one that is registered.
    Changed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::First,
        Self::MethodChanged,
        Self::Revoked,
        Self::Requested,
        Self::Expiring,
        Self::Due,
        Self::Changed,
    ];

    /// The label that metrics show, and the word in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "First",
            Self::MethodChanged => "MethodChanged",
            Self::Revoked => "Revoked",
            Self::Requested => "Requested",
            Self::Expiring => "Expiring",
            Self::Due => "Due",
            Self::Changed => "Changed",
        }
    }

    /// The reason that a word of a journal stands for. One that is unknown, from another version of the operator, gets no
    /// overlap: an old secret that was revoked must not stay valid.
    pub fn named(word: Option<&str>) -> Self {
        let known = Self::ALL.into_iter();
        known
            .into_iter()
            .find(|reason| Some(reason.as_str()) == word)
            .unwrap_or(Self::Revoked)
    }

    /// Whether the old credential may stay valid for a while.
    pub const fn overlaps(self) -> bool {
        !matches!(self, Self::First | Self::MethodChanged | Self::Revoked)
    }
}

/// What is known when a credential is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the client authenticates with.
    pub kind: CredentialKind,
    /// What the journal says; `None` when there is none (new, or lost with the operator's namespace).
    pub journal: Option<&'a Journal>,
    /// The secret that the authorization server tells for our client, or the key in the workload's Secret if the server
    /// accepts it.
    pub at_server: Option<&'a Credential>,
    /// When it lets that secret expire.
    pub expires: Option<Timestamp>,
    /// The value of the annotation that asks for rotation.
    pub request: Option<&'a str>,
    /// The value of the annotation that asks for revocation.
    pub revocation: Option<&'a str>,
    /// The age at which a credential is replaced.
    pub interval: Option<SignedDuration>,
    /// When that may happen.
    pub window: Option<&'a Window>,
    /// How long the old one stays valid after the new one was proved; `None`: the authorization server cannot do that.
    pub overlap: Option<SignedDuration>,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Facts<'a> {
    /// Of a secret that nobody asks to rotate.
    pub fn unrotated(
        journal: Option<&'a Journal>,
        at_server: Option<&'a Credential>,
        now: Timestamp,
    ) -> Self {
        Self {
            kind: CredentialKind::Secret,
            journal,
            at_server,
            expires: None,
            request: None,
            revocation: None,
            interval: None,
            window: None,
            overlap: None,
            now,
        }
    }

    /// The credential in force.
    pub fn current(&self) -> Option<&'a Credential> {
        self.journal?.current.as_ref()
    }
}

/// Which credential to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one in force.
    Keep(Credential),
    /// The one that the journal has begun to put in force.
    Finish(Credential),
    /// The one that the authorization server tells or accepts; the journal was lost.
    Adopt(Credential),
    /// A new one.
    Make(Reason),
}

/// The checks in their order; the first that has something to say decides.
const CHECKS: [fn(&Facts<'_>) -> Option<Choice>; 8] = [
    method_changed,
    unfinished,
    lost,
    revoked,
    overlapping,
    requested,
    expiring,
    due,
];

/// Chooses.
pub fn choose(facts: Facts<'_>) -> Choice {
    let checked = CHECKS.iter().find_map(|check| check(&facts));
    checked
        .or_else(|| facts.current().cloned().map(Choice::Keep))
        .unwrap_or(Choice::Make(Reason::First))
}

/// What is of another kind is of no use, also while it is put in force. What was revoked stays so.
fn method_changed(facts: &Facts<'_>) -> Option<Choice> {
    let journal = facts.journal?;
    let pending = journal.pending.as_ref();
    let newest = pending
        .map(|pending| &pending.credential)
        .or(journal.current.as_ref())?;
    (newest.kind() != facts.kind).then_some(())?;
    let revoked = is_revoked(facts) || pending.is_some_and(|pending| pending.reason == Reason::Revoked);
    Some(Choice::Make(if revoked {
        Reason::Revoked
    } else {
        Reason::MethodChanged
    }))
}

/// A change that was begun is finished first.
fn unfinished(facts: &Facts<'_>) -> Option<Choice> {
    let pending = facts.journal?.pending.as_ref()?;
    Some(Choice::Finish(pending.credential.clone()))
}

/// A lost journal is filled from the server. That tells no private key: one that is not in the workload's Secret either
/// is replaced.
fn lost(facts: &Facts<'_>) -> Option<Choice> {
    match (facts.current(), facts.at_server) {
        (Some(_), _) => None,
        (None, Some(secret)) => Some(Choice::Adopt(secret.clone())),
        (None, None) => Some(Choice::Make(Reason::First)),
    }
}

fn revoked(facts: &Facts<'_>) -> Option<Choice> {
    is_revoked(facts).then_some(Choice::Make(Reason::Revoked))
}

fn is_revoked(facts: &Facts<'_>) -> bool {
    let handled = facts
        .journal
        .and_then(|journal| journal.handled_revocation.as_deref());
    facts.journal.is_some() && facts.revocation.is_some() && facts.revocation != handled
}

/// No third one while two are valid: who has not read the second yet would be refused.
fn overlapping(facts: &Facts<'_>) -> Option<Choice> {
    let previous = facts.journal?.previous.as_ref()?;
    let is_valid = facts.overlap.is_some() && previous.until > facts.now;
    facts.current().filter(|_| is_valid).cloned().map(Choice::Keep)
}

fn requested(facts: &Facts<'_>) -> Option<Choice> {
    let handled = facts.journal?.handled_request.as_deref();
    (facts.request.is_some() && facts.request != handled).then_some(Choice::Make(Reason::Requested))
}

fn expiring(facts: &Facts<'_>) -> Option<Choice> {
    // What the server tells of may be another secret by now, which is set right and not replaced.
    (facts.at_server == facts.current()).then_some(())?;
    let renewal = renewal(facts.expires?, facts.journal?.rotated_at);
    (renewal <= facts.now).then_some(Choice::Make(Reason::Expiring))
}

/// When a secret is replaced that the authorization server lets expire, if it is known since when it is valid.
pub fn renewal(expires: Timestamp, since: Option<Timestamp>) -> Timestamp {
    let life = since.map(|since| expires.duration_since(since));
    let before = life.map_or(BEFORE_EXPIRY, |life| (life / LAST_PART).min(BEFORE_EXPIRY));
    expires.checked_sub(before).unwrap_or(expires)
}

fn due(facts: &Facts<'_>) -> Option<Choice> {
    (next(facts)? <= facts.now).then_some(Choice::Make(Reason::Due))
}

/// When the credential in force is to be replaced by itself: at its age, or when the next window opens after that.
pub fn next(facts: &Facts<'_>) -> Option<Timestamp> {
    let due = facts.journal?.rotated_at?.checked_add(facts.interval?).ok()?;
    match facts.window {
        Some(window) => window.opening(due.max(facts.now)),
        None => Some(due),
    }
}

/// When to look again, because something ends or is due by then.
pub fn look_again(facts: &Facts<'_>) -> Option<Timestamp> {
    let previous = facts.journal.and_then(|journal| journal.previous.as_ref());
    previous.map(|previous| previous.until).or_else(|| next(facts))
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
            handled_revocation: facts.revocation.map(str::to_owned),
            ..before
        }),
        Choice::Make(reason) => Some(Journal {
            pending: made.map(|credential| Pending {
                credential,
                reason: *reason,
                since: facts.now,
                request: facts.request.map(str::to_owned),
                revocation: facts.revocation.map(str::to_owned),
            }),
            // The server holds two at the most.
            previous: None,
            ..before
        }),
    }
}

/// What the authorization server is to accept.
pub fn accepted(journal: &Journal, facts: &Facts<'_>) -> Option<Credentials> {
    let can_overlap = facts.overlap.is_some();
    if let Some(pending) = &journal.pending {
        let waits = can_overlap && pending.reason.overlaps() && facts.overlap != Some(SignedDuration::ZERO);
        let old = journal.current.clone().filter(|_| waits);
        return Some(Credentials {
            current: pending.credential.clone(),
            previous: old.and_then(|credential| {
                let until = pending.since.checked_add(UNFINISHED).ok()?;
                Some(Previous { credential, until })
            }),
        });
    }
    let previous = journal.previous.clone();
    Some(Credentials {
        current: journal.current.clone()?,
        previous: previous.filter(|previous| can_overlap && previous.until > facts.now),
    })
}

/// The journal after the proof: what was pending is in force, and the old one ends after the overlap. `None`: nothing
/// was pending.
pub fn finish(journal: &Journal, facts: &Facts<'_>) -> Option<Journal> {
    let pending = journal.pending.clone()?;
    let had = accepted(journal, facts).and_then(|accepted| accepted.previous);
    let until = facts
        .overlap
        .and_then(|overlap| facts.now.checked_add(overlap).ok());
    Some(Journal {
        current: Some(pending.credential),
        previous: had.zip(until).map(|(had, until)| Previous {
            credential: had.credential,
            until,
        }),
        rotated_at: Some(pending.since),
        handled_request: pending.request.or_else(|| journal.handled_request.clone()),
        handled_revocation: pending.revocation.or_else(|| journal.handled_revocation.clone()),
        pending: None,
        ..journal.clone()
    })
}

/// The journal without an old credential that the authorization server does not accept any more. `None`: there is none.
pub fn retire(journal: &Journal, facts: &Facts<'_>) -> Option<Journal> {
    let ended = journal.previous.is_some() && accepted(journal, facts)?.previous.is_none();
    ended.then(|| Journal {
        previous: None,
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
