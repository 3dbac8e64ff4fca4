//! Settings of a realm or tenant as a whole.

use std::collections::BTreeMap;

/// Settings of a realm or tenant that are other than they are to be: by name, what each is now, as JSON.
pub type ObservedSettings = BTreeMap<String, String>;

/// Which settings are to be as they are needed. By itself none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsSpec {
    /// Those without which no MCP client gets along.
    pub for_mcp: bool,
    /// That addresses of metadata documents are taken for client ids.
    pub metadata_documents: bool,
    /// Those by which clients register themselves; `None` leaves them alone.
    pub registration: Option<Registering>,
}

/// Whether clients can register themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registering {
    /// They can, and what they get is refused to them unless somebody grants it.
    Open,
    /// They cannot.
    Shut,
}
