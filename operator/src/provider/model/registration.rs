//! Clients that register themselves.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

/// What clients that register themselves are to find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrationSpec {
    /// Registration by RFC 7591, if there is any.
    pub dynamic: Option<DynamicSpec>,
    /// Client ID metadata documents, if they are accepted.
    pub documents: Option<DocumentsSpec>,
    /// Whether the device flow is refused to every client, instead of those that name it when they register.
    pub refuse_device_flow: bool,
    /// The scopes that they can have, by the keys of [`super::Scopes`]; each carries a mark of the installation.
    pub open: BTreeSet<String>,
}

/// Who may register by RFC 7591.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicSpec {
    /// Hosts of redirect URIs; `*.` stands for a domain and all below it.
    pub hosts: BTreeSet<String>,
    /// How many clients the realm may have before no more can register; `None` leaves it alone.
    pub max_clients: Option<i32>,
}

/// Whose documents are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentsSpec {
    /// Hosts of documents.
    pub domains: BTreeSet<String>,
    /// Hosts that addresses in them may have besides.
    pub hosts: BTreeSet<String>,
}

/// What is to be done about the ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doors {
    /// All of them are shut.
    Shut,
    /// None is opened, and those that are open and wanted stay so.
    Leave,
    /// Those that are wanted are opened.
    Open,
}

/// What of a realm decides who can register.
#[derive(Clone)]
pub enum ObservedRegistration {
    /// It cannot do that, or the operator's credential may not set it up.
    Unsupported,
    /// The server's own representation, for the provider that read it. Holds a secret: never printed.
    Seen(Arc<Value>),
}
