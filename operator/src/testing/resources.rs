//! Plans for the resources of the authorization server in memory: of a resource it knows what it may exchange for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    clients::{FakeClient, call},
    provider::{REGISTRATION, SCOPE, SETTINGS, TRUST, Tenant},
};
use crate::provider::{
    Change, Conflict, Credential, Doors, Mark, ObservedRegistration, ObservedResource, ObservedScopes,
    ObservedSettings, Plan, Presence, Registering, RegistrationSpec, ResourceSpec, ScopeSpec, SettingsSpec,
    auth0::settings::door,
};

/// A resource of the server in memory that may exchange for these scopes.
pub(crate) fn resource(mark: Option<Mark>, exchange: &[&str]) -> FakeClient {
    let exchange = exchange.iter().map(|scope| (*scope).to_owned()).collect();
    FakeClient {
        mark,
        secret: "made there".into(),
        previous: None,
        spec: spec(&exchange),
        scopes: BTreeSet::new(),
        enabled: true,
        created: 0,
    }
}

/// What a resource may exchange for.
pub(crate) fn exchanged(client: &FakeClient) -> BTreeSet<String> {
    serde_json::from_str(&client.spec).unwrap()
}

fn spec(exchange: &BTreeSet<String>) -> String {
    json!(exchange).to_string()
}

/// As [`crate::provider::Provider::plan_resource`].
pub(super) fn plan(
    want: &ResourceSpec,
    observed: &ObservedResource,
    scopes: &ObservedScopes,
    secret: Option<&Credential>,
) -> Plan {
    let stranger = |presence: &Presence, subject: String| match presence {
        Presence::Held(holder) if !presence.claimable(&want.mark, false) => {
            let holder = holder.clone();
            Some(Conflict { subject, holder })
        }
        _ => None,
    };
    let own = stranger(&observed.presence, format!("resource {}", want.resource));
    let ours = own.is_none();
    let others = want.scopes.keys().filter_map(|scope| {
        let holder = scopes.get(scope)?.holder.clone();
        stranger(&Presence::Held(holder), format!("scope {scope}"))
    });
    let conflicts: Vec<_> = own.into_iter().chain(others).collect();
    let has: BTreeSet<String> = observed
        .raw
        .as_ref()
        .and_then(|raw| raw[0].as_str())
        .map(|spec| serde_json::from_str(spec).unwrap())
        .unwrap_or_default();
    let wanted: BTreeSet<String> = want.exchange_scopes.keys().cloned().collect();
    let to = |change, exchange: &BTreeSet<String>, secret: Option<&Credential>| {
        let mark = &want.mark;
        let mark = [
            &mark.installation,
            &mark.kind,
            &mark.namespace,
            &mark.name,
            &mark.uid,
        ];
        let body = json!({"spec": [spec(exchange), [], true], "secret": secret.map(Credential::expose), "mark": mark});
        call(change, &want.resource, body)
    };
    let mut calls = Vec::new();
    let kept: BTreeSet<String> = has.intersection(&wanted).cloned().collect();
    if ours && kept != has {
        calls.push(to(Change::Revoke, &kept, None));
    }
    let changed = secret.filter(|secret| observed.secret.as_ref() != Some(*secret));
    if conflicts.is_empty() && (observed.raw.is_none() || kept != wanted || changed.is_some()) {
        let change = match observed.presence {
            Presence::Absent => Change::Create,
            Presence::Held(_) => Change::Update,
        };
        calls.push(to(change, &wanted, changed));
    }
    Plan { calls, conflicts }
}

/// As [`crate::provider::Provider::plan_scopes`], but makes none.
pub(super) fn plan_scopes(mark: &Mark, want: &[ScopeSpec], scopes: &ObservedScopes) -> Plan {
    let wanted = |name: &str| want.iter().any(|scope| scope.name == name);
    let mut plan = Plan::default();
    for (name, owner) in scopes.iter() {
        let ours = Presence::Held(owner.holder.clone()).claimable(mark, false);
        match (wanted(name), ours) {
            (true, false) => plan.conflicts.push(Conflict {
                subject: format!("scope {name}"),
                holder: owner.holder.clone(),
            }),
            (false, true) => plan
                .calls
                .push(call(Change::Revoke, &format!("{SCOPE}{name}"), Value::Null)),
            _ => {}
        }
    }
    plan
}

/// As [`crate::provider::Provider::plan_trust`].
pub(super) fn plan_trust(issuer: Option<&str>, observed: &Value) -> Plan {
    let change = match (issuer, observed) {
        (wanted, trusted) if json!(wanted) == *trusted => return Plan::default(),
        (None, _) => Change::Delete,
        (Some(_), Value::Null) => Change::Create,
        (Some(_), _) => Change::Update,
    };
    Plan {
        calls: vec![call(change, TRUST, json!(issuer))],
        conflicts: vec![],
    }
}

/// As [`crate::provider::Provider::plan_registration`].
pub(super) fn plan_registration(
    want: Option<&RegistrationSpec>,
    doors: Doors,
    observed: &ObservedRegistration,
) -> Plan {
    let ObservedRegistration::Seen(observed) = observed else {
        return Plan::default();
    };
    let open = |want: &RegistrationSpec| match doors {
        Doors::Open => json!(want.open),
        Doors::Leave => observed["open"].clone(),
        Doors::Shut => Value::Null,
    };
    let wanted = want.map_or(Value::Null, |want| json!({"guards": true, "open": open(want)}));
    let differs = wanted != **observed;
    Plan {
        calls: differs
            .then(|| call(Change::Update, REGISTRATION, wanted))
            .into_iter()
            .collect(),
        conflicts: vec![],
    }
}

/// As [`crate::provider::Provider::observe_settings`]: of a tenant only what decides how clients register themselves.
pub(super) fn observe_settings(want: SettingsSpec, tenant: Option<Tenant>) -> ObservedSettings {
    let Some(Tenant { strict, open }) = tenant else {
        return ObservedSettings::new();
    };
    let differing = match want.registration {
        Some(Registering::Open) => [("mode".to_owned(), strict), (door(), open)],
        Some(Registering::Shut) => [("mode".to_owned(), true), (door(), !open)],
        None => return ObservedSettings::new(),
    };
    let differing = differing.into_iter().filter(|(_, is_right)| !is_right);
    differing
        .map(|(name, _)| {
            let now = if name == door() { open } else { strict };
            (name, now.to_string())
        })
        .collect()
}

/// As [`crate::provider::Provider::plan_settings`].
pub(super) fn plan_settings(want: SettingsSpec, observed: &ObservedSettings) -> Plan {
    let is_open = want.registration == Some(Registering::Open);
    let body = json!({"strict": is_open, "open": is_open});
    Plan {
        calls: (!observed.is_empty())
            .then(|| call(Change::Update, SETTINGS, body))
            .into_iter()
            .collect(),
        conflicts: vec![],
    }
}
