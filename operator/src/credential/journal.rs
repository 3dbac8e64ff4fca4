//! The journal of one credential: a Secret in the operator's own namespace, written only against the
//! resourceVersion that was read.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use mcp_auth_crds::annotations;

use crate::provider::Credential;

const CURRENT: &str = "current";
const PENDING: &str = "pending";
const ROTATED_AT: &str = "rotated-at";
const HANDLED_REQUEST: &str = "handled-request";
const PENDING_REQUEST: &str = "pending-request";
const PROVED: &str = "proved";
/// Annotation of a journal: whose it is, for people who look at the operator's namespace.
const OBJECT: &str = "mcpauth.dev/object";

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The credential in force.
    pub current: Option<Credential>,
    /// The credential that is being put in force.
    pub pending: Option<Credential>,
    /// When `current` came into force.
    pub rotated_at: Option<Timestamp>,
    /// The rotation request that was acted upon last.
    pub handled_request: Option<String>,
    /// The rotation request that `pending` answers.
    pub pending_request: Option<String>,
    /// Fingerprint of what was proved last: credential, and what it must give.
    pub proved: Option<String>,
    /// The resourceVersion that was read; `None` when the journal does not exist yet.
    pub version: Option<String>,
}

/// Name of the journal of an object: `<kind>.<namespace>.<name>`; namespaces hold no dot, so it is unique.
pub fn name(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}.{namespace}.{name}", kind.to_lowercase())
}

impl Journal {
    fn from_secret(secret: &Secret) -> Self {
        let data = secret.data.as_ref();
        let text = |key: &str| {
            data.and_then(|data| data.get(key))
                .and_then(|value| String::from_utf8(value.0.clone()).ok())
                .filter(|t| !t.is_empty())
        };
        Self {
            current: text(CURRENT).map(Credential::new),
            pending: text(PENDING).map(Credential::new),
            rotated_at: text(ROTATED_AT).and_then(|time| time.parse().ok()),
            handled_request: text(HANDLED_REQUEST),
            pending_request: text(PENDING_REQUEST),
            proved: text(PROVED),
            version: secret.resource_version(),
        }
    }

    fn data(&self) -> BTreeMap<String, ByteString> {
        let credential =
            |credential: &Option<Credential>| credential.as_ref().map(|secret| secret.expose().to_owned());
        [
            (CURRENT, credential(&self.current)),
            (PENDING, credential(&self.pending)),
            (ROTATED_AT, self.rotated_at.map(|time| time.to_string())),
            (HANDLED_REQUEST, self.handled_request.clone()),
            (PENDING_REQUEST, self.pending_request.clone()),
            (PROVED, self.proved.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), ByteString(value?.into_bytes()))))
        .collect()
    }
}

/// Reads a journal.
pub async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Journal>, kube::Error> {
    Ok(api
        .get_opt(name)
        .await?
        .map(|secret| Journal::from_secret(&secret)))
}

/// Writes a journal over the version that it was read from, or creates it when it was not there. Fails with a
/// conflict when somebody else wrote in between. Returns it with its new version.
pub async fn write(
    api: &Api<Secret>,
    name: &str,
    object: &str,
    journal: &Journal,
) -> Result<Journal, kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: journal.version.clone(),
            labels: Some(BTreeMap::from([(
                annotations::MANAGED_BY.to_owned(),
                annotations::MANAGER.to_owned(),
            )])),
            annotations: Some(BTreeMap::from([(OBJECT.to_owned(), object.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(journal.data()),
        ..Secret::default()
    };
    let parameters = PostParams {
        field_manager: Some(annotations::MANAGER.to_owned()),
        ..PostParams::default()
    };
    let written = match journal.version {
        Some(_) => api.replace(name, &parameters, &secret).await?,
        None => api.create(&parameters, &secret).await?,
    };
    Ok(Journal::from_secret(&written))
}

/// Deletes a journal, if it is still the version that was read.
pub async fn delete(api: &Api<Secret>, name: &str, journal: &Journal) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            resource_version: journal.version.clone(),
            uid: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_survives_the_way_through_a_secret() {
        let journal = Journal {
            current: Some(Credential::new("old")),
            pending: Some(Credential::new("new")),
            rotated_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            handled_request: Some("1".into()),
            pending_request: Some("2".into()),
            proved: Some("abc".into()),
            version: None,
        };
        for journal in [journal, Journal::default()] {
            let secret = Secret {
                data: Some(journal.data()),
                ..Secret::default()
            };
            assert_eq!(Journal::from_secret(&secret), journal);
        }
    }

    #[test]
    fn names_of_journals_cannot_meet() {
        assert_ne!(name("McpClient", "a-b", "c"), name("McpClient", "a", "b-c"));
        assert_ne!(name("McpClient", "a", "b"), name("McpServer", "a", "b"));
    }

    #[test]
    fn journals_print_without_their_secrets() {
        let journal = Journal {
            current: Some(Credential::new("hunter2")),
            ..Journal::default()
        };
        assert!(!format!("{journal:?}").contains("hunter2"));
    }
}
