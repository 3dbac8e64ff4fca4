//! What is known of the registrations of one client: the journal, as data. Pure.
//!
//! The authorization server has chosen everything by which a registration can be reached, says it once, and has no list in
//! which it could be found again. So what is not in here is lost, and what is lost is counted.

mod missed;
mod turns;
pub(super) mod wire;

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize, de::Error as _};

use super::{
    Reason,
    homes::Homes,
    journal::{Content, Journal, Pending},
};
use crate::{
    policy::names,
    provider::{
        Credential, Previous,
        registration::{Asked, Information, Managed, Method},
    },
};

pub use missed::Missed;

/// Under which key of the journal all of it is.
pub(super) const REGISTRATIONS: &str = "registrations";

/// All registrations of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Book {
    /// A registration was begun, and its answer is not in here.
    pub intent: Option<Intent>,
    /// The registration that is being put in force.
    pub fresh: Option<Entry>,
    /// The registration in force.
    pub current: Option<Entry>,
    /// Those that are to end.
    pub old: Vec<Old>,
    /// How many were begun.
    pub number: u32,
    /// How many may be left at the authorization server that nobody can reach any more.
    pub unreachable: u32,
    /// The numbers of those, the newest of them.
    pub left: Vec<u32>,
    /// How many attempts in a row left something behind.
    pub failures: u32,
    /// No attempt before this.
    #[serde(with = "wire::times")]
    pub not_before: Option<Timestamp>,
    /// Why the last attempt was of no use, in our own words.
    pub refusal: Option<String>,
    /// The rotation request that was acted upon last.
    pub handled_request: Option<String>,
    /// The revocation request that was acted upon last.
    pub handled_revocation: Option<String>,
    /// Fingerprint of what was proved last.
    pub proved: Option<String>,
    /// Where the client is registered, and where it was before.
    #[serde(skip)]
    pub homes: Homes,
    /// The resourceVersion that was read; `None` when the journal does not exist yet.
    #[serde(skip)]
    pub version: Option<String>,
}

/// A registration that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Its `software_version`.
    pub number: u32,
    /// Why it was begun, as [`Reason`] is written.
    pub reason: String,
    /// When.
    #[serde(with = "wire::time")]
    pub since: Timestamp,
    /// The rotation request that it answers.
    pub request: Option<String>,
    /// The revocation request that it answers.
    pub revocation: Option<String>,
}

/// One registration. It belongs to its issuer: elsewhere it is nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// By what it was begun.
    pub begun: Intent,
    /// The issuer.
    pub issuer: String,
    /// The client id.
    pub client_id: String,
    /// Its secret; a public client has none.
    #[serde(with = "wire::credentials")]
    pub secret: Option<Credential>,
    /// When the authorization server lets the secret expire.
    #[serde(with = "wire::times")]
    pub secret_expires: Option<Timestamp>,
    /// How it authenticates, as the protocol names that.
    pub method: String,
    /// Where it is managed, and the token for that.
    pub managed: Option<Handle>,
    /// The authorization server has refused to change registrations at all.
    #[serde(default)]
    pub fixed: bool,
    /// Fingerprint of what it was asked to be last.
    pub asked: String,
    /// The scopes among that.
    pub scopes: Vec<String>,
    /// Fingerprint of what the authorization server made of that.
    pub told: String,
    /// What it has otherwise, by name.
    pub altered: Vec<String>,
    /// Why it must not be used, in our own words.
    pub unfit: Option<String>,
}

/// Where a registration is managed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handle {
    /// `registration_client_uri`.
    #[serde(with = "wire::credential")]
    pub uri: Credential,
    /// The registration access token.
    #[serde(with = "wire::credential")]
    pub token: Credential,
}

/// A registration that is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Old {
    /// It.
    pub entry: Entry,
    /// When.
    #[serde(with = "wire::time")]
    pub until: Timestamp,
}

impl Entry {
    /// What came of a registration.
    pub fn new(begun: Intent, issuer: &str, asked: &Asked, answer: &Information) -> Self {
        let mut entry = Self {
            begun,
            issuer: issuer.to_owned(),
            client_id: answer.client_id.clone(),
            secret: None,
            secret_expires: None,
            method: String::new(),
            managed: None,
            fixed: false,
            asked: String::new(),
            scopes: Vec::new(),
            told: String::new(),
            altered: Vec::new(),
            unfit: None,
        };
        entry.wrote(asked, answer);
        entry
    }

    /// Takes over what the authorization server made of what it was asked.
    pub fn wrote(&mut self, asked: &Asked, answer: &Information) {
        self.read(answer);
        let method = answer.told.method().unwrap_or(asked.method);
        method.as_str().clone_into(&mut self.method);
        self.asked = asked.fingerprint();
        self.scopes = asked.scopes.iter().cloned().collect();
        self.told = answer.told.fingerprint();
        let asked = Asked {
            // What is asked for later has the number of a registration that may never come.
            software_version: self.begun.number.to_string(),
            ..asked.clone()
        };
        let altered = answer.told.altered(&asked);
        self.altered = altered.into_iter().map(str::to_owned).collect();
        let lacks_secret = self.secret.is_none() && asked.method != Method::None;
        let unfit = answer.told.unfit(&asked);
        self.unfit = unfit
            .or(lacks_secret.then_some("it has no client_secret"))
            .map(str::to_owned);
    }

    /// Takes over what an answer gives to reach and to use it: the server may replace both with every answer.
    pub fn read(&mut self, answer: &Information) {
        if let Some(managed) = &answer.managed {
            self.managed = Some(Handle {
                uri: managed.uri.clone(),
                token: managed.token.clone(),
            });
        }
        if answer.secret.is_some() || self.is_public() {
            self.secret.clone_from(&answer.secret);
            self.secret_expires = answer.secret_expires.filter(|_| answer.secret.is_some());
        }
    }

    fn is_public(&self) -> bool {
        self.method == Method::None.as_str()
    }

    /// How it authenticates.
    pub fn method(&self) -> Method {
        Method::named(&self.method).unwrap_or(Method::Basic)
    }

    /// By what it is managed.
    pub fn managed(&self) -> Option<Managed> {
        let handle = self.managed.as_ref()?;
        Some(Managed {
            client_id: self.client_id.clone(),
            uri: handle.uri.clone(),
            token: handle.token.clone(),
        })
    }

    /// Its secret, by what it is told from others without telling it.
    pub fn fingerprint(&self) -> String {
        let secret = self.secret.as_ref().map_or("", Credential::expose);
        names::hash(format!("{}\n{secret}", self.client_id).as_bytes(), 16)
    }

    /// Why it was begun.
    fn reason(&self) -> Reason {
        Reason::named(Some(&self.begun.reason))
    }
}

impl Content for Book {
    fn from_secret(secret: &Secret) -> Result<Self, serde_json::Error> {
        let homes = Homes::of(secret.data.as_ref())?;
        homes.fit(true)?;
        let bytes = secret.data.as_ref().and_then(|data| data.get(REGISTRATIONS));
        let book = match bytes {
            Some(bytes) => serde_json::from_slice(&bytes.0)?,
            // The client has just come here, or has left.
            None if !homes.is_empty() => Self::default(),
            None => return Err(serde_json::Error::custom("it holds no registrations")),
        };
        Ok(Self {
            homes,
            version: secret.resource_version(),
            ..book
        })
    }

    fn data(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let book = [(REGISTRATIONS.to_owned(), ByteString(bytes))];
        Ok(book.into_iter().chain(self.homes.entry()?).collect())
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl Book {
    /// The registration that is looked at: the one that is being put in force, else the one that is.
    pub fn newest(&self) -> Option<&Entry> {
        self.fresh.as_ref().or(self.current.as_ref())
    }

    /// The same, to change it.
    pub fn newest_mut(&mut self) -> Option<&mut Entry> {
        self.fresh.as_mut().or(self.current.as_mut())
    }

    /// Whether nothing is registered, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.intent.is_none() && self.newest().is_none() && self.old.is_empty()
    }

    /// As the chain of credentials sees it.
    pub fn view(&self) -> Journal {
        let begun = self
            .fresh
            .as_ref()
            .map(|fresh| &fresh.begun)
            .or(self.intent.as_ref());
        let secret = |entry: &Entry| entry.secret.clone();
        Journal {
            current: self.current.as_ref().and_then(secret),
            pending: begun.map(|begun| Pending {
                credential: self
                    .fresh
                    .as_ref()
                    .and_then(secret)
                    .unwrap_or_else(|| Credential::new("")),
                reason: Reason::named(Some(&begun.reason)),
                since: begun.since,
                request: begun.request.clone(),
                revocation: begun.revocation.clone(),
            }),
            previous: self.last_old(),
            rotated_at: self.current.as_ref().map(|current| current.begun.since),
            handled_request: self.handled_request.clone(),
            handled_revocation: self.handled_revocation.clone(),
            ..Journal::default()
        }
    }

    fn last_old(&self) -> Option<Previous> {
        let last = self.old.iter().max_by_key(|old| old.until)?;
        Some(Previous {
            credential: last.entry.secret.clone()?,
            until: last.until,
        })
    }

    /// When the next one ends.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.old.iter().map(|old| old.until).min()
    }
}
