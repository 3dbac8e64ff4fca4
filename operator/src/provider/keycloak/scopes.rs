//! Plans for client scopes: exactly the wanted ones exist under a mark, each with one mapper, which adds the audience.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    diff,
    ids::Ids,
    mark::{claimable, is_ours, text},
    render::{self, AUDIENCE_MAPPER, AUDIENCE_MAPPER_TYPE, DesiredScope},
};
use crate::provider::{
    Call, Change, Conflict, Mark, ObservedScopes, Plan, Presence, ScopeOwner, ScopeSpec, Verb,
};

/// The calls that make exactly `want` exist under `mark`, removals first; with conflicts, only those that take away, and
/// only from what is ours already: nothing is taken over by halves.
pub(super) fn plan(
    ids: &Ids,
    mark: &Mark,
    want: &[ScopeSpec],
    at_server: &ObservedScopes,
    consent: &dyn Fn(&str) -> bool,
) -> Plan {
    let mut kept = BTreeSet::new();
    let mut conflicts = Vec::new();
    let mut changes = Vec::new();
    let mut adoptions = Vec::new();
    for spec in want {
        let desired = render::scope(ids, mark, spec);
        let owner = find(mark, &desired, at_server);
        let presence = owner.map_or(Presence::Absent, |owner| Presence::Held(owner.holder.clone()));
        let id = owner.and_then(|owner| text(&owner.raw, "id"));
        match owner {
            Some(owner) if !claimable(mark, &presence, id, desired.id, consent(&spec.name)) => {
                let subject = format!("scope {}", spec.name);
                conflicts.push(Conflict {
                    subject,
                    holder: owner.holder.clone(),
                });
            }
            Some(owner) => {
                kept.extend(id);
                let ours = is_ours(mark, &owner.holder, id, || desired.id);
                let changes = if ours { &mut changes } else { &mut adoptions };
                changes.extend(update(&desired, &owner.raw));
            }
            None => changes.push(creation(&desired)),
        }
    }
    let mut calls: Vec<_> = ours(ids, mark, at_server)
        .filter(|(id, _)| !kept.contains(id))
        .map(|(id, name)| deletion(id, name, Change::Revoke))
        .collect();
    calls.extend(changes);
    if conflicts.is_empty() {
        calls.extend(adoptions);
    } else {
        calls.retain(|call| call.change == Change::Revoke);
    }
    Plan { calls, conflicts }
}

/// The calls that delete every scope under `mark`.
pub(super) fn removal(ids: &Ids, mark: &Mark, at_server: &ObservedScopes) -> Vec<Call> {
    ours(ids, mark, at_server)
        .map(|(id, name)| deletion(id, name, Change::Delete))
        .collect()
}

/// The scope under the wanted name, or ours that somebody has renamed.
fn find<'a>(mark: &Mark, desired: &DesiredScope, at_server: &'a ObservedScopes) -> Option<&'a ScopeOwner> {
    let id = desired.id.to_string();
    let named = at_server.get(&desired.name).map(AsRef::as_ref);
    named.or_else(|| {
        let mut candidates = at_server.candidates(mark).map(|(_, owner)| owner);
        candidates.find(|owner| {
            text(&owner.raw, "id") == Some(&id) && is_ours(mark, &owner.holder, Some(&id), || desired.id)
        })
    })
}

/// Id and name of every scope under `mark`.
fn ours<'a>(
    ids: &'a Ids,
    mark: &'a Mark,
    at_server: &'a ObservedScopes,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    at_server.candidates(mark).filter_map(|(name, owner)| {
        let id = text(&owner.raw, "id")?;
        is_ours(mark, &owner.holder, Some(id), || ids.scope(mark, name)).then_some((id, name))
    })
}

fn deletion(id: &str, name: &str, change: Change) -> Call {
    Call {
        operation: "delete_scope",
        change,
        subject: format!("scope {name}"),
        verb: Verb::Delete,
        path: format!("/client-scopes/{id}"),
        body: None,
    }
}

fn creation(desired: &DesiredScope) -> Call {
    Call {
        operation: "create_scope",
        change: Change::Create,
        subject: format!("scope {}", desired.name),
        verb: Verb::Post,
        path: "/client-scopes".to_owned(),
        body: Some(desired.creation()),
    }
}

fn update(desired: &DesiredScope, raw: &Value) -> Vec<Call> {
    let Some(id) = text(raw, "id") else {
        return Vec::new();
    };
    let mut calls = mapper_calls(desired, raw, id);
    let names = diff::scope(desired, raw);
    if !names.is_empty() {
        calls.push(Call {
            operation: "update_scope",
            change: Change::Update,
            subject: format!("scope {}: {}", desired.name, names.join(", ")),
            verb: Verb::Put,
            path: format!("/client-scopes/{id}"),
            body: Some(desired.body()),
        });
    }
    calls
}

/// Foreign mappers go first: one could add an audience.
fn mapper_calls(desired: &DesiredScope, raw: &Value, id: &str) -> Vec<Call> {
    let call = |operation, change, mapper: Option<&str>, verb, body| Call {
        operation,
        change,
        subject: format!("mappers of scope {}", desired.name),
        verb,
        path: match mapper {
            Some(mapper) => format!("/client-scopes/{id}/protocol-mappers/models/{mapper}"),
            None => format!("/client-scopes/{id}/protocol-mappers/models"),
        },
        body,
    };
    let mut calls = Vec::new();
    let mut found = None;
    for mapper in diff::mappers(raw) {
        let Some(mapper_id) = text(mapper, "id") else {
            continue;
        };
        let is_audience = text(mapper, "name") == Some(AUDIENCE_MAPPER)
            && text(mapper, "protocolMapper") == Some(AUDIENCE_MAPPER_TYPE);
        if is_audience {
            found = Some((mapper_id, mapper));
        } else {
            calls.push(call(
                "delete_mapper",
                Change::Revoke,
                Some(mapper_id),
                Verb::Delete,
                None,
            ));
        }
    }
    match found {
        None => calls.push(call(
            "create_mapper",
            Change::Update,
            None,
            Verb::Post,
            Some(desired.mapper_body(None)),
        )),
        Some((mapper_id, mapper)) if !diff::is_wanted_mapper(desired, mapper) => {
            let foreign = diff::names_foreign_audience(desired, mapper);
            let change = if foreign { Change::Revoke } else { Change::Update };
            let body = Some(desired.mapper_body(Some(mapper_id)));
            calls.push(call("update_mapper", change, Some(mapper_id), Verb::Put, body));
        }
        Some(_) => {}
    }
    calls
}
