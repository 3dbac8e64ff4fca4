//! Clients whose metadata is a document of their own (OAuth Client ID Metadata Document), at a server where somebody has to
//! register each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::{Grant, Mark, Presence};

/// Such a client as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSpec {
    /// Whose it is.
    pub mark: Mark,
    /// The address of the document, which is the client's id.
    pub url: String,
    /// False while it may get no tokens. Then it is not brought up to date either.
    pub enabled: bool,
    /// How it may get tokens, as far as its document says so too.
    pub grants: BTreeSet<Grant>,
    /// The scopes that it may ask for, by the audience that each is for.
    pub audiences: BTreeMap<String, BTreeSet<String>>,
    /// Whether one without a mark is ours: its registration was begun by us.
    pub adopt: bool,
}

/// What a server makes of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It cannot be read now.
    Unreachable,
    /// It is none that a client can have.
    Invalid,
    /// A client can be registered by it.
    Valid {
        /// Where users are sent back to, as it says now.
        callbacks: BTreeSet<String>,
    },
}

/// Such a client as it is.
#[derive(Clone)]
pub struct ObservedDocument {
    /// Whether it is registered, and whose it is.
    pub presence: Presence,
    /// Where users are sent back to, as it is registered.
    pub callbacks: BTreeSet<String>,
    /// How it gets tokens, as it is registered.
    pub grants: BTreeSet<Grant>,
    /// What its document says now.
    pub reading: Reading,
    /// Changes with what is to be registered: what follows a change of the document is no drift.
    pub version: String,
    /// The server's own representation, for the provider that read it.
    pub raw: Option<Value>,
}

impl ObservedDocument {
    /// One of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            presence: Presence::Absent,
            callbacks: BTreeSet::new(),
            grants: BTreeSet::new(),
            reading: Reading::Unreachable,
            version: String::new(),
            raw: None,
        }
    }
}

impl fmt::Debug for ObservedDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedDocument")
            .field("presence", &self.presence)
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}
