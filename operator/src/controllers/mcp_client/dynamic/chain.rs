//! What comes next, from what is known: a chain of small checks, of which the first that has something to say decides.
//! Pure.
//!
//! The order of a registration: an intent in the journal → the call → its answer in the journal → proof → the workload's
//! Secret → in force, in the journal → after the overlap the one before it is removed. The authorization server accepts
//! both meanwhile, so here, unlike where we choose the secret, the proof can come before the Secret: what does not work
//! never gets there.
//!
//! Killed between any two of these the next pass finds the intent without an answer, counts what it may have left, and
//! begins anew; or it finds the answer, and goes on with it.

use k8s_openapi::jiff::Timestamp;

use crate::{
    credential::{
        self, Choice, Facts as Wishes, Reason,
        book::{Book, Entry},
        journal::Journal,
    },
    provider::{
        Credential,
        registration::{Asked, Method, Told},
    },
};

/// What the client is to be registered as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want<'a> {
    /// With what.
    pub(super) asked: &'a Asked,
    /// Where.
    pub(super) issuer: &'a str,
}

/// What the authorization server says of the newest registration, in this pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was not asked, or nothing that it could be asked.
    Nothing,
    /// This.
    Told(Box<Told>),
    /// It does not know it, or not the token by which it is managed.
    Gone {
        /// The client may exist all the same.
        may_exist: bool,
    },
}

/// What is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The journal.
    pub(super) book: &'a Book,
    /// What is wanted; `None`: no registration at all.
    pub(super) want: Option<Want<'a>>,
    /// What was read.
    pub(super) seen: &'a Seen,
    /// The newest registration has a client id that belongs to somebody else.
    pub(super) is_taken: bool,
    /// The newest registration was proved, and is in the workload's Secret.
    pub(super) is_handed_over: bool,
    /// What is wished of the credential; its journal and what is at the server are of no account here.
    pub(super) wishes: Wishes<'a>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The journal is to say this, and people are to be told.
    Note(Box<Book>, Option<Said>),
    /// An old registration is to be removed.
    Remove(Box<Entry>),
    /// A registration is to be begun.
    Register(Reason),
    /// The newest registration is to be changed; whether others changed it before.
    Update {
        /// They did.
        is_drift: bool,
    },
    /// The newest registration is to be proved and handed over.
    HandOver,
    /// It is too early for another attempt.
    Wait(Timestamp),
    /// All is as it is to be.
    Rest,
}

/// What people are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A registration may be left at the authorization server that nobody can reach any more.
    Unreachable {
        /// Its number, which is its `software_version`.
        number: u32,
        /// How that came about.
        why: Left,
    },
    /// The authorization server does not know the registration any more.
    Gone,
    /// An answer was refused.
    Refused(String),
}

/// How a registration came to be out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The answer to it was lost.
    ReplyLost,
    /// The answer to it cannot be used.
    AnswerRefused,
    /// The token by which it was managed is not accepted any more.
    TokenLost,
    /// The authorization server lets nobody remove it.
    NotRemovable,
}

impl Left {
    /// The label that metrics show.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ReplyLost => "ReplyLost",
            Self::AnswerRefused => "AnswerRefused",
            Self::TokenLost => "TokenLost",
            Self::NotRemovable => "NotRemovable",
        }
    }

    /// The same in words.
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::ReplyLost => "the answer to it was lost",
            Self::AnswerRefused => "the answer to it could not be used",
            Self::TokenLost => "its registration access token is not accepted any more",
            Self::NotRemovable => "the authorization server lets nobody remove it",
        }
    }
}

/// The checks in their order.
const CHECKS: [fn(&Facts<'_>) -> Option<Step>; 9] = [
    reply_lost, over, unwanted, taken, gone, unfit, other, different, unfinished,
];

/// Decides.
pub(super) fn next(facts: &Facts<'_>) -> Step {
    let checked = CHECKS.iter().find_map(|check| check(facts));
    checked.unwrap_or_else(|| replaced(facts))
}

/// Nobody knows what came of an intent without an answer.
fn reply_lost(facts: &Facts<'_>) -> Option<Step> {
    let number = facts.book.intent.as_ref()?.number;
    let why = Left::ReplyLost;
    let book = facts.book.left_behind(number, facts.wishes.now, None);
    Some(Step::Note(
        Box::new(book),
        Some(Said::Unreachable { number, why }),
    ))
}

/// An old registration ends, whatever else there is to do.
fn over(facts: &Facts<'_>) -> Option<Step> {
    let ended = facts.book.old.iter().find(|old| old.until <= facts.wishes.now)?;
    Some(Step::Remove(Box::new(ended.entry.clone())))
}

fn unwanted(facts: &Facts<'_>) -> Option<Step> {
    if facts.want.is_some() {
        return None;
    }
    if facts.book.newest().is_none() {
        return Some(Step::Rest);
    }
    Some(Step::Note(Box::new(facts.book.ended(facts.wishes.now)), None))
}

/// The client of somebody else is not touched, not even to remove it.
fn taken(facts: &Facts<'_>) -> Option<Step> {
    let newest = facts.book.newest().filter(|_| facts.is_taken)?;
    let refusal = "it gave a client_id that another client has";
    let number = newest.begun.number;
    let book = facts
        .book
        .lost(false)
        .left_behind(number, facts.wishes.now, Some(refusal));
    let said = Said::Unreachable {
        number,
        why: Left::AnswerRefused,
    };
    Some(Step::Note(Box::new(book), Some(said)))
}

fn gone(facts: &Facts<'_>) -> Option<Step> {
    let newest = facts.book.newest()?;
    let Seen::Gone { may_exist } = *facts.seen else {
        return None;
    };
    let said = if may_exist {
        Said::Unreachable {
            number: newest.begun.number,
            why: Left::TokenLost,
        }
    } else {
        Said::Gone
    };
    Some(Step::Note(Box::new(facts.book.lost(may_exist)), Some(said)))
}

/// What must not be used ends at once.
fn unfit(facts: &Facts<'_>) -> Option<Step> {
    let why = facts.book.newest()?.unfit.clone()?;
    let book = facts.book.discarded(facts.wishes.now, &why);
    Some(Step::Note(Box::new(book), Some(Said::Refused(why))))
}

/// A client of another issuer, or of another kind, is replaced: what is registered belongs to its issuer, and no server has
/// to make a client with a secret of one without.
fn other(facts: &Facts<'_>) -> Option<Step> {
    let (newest, want) = (facts.book.newest()?, facts.want?);
    let is_public = |method| method == Method::None;
    let same = newest.issuer == want.issuer && is_public(newest.method()) == is_public(want.asked.method);
    (!same).then(|| register(facts, Reason::Changed))
}

/// What is registered is not what is wanted, or not any more.
fn different(facts: &Facts<'_>) -> Option<Step> {
    let (newest, want) = (facts.book.newest()?, facts.want?);
    let is_other = newest.asked != want.asked.fingerprint();
    let is_drift = matches!(facts.seen, Seen::Told(told) if told.fingerprint() != newest.told);
    if !is_other && !is_drift {
        return None;
    }
    if newest.managed.is_some() && !newest.fixed {
        return Some(Step::Update {
            is_drift: is_drift && !is_other,
        });
    }
    // Where nothing can be changed, what others changed cannot be set right either, but by a client of its own.
    Some(register(facts, Reason::Changed))
}

fn unfinished(facts: &Facts<'_>) -> Option<Step> {
    let waits = facts.book.fresh.is_some() || (facts.book.current.is_some() && !facts.is_handed_over);
    waits.then_some(Step::HandOver)
}

/// The registration in force is replaced when that is asked for or due.
fn replaced(facts: &Facts<'_>) -> Step {
    let Some(current) = &facts.book.current else {
        return register(facts, Reason::First);
    };
    let Some(secret) = &current.secret else {
        return Step::Rest;
    };
    match chosen(facts, secret, current.secret_expires) {
        Choice::Make(reason) => register(facts, reason),
        Choice::Keep(_) | Choice::Finish(_) | Choice::Adopt(_) => Step::Rest,
    }
}

/// What the chain of credentials has to say.
fn chosen(facts: &Facts<'_>, secret: &Credential, expires: Option<Timestamp>) -> Choice {
    let view = Journal {
        pending: None,
        ..facts.book.view()
    };
    credential::choose(Wishes {
        journal: Some(&view),
        at_server: Some(secret),
        expires,
        ..facts.wishes
    })
}

/// A registration, unless the last attempt left something behind not long ago. A client that is being replaced is used on
/// meanwhile.
fn register(facts: &Facts<'_>, reason: Reason) -> Step {
    match facts.book.not_before {
        Some(at) if at > facts.wishes.now => {
            let has_other = facts.book.current.is_some() && !facts.is_handed_over;
            if has_other { Step::HandOver } else { Step::Wait(at) }
        }
        _ => Step::Register(reason),
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
