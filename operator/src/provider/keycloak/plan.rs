//! From what is wanted and what was observed to calls. Pure: nothing here reads or writes anything.
//!
//! The order within a plan: what takes permission away, then what changes or makes things, so that a plan that stops
//! half-way leaves too little rather than too much.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    diff,
    ids::Ids,
    limits::{self, Limits},
    mark::{claimable, is_ours, text},
    overlap::SecretAttributes,
    registration,
    render::{self, BASIC, Desired, TOKEN_EXCHANGE},
    scopes,
};
use crate::provider::{
    Authentication, Call, Change, ClientSpec, Conflict, Credential, CredentialKind, Credentials, Mark,
    ObservedClient, ObservedResource, ObservedScopes, Plan, Presence, ResourceSpec, ScopeSpec, Verb,
};

/// See [`crate::provider::Provider::plan_client`].
pub(super) fn client(
    ids: &Ids,
    want: &ClientSpec,
    observed: &ObservedClient,
    at_server: &ObservedScopes,
    credentials: Option<&Credentials>,
    now: Timestamp,
) -> Plan {
    let mut desired = render::client(ids, want);
    // A public client has none.
    let credentials = credentials.filter(|_| want.authentication != Authentication::None);
    if let Some(credentials) = credentials {
        desired.secrets = SecretAttributes::new(&want.mark.installation, credentials);
    }
    let secret = credentials.and_then(shared);
    let claim = Claim {
        mark: &want.mark,
        consent: want.adopt,
        subject: format!("client {}", desired.client_id),
    };
    if let Some(conflict) = claim.check(observed, &desired) {
        return Plan {
            calls: Vec::new(),
            conflicts: vec![conflict],
        };
    }
    let mut calls: Vec<_> = registration::end_of_registration(observed).into_iter().collect();
    calls.extend(client_calls(&desired, observed, at_server, secret, now));
    Plan {
        calls,
        conflicts: Vec::new(),
    }
}

/// The secret that Keycloak has to know. Of a private key it gets the public half, in an attribute.
fn shared(credentials: &Credentials) -> Option<&Credential> {
    Some(&credentials.current).filter(|current| current.kind() == CredentialKind::Secret)
}

/// See [`crate::provider::Provider::plan_credentials`].
pub(super) fn credentials(
    ids: &Ids,
    want: &ClientSpec,
    observed: &ObservedClient,
    credentials: &Credentials,
) -> Plan {
    let mut desired = render::client(ids, want);
    desired.secrets = SecretAttributes::new(&want.mark.installation, credentials);
    let ours = owns(ids, &want.mark, observed);
    let raw = observed.raw.as_ref().filter(|_| ours);
    let id = raw.and_then(|raw| text(raw, "id"));
    let (Some(raw), Some(id)) = (raw, id) else {
        return Plan::default();
    };
    let call = diff::credentials(&desired, raw, shared(credentials)).map(|body| Call {
        operation: "update_client",
        change: Change::Revoke,
        subject: format!("client {}: secret", desired.client_id),
        verb: Verb::Put,
        path: format!("/clients/{id}"),
        body: Some(body),
    });
    Plan {
        calls: call.into_iter().collect(),
        conflicts: Vec::new(),
    }
}

/// See [`crate::provider::Provider::plan_resource`].
pub(super) fn resource(
    ids: &Ids,
    want: &ResourceSpec,
    observed: &ObservedResource,
    at_server: &ObservedScopes,
    secret: Option<&Credential>,
) -> Plan {
    let mut desired = render::resource(ids, want);
    let limits = Limits::plan(ids, want, observed);
    limits.restrain(&mut desired, observed);
    let claim = Claim {
        mark: &want.mark,
        consent: want.adopt,
        subject: format!("resource {}", want.resource),
    };
    let specs: Vec<_> = want
        .scopes
        .iter()
        .map(|(name, description)| ScopeSpec {
            name: name.clone(),
            description: description.clone(),
            audience: want.resource.clone(),
        })
        .collect();
    let scopes = scopes::plan(ids, &want.mark, &specs, at_server, &|name| {
        want.adopt_scopes.contains(name)
    });
    let mut conflicts: Vec<_> = claim.check(observed, &desired).into_iter().collect();
    conflicts.extend(scopes.conflicts);
    let (refused, ours) = (!conflicts.is_empty(), owns(ids, &want.mark, observed));
    let mut calls = Vec::new();
    if ours || !refused {
        // A resource is never switched off, so the time does not matter.
        calls.extend(registration::end_of_registration(observed));
        calls.extend(client_calls(
            &desired,
            observed,
            at_server,
            secret,
            Timestamp::UNIX_EPOCH,
        ));
        calls.extend(limits.added);
    }
    calls.extend(scopes.calls);
    // Stable, so a scope is detached before it is deleted, and the client made before its scopes.
    calls.sort_by_key(|call| call.change != Change::Revoke);
    calls.extend(limits.removed);
    if refused {
        // The audience of a scope is never set to a resource that is not ours, not even in place of a worse one.
        calls.retain(|call| call.change == Change::Revoke && (ours || call.verb == Verb::Delete));
    }
    Plan { calls, conflicts }
}

/// See [`crate::provider::Provider::plan_scopes`].
pub(super) fn api_scopes(
    ids: &Ids,
    mark: &Mark,
    want: &[ScopeSpec],
    at_server: &ObservedScopes,
    consent: &dyn Fn(&str) -> bool,
) -> Plan {
    scopes::plan(ids, mark, want, at_server, consent)
}

/// See [`crate::provider::Provider::plan_client_removal`].
pub(super) fn client_removal(ids: &Ids, mark: &Mark, observed: &ObservedClient) -> Plan {
    Plan {
        calls: removal(ids, mark, observed, "client").into_iter().collect(),
        conflicts: Vec::new(),
    }
}

/// See [`crate::provider::Provider::plan_resource_removal`].
pub(super) fn resource_removal(
    ids: &Ids,
    mark: &Mark,
    observed: &ObservedResource,
    at_server: &ObservedScopes,
) -> Plan {
    let gone = removal(ids, mark, observed, "resource");
    let limits = limits::removal(mark, observed);
    let mut calls = Vec::new();
    if let (Some(gone), false) = (&gone, limits.is_empty()) {
        // Without limits it could exchange more than ever, if only for a moment. The mark on it stays until they are
        // gone: nothing else says that there are any.
        calls.push(Call {
            operation: "update_client",
            change: Change::Revoke,
            subject: format!("{}: {TOKEN_EXCHANGE}", gone.subject),
            verb: Verb::Put,
            path: gone.path.clone(),
            body: Some(json!({"attributes": {TOKEN_EXCHANGE: "false"}, "webOrigins": []})),
        });
    }
    calls.extend(limits);
    calls.extend(scopes::removal(ids, mark, at_server));
    calls.extend(gone);
    Plan {
        calls,
        conflicts: Vec::new(),
    }
}

fn removal(ids: &Ids, mark: &Mark, observed: &ObservedClient, what: &str) -> Option<Call> {
    let raw = observed.raw.as_ref().filter(|_| owns(ids, mark, observed))?;
    let id = text(raw, "id")?;
    Some(Call {
        operation: "delete_client",
        change: Change::Delete,
        subject: format!("{what} {}", text(raw, "clientId").unwrap_or_default()),
        verb: Verb::Delete,
        path: format!("/clients/{id}"),
        body: None,
    })
}

/// Whether the client is there and ours already.
fn owns(ids: &Ids, mark: &Mark, observed: &ObservedClient) -> bool {
    let id = observed.raw.as_ref().and_then(|raw| text(raw, "id"));
    match &observed.presence {
        Presence::Held(holder) => is_ours(mark, holder, id, || ids.client(mark)),
        Presence::Absent => false,
    }
}

/// The wish to have a client under some mark.
struct Claim<'a> {
    mark: &'a Mark,
    consent: bool,
    subject: String,
}

impl Claim<'_> {
    fn check(self, observed: &ObservedClient, desired: &Desired) -> Option<Conflict> {
        let id = observed.raw.as_ref().and_then(|raw| text(raw, "id"));
        if claimable(self.mark, &observed.presence, id, desired.id, self.consent) {
            return None;
        }
        match &observed.presence {
            Presence::Held(holder) => Some(Conflict {
                subject: self.subject,
                holder: holder.clone(),
            }),
            Presence::Absent => None,
        }
    }
}

/// The calls that turn what was observed into a client, whosever it was.
pub(super) fn client_calls(
    desired: &Desired,
    observed: &ObservedClient,
    at_server: &ObservedScopes,
    secret: Option<&Credential>,
    now: Timestamp,
) -> Vec<Call> {
    let Some((raw, id)) = observed
        .raw
        .as_ref()
        .and_then(|raw| Some((raw, text(raw, "id")?)))
    else {
        return vec![creation(desired, at_server, secret)];
    };
    let update = |change, names: &[String], body| Call {
        operation: "update_client",
        change,
        subject: format!("client {}: {}", desired.client_id, names.join(", ")),
        verb: Verb::Put,
        path: format!("/clients/{id}"),
        body: Some(body),
    };
    let mut calls = Vec::new();
    // Keycloak judges by whole seconds: tokens of the running one count as issued before the next.
    let taken = match diff::revocation(desired, raw, now.as_second() + 1) {
        Some((body, names)) => {
            let after = diff::after(raw, &body);
            calls.push(update(Change::Revoke, &names, body));
            after
        }
        None => raw.clone(),
    };
    calls.extend(detachments(desired, raw, id, at_server));
    let names = diff::client(desired, &taken, secret);
    if !names.is_empty() {
        // A secret that is right already is not sent: the less it travels, the better.
        let changed = secret.filter(|_| names.iter().any(|name| name == "secret"));
        calls.push(update(Change::Update, &names, desired.body(changed)));
    }
    calls.extend(attachments(desired, raw, id, at_server));
    calls
}

fn creation(desired: &Desired, at_server: &ObservedScopes, secret: Option<&Credential>) -> Call {
    Call {
        operation: "create_client",
        change: Change::Create,
        subject: format!("client {}", desired.client_id),
        verb: Verb::Post,
        path: "/clients".to_owned(),
        body: Some(desired.creation(secret, |scope| at_server.contains_key(scope))),
    }
}

/// Which of a client's two lists of scopes.
#[derive(Clone, Copy)]
enum List {
    Default,
    Optional,
}

impl List {
    const fn field(self) -> &'static str {
        match self {
            Self::Default => "defaultClientScopes",
            Self::Optional => "optionalClientScopes",
        }
    }

    const fn segment(self) -> &'static str {
        match self {
            Self::Default => "default-client-scopes",
            Self::Optional => "optional-client-scopes",
        }
    }
}

/// Scopes that the client has and must not have.
fn detachments(desired: &Desired, raw: &Value, id: &str, at_server: &ObservedScopes) -> Vec<Call> {
    let foreign_default = diff::texts(raw.get(List::Default.field()))
        .into_iter()
        .filter(|scope| !desired.allows_default(scope))
        .map(|scope| (List::Default, scope));
    let foreign_optional = diff::texts(raw.get(List::Optional.field()))
        .into_iter()
        .filter(|scope| !desired.scopes.contains(*scope))
        .map(|scope| (List::Optional, scope));
    foreign_default
        .chain(foreign_optional)
        .filter_map(|(list, scope)| assignment(Verb::Delete, list, scope, desired, id, at_server))
        .collect()
}

/// Scopes that the client is to have and has not. One that does not exist is left out: whoever asks for it sees that.
fn attachments(desired: &Desired, raw: &Value, id: &str, at_server: &ObservedScopes) -> Vec<Call> {
    let default = diff::texts(raw.get(List::Default.field()));
    let optional = diff::texts(raw.get(List::Optional.field()));
    let basic = (!default.contains(BASIC)).then_some((List::Default, BASIC));
    let missing = desired
        .scopes
        .iter()
        .map(String::as_str)
        .filter(|scope| !optional.contains(scope))
        .map(|scope| (List::Optional, scope));
    basic
        .into_iter()
        .chain(missing)
        .filter_map(|(list, scope)| assignment(Verb::Put, list, scope, desired, id, at_server))
        .collect()
}

fn assignment(
    verb: Verb,
    list: List,
    scope: &str,
    desired: &Desired,
    id: &str,
    at_server: &ObservedScopes,
) -> Option<Call> {
    let scope_id = text(&at_server.get(scope)?.raw, "id")?;
    let (operation, change, words) = match verb {
        Verb::Delete => ("detach_scope", Change::Revoke, "from"),
        Verb::Put | Verb::Post | Verb::Patch | Verb::Merge => ("attach_scope", Change::Update, "for"),
    };
    Some(Call {
        operation,
        change,
        subject: format!("scope {scope} {words} client {}", desired.client_id),
        verb,
        path: format!("/clients/{id}/{}/{scope_id}", list.segment()),
        body: None,
    })
}
