//! Version `v1alpha1`: one module a kind, and what kinds share or is large enough for one of its own.

mod adoption;
mod auth0;
mod authentication;
mod authorization_server;
mod client_registration;
mod common;
mod dynamic_registration;
mod enforcement;
mod existing_client;
mod mcp_client;
mod mcp_server;
mod migration;
mod presets;
mod rotation;
mod rules;
mod service_accounts;
mod sign_in;
mod token_exchange_policy;

pub use adoption::*;
pub use auth0::*;
pub use authentication::*;
pub use authorization_server::*;
pub use client_registration::*;
pub use common::*;
pub use dynamic_registration::*;
pub use enforcement::*;
pub use existing_client::*;
pub use mcp_client::*;
pub use mcp_server::*;
pub use migration::*;
pub use presets::*;
pub use rotation::*;
pub use service_accounts::*;
pub use sign_in::*;
pub use token_exchange_policy::*;
