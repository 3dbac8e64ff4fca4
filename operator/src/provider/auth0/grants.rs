//! Client grants: which client may call which API, for users and for itself. They carry no mark and need none: all grants of
//! our client are ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    diff::{list, texts},
    mark::text,
    plan::delete,
};
use crate::provider::{Call, Change, ClientSpec, DocumentSpec, Grant, ObservedScopes, ResourceSpec, Verb};

/// The changes of a client's grants.
#[derive(Default)]
pub(super) struct Grants {
    pub(super) revoked: Vec<Call>,
    pub(super) given: Vec<Call>,
}

/// What a client is to be granted, by API and kind of subject.
pub(super) type Wanted = BTreeMap<(String, &'static str), BTreeSet<String>>;

/// What an McpClient is to be granted.
pub(super) fn of_client(want: &ClientSpec, at_server: &ObservedScopes) -> Wanted {
    let kinds = [
        ("user", Grant::AuthorizationCode),
        ("client", Grant::ClientCredentials),
    ];
    let kinds = kinds
        .into_iter()
        .filter(|(_, grant)| want.enabled && want.grants.contains(grant));
    wanted(kinds.map(|(kind, _)| kind), &want.audiences, at_server)
}

/// What the client of an McpServer's API is to be granted: it exchanges tokens of users.
pub(super) fn of_resource(want: &ResourceSpec, at_server: &ObservedScopes) -> Wanted {
    wanted(["user"].into_iter(), &want.exchange_audiences, at_server)
}

/// What a client with a metadata document of its own is to be granted: it never acts for itself.
pub(super) fn of_document(want: &DocumentSpec, at_server: &ObservedScopes) -> Wanted {
    let signs_in = want.enabled && want.grants.contains(&Grant::AuthorizationCode);
    wanted(signs_in.then_some("user").into_iter(), &want.audiences, at_server)
}

fn wanted(
    kinds: impl Iterator<Item = &'static str>,
    audiences: &BTreeMap<String, BTreeSet<String>>,
    at_server: &ObservedScopes,
) -> Wanted {
    let mut all = Wanted::new();
    for kind in kinds {
        for (audience, scopes) in audiences {
            // One that does not exist is left out: whoever asks for it sees that.
            let there = scopes
                .iter()
                .filter(|scope| at_server.owner(audience, scope).is_some());
            let there: BTreeSet<String> = there.cloned().collect();
            if !there.is_empty() {
                all.insert((audience.clone(), kind), there);
            }
        }
    }
    all
}

/// The calls that make the grants of a client exactly those that are wanted.
pub(super) fn plan(mut wanted: Wanted, raw: &Value) -> Grants {
    let mut grants = Grants::default();
    for grant in list(&raw["grants"]) {
        let audience = text(grant, "audience").to_owned();
        let kind = if text(grant, "subject_type") == "user" {
            "user"
        } else {
            "client"
        };
        match wanted.remove(&(audience, kind)) {
            Some(scopes) => grants.adjust(grant, &scopes),
            None => grants.revoked.push(revocation(grant)),
        }
    }
    let client = text(&raw["client"], "client_id");
    for ((audience, kind), scopes) in wanted {
        grants.given.push(Call {
            operation: "create_client_grant",
            change: Change::Create,
            subject: format!("{kind} grant of {client} for {audience}"),
            verb: Verb::Post,
            path: "/client-grants".to_owned(),
            // Without a subject type it would be one that no user's token comes from.
            body: Some(json!({
                "client_id": client, "audience": audience, "scope": scopes, "subject_type": kind,
            })),
        });
    }
    grants
}

impl Grants {
    /// Makes a grant one of exactly these scopes.
    pub(super) fn adjust(&mut self, grant: &Value, wanted: &BTreeSet<String>) {
        let had = texts(&grant["scope"]);
        let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        let is_all = grant["allow_all_scopes"] == true;
        let left: BTreeSet<&str> = had.intersection(&wanted).copied().collect();
        if is_all || left.len() < had.len() {
            let mut body = json!({ "scope": if is_all { &wanted } else { &left } });
            if is_all {
                body["allow_all_scopes"] = Value::Null;
            }
            self.revoked.push(change(grant, Change::Revoke, body));
        }
        if !is_all && left.len() < wanted.len() {
            self.given
                .push(change(grant, Change::Update, json!({ "scope": wanted })));
        }
    }
}

fn change(grant: &Value, change: Change, body: Value) -> Call {
    Call {
        operation: "update_client_grant",
        change,
        subject: described(grant),
        verb: Verb::Patch,
        path: format!("/client-grants/{}", text(grant, "id")),
        body: Some(body),
    }
}

pub(super) fn described(grant: &Value) -> String {
    let (kind, client, audience) = (
        text(grant, "subject_type"),
        text(grant, "client_id"),
        text(grant, "audience"),
    );
    let client = if client.is_empty() {
        "third-party clients"
    } else {
        client
    };
    format!("{kind} grant of {client} for {audience}")
}

fn deletion(grant: &Value) -> Call {
    let path = format!("/client-grants/{}", text(grant, "id"));
    delete("delete_client_grant", path, described(grant))
}

/// The deletion of a grant that gives what is not wanted any more.
pub(super) fn revocation(grant: &Value) -> Call {
    Call {
        change: Change::Revoke,
        ..deletion(grant)
    }
}

/// The deletion of all these grants.
pub(super) fn removal(grants: &Value) -> Vec<Call> {
    list(grants).iter().map(deletion).collect()
}
