//! The API of an McpServer and the client that is linked to it, which carries the mark of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    diff, grants,
    mark::{birthmark, text},
    plan::{self, Update, conflict, creation, delete, deletion, owns},
    profiles, render,
};
use crate::provider::{
    Call, Change, Credential, ExchangeActions, Mark, ObservedResource, ObservedScopes, Plan, Presence,
    ResourceSpec, ScopeOwner, ScopeSpec, Verb,
};

/// See [`crate::provider::Provider::plan_resource`].
pub(super) fn resource(
    want: &ResourceSpec,
    observed: &ObservedResource,
    at_server: &ObservedScopes,
    secret: Option<&Credential>,
) -> Plan {
    let subject = format!("resource {}", want.resource);
    let Some(raw) = &observed.raw else {
        if observed.presence != Presence::Absent {
            return conflict(subject, observed);
        }
        return plan::plan(vec![Call {
            operation: "create_resource_server",
            change: Change::Create,
            subject,
            verb: Verb::Post,
            path: "/resource-servers".to_owned(),
            body: Some(render::api_creation(want)),
        }]);
    };
    let is_born = is_born(&want.mark, raw);
    if !is_born && !observed.presence.claimable(&want.mark, want.adopt) {
        return conflict(subject, observed);
    }
    let api = Changes::new(want, raw, is_born);
    let mut calls: Vec<Call> = api.take_away().into_iter().collect();
    calls.extend(client(want, raw, at_server, secret));
    calls.extend(api.set());
    plan::plan(calls)
}

/// The linked client: made, or set right.
fn client(
    want: &ResourceSpec,
    raw: &Value,
    at_server: &ObservedScopes,
    secret: Option<&Credential>,
) -> Vec<Call> {
    let client = &raw["client"];
    let desired = render::linked_client(want, profiles::has_any(&want.mark, raw));
    let subject = format!("client of {}", want.resource);
    if client.is_null() {
        return vec![creation(&desired, subject, &[])];
    }
    let profiles = profiles::plan(&want.mark, &want.exchange_actions.names, raw);
    let mut update = Update::new(client, subject);
    update.take_away(&desired.fields);
    let grants = grants::plan(grants::of_resource(want, at_server), raw);
    update.calls.extend(grants.revoked);
    update.calls.extend(profiles.revoked);
    update.set(&desired.fields, secret);
    // After the client: by what it says they are found.
    update.calls.extend(profiles.given);
    update.calls.extend(grants.given);
    update.calls
}

/// Whether it was made by us and has not got its client yet, or has lost it again.
fn is_born(mark: &Mark, raw: &Value) -> bool {
    raw["client"].is_null() && text(&raw["api"], "name").ends_with(&birthmark(mark))
}

/// Changes of one API.
struct Changes<'a> {
    want: &'a ResourceSpec,
    raw: &'a Value,
    path: String,
    differing: Map<String, Value>,
    /// Its scopes without those that it is to have no more.
    fewer: Option<Vec<Value>>,
}

impl<'a> Changes<'a> {
    fn new(want: &'a ResourceSpec, raw: &'a Value, is_born: bool) -> Self {
        let mut fields = render::api(want);
        if raw["client"].is_null() {
            // The name is its mark, or not ours yet.
            fields.remove("name");
        }
        Self {
            want,
            raw,
            path: api_path(&raw["api"]),
            differing: diff::fields(&fields, &raw["api"]),
            fewer: diff::fewer_scopes(&want.scopes, &raw["api"], &raw["client"], is_born),
        }
    }

    /// What only takes away.
    fn take_away(&self) -> Option<Call> {
        let mut body = diff::guards(&self.differing);
        body.extend(
            self.fewer
                .iter()
                .map(|scopes| ("scopes".to_owned(), json!(scopes))),
        );
        self.call(Change::Revoke, &body)
    }

    /// All else.
    fn set(&self) -> Option<Call> {
        let mut body = self.differing.clone();
        for guard in diff::guards(&self.differing).keys() {
            body.remove(guard);
        }
        let present = match &self.fewer {
            Some(fewer) => fewer,
            None => diff::list(&self.raw["api"]["scopes"]),
        };
        let scopes = diff::all_scopes(&self.want.scopes, present);
        body.extend(scopes.map(|scopes| ("scopes".to_owned(), json!(scopes))));
        self.call(Change::Update, &body)
    }

    fn call(&self, change: Change, body: &Map<String, Value>) -> Option<Call> {
        let names: Vec<&str> = body.keys().map(String::as_str).collect();
        (!body.is_empty()).then(|| Call {
            operation: "update_resource_server",
            change,
            subject: format!("resource {}: {}", self.want.resource, names.join(", ")),
            verb: Verb::Patch,
            path: self.path.clone(),
            body: Some(Value::Object(body.clone())),
        })
    }
}

fn api_path(api: &Value) -> String {
    format!("/resource-servers/{}", text(api, "id"))
}

/// See [`crate::provider::Provider::plan_resource_removal`]. The API gets its birthmark back first: without it, one whose
/// client is gone would be nobody's if the rest did not follow.
pub(super) fn removal(mark: &Mark, observed: &ObservedResource) -> Plan {
    let Some(raw) = &observed.raw else {
        return Plan::default();
    };
    let (api, mut calls) = (&raw["api"], Vec::new());
    let (path, identifier) = (api_path(api), text(api, "identifier"));
    if !is_born(mark, raw) {
        if !owns(mark, observed) {
            return Plan::default();
        }
        calls.push(Call {
            operation: "update_resource_server",
            change: Change::Update,
            subject: format!("resource {identifier}: name"),
            verb: Verb::Patch,
            path: path.clone(),
            body: Some(json!({"name": render::birth_name(text(api, "name"), mark)})),
        });
        calls.extend(grants::removal(&raw["grants"]));
        calls.extend(profiles::removal(mark, raw));
        calls.push(deletion(&raw["client"], format!("client of {identifier}")));
    }
    calls.push(Call {
        // Whose grants go before it.
        body: Some(json!({ "identifier": identifier })),
        ..delete("delete_resource_server", path, format!("resource {identifier}"))
    });
    plan::plan(calls)
}

/// See [`crate::provider::Provider::plan_scopes`]: an API for each audience.
pub(super) fn apis(
    mark: &Mark,
    want: &[ScopeSpec],
    at_server: &ObservedScopes,
    consent: &dyn Fn(&str) -> bool,
) -> Plan {
    let mut wanted: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for scope in want {
        let scopes = wanted.entry(&scope.audience).or_default();
        scopes.insert(scope.name.clone(), scope.description.clone());
    }
    let mut all = Plan::default();
    for (audience, owner) in at_server.candidates(mark).filter(|(key, _)| !key.contains(' ')) {
        if !wanted.contains_key(audience) {
            all.calls.extend(removal(mark, &observed(Some(owner))).calls);
        }
    }
    for (audience, scopes) in wanted {
        let spec = ResourceSpec {
            mark: mark.clone(),
            resource: audience.to_owned(),
            display_name: audience.to_owned(),
            adopt: scopes.keys().all(|scope| consent(scope)),
            scopes,
            exchange_scopes: BTreeMap::new(),
            exchange_audiences: BTreeMap::new(),
            exchange_actions: ExchangeActions::default(),
            exchange_token_lifetime: Duration::ZERO,
            adopt_scopes: BTreeSet::new(),
        };
        let owner = at_server.get(audience).map(|owner| &**owner);
        let plan = resource(&spec, &observed(owner), at_server, None);
        all.calls.extend(plan.calls);
        all.conflicts.extend(plan.conflicts);
    }
    if !all.conflicts.is_empty() {
        return all.revocations();
    }
    all
}

fn observed(owner: Option<&ScopeOwner>) -> ObservedResource {
    let Some(owner) = owner else {
        return super::observe::absent();
    };
    ObservedResource {
        presence: Presence::Held(owner.holder.clone()),
        raw: Some(owner.raw.clone()),
        ..super::observe::absent()
    }
}
