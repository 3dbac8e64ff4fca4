//! Two credentials of one client at a time: secrets or keys. Two keys are simply in the set of keys, and stay there until
//! we take one out. Secrets are more work.
//!
//! With its feature client-secret-rotation Keycloak accepts, beside the secret of a client, the one in the attribute
//! `client.secret.rotated` until a time in another attribute. Whoever changes a client can write both, so a secret that we
//! chose and the one before it come into force in one call. But a change of a client to which no client policy with the
//! executor `secret-rotation` applies throws these attributes away. So there is one such policy for the installation. It
//! applies to the clients that carry [`OVERLAP`], which ours do just as long as two of their secrets are valid.
//!
//! Under that executor a secret that has reached an age ends, too. The age is set far beyond any overlap, on each client.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    documents::{Document, POLICIES, PROFILES, Patch, entries},
    mark::attribute,
};
use crate::provider::{Call, Change, CredentialKind, Credentials, ObservedOverlap, Verb, key};

/// Keycloak's executor that lets two secrets be valid.
pub(super) const EXECUTOR: &str = "secret-rotation";

/// On a client of which two secrets are valid: the installation, by which the policy finds it.
const OVERLAP: &str = "mcpauth.overlap";
const PREVIOUS: &str = "client.secret.rotated";
const PREVIOUS_SINCE: &str = "client.secret.rotated.creation.time";
const PREVIOUS_UNTIL: &str = "client.secret.rotated.expiration.time";
const SINCE: &str = "client.secret.creation.time";
const UNTIL: &str = "client.secret.expiration.time";

/// The public keys of a client, as a text.
const KEYS: &str = "jwks.string";

/// Ten years, in seconds: the age at which Keycloak ends a secret of ours. An overlap lasts for days.
const FOR_LONG: i64 = 10 * 365 * 24 * 3600;

/// The attributes by which two credentials are valid, or one alone. Holds a secret: prints none of it.
#[derive(Clone, Default)]
pub(super) struct SecretAttributes(BTreeMap<&'static str, String>);

impl fmt::Debug for SecretAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretAttributes {
    /// Of a client of this installation. Where there is no second secret, what somebody else put there goes.
    pub(super) fn new(installation: &str, credentials: &Credentials) -> Self {
        let Self(mut attributes) = Self::none();
        match (&credentials.previous, credentials.current.kind()) {
            (previous, CredentialKind::PrivateKey) => {
                let previous = previous.iter().map(|previous| &previous.credential);
                let set = key::public_set([&credentials.current].into_iter().chain(previous));
                attributes.insert(KEYS, set);
            }
            (None, CredentialKind::Secret) => {}
            (Some(previous), CredentialKind::Secret) => {
                // Its beginning says nothing to anybody, but without one Keycloak does not look at it.
                let until = previous.until.as_second();
                attributes.extend([
                    (OVERLAP, installation.to_owned()),
                    (PREVIOUS, previous.credential.expose().to_owned()),
                    (PREVIOUS_SINCE, until.saturating_sub(1).to_string()),
                    (PREVIOUS_UNTIL, until.to_string()),
                    (SINCE, until.saturating_sub(1).to_string()),
                    (UNTIL, until.saturating_add(FOR_LONG).to_string()),
                ]);
            }
        }
        Self(attributes)
    }

    /// Of a client without any.
    pub(super) fn none() -> Self {
        let names = [OVERLAP, PREVIOUS, PREVIOUS_SINCE, PREVIOUS_UNTIL, KEYS];
        Self(BTreeMap::from(names.map(|name| (name, String::new()))))
    }

    /// Name and value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// When Keycloak lets the secret of a client expire.
pub(super) fn expires(client: &Value) -> Option<Timestamp> {
    Timestamp::from_second(attribute(client, UNTIL)?.parse().ok()?).ok()
}

/// Thumbprints of the public keys of a client.
pub(super) fn keys(client: &Value) -> BTreeSet<String> {
    attribute(client, KEYS).map(key::thumbprints).unwrap_or_default()
}

/// See [`crate::provider::Provider::plan_overlap`]. Profiles first when they are made, policies first when they go.
pub(super) fn plan(installation: &str, wanted: bool, observed: &ObservedOverlap) -> Vec<Call> {
    let ObservedOverlap::Seen(documents) = observed else {
        return Vec::new();
    };
    let name = format!("mcpauth.{installation}.overlap");
    let profile = json!({
        "name": name,
        "description": "Lets two secrets of a client be valid while it is replaced, managed by mcp-auth-operator",
        "executors": [{"executor": EXECUTOR, "configuration": {
            "expiration-period": FOR_LONG,
            "rotated-expiration-period": FOR_LONG,
            "remaining-rotation-period": 1,
        }}],
    });
    // A text, with one value for each key.
    let attributes = json!([{"key": OVERLAP, "value": installation}]).to_string();
    let policy = json!({
        "name": name,
        "description": "Clients of which two secrets are valid, managed by mcp-auth-operator",
        "enabled": true,
        "mode": "STRICT",
        "conditions": [{"condition": "client-attributes", "configuration": {"attributes": attributes}}],
        "profiles": [name],
    });
    let parts = if wanted {
        [(PROFILES, profile), (POLICIES, policy)]
    } else {
        [(POLICIES, policy), (PROFILES, profile)]
    };
    parts
        .into_iter()
        .filter_map(|(document, entry)| call(&document, entry, wanted, documents))
        .collect()
}

fn call(document: &Document, entry: Value, wanted: bool, documents: &Value) -> Option<Call> {
    let patch = if wanted {
        Patch {
            put: vec![entry],
            ..Patch::default()
        }
    } else {
        let name = entry["name"].as_str().map(str::to_owned);
        Patch {
            remove: name.into_iter().collect(),
            ..Patch::default()
        }
    };
    (!patch.holds(entries(documents, document))).then(|| Call {
        operation: document.write,
        change: if wanted { Change::Update } else { Change::Delete },
        subject: format!("client {} for the overlap of secrets", document.field),
        verb: Verb::Merge,
        path: document.path.to_owned(),
        body: Some(patch.body()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::provider::{Credential, Previous};

    #[test]
    fn the_secret_before_is_sent_and_not_printed() {
        let credentials = Credentials {
            current: Credential::new("new"),
            previous: Some(Previous {
                credential: Credential::new("hunter2"),
                until: Timestamp::from_second(1000).unwrap(),
            }),
        };
        let attributes = SecretAttributes::new("i", &credentials);
        let sent: BTreeMap<_, _> = attributes.iter().collect();
        assert_eq!(sent[PREVIOUS], "hunter2");
        assert_eq!(sent[PREVIOUS_UNTIL], "1000");
        assert!(!format!("{attributes:?}").contains("hunter2"));
        let alone = SecretAttributes::new("i", &Credentials::only(Credential::new("new")));
        assert!(alone.iter().all(|(_, value)| value.is_empty()));
    }

    #[test]
    fn the_policy_is_made_once_after_its_profile_and_goes_before_it() {
        let seen = |documents: &Value| ObservedOverlap::Seen(Arc::new(documents.clone()));
        let theirs = json!({"profiles": [{"name": "p"}], "policies": [{"name": "q", "profiles": ["p"]}]});
        let calls = plan("i", true, &seen(&theirs));
        let paths: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
        assert_eq!(paths, [PROFILES.path, POLICIES.path]);
        let mut with_ours = theirs.clone();
        for (call, document) in calls.iter().zip([PROFILES, POLICIES]) {
            let entries = Patch::of(call.body.as_ref()).apply(entries(&with_ours, &document));
            with_ours[document.field] = json!(entries);
        }
        assert!(plan("i", true, &seen(&with_ours)).is_empty());
        assert_eq!(
            plan("other", true, &seen(&with_ours)).len(),
            2,
            "each installation has its own"
        );
        let calls = plan("i", false, &seen(&with_ours));
        let paths: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
        assert_eq!(paths, [POLICIES.path, PROFILES.path]);
        assert!(plan("i", false, &seen(&theirs)).is_empty());
        assert!(plan("i", true, &ObservedOverlap::Unsupported).is_empty());
    }

    #[test]
    fn an_end_of_a_secret_is_read_as_it_is_written() {
        let client = |until: &str| json!({"attributes": {UNTIL: until}});
        assert_eq!(expires(&client("1000")), Timestamp::from_second(1000).ok());
        for none in ["", "soon", "99999999999999999999"] {
            assert_eq!(expires(&client(none)), None, "{none}");
        }
    }
}
