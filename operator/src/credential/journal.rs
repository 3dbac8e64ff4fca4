//! The journal of one credential: a Secret in the operator's own namespace, written only against the
//! resourceVersion that was read.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use mcp_auth_crds::annotations;
use serde::de::Error as _;

use super::{Reason, book::REGISTRATIONS, homes::Homes};
use crate::provider::{Credential, Previous};

const CURRENT: &str = "current";
const PENDING: &str = "pending";
const ROTATED_AT: &str = "rotated-at";
const HANDLED_REQUEST: &str = "handled-request";
const HANDLED_REVOCATION: &str = "handled-revocation";
const PENDING_REASON: &str = "pending-reason";
const PENDING_SINCE: &str = "pending-since";
const PENDING_REQUEST: &str = "pending-request";
const PENDING_REVOCATION: &str = "pending-revocation";
const PREVIOUS: &str = "previous";
const PREVIOUS_UNTIL: &str = "previous-until";
const PROVED: &str = "proved";
const BEGUN: &str = "begun";
/// Annotation of a journal: whose it is, for people who look at the operator's namespace.
const OBJECT: &str = "mcpauth.dev/object";

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// The credential in force.
    pub current: Option<Credential>,
    /// The credential that is being put in force.
    pub pending: Option<Pending>,
    /// The credential before `current`, while it is still valid.
    pub previous: Option<Previous>,
    /// When `current` was made.
    pub rotated_at: Option<Timestamp>,
    /// The rotation request that was acted upon last.
    pub handled_request: Option<String>,
    /// The revocation request that was acted upon last.
    pub handled_revocation: Option<String>,
    /// Fingerprint of what was proved last: credential, and what it must give.
    pub proved: Option<String>,
    /// Which metadata document is being registered: until the client carries the mark, nothing else says that it is ours.
    pub begun: Option<String>,
    /// Where the client is registered, and where it was before; nothing of an McpServer, which does not move.
    pub homes: Homes,
    /// The resourceVersion that was read; `None` when the journal does not exist yet.
    pub version: Option<String>,
}

/// A credential that is being put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The credential.
    pub credential: Credential,
    /// Why it was made.
    pub reason: Reason,
    /// When it was made.
    pub since: Timestamp,
    /// The rotation request that it answers.
    pub request: Option<String>,
    /// The revocation request that it answers.
    pub revocation: Option<String>,
}

/// Name of the journal of an object: `<kind>.<namespace>.<name>`; namespaces hold no dot, so it is unique.
pub fn name(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}.{namespace}.{name}", kind.to_lowercase())
}

impl Journal {
    /// Whether it holds no credential.
    pub const fn is_empty(&self) -> bool {
        self.current.is_none() && self.pending.is_none()
    }
}

impl Content for Journal {
    fn from_secret(secret: &Secret) -> Result<Self, serde_json::Error> {
        let data = secret.data.as_ref();
        let homes = Homes::of(data)?;
        homes.fit(false)?;
        if data.is_some_and(|data| data.contains_key(REGISTRATIONS)) {
            return Err(serde_json::Error::custom("it holds registrations"));
        }
        let text = |key: &str| {
            data.and_then(|data| data.get(key))
                .and_then(|value| String::from_utf8(value.0.clone()).ok())
                .filter(|t| !t.is_empty())
        };
        let time = |key: &str| text(key).and_then(|time| time.parse::<Timestamp>().ok());
        Ok(Self {
            current: text(CURRENT).map(Credential::new),
            pending: text(PENDING).map(|secret| Pending {
                credential: Credential::new(secret),
                reason: Reason::named(text(PENDING_REASON).as_deref()),
                since: time(PENDING_SINCE).unwrap_or_default(),
                request: text(PENDING_REQUEST),
                revocation: text(PENDING_REVOCATION),
            }),
            previous: text(PREVIOUS)
                .zip(time(PREVIOUS_UNTIL))
                .map(|(secret, until)| Previous {
                    credential: Credential::new(secret),
                    until,
                }),
            rotated_at: time(ROTATED_AT),
            handled_request: text(HANDLED_REQUEST),
            handled_revocation: text(HANDLED_REVOCATION),
            proved: text(PROVED),
            begun: text(BEGUN),
            homes,
            version: secret.resource_version(),
        })
    }

    fn data(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let exposed = |credential: &Credential| credential.expose().to_owned();
        let (pending, previous) = (self.pending.as_ref(), self.previous.as_ref());
        Ok([
            (CURRENT, self.current.as_ref().map(exposed)),
            (PENDING, pending.map(|pending| exposed(&pending.credential))),
            (
                PENDING_REASON,
                pending.map(|pending| pending.reason.as_str().to_owned()),
            ),
            (PENDING_SINCE, pending.map(|pending| pending.since.to_string())),
            (
                PENDING_REQUEST,
                pending.and_then(|pending| pending.request.clone()),
            ),
            (
                PENDING_REVOCATION,
                pending.and_then(|pending| pending.revocation.clone()),
            ),
            (PREVIOUS, previous.map(|previous| exposed(&previous.credential))),
            (
                PREVIOUS_UNTIL,
                previous.map(|previous| previous.until.to_string()),
            ),
            (ROTATED_AT, self.rotated_at.map(|time| time.to_string())),
            (HANDLED_REQUEST, self.handled_request.clone()),
            (HANDLED_REVOCATION, self.handled_revocation.clone()),
            (PROVED, self.proved.clone()),
            (BEGUN, self.begun.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), ByteString(value?.into_bytes()))))
        .chain(self.homes.entry()?)
        .collect())
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// What a journal can hold.
pub trait Content: Sized {
    /// What the Secret says.
    /// # Errors
    /// When it cannot be read: then nobody may write over it.
    fn from_secret(secret: &Secret) -> Result<Self, serde_json::Error>;

    /// What the Secret is to say.
    ///
    /// # Errors
    /// When it cannot be written.
    fn data(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error>;

    /// The resourceVersion that was read; `None` when the journal does not exist yet.
    fn version(&self) -> Option<&str>;
}

/// Reads a journal.
pub async fn read<T: Content>(api: &Api<Secret>, name: &str) -> Result<Option<T>, kube::Error> {
    let found = api.get_opt(name).await?;
    let read = found.map(|secret| T::from_secret(&secret)).transpose();
    read.map_err(kube::Error::SerdeError)
}

/// Writes a journal over the version that it was read from, or creates it when it was not there. Fails with a
/// conflict when somebody else wrote in between. Returns it with its new version.
pub async fn write<T: Content>(
    api: &Api<Secret>,
    name: &str,
    object: &str,
    journal: &T,
) -> Result<T, kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: journal.version().map(str::to_owned),
            labels: Some(BTreeMap::from([(
                annotations::MANAGED_BY.to_owned(),
                annotations::MANAGER.to_owned(),
            )])),
            annotations: Some(BTreeMap::from([(OBJECT.to_owned(), object.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(journal.data().map_err(kube::Error::SerdeError)?),
        ..Secret::default()
    };
    let parameters = PostParams {
        field_manager: Some(annotations::MANAGER.to_owned()),
        ..PostParams::default()
    };
    let written = match journal.version() {
        Some(_) => api.replace(name, &parameters, &secret).await?,
        None => api.create(&parameters, &secret).await?,
    };
    T::from_secret(&written).map_err(kube::Error::SerdeError)
}

/// Deletes a journal, if it is still the version that was read.
pub async fn delete<T: Content>(api: &Api<Secret>, name: &str, journal: &T) -> Result<(), kube::Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            resource_version: journal.version().map(str::to_owned),
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
            pending: Some(Pending {
                credential: Credential::new("new"),
                reason: Reason::Due,
                since: "2026-01-02T00:00:00Z".parse().unwrap(),
                request: Some("2".into()),
                revocation: Some("3".into()),
            }),
            previous: Some(Previous {
                credential: Credential::new("older"),
                until: "2026-01-03T00:00:00Z".parse().unwrap(),
            }),
            rotated_at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            handled_request: Some("1".into()),
            handled_revocation: Some("0".into()),
            proved: Some("abc".into()),
            begun: Some("https://a/ https://b/c".into()),
            homes: Homes::default(),
            version: None,
        };
        for journal in [journal, Journal::default()] {
            let secret = Secret {
                data: Some(journal.data().unwrap()),
                ..Secret::default()
            };
            assert_eq!(Journal::from_secret(&secret).unwrap(), journal);
        }
    }

    #[test]
    fn a_reason_that_is_unknown_gets_no_overlap() {
        for known in Reason::ALL {
            assert_eq!(Reason::named(Some(known.as_str())), known);
        }
        assert_eq!(Reason::named(Some("Later")), Reason::Revoked);
        assert_eq!(Reason::named(None), Reason::Revoked);
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
