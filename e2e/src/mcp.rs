//! MCP as others made it: servers, clients and the conformance suite, as processes around a gate.
//!
//! ```text
//! client ──► Front ──► gate ──► server        what a client knows is the address of the front
//!    │                   │
//!    └──► Keycloak ◄─────┘                    the user's Browser is between client and Keycloak
//! ```

mod client;
mod conformance;
mod front;
mod inspector;
mod scripts;
mod sdk;
mod server;

pub use client::{Ended, Login, run_client};
pub use conformance::{Check, Conformance, Verdicts};
pub use front::{Front, Visit};
pub use inspector::Inspector;
pub use scripts::Scripts;
pub use sdk::{Identity, Said, Sdk};
pub use server::McpServer;
