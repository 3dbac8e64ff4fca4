//! What the status says of where a client is and was. Pure.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::{SignedDuration, Timestamp},
};
use mcp_auth_crds::{
    condition::{self, Report, types},
    v1alpha1::{Home, McpClientStatus, ObjectReference, PreviousHome},
};

use crate::{
    controllers::halt::Halt,
    credential::homes::{Homes, Place},
};

/// How long tokens of a client may be valid after it ended: the schema of McpClients lets none live longer.
const TOKENS: SignedDuration = SignedDuration::from_hours(24);
/// How many places are remembered at most, besides those where the client is.
const MOST_GONE: usize = 8;

/// The reason of a client that is still registered where it was, because that could not be ended yet.
const OLD_NOT_REMOVED: &str = "OldNotRemoved";
/// The reason of a client for which nothing has been done yet where it is to be.
const NOT_MOVED: &str = "NotMoved";
/// The reason of a client that works where it is to be, and for the overlap where it was.
const OLD_KEPT: &str = "OldKept";
/// The reason of a client that is on its way.
const MOVING: &str = "Moving";
/// All of them.
const REASONS: [&str; 4] = [OLD_NOT_REMOVED, NOT_MOVED, OLD_KEPT, MOVING];

/// Where the client is and was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct History {
    /// Where it is.
    pub(in super::super) registered_at: Option<Home>,
    /// Where it was.
    pub(in super::super) previous: Vec<PreviousHome>,
}

impl History {
    /// What a status says of it.
    pub(in super::super) fn of(status: &McpClientStatus) -> Self {
        Self {
            registered_at: status.registered_at.clone(),
            previous: status.previous.clone(),
        }
    }

    /// What is still true of the status of before: what it says of another home is nothing here.
    pub(in super::super) fn at_home(&self, old: McpClientStatus) -> McpClientStatus {
        let place = |home: &Option<Home>| {
            home.as_ref()
                .map(|home| (home.authorization_server_ref.clone(), home.issuer.clone()))
        };
        let before = place(&old.registered_at);
        if before.is_none() || before == place(&self.registered_at) {
            return old;
        }
        McpClientStatus {
            client_id: None,
            registration: None,
            granted: Vec::new(),
            ..old
        }
    }
}

fn reference(place: &Place) -> ObjectReference {
    ObjectReference {
        name: place.name.clone(),
        namespace: Some(place.namespace.clone()),
    }
}

/// What the journal says of places, with those that the status knew and that are left.
pub(in super::super) fn history(homes: &Homes, old: &McpClientStatus, now: Timestamp) -> History {
    let registered_at = homes.here.as_ref().map(|here| Home {
        authorization_server_ref: reference(here),
        issuer: here.issuer.clone(),
        service_account: here.account.clone(),
    });
    let kept = homes.parked.iter().map(|parked| PreviousHome {
        authorization_server_ref: reference(&parked.place),
        issuer: parked.place.issuer.clone(),
        client_id: parked.client_id.clone(),
        granted: parked.granted.clone(),
        service_account: parked.place.account.clone(),
        valid_until: parked.until.map(|until| until.to_string()),
        tokens_until: None,
    });
    let mut previous: Vec<PreviousHome> = kept.collect();
    let is_left = |home: &PreviousHome, previous: &[PreviousHome]| {
        let is_here = registered_at
            .as_ref()
            .is_some_and(|here| here.issuer == home.issuer);
        let same = |one: &PreviousHome| (&one.issuer, &one.client_id) == (&home.issuer, &home.client_id);
        !is_here && !previous.iter().any(same)
    };
    let mut gone = Vec::new();
    for home in known(old) {
        let until = ends(&home, now);
        if until > now && is_left(&home, &previous) && is_left(&home, &gone) {
            gone.push(PreviousHome {
                service_account: None,
                valid_until: None,
                tokens_until: Some(until.to_string()),
                ..home
            });
        }
    }
    gone.truncate(MOST_GONE);
    previous.extend(gone);
    History {
        registered_at,
        previous,
    }
}

/// Until when tokens of a client may be valid that is not there any more.
fn ends(home: &PreviousHome, now: Timestamp) -> Timestamp {
    let known = home.tokens_until.as_ref().and_then(|until| until.parse().ok());
    known.unwrap_or_else(|| now.checked_add(TOKENS).unwrap_or(now))
}

/// Where the status knows the client to be or to have been, with the ids that an authorization server gave it besides.
fn known(old: &McpClientStatus) -> Vec<PreviousHome> {
    let here = old.registered_at.as_ref();
    let home = |client_id: &String, tokens_until: Option<String>| {
        Some(PreviousHome {
            authorization_server_ref: here?.authorization_server_ref.clone(),
            issuer: here?.issuer.clone(),
            client_id: client_id.clone(),
            granted: old.granted.clone(),
            service_account: None,
            valid_until: None,
            tokens_until,
        })
    };
    let current = old.client_id.as_ref().and_then(|id| home(id, None));
    let registration = old.registration.iter().flat_map(|known| &known.previous);
    let before = registration.filter_map(|id| home(&id.client_id, Some(id.until.clone())));
    let before: Vec<_> = before.collect();
    current
        .into_iter()
        .chain(old.previous.iter().cloned())
        .chain(before)
        .collect()
}

/// What was said last, for a pass that did not find out.
pub(in super::super) fn last_report(conditions: &[Condition]) -> Option<Report> {
    let said = condition::find(conditions, types::MIGRATED)?;
    let known = REASONS.into_iter().find(|reason| *reason == said.reason)?;
    Some(Report::pending(types::MIGRATED, known, said.message.clone()))
}

/// What is said while the client is registered elsewhere too. `left` could not be removed, and why.
pub(in super::super) fn report(homes: &Homes, is_home: bool, left: Option<&(Place, Halt)>) -> Option<Report> {
    let type_ = types::MIGRATED;
    let named = |place: &Place| format!("{}/{}", place.namespace, place.name);
    if let Some((place, halt)) = left {
        let at = named(place);
        let message = format!(
            "What the client has at AuthorizationServer {at} could not be removed there yet ({}): the operator tries again. Where it is gone for good, annotate the client with mcpauth.dev/abandon: \"true\"",
            halt.reason()
        );
        return Some(Report::pending(type_, OLD_NOT_REMOVED, message));
    }
    let parked = homes.parked.first();
    if let Some(here) = homes.here.as_ref().filter(|_| !is_home) {
        let message = format!(
            "The client is still registered at AuthorizationServer {}, and what its workload has from there goes on working until it is registered anew",
            named(here)
        );
        return Some(Report::pending(type_, NOT_MOVED, message));
    }
    let (at, is_proved) = (named(&parked?.place), parked?.until.is_some());
    Some(if is_proved {
        let message = format!(
            "The client moved. What it has at AuthorizationServer {at} works as well until the time that status.previous shows, and is removed then"
        );
        Report::pending(type_, OLD_KEPT, message)
    } else {
        let message = format!(
            "The client moves. What it has at AuthorizationServer {at} goes on working until its new credential is proved"
        );
        Report::pending(type_, MOVING, message)
    })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
