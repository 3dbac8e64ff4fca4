//! From what is wanted and what was observed to calls. Pure: nothing here reads or writes anything.
//!
//! The order within a plan: what takes permission away, then what changes or makes things, so that a plan that stops
//! half-way leaves too little rather than too much. Auth0 chooses ids, so what hangs on a new client (its secret, its grants)
//! comes with the next plan, from what was read back.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    diff, grants,
    mark::text,
    render::{self, AUTH_METHOD, Desired, METHODS},
};
use crate::provider::{
    Call, Change, ClientSpec, Conflict, Credential, CredentialKind, Credentials, Holder, Mark,
    ObservedClient, ObservedScopes, Plan, Presence, Verb, key::PrivateKey,
};

/// What the path of a client's keys ends with. They are put in force as one call, which the provider carries out in steps.
pub(super) const KEYS: &str = "/credentials";

/// See [`crate::provider::Provider::plan_client`].
pub(super) fn client(
    want: &ClientSpec,
    observed: &ObservedClient,
    at_server: &ObservedScopes,
    credentials: Option<&Credentials>,
) -> Plan {
    let desired = render::client(want);
    let credentials = credentials.filter(|_| want.authentication.credential().is_some());
    let subject = format!("client {}", want.client_id);
    let Some(raw) = &observed.raw else {
        return plan(vec![creation(&desired, subject, &keys(credentials))]);
    };
    let is_kept = diff::fields(&desired.fixed, &raw["client"]).is_empty();
    let is_ours = owns(&want.mark, observed);
    // Consent to take a client over is none to replace it by one of another kind.
    if !(is_ours || is_kept && observed.presence.claimable(&want.mark, want.adopt)) {
        return conflict(subject, observed);
    }
    if !is_kept {
        return plan(removals(raw, &subject));
    }
    let mut update = Update::new(&raw["client"], subject);
    update.take_away(&desired.fields);
    update.calls.extend(surplus(raw));
    let grants = grants::plan(grants::of_client(want, at_server), raw);
    update.calls.extend(grants.revoked);
    update.set(&desired.fields, credentials.and_then(shared));
    update.calls.extend(key_call(&update, raw, credentials));
    update.calls.extend(grants.given);
    plan(update.calls)
}

/// See [`crate::provider::Provider::plan_credentials`].
pub(super) fn credentials(want: &ClientSpec, observed: &ObservedClient, credentials: &Credentials) -> Plan {
    let Some(raw) = observed.raw.as_ref().filter(|_| owns(&want.mark, observed)) else {
        return Plan::default();
    };
    let mut update = Update::new(&raw["client"], format!("client {}", want.client_id));
    let mut fields = Map::new();
    if let Some(secret) = shared(credentials) {
        let desired = render::client(want).fields;
        for name in [METHODS, AUTH_METHOD] {
            fields.extend(desired.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        update.set(&fields, Some(secret));
    }
    update.calls.extend(key_call(&update, raw, Some(credentials)));
    for call in &mut update.calls {
        call.change = Change::Revoke;
    }
    plan(update.calls)
}

/// See [`crate::provider::Provider::plan_client_removal`].
pub(super) fn client_removal(mark: &Mark, observed: &ObservedClient) -> Plan {
    match observed.raw.as_ref().filter(|_| owns(mark, observed)) {
        Some(raw) => {
            let mut calls: Vec<Call> = surplus(raw).collect();
            calls.extend(removals(
                raw,
                &format!("client {}", text(&raw["client"], "client_id")),
            ));
            plan(calls)
        }
        None => Plan::default(),
    }
}

/// Whether it is there and the object's already.
pub(super) fn owns(mark: &Mark, observed: &ObservedClient) -> bool {
    matches!(&observed.presence, Presence::Held(Holder::Marked(holder)) if holder.same_object(mark))
}

pub(super) fn plan(calls: Vec<Call>) -> Plan {
    Plan {
        calls,
        conflicts: Vec::new(),
    }
}

pub(super) fn conflict(subject: String, observed: &ObservedClient) -> Plan {
    let conflicts = match &observed.presence {
        Presence::Held(holder) => vec![Conflict {
            subject,
            holder: holder.clone(),
        }],
        Presence::Absent => Vec::new(),
    };
    Plan {
        calls: Vec::new(),
        conflicts,
    }
}

/// The secret that Auth0 has to know. Of a private key it gets the public half, as a key.
fn shared(credentials: &Credentials) -> Option<&Credential> {
    Some(&credentials.current).filter(|current| current.kind() == CredentialKind::Secret)
}

/// The private keys among the credentials.
fn keys(credentials: Option<&Credentials>) -> Vec<&Credential> {
    let all = credentials.into_iter().flat_map(|credentials| {
        let previous = credentials.previous.as_ref().map(|previous| &previous.credential);
        std::iter::once(&credentials.current).chain(previous)
    });
    all.filter(|credential| credential.kind() == CredentialKind::PrivateKey)
        .collect()
}

/// The creation of a client.
pub(super) fn creation(desired: &Desired, subject: String, keys: &[&Credential]) -> Call {
    Call {
        operation: "create_client",
        change: Change::Create,
        subject,
        verb: Verb::Post,
        path: "/clients".to_owned(),
        body: Some(desired.creation(keys)),
    }
}

/// The deletion of a client and of all that it was granted.
fn removals(raw: &Value, subject: &str) -> Vec<Call> {
    let mut calls = grants::removal(&raw["grants"]);
    calls.push(deletion(&raw["client"], subject.to_owned()));
    calls
}

/// The deletion of a client.
pub(super) fn deletion(client: &Value, subject: String) -> Call {
    delete(
        "delete_client",
        format!("/clients/{}", text(client, "client_id")),
        subject,
    )
}

pub(super) fn delete(operation: &'static str, path: String, subject: String) -> Call {
    Call {
        operation,
        change: Change::Delete,
        subject,
        verb: Verb::Delete,
        path,
        body: None,
    }
}

/// Other clients with our mark. One is made when the answer to a creation is lost and no list shows it soon enough; nobody was
/// ever given its credential.
fn surplus(raw: &Value) -> impl Iterator<Item = Call> {
    let ids = diff::texts(&raw["surplus"]).into_iter();
    ids.map(|id| Call {
        change: Change::Revoke,
        ..delete(
            "delete_client",
            format!("/clients/{id}"),
            format!("surplus client {id}"),
        )
    })
}

/// The call that puts these keys in force, and no others.
fn key_call(update: &Update<'_>, raw: &Value, credentials: Option<&Credentials>) -> Option<Call> {
    let keys = keys(credentials);
    let wanted: BTreeSet<String> = keys
        .iter()
        .filter_map(|key| PrivateKey::of(key))
        .map(|key| key.id())
        .collect();
    if wanted.is_empty() || wanted == accepted_keys(raw) {
        return None;
    }
    let bodies: Vec<Value> = keys.iter().copied().filter_map(render::public_key).collect();
    Some(Call {
        operation: "update_client_keys",
        change: Change::Update,
        subject: format!("{}: keys", update.subject),
        verb: Verb::Merge,
        path: format!("{}{KEYS}", update.path),
        body: Some(json!({"keys": bodies})),
    })
}

/// Ids of the keys by which a client may sign in.
pub(super) fn accepted_keys(raw: &Value) -> BTreeSet<String> {
    let in_use = diff::list(&raw["client"][METHODS]["private_key_jwt"]["credentials"]);
    let is_used = |key: &&Value| in_use.iter().any(|used| text(used, "id") == text(key, "id"));
    let keys = diff::list(&raw["keys"]).iter().filter(is_used);
    keys.map(|key| text(key, "kid").to_owned()).collect()
}

/// Changes of one client.
pub(super) struct Update<'a> {
    client: &'a Value,
    subject: String,
    path: String,
    /// What it is once the calls so far are carried out.
    taken: Value,
    pub(super) calls: Vec<Call>,
}

impl<'a> Update<'a> {
    pub(super) fn new(client: &'a Value, subject: String) -> Self {
        Self {
            client,
            subject,
            path: format!("/clients/{}", text(client, "client_id")),
            taken: client.clone(),
            calls: Vec::new(),
        }
    }

    fn call(&self, change: Change, names: &[&str], body: Map<String, Value>) -> Call {
        Call {
            operation: "update_client",
            change,
            subject: format!("{}: {}", self.subject, names.join(", ")),
            verb: Verb::Patch,
            path: self.path.clone(),
            body: Some(Value::Object(body)),
        }
    }

    /// What only takes away, as a call of its own: it must not wait for anything that the rest may have to wait for.
    pub(super) fn take_away(&mut self, want: &Map<String, Value>) {
        let body = diff::client_revocation(want, self.client);
        if body.is_empty() {
            return;
        }
        for (name, value) in &body {
            self.taken[name.as_str()] = value.clone();
        }
        let names: Vec<&str> = body.keys().map(String::as_str).collect();
        let call = self.call(Change::Revoke, &names, body.clone());
        self.calls.push(call);
    }

    /// All else.
    pub(super) fn set(&mut self, want: &Map<String, Value>, secret: Option<&Credential>) {
        let mut body = diff::fields(want, &self.taken);
        // One that is right already is not sent: the less it travels, the better.
        let secret = secret.filter(|secret| text(self.client, "client_secret") != secret.expose());
        let mut names: Vec<&str> = want.keys().map(String::as_str).collect();
        names.retain(|name| body.contains_key(*name));
        names.extend(secret.map(|_| "client_secret"));
        if names.is_empty() {
            return;
        }
        body.extend(secret.map(|secret| ("client_secret".to_owned(), json!(secret.expose()))));
        let call = self.call(Change::Update, &names, body);
        self.calls.push(call);
    }
}
