//! The ways in: registration without a token from trusted hosts, metadata documents, and the scopes that every new client
//! of the realm gets. What the realm said before is kept on a client of ours (see [`super::keeper`]) and comes back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    super::{
        diff::texts,
        documents::{POLICIES, PROFILES, Patch, entries},
        mark::text,
    },
    DOCUMENTS,
    guards::Sorted,
    merge, name, profile, strict,
};
use crate::provider::{Call, Change, DocumentsSpec, Doors, DynamicSpec, ObservedScopes, Verb};

/// The type of the policies of client registration.
pub(super) const TYPE: &str = "org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy";

/// What a component says, by the name of each setting.
pub(super) type Config = BTreeMap<String, BTreeSet<String>>;

/// The settings of components, as they are to be while registration is open: by the provider of the policy.
pub(super) fn settings(dynamic: &DynamicSpec) -> Vec<(&'static str, Config)> {
    let only = |value: &str| BTreeSet::from([value.to_owned()]);
    let hosts = Config::from([
        ("trusted-hosts".to_owned(), dynamic.hosts.clone()),
        // A client can be anywhere: what counts is where users are sent to.
        (
            "host-sending-registration-request-must-match".to_owned(),
            only("false"),
        ),
        ("client-uris-must-match".to_owned(), only("true")),
    ]);
    let most = dynamic.max_clients.map(|most| {
        let config = Config::from([("max-clients".to_owned(), only(&most.to_string()))]);
        ("max-clients", config)
    });
    [("trusted-hosts", hosts)].into_iter().chain(most).collect()
}

/// The provider of the policies that say which scopes a registration may name.
pub(super) const ALLOWED_SCOPES: &str = "allowed-client-templates";

/// What the one of ours says: besides these only what the realm gives every new client.
pub(super) fn allowed_scopes(open: &BTreeSet<String>) -> Config {
    Config::from([
        ("allowed-client-scopes".to_owned(), open.clone()),
        (
            "allow-default-scopes".to_owned(),
            BTreeSet::from(["true".to_owned()]),
        ),
    ])
}

/// What a component says.
pub(super) fn config(component: &Value) -> Config {
    let fields = component["config"].as_object().into_iter().flatten();
    let values = |list: &Value| texts(Some(list)).into_iter().map(str::to_owned).collect();
    fields.map(|(name, list)| (name.clone(), values(list))).collect()
}

/// The components for registration without a token that are of this provider.
pub(super) fn anonymous<'a>(components: &'a Value, provider: &'a str) -> impl Iterator<Item = &'a Value> {
    components
        .as_array()
        .into_iter()
        .flatten()
        .filter(move |component| text(component, "providerId") == Some(provider))
        .filter(|component| text(component, "subType") == Some("anonymous"))
}

/// The call that makes a component say this, settings that it has besides aside.
pub(super) fn set(component: &Value, wanted: &Config, change: Change) -> Option<Call> {
    let now = config(component);
    let differs = wanted
        .iter()
        .any(|(name, values)| now.get(name).cloned().unwrap_or_default() != *values);
    if !differs {
        return None;
    }
    let mut body = component.clone();
    for (name, values) in wanted {
        body["config"][name] = json!(values);
    }
    let id = text(component, "id")?;
    Some(Call {
        operation: "update_registration_policy",
        change,
        subject: format!(
            "client registration policy {}",
            text(component, "name").unwrap_or_default()
        ),
        verb: Verb::Put,
        path: format!("/components/{id}"),
        body: Some(body),
    })
}

/// The settings by which a component says again what it said before: what it says besides now is emptied.
pub(super) fn back_to(previous: &Config, component: &Value) -> Config {
    let mut wanted = previous.clone();
    for name in config(component).into_keys() {
        wanted.entry(name).or_default();
    }
    wanted
}

/// The name of the component that we make where the realm has none of this provider.
fn own_name(installation: &str, provider: &str) -> String {
    name(installation, &format!("registration-{provider}"))
}

/// Whether a component is such a one.
pub(super) fn is_own(installation: &str, component: &Value) -> bool {
    let provider = text(component, "providerId").unwrap_or_default();
    text(component, "name") == Some(&own_name(installation, provider))
}

/// A component of our own.
pub(super) fn own(name: &str, provider: &str, wanted: &Config) -> Call {
    Call {
        operation: "create_registration_policy",
        change: Change::Create,
        subject: format!("client registration policy {name}"),
        verb: Verb::Post,
        path: "/components".to_owned(),
        body: Some(json!({
            "name": name,
            "providerId": provider,
            "providerType": TYPE,
            "subType": "anonymous",
            "config": wanted,
        })),
    }
}

/// The call that deletes a component.
pub(super) fn delete(component: &Value) -> Option<Call> {
    Some(Call {
        operation: "delete_registration_policy",
        change: Change::Revoke,
        subject: format!(
            "client registration policy {}",
            text(component, "name").unwrap_or_default()
        ),
        verb: Verb::Delete,
        path: format!("/components/{}", text(component, "id")?),
        body: None,
    })
}

/// The calls about scopes that every new client gets: of ours exactly the open ones, and those as optional scopes.
pub(super) fn scopes(
    installation: &str,
    open: &BTreeSet<String>,
    opens: bool,
    observed: &Value,
    at_server: &ObservedScopes,
) -> Vec<Call> {
    let ours = Sorted::of(installation, at_server).ours;
    let named = |list: &str| -> BTreeSet<String> {
        let entries = observed[list].as_array().into_iter().flatten();
        entries
            .filter_map(|scope| text(scope, "name").map(str::to_owned))
            .collect()
    };
    let call = |list: &str, scope: &String, verb| {
        let id = text(&at_server.get(scope)?.raw, "id")?;
        let change = if verb == Verb::Delete {
            Change::Revoke
        } else {
            Change::Update
        };
        Some(Call {
            operation: "update_realm_scopes",
            change,
            subject: format!("scope {scope} for new clients of the realm"),
            verb,
            path: format!("/default-{list}-client-scopes/{id}"),
            body: None,
        })
    };
    let (default, optional) = (named("default"), named("optional"));
    let mut calls = Vec::new();
    for scope in default.intersection(&ours) {
        calls.extend(call("default", scope, Verb::Delete));
    }
    for scope in optional
        .intersection(&ours)
        .filter(|scope| !open.contains(*scope))
    {
        calls.extend(call("optional", scope, Verb::Delete));
    }
    if opens {
        for scope in open
            .intersection(&ours)
            .filter(|scope| !optional.contains(*scope))
        {
            calls.extend(call("optional", scope, Verb::Put));
        }
    }
    calls
}

/// The calls about metadata documents.
pub(super) fn documents(
    installation: &str,
    want: Option<&DocumentsSpec>,
    doors: Doors,
    observed: &Value,
) -> Vec<Call> {
    let name = name(installation, "documents");
    let is_there = |document| {
        entries(observed, &document)
            .iter()
            .any(|entry| text(entry, "name") == Some(&name))
    };
    let wanted = want.map(|want| {
        (
            documents_profile(installation, want),
            documents_policy(&name, want),
        )
    });
    let in_force = wanted.as_ref().is_some_and(|(profile, policy)| {
        entries(observed, &PROFILES).contains(profile) && entries(observed, &POLICIES).contains(policy)
    });
    match (wanted, doors) {
        (Some(_), Doors::Leave | Doors::Open) if in_force => Vec::new(),
        (Some((profile, policy)), Doors::Open) => [(PROFILES, profile), (POLICIES, policy)]
            .into_iter()
            .map(|(document, entry)| {
                let patch = Patch {
                    put: vec![entry],
                    ..Patch::default()
                };
                merge(&document, Change::Update, "for metadata documents", &patch)
            })
            .collect(),
        // What is open otherwise than it is to be is shut until it can be opened as it is to be.
        _ => [POLICIES, PROFILES]
            .into_iter()
            .filter(|document| is_there(*document))
            .map(|document| {
                let patch = Patch {
                    remove: vec![name.clone()],
                    ..Patch::default()
                };
                merge(&document, Change::Revoke, "for metadata documents", &patch)
            })
            .collect(),
    }
}

fn documents_profile(installation: &str, want: &DocumentsSpec) -> Value {
    let hosts: BTreeSet<_> = want.domains.union(&want.hosts).collect();
    profile(
        installation,
        "documents",
        "Clients known by metadata documents, managed by mcp-auth-operator",
        &json!([{"executor": DOCUMENTS, "configuration": {
            "cimd-allow-http-scheme": false,
            "cimd-allow-permitted-domains": hosts,
            "cimd-restrict-same-domain": false,
            "cimd-required-properties": ["client_name"],
            "only-allow-confidential-client": false,
        }}]),
    )
}

fn documents_policy(name: &str, want: &DocumentsSpec) -> Value {
    strict(
        name,
        "Clients known by metadata documents, managed by mcp-auth-operator",
        &json!([{"condition": "client-id-uri", "configuration": {
            "client-id-uri-scheme": ["https"],
            "client-id-uri-allow-permitted-domains": want.domains,
        }}]),
        "documents",
    )
}

/// What it takes to open registration, wanted or not, as far as components go: those of others that are changed for it,
/// and those that we make where there is none.
pub(super) fn components(
    installation: &str,
    want: Option<&DynamicSpec>,
    doors: Doors,
    observed: &Value,
    previous: &BTreeMap<String, Config>,
) -> Vec<Call> {
    let components = &observed["components"];
    let is_own = |component: &Value| is_own(installation, component);
    let mut calls = Vec::new();
    for provider in ["trusted-hosts", "max-clients"] {
        let wanted = want
            .filter(|_| doors != Doors::Shut)
            .and_then(|want| settings(want).into_iter().find(|(name, _)| *name == provider));
        let mut found = false;
        for component in anonymous(components, provider) {
            found = true;
            let id = text(component, "id").unwrap_or_default();
            let before = previous.get(id);
            match &wanted {
                Some((_, config)) if set(component, config, Change::Update).is_none() => {}
                // Only what it said before is known can be changed.
                Some((_, config)) if doors == Doors::Open && (before.is_some() || is_own(component)) => {
                    calls.extend(set(component, config, Change::Update));
                }
                _ if is_own(component) => calls.extend(delete(component)),
                _ => {
                    let back = before.map(|before| back_to(before, component));
                    calls.extend(back.and_then(|back| set(component, &back, Change::Revoke)));
                }
            }
        }
        if let (Some((_, config)), false, Doors::Open) = (&wanted, found, doors) {
            calls.push(own(&own_name(installation, provider), provider, config));
        }
    }
    calls
}
