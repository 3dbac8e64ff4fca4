//! From what is wanted of a client with a document of its own, and what was observed of it, to calls. Pure.
//!
//! A registration makes the client, or makes it anew what its document says; grant types are among that. So it comes after
//! everything that takes away, and what it brought is looked at before anything is given.

use serde_json::json;

use super::{
    super::{
        grants,
        mark::text,
        plan::{Update, deletion},
        render,
    },
    REGISTER,
};
use crate::provider::{
    Call, Change, Conflict, DocumentSpec, Holder, Mark, ObservedDocument, ObservedScopes, Plan, Presence,
    Reading, Verb,
};

/// See [`crate::provider::Provider::plan_document`].
pub(in super::super) fn plan(
    want: &DocumentSpec,
    observed: &ObservedDocument,
    at_server: &ObservedScopes,
) -> Plan {
    let holder = match &observed.presence {
        Presence::Absent => {
            let begins = want.enabled && matches!(observed.reading, Reading::Valid { .. });
            return of(begins
                .then(|| registration(want, Change::Create))
                .into_iter()
                .collect());
        }
        Presence::Held(holder) => holder,
    };
    let subject = format!("client {}", want.url);
    let Some(raw) = observed
        .raw
        .as_ref()
        .filter(|_| observed.presence.claimable(&want.mark, want.adopt))
    else {
        let conflict = Conflict {
            subject,
            holder: holder.clone(),
        };
        return Plan {
            calls: Vec::new(),
            conflicts: vec![conflict],
        };
    };
    let fields = render::client_of_document(want, raw);
    let mut update = Update::new(&raw["client"], subject);
    update.take_away(&fields);
    let grants = grants::plan(grants::of_document(want, at_server), raw);
    update.calls.extend(grants.revoked);
    if want.enabled && raw["refresh"] == true {
        update.calls.push(registration(want, Change::Update));
        return of(update.calls);
    }
    update.set(&fields, None);
    update.calls.extend(grants.given);
    of(update.calls)
}

/// See [`crate::provider::Provider::plan_document_removal`].
pub(in super::super) fn removal(mark: &Mark, observed: &ObservedDocument, begun: bool) -> Plan {
    let is_ours = match &observed.presence {
        Presence::Held(Holder::Marked(holder)) => holder.same_object(mark),
        Presence::Held(Holder::Unmarked { .. }) => begun,
        _ => false,
    };
    let Some(raw) = observed.raw.as_ref().filter(|_| is_ours) else {
        return Plan::default();
    };
    let mut calls = grants::removal(&raw["grants"]);
    let id = text(&raw["client"], "external_client_id");
    calls.push(deletion(&raw["client"], format!("client {id}")));
    of(calls)
}

fn registration(want: &DocumentSpec, change: Change) -> Call {
    Call {
        operation: "register_document",
        change,
        subject: format!("client {} by its document", want.url),
        verb: Verb::Post,
        path: REGISTER.to_owned(),
        body: Some(json!({ "external_client_id": want.url })),
    }
}

fn of(calls: Vec<Call>) -> Plan {
    Plan {
        calls,
        conflicts: Vec::new(),
    }
}
