//! A client of ours that stands for those that register themselves: it carries no mark by which policies would let it pass,
//! has a scope that is always closed, and so shows at the token endpoint that closed scopes are refused. It also keeps what
//! has to be known to put the realm back: what policies of client registration said before, and from which domains clients
//! may have come.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{
        ids::Ids,
        mark::{self, attribute, text},
        plan,
        render::{self, Desired},
        scopes,
    },
    doors::{self, Config},
    guards::probe_scope,
    name,
    strangers::end_of_registration,
};
use crate::provider::{
    Authentication, Call, Change, ClientSpec, Conflict, Doors, Grant, Mark, ObservedClient, ObservedScopes,
    Plan, Presence, RegistrationSpec, ScopeSpec, Verb,
};

const PREVIOUS: &str = "mcpauth.previous";
const DOMAINS: &str = "mcpauth.domains";

/// Seconds for which its tokens live: they are for nothing.
const LIFETIME: u64 = 60;

/// Its client id.
pub(super) fn client_id(installation: &str) -> String {
    name(installation, "registration")
}

/// Whose its id and its scope are.
fn mark(installation: &str) -> Mark {
    Mark {
        installation: installation.to_owned(),
        kind: "ClientRegistration".to_owned(),
        namespace: "realm".to_owned(),
        name: "registration".to_owned(),
        uid: String::new(),
    }
}

/// Whether this is the content of a call about it.
pub(super) fn is_kept_by(body: Option<&Value>) -> bool {
    body.is_some_and(|body| body["attributes"][PREVIOUS].is_string())
}

/// What it keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// What components said before they were changed, by id.
    pub(super) previous: BTreeMap<String, Config>,
    /// Domains from which clients may have come.
    pub(super) domains: BTreeSet<String>,
}

impl Record {
    /// As it is kept.
    pub(super) fn of(keeper: &Value) -> Self {
        let parsed = |name| attribute(keeper, name).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let kept = parsed(PREVIOUS).unwrap_or_default();
        let components = kept.as_object().into_iter().flatten();
        let previous = components
            .map(|(id, config)| (id.clone(), doors::config(&json!({"config": config}))))
            .collect();
        let domains = parsed(DOMAINS).and_then(|list| serde_json::from_value(list).ok());
        Self {
            previous,
            domains: domains.unwrap_or_default(),
        }
    }

    /// As it is to be: of components whatever is about to be changed, and is not restored yet; of domains those that are
    /// allowed, and those whose clients are still `there`.
    pub(super) fn wanted(
        &self,
        want: &RegistrationSpec,
        doors: Doors,
        components: &Value,
        there: impl Fn(&str) -> bool,
    ) -> Self {
        let dynamic = want.dynamic.as_ref().filter(|_| doors != Doors::Shut);
        let changed: BTreeSet<_> = dynamic
            .into_iter()
            .flat_map(doors::settings)
            .map(|(name, _)| name)
            .collect();
        let mut wanted = Self::default();
        for provider in ["trusted-hosts", "max-clients"] {
            for component in doors::anonymous(components, provider) {
                let id = text(component, "id").unwrap_or_default();
                let before = self.previous.get(id);
                let restored = before.is_none_or(|before| *before == doors::config(component));
                if changed.contains(provider) || !restored {
                    let now = || doors::config(component);
                    wanted
                        .previous
                        .insert(id.to_owned(), before.cloned().unwrap_or_else(now));
                }
            }
        }
        let allowed = want.documents.as_ref();
        wanted.domains = self
            .domains
            .iter()
            .filter(|domain| there(domain))
            .cloned()
            .collect();
        wanted.domains.extend(
            allowed
                .into_iter()
                .flat_map(|documents| documents.domains.iter().cloned()),
        );
        wanted
    }
}

/// The calls that make it and its scope exist, with this record. `keeper` is the client as it is.
pub(super) fn calls(
    ids: &Ids,
    installation: &str,
    record: &Record,
    keeper: &ObservedClient,
    at_server: &ObservedScopes,
) -> Plan {
    let mark = mark(installation);
    let scope = probe_scope(installation);
    let spec = ScopeSpec {
        name: scope.clone(),
        description: "Always refused to clients that register themselves".to_owned(),
        audience: "urn:mcpauth:nobody".to_owned(),
    };
    let mut plan = scopes::plan(ids, &mark, &[spec], at_server, &|_| false);
    if !plan.conflicts.is_empty() {
        return plan;
    }
    let spec = ClientSpec {
        mark,
        client_id: client_id(installation),
        display_name: "Clients that register themselves".to_owned(),
        enabled: true,
        grants: [Grant::ClientCredentials].into(),
        redirect_uris: BTreeSet::new(),
        authentication: Authentication::ClientSecret,
        consent: false,
        token_lifetime: std::time::Duration::from_secs(LIFETIME),
        scopes: [scope].into(),
        audiences: BTreeMap::new(),
        adopt: false,
    };
    let mut desired = render::client(ids, &spec);
    desired.attributes.remove(mark::MANAGED);
    desired
        .attributes
        .insert(PREVIOUS, json!(record.previous).to_string());
    desired
        .attributes
        .insert(DOMAINS, json!(record.domains).to_string());
    let planned = self::client(&desired, keeper, at_server);
    plan.calls.extend(planned.calls);
    plan.conflicts.extend(planned.conflicts);
    plan
}

/// The calls that delete it and its scope.
pub(super) fn removal(
    ids: &Ids,
    installation: &str,
    keeper: Option<&Value>,
    at_server: &ObservedScopes,
) -> Vec<Call> {
    let mark = mark(installation);
    let mut calls = scopes::removal(ids, &mark, at_server);
    let id = keeper.and_then(|keeper| text(keeper, "id"));
    if let Some(id) = id.filter(|id| *id == ids.client(&mark).to_string()) {
        calls.push(Call {
            operation: "delete_client",
            change: Change::Delete,
            subject: format!("client {}", client_id(installation)),
            verb: Verb::Delete,
            path: format!("/clients/{id}"),
            body: None,
        });
    }
    calls
}

/// The calls for a client without a mark: its id says whose it is. It keeps the secret that it has.
fn client(desired: &Desired, observed: &ObservedClient, at_server: &ObservedScopes) -> Plan {
    let raw = observed.raw.as_ref();
    let is_derived = raw.is_none_or(|raw| text(raw, "id") == Some(&desired.id.to_string()));
    match &observed.presence {
        Presence::Held(holder) if !is_derived => Plan {
            calls: Vec::new(),
            conflicts: vec![Conflict {
                subject: format!("client {}", desired.client_id),
                holder: holder.clone(),
            }],
        },
        _ => {
            // Who took its place before it was made holds a token for it.
            let taken = raw.is_some_and(|raw| attribute(raw, PREVIOUS).is_none());
            let end = end_of_registration(observed).filter(|_| taken);
            let mut calls: Vec<_> = end.into_iter().collect();
            let now = Timestamp::UNIX_EPOCH;
            calls.extend(plan::client_calls(desired, observed, at_server, None, now));
            Plan {
                calls,
                conflicts: Vec::new(),
            }
        }
    }
}
