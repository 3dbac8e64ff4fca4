//! Where a client is registered, and where it still is from before it moved: a part of its journal. Pure.
//!
//! What the journal says besides, its credentials or registrations, belongs to one place, the home. When the client moves,
//! all of that is put aside as it is, and an empty page is begun; so whoever reads the journal at the new place finds no
//! credential that could be shown there by mistake. When it moves back, the page that was put aside is opened again.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::v1alpha1::GrantedAccess;
use serde::{Deserialize, Serialize, de::Error as _};

use super::{book::wire, journal::Content};

/// Under which key of the journal it is.
pub(super) const HOMES: &str = "homes";

/// At how many places a client may be registered besides its home.
const MOST: usize = 4;

/// Where a client can be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Namespace of the AuthorizationServer by which it is reached.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its issuer: credentials of this place are shown to no other.
    pub issuer: String,
    /// The realm, or tenant.
    pub realm: String,
    /// One can register there, and nothing else.
    pub registers: bool,
    /// Where users of the client are sent back to from there: its administrator may take that back.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// The ServiceAccount whose tokens stand for the client there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl Place {
    /// Whether it is the same place, by whichever AuthorizationServer it is reached: a client that is registered at one is
    /// registered at the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.registers == other.registers && {
            let same_realm = self.realm == other.realm && !self.realm.is_empty();
            self.issuer == other.issuer || same_realm
        }
    }

    /// Whether it is reached by this AuthorizationServer.
    pub fn is_by(&self, namespace: &str, name: &str) -> bool {
        (self.namespace.as_str(), self.name.as_str()) == (namespace, name)
    }
}

/// What a journal says of one place. Holds credentials.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Page(BTreeMap<String, String>);

impl fmt::Debug for Page {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_set().entries(self.0.keys()).finish()
    }
}

impl Page {
    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is on it, as the journal that it is.
    ///
    /// # Errors
    /// When it is none of this kind.
    pub fn read<T: Content>(&self) -> Result<T, serde_json::Error> {
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        let data = self.0.iter().map(|(key, text)| (key.clone(), bytes(text)));
        T::from_secret(&Secret {
            data: Some(data.collect()),
            ..Secret::default()
        })
    }

    /// The page of such a journal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn of<T: Content>(journal: &T) -> Result<Self, serde_json::Error> {
        let mut data = texts(&journal.data()?);
        data.remove(HOMES);
        Ok(Self(data))
    }
}

fn texts(data: &BTreeMap<String, ByteString>) -> BTreeMap<String, String> {
    let text = |bytes: &ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
    data.iter()
        .map(|(key, bytes)| (key.clone(), text(bytes)))
        .collect()
}

/// What the client has at a place that is not its home any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// Where.
    pub place: Place,
    /// Its client id there.
    pub client_id: String,
    /// What it can get tokens for there.
    #[serde(default)]
    pub granted: Vec<GrantedAccess>,
    /// The revocation request that was acted upon last while it was the home.
    pub revocation: Option<String>,
    /// When it ends; `None` until the client works at its home.
    #[serde(with = "wire::times")]
    pub until: Option<Timestamp>,
    /// What the journal said of it.
    pub page: Page,
}

/// What is known of a client when it leaves its home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Its client id there.
    pub client_id: String,
    /// What it can get tokens for there.
    pub granted: Vec<GrantedAccess>,
    /// The revocation request that was acted upon last.
    pub revocation: Option<String>,
}

/// Where a client is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Homes {
    /// What the rest of the journal speaks of; `None` while nothing is registered there.
    pub here: Option<Place>,
    /// Where it is besides.
    pub parked: Vec<Parked>,
}

impl Homes {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.here.is_none() && self.parked.is_empty()
    }

    /// Whether the rest of the journal speaks of this place, or of none yet.
    pub fn are_at(&self, place: &Place) -> bool {
        self.here.as_ref().is_none_or(|here| here.is_same(place))
    }

    /// Fails where the rest of the journal is of the other kind: registrations, or credentials.
    pub(super) fn fit(&self, registers: bool) -> Result<(), serde_json::Error> {
        let here = self.here.as_ref();
        if here.is_some_and(|here| here.registers != registers) {
            return Err(serde_json::Error::custom(
                "it is of an authorization server of another kind",
            ));
        }
        Ok(())
    }

    /// As a key of the journal.
    pub(super) fn entry(&self) -> Result<Option<(String, ByteString)>, serde_json::Error> {
        if self.is_empty() {
            return Ok(None);
        }
        Ok(Some((HOMES.to_owned(), ByteString(serde_json::to_vec(self)?))))
    }

    /// From the keys of a journal.
    pub(super) fn of(data: Option<&BTreeMap<String, ByteString>>) -> Result<Self, serde_json::Error> {
        match data.and_then(|data| data.get(HOMES)) {
            Some(bytes) => serde_json::from_slice(&bytes.0),
            None => Ok(Self::default()),
        }
    }
}

/// A journal of which only the places are read, and the rest is moved about as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawer {
    /// The places.
    pub homes: Homes,
    /// The rest.
    pub page: Page,
    /// The resourceVersion that was read; `None` when the journal does not exist yet.
    pub version: Option<String>,
}

impl Content for Drawer {
    fn from_secret(secret: &Secret) -> Result<Self, serde_json::Error> {
        let mut page = secret.data.as_ref().map(texts).unwrap_or_default();
        page.remove(HOMES);
        Ok(Self {
            homes: Homes::of(secret.data.as_ref())?,
            page: Page(page),
            version: secret.resource_version(),
        })
    }

    fn data(&self) -> Result<BTreeMap<String, ByteString>, serde_json::Error> {
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        let page = self.page.0.iter().map(|(key, text)| (key.clone(), bytes(text)));
        Ok(page.chain(self.homes.entry()?).collect())
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl Drawer {
    /// The whole, as the journal that it is.
    ///
    /// # Errors
    /// When it is none of this kind.
    pub fn read<T: Content>(&self) -> Result<T, serde_json::Error> {
        T::from_secret(&Secret {
            metadata: ObjectMeta {
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(self.data()?),
            ..Secret::default()
        })
    }

    /// The client leaves its home: what it has there ends at `until`, which may not be known yet.
    #[must_use]
    pub fn parked(&self, leaving: Leaving, until: Option<Timestamp>) -> Self {
        let mut left = self.clone();
        let page = std::mem::take(&mut left.page);
        if let Some(place) = left.homes.here.take() {
            left.homes.parked.push(Parked {
                place,
                client_id: leaving.client_id,
                granted: leaving.granted,
                revocation: leaving.revocation,
                until,
                page,
            });
        }
        left
    }

    /// The client is to be registered at `place`. `None`: it is at too many others.
    #[must_use]
    pub fn arrived(&self, place: Place, leaving: Leaving) -> Option<Self> {
        if self.homes.are_at(&place) && !self.is_aside(&place) {
            let mut same = self.clone();
            same.homes.here = Some(place);
            return Some(same);
        }
        let mut moved = self.parked(leaving, None);
        let parked = &mut moved.homes.parked;
        if let Some(index) = parked.iter().position(|parked| parked.place.is_same(&place)) {
            moved.page = parked.remove(index).page;
        }
        moved.homes.here = Some(place);
        (moved.homes.parked.len() <= MOST).then_some(moved)
    }

    fn is_aside(&self, place: &Place) -> bool {
        self.homes.parked.iter().any(|parked| parked.place.is_same(place))
    }

    /// The client works at its home: what it has elsewhere ends at `until` at the latest.
    #[must_use]
    pub fn settled(&self, until: Timestamp) -> Self {
        let mut settled = self.clone();
        for parked in &mut settled.homes.parked {
            parked.until.get_or_insert(until);
        }
        settled
    }

    /// What the journal says of a place that was left.
    #[must_use]
    pub fn noted(&self, place: &Place, page: Page) -> Self {
        let mut noted = self.clone();
        if let Some(parked) = noted
            .homes
            .parked
            .iter_mut()
            .find(|parked| parked.place == *place)
        {
            parked.page = page;
        }
        noted
    }

    /// The client has nothing more at a place that it left.
    #[must_use]
    pub fn without(&self, place: &Place) -> Self {
        let mut without = self.clone();
        without.homes.parked.retain(|parked| parked.place != *place);
        without
    }
}

#[cfg(test)]
#[path = "homes_tests.rs"]
mod tests;
