//! The Secret of a gate: the keys of its sessions, and the server's own credential while it exchanges tokens. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use mcp_auth_gate_core::document::Document;

use crate::provider::Credential;

/// Key with which session ids are sealed, a line each; the first is the one in use.
pub(super) const SESSION_KEYS: &str = "session-keys";
/// Client id of the server at its authorization server.
pub(super) const CLIENT_ID: &str = "client-id";
/// The secret that goes with it.
pub(super) const CLIENT_SECRET: &str = "client-secret";

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// The old key and the new one.
const MOST_KEYS: usize = 2;

/// What the Secret holds. Prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content(BTreeMap<String, String>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Content {
    /// What is to be in the Secret: the keys that are there, if they are any good, else `fresh`; and the credential with
    /// which the gate exchanges tokens.
    pub(super) fn new(
        existing: Option<&Secret>,
        fresh: &[u8; KEY_BYTES],
        own: Option<(&str, &Credential)>,
    ) -> Self {
        let keys = existing
            .and_then(session_keys)
            .unwrap_or_else(|| STANDARD.encode(fresh));
        let mut data = BTreeMap::from([(SESSION_KEYS.to_owned(), keys)]);
        if let Some((id, secret)) = own {
            data.insert(CLIENT_ID.to_owned(), id.to_owned());
            data.insert(CLIENT_SECRET.to_owned(), secret.expose().to_owned());
        }
        Self(data)
    }

    /// As it is written.
    pub(super) fn data(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// By what the gate tells it from others. Keys that others added to the Secret are not mounted.
    pub(super) fn hash(&self) -> String {
        let bytes = |(name, value): (&String, &String)| (name.clone(), value.clone().into_bytes());
        Document::credentials_hash(&self.0.iter().map(bytes).collect())
    }

    /// Whether the Secret holds exactly this, apart from what others added.
    pub(super) fn is_in(&self, secret: &Secret) -> bool {
        let ours: BTreeSet<&str> = [SESSION_KEYS, CLIENT_ID, CLIENT_SECRET].into();
        let held = secret
            .data
            .iter()
            .flatten()
            .filter(|(name, _)| ours.contains(name.as_str()));
        let held: BTreeMap<&str, &[u8]> = held
            .map(|(name, value)| (name.as_str(), value.0.as_slice()))
            .collect();
        held == self
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect()
    }
}

/// The session keys of a Secret, if a gate can use them.
fn session_keys(secret: &Secret) -> Option<String> {
    let keys = secret.data.as_ref()?.get(SESSION_KEYS)?;
    let keys = std::str::from_utf8(&keys.0).ok()?;
    let is_key = |line: &str| STANDARD.decode(line).is_ok_and(|key| key.len() == KEY_BYTES);
    let count = keys.lines().count();
    ((1..=MOST_KEYS).contains(&count) && keys.lines().all(is_key)).then(|| keys.to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(data: &[(&str, &str)]) -> Secret {
        let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        Secret {
            data: Some(data.iter().map(entry).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn keys_that_are_any_good_stay() {
        let (old, new, fresh) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]), [9; 32]);
        let both = format!("{new}\n{old}\n");
        for (keys, stays) in [
            (old.as_str(), true),
            (&both, true),
            (&format!("{both}{old}"), false),
            ("", false),
            ("c2hvcnQ=", false),
            (&format!("{old}\nnonsense"), false),
        ] {
            let content = Content::new(Some(&secret(&[(SESSION_KEYS, keys)])), &fresh, None);
            let expected = if stays {
                keys.to_owned()
            } else {
                STANDARD.encode(fresh)
            };
            assert_eq!(content.data()[SESSION_KEYS], expected, "{keys:?}");
        }
    }

    #[test]
    fn the_credential_is_there_only_while_it_is_needed() {
        let own = Credential::new("s3cret");
        let with = Content::new(None, &[1; 32], Some(("https://h/", &own)));
        let without = Content::new(None, &[1; 32], None);
        let text = |content: &Content| content.data().clone();
        let pairs = |content: &Content| -> Secret {
            let data = text(content);
            secret(
                &data
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect::<Vec<_>>(),
            )
        };
        assert!(with.is_in(&pairs(&with)) && without.is_in(&pairs(&without)));
        assert!(
            !without.is_in(&pairs(&with)),
            "one that is left over is taken away"
        );
        assert!(!with.is_in(&pairs(&without)));
        assert_ne!(with.hash(), without.hash());
        let mut theirs = pairs(&with);
        theirs
            .data
            .as_mut()
            .unwrap()
            .insert("theirs".into(), ByteString(vec![]));
        assert!(with.is_in(&theirs), "what others added is theirs");
        assert!(!format!("{with:?}").contains("s3cret"), "{with:?}");
    }
}
