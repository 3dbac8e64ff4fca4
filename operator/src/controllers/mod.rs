//! The controllers: one folder a kind, each of them observe (reads) → desired and status (pure) → apply (writes).

pub mod applied;
pub mod authorization_server;
pub mod conflict;
pub mod deletion;
pub mod exchange;
pub mod halt;
pub mod home;
pub mod mcp_client;
pub mod mcp_server;
pub mod owned;
pub mod pass;
mod run;
pub mod service;
pub mod settle;
pub mod token_exchange_policy;
pub mod triggers;
mod upkeep;

pub use run::{Parts, run};
