//! What is said of registrations. Pure.

use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::ClientRegistrationStatus,
};

use super::chain::Said;
use crate::{
    controllers::halt::Halt,
    credential::book::{Book, Entry},
};

/// The reason of an Event about a registration that nobody can reach any more.
const UNREACHABLE: &str = "RegistrationUnreachable";
/// The reason of an Event about a registration that the authorization server does not know any more.
const GONE: &str = "RegistrationGone";
/// The reason of an Event about a registration that must not be used.
const REFUSED: &str = "AnswerRefused";

/// What the status says of the registration in force, or of the one that is to be.
pub(super) fn registration(book: &Book) -> ClientRegistrationStatus {
    let entry = book.current.as_ref().or(book.fresh.as_ref());
    let of = |read: fn(&Entry) -> Option<String>| entry.and_then(read);
    ClientRegistrationStatus {
        number: entry.map(|entry| i64::from(entry.begun.number)),
        managed: entry.map(|entry| entry.managed.is_some()),
        altered: entry.map(|entry| entry.altered.clone()).unwrap_or_default(),
        secret_expires: of(|entry| entry.secret_expires.map(|time| time.to_string())),
        unreachable: Some(i64::from(book.unreachable)).filter(|count| *count > 0),
    }
}

/// Why the client is not registered yet.
pub(super) fn waits(book: &Book) -> Halt {
    match &book.refusal {
        Some(why) => Halt::refused(
            "RegistrationRefused",
            format!(
                "The operator does not use what the authorization server answered to the registration: {why}. It tries again from time to time"
            ),
        ),
        None => Halt::waiting(
            "AnswerLost",
            "The answer to the registration was lost: the operator tries again in a while",
        ),
    }
}

/// The client works, but not for all that its servers allow.
pub(super) fn not_given(why: &str) -> Report {
    Report::no(
        types::ACCESS_GRANTED,
        "AccessNotGiven",
        format!(
            "The credential works, but {why}: let the administrator of the authorization server see to it"
        ),
    )
}

/// An Event in its own words: reason and note.
pub(super) fn event(said: &Said, software_id: &str) -> (&'static str, String) {
    match said {
        Said::Unreachable { number, why } => {
            let note = format!(
                "Registration {number} of this client (software_id {software_id}, software_version {number}) may be left at the authorization server, where nobody can reach it any more: {}. Its administrator can remove it",
                why.in_words()
            );
            (UNREACHABLE, note)
        }
        Said::Gone => (
            GONE,
            "The authorization server does not know the registration of this client any more: it is registered anew".to_owned(),
        ),
        Said::Refused(why) => (
            REFUSED,
            format!("What the authorization server made of the registration must not be used: {why}. It is removed"),
        ),
    }
}
