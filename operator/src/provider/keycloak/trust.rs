//! Trust in the tokens that a cluster gives its ServiceAccounts: an identity provider of the realm, of Keycloak's type for
//! them. It lets no user sign in. Clients name it by its alias.

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Keycloak,
    admin::{Get, IDENTITY_PROVIDERS},
    mark::{INSTALLATION, text},
    observe::since,
};
use crate::{
    policy::names::short_installation,
    provider::{Call, Change, Conflict, Holder, ObservedTrust, Plan, ProviderError, Read, Verb, http::LIST},
};

/// Keycloak's type of such an identity provider.
pub(super) const TYPE: &str = "kubernetes";

/// The longest that a token may be valid from now on, in seconds: Keycloak's own limit, and what pods get that ask for an
/// hour.
const LONGEST: &str = "3600";
/// By how many seconds the clocks of the cluster and of Keycloak may differ.
const SKEW: &str = "10";

const ISSUER: &str = "issuer";

/// What is remembered of the identity providers, and when they were asked for.
pub(super) type Known = (Instant, ObservedTrust);

/// The alias of the one that we keep.
pub(super) fn alias(installation: &str) -> String {
    format!("mcpauth-{}", short_installation(installation))
}

/// See [`crate::provider::Provider::plan_trust`].
pub(super) fn plan(installation: &str, issuer: Option<&str>, observed: &Value) -> Plan {
    let alias = alias(installation);
    let named = |entry: &&Value| text(entry, "alias") == Some(&alias);
    let existing = entries(observed).iter().find(named);
    let is_ours = |entry: &Value| config(entry, INSTALLATION) == Some(installation);
    let Some(issuer) = issuer else {
        let ours = existing.filter(|entry| is_ours(entry));
        let calls = ours.map(|_| call(&alias, Change::Delete, Verb::Delete, None));
        return Plan {
            calls: calls.into_iter().collect(),
            ..Plan::default()
        };
    };
    // Keycloak wants one for each issuer.
    let same = entries(observed)
        .iter()
        .find(|entry| !named(entry) && config(entry, ISSUER) == Some(issuer));
    if let Some(foreign) = existing.filter(|entry| !is_ours(entry)).or(same) {
        let subject = format!("identity provider {}", text(foreign, "alias").unwrap_or_default());
        let holder = Holder::Unmarked { adopter: None };
        return Plan {
            conflicts: vec![Conflict { subject, holder }],
            ..Plan::default()
        };
    }
    let want = wanted(&alias, installation, issuer);
    let call = match existing {
        None => Some(call(&alias, Change::Create, Verb::Post, Some(want))),
        Some(existing) if contains(existing, &want) => None,
        Some(existing) => {
            let body = merged(existing, &want);
            Some(call(&alias, Change::Update, Verb::Put, Some(body)))
        }
    };
    Plan {
        calls: call.into_iter().collect(),
        ..Plan::default()
    }
}

fn wanted(alias: &str, installation: &str, issuer: &str) -> Value {
    json!({
        "alias": alias,
        "displayName": "ServiceAccounts, managed by mcp-auth-operator",
        "providerId": TYPE,
        "enabled": true,
        "hideOnLogin": true,
        "config": {
            ISSUER: issuer,
            "fedClientAssertionMaxExp": LONGEST,
            "allowedClockSkew": SKEW,
            INSTALLATION: installation,
        },
    })
}

fn call(alias: &str, change: Change, verb: Verb, body: Option<Value>) -> Call {
    let path = match verb {
        Verb::Post => IDENTITY_PROVIDERS.to_owned(),
        Verb::Put | Verb::Patch | Verb::Delete | Verb::Merge => format!("{IDENTITY_PROVIDERS}/{alias}"),
    };
    let operation = match verb {
        Verb::Post => "create_identity_provider",
        Verb::Delete => "delete_identity_provider",
        Verb::Put | Verb::Patch | Verb::Merge => "update_identity_provider",
    };
    Call {
        operation,
        change,
        subject: format!("identity provider {alias}"),
        verb,
        path,
        body,
    }
}

fn entries(observed: &Value) -> &[Value] {
    observed.as_array().map_or(&[], Vec::as_slice)
}

fn config<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get("config")?.get(name)?.as_str()
}

/// Whether `found` says all that is wanted.
fn contains(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, value)| contains(&found[name], value)),
        other => found == other,
    }
}

/// `found` with what is wanted in it.
fn merged(found: &Value, wanted: &Value) -> Value {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let mut fields = found.clone();
            for (name, value) in wanted {
                let before = fields.get(name).unwrap_or(&Value::Null);
                fields.insert(name.clone(), merged(before, value));
            }
            Value::Object(fields)
        }
        _ => wanted.clone(),
    }
}

impl Keycloak {
    /// See [`crate::provider::Provider::observe_trust`].
    pub(super) async fn trust(&self, read: Read) -> Result<ObservedTrust, ProviderError> {
        let recalled = {
            let known = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.as_ref().filter(|(asked, _)| Some(*asked) >= since(read));
            fresh.map(|(_, known)| Arc::clone(known))
        };
        if let Some(known) = recalled {
            return Ok(known);
        }
        let asked = Instant::now();
        let get = Get {
            operation: "read_identity_providers",
            path: IDENTITY_PROVIDERS,
            query: &[],
            limit: LIST,
        };
        let found = self.admin.get(&get).await?.unwrap_or_default();
        let found = Arc::new(found);
        self.remember_trust(Some((asked, Arc::clone(&found))));
        Ok(found)
    }

    pub(super) fn remember_trust(&self, known: Option<Known>) {
        *self.trust.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://cluster.example";

    fn ours(issuer: &str) -> Value {
        wanted("mcpauth-prod", "prod", issuer)
    }

    /// What a plan comes to: the verb and body of its call, or the conflict.
    fn outcome(issuer: Option<&str>, observed: &[Value]) -> (Option<(Verb, String)>, Option<String>) {
        let plan = plan("prod", issuer, &json!(observed));
        assert!(plan.calls.len() <= 1 && plan.conflicts.len() <= 1);
        let call = plan.calls.first().map(|call| (call.verb, call.path.clone()));
        (
            call,
            plan.conflicts.first().map(|conflict| conflict.subject.clone()),
        )
    }

    #[test]
    fn one_for_the_issuer_and_none_for_nobody() {
        let own = "/identity-provider/instances/mcpauth-prod".to_owned();
        let mut with_more = ours(URL);
        with_more["config"]["theirs"] = json!("kept");
        let mut off = with_more.clone();
        off["enabled"] = json!(false);
        let mut foreign = ours(URL);
        foreign["config"]["mcpauth.installation"] = json!("other");
        let mut unmarked = ours(URL);
        unmarked["config"]
            .as_object_mut()
            .unwrap()
            .remove("mcpauth.installation");
        let mut same = unmarked.clone();
        same["alias"] = json!("k8s");
        let mut another = same.clone();
        another["config"]["issuer"] = json!("https://another.example");
        let put = || (Some((Verb::Put, own.clone())), None);
        let conflict = |alias: &str| (None, Some(format!("identity provider {alias}")));
        let post = (Some((Verb::Post, IDENTITY_PROVIDERS.to_owned())), None);
        for (what, issuer, observed, expected) in [
            ("nothing yet", Some(URL), vec![], post.clone()),
            ("others", Some(URL), vec![another], post),
            ("as it is to be", Some(URL), vec![with_more.clone()], (None, None)),
            ("switched off", Some(URL), vec![off.clone()], put()),
            (
                "another issuer",
                Some(URL),
                vec![ours("https://old.example")],
                put(),
            ),
            (
                "of another installation",
                Some(URL),
                vec![foreign.clone()],
                conflict("mcpauth-prod"),
            ),
            (
                "of nobody",
                Some(URL),
                vec![unmarked.clone()],
                conflict("mcpauth-prod"),
            ),
            (
                "of the same issuer",
                Some(URL),
                vec![same.clone()],
                conflict("k8s"),
            ),
            (
                "not wanted",
                None,
                vec![off, same],
                (Some((Verb::Delete, own.clone())), None),
            ),
            (
                "not wanted, of another",
                None,
                vec![foreign, unmarked],
                (None, None),
            ),
            ("not wanted, and not there", None, vec![], (None, None)),
        ] {
            assert_eq!(outcome(issuer, &observed), expected, "{what}");
        }
        let mut changed = with_more;
        changed["hideOnLogin"] = json!(false);
        let body = plan("prod", Some(URL), &json!([changed])).calls[0]
            .body
            .clone()
            .unwrap();
        assert_eq!(body["config"]["theirs"], "kept");
        assert_eq!(body["hideOnLogin"], true);
    }
}
