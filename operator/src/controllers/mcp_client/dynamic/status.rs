//! What is said of registrations. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::{McpClientStatus, PreviousClientId, RegistrationStatus},
};

use super::chain::Said;
use crate::{
    controllers::halt::Halt,
    credential::book::{Book, Entry},
};

/// The reason of an Event about a registration that nobody can reach any more.
pub(super) const UNREACHABLE: &str = "RegistrationUnreachable";
/// The reason of an Event about a registration that the authorization server does not know any more.
const GONE: &str = "RegistrationGone";
/// The reason of an Event about a registration that must not be used.
const REFUSED: &str = "AnswerRefused";

/// How long tokens of a client id may be valid that works no more. No server says, and the longest that we let any live
/// elsewhere is as good a guess as any.
const TOKENS: SignedDuration = SignedDuration::from_hours(24);
/// How many client ids of before are remembered.
const MOST_PREVIOUS: usize = 8;

/// The client ids of before, with those that the status knew.
fn previous(book: &Book, status: Option<&McpClientStatus>, now: Timestamp) -> Vec<PreviousClientId> {
    let current = book.current.as_ref().map(|entry| &entry.client_id);
    let known = status.and_then(|status| status.registration.as_ref());
    let known = known.iter().flat_map(|known| &known.previous);
    let mut all: BTreeMap<String, Timestamp> = known
        .filter_map(|known| Some((known.client_id.clone(), known.until.parse().ok()?)))
        .collect();
    let later = |time: Timestamp| time.checked_add(TOKENS).unwrap_or(time);
    for old in &book.old {
        all.insert(old.entry.client_id.clone(), later(old.until));
    }
    if let Some(last) = status.and_then(|status| status.client_id.clone()) {
        all.entry(last).or_insert_with(|| later(now));
    }
    all.retain(|id, until| *until > now && Some(id) != current);
    let mut all: Vec<_> = all.into_iter().map(|(id, until)| (until, id)).collect();
    all.sort_unstable_by(|one, other| other.cmp(one));
    all.truncate(MOST_PREVIOUS);
    all.into_iter()
        .map(|(until, client_id)| PreviousClientId {
            client_id,
            until: until.to_string(),
        })
        .collect()
}

/// What the status says of the registration in force, or of the one that is to be.
pub(super) fn registration(
    book: &Book,
    status: Option<&McpClientStatus>,
    now: Timestamp,
) -> RegistrationStatus {
    let entry = book.current.as_ref().or(book.fresh.as_ref());
    let of = |read: fn(&Entry) -> Option<String>| entry.and_then(read);
    RegistrationStatus {
        number: entry.map(|entry| i64::from(entry.begun.number)),
        managed: entry.map(|entry| entry.managed.is_some()),
        altered: entry.map(|entry| entry.altered.clone()).unwrap_or_default(),
        secret_expires: of(|entry| entry.secret_expires.map(|time| time.to_string())),
        previous: previous(book, status, now),
        unreachable: Some(i64::from(book.unreachable)).filter(|count| *count > 0),
        unreachable_numbers: book.left.iter().map(|number| i64::from(*number)).collect(),
    }
}

/// What is left of a client that is gone, if anything is.
pub(super) fn farewell(book: &Book, software_id: &str) -> Option<String> {
    if book.unreachable == 0 {
        return None;
    }
    let count = book.unreachable;
    let numbers: Vec<_> = book.left.iter().map(u32::to_string).collect();
    Some(format!(
        "The client is deleted, and registrations of it may be left at the authorization server that nobody can reach ({count}, the last of them with software_id {software_id} and software_version {}). Its administrator can remove them",
        numbers.join(", ")
    ))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_ids_of_before_are_remembered_while_their_tokens_may_be_valid() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let entry = |id: &str| {
            json!({
                "begun": {"number": 1, "reason": "First", "since": "2026-01-01T00:00:00Z"},
                "issuer": "i", "clientId": id, "secret": null, "secretExpires": null, "method": "none",
                "managed": null, "asked": "", "scopes": [], "told": "", "altered": [], "unfit": null,
            })
        };
        let book: Book = serde_json::from_value(json!({
            "current": entry("now"),
            "old": [{"entry": entry("old"), "until": "2026-01-02T01:00:00Z"}],
        }))
        .unwrap();
        let status: McpClientStatus = serde_json::from_value(json!({
            "clientId": "last",
            "registration": {"previous": [
                {"clientId": "now", "until": "2026-01-03T00:00:00Z"},
                {"clientId": "over", "until": "2026-01-02T00:00:00Z"},
                {"clientId": "kept", "until": "2026-01-02T12:00:00Z"},
            ]},
        }))
        .unwrap();
        let said = registration(&book, Some(&status), now).previous;
        let said: Vec<_> = said
            .iter()
            .map(|id| (id.client_id.as_str(), id.until.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("old", "2026-01-03T01:00:00Z"),
                ("last", "2026-01-03T00:00:00Z"),
                ("kept", "2026-01-02T12:00:00Z"),
            ]
        );
    }
}
