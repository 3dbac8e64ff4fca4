//! The operator.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connections;
pub mod context;
pub mod controllers;
pub mod credential;
pub mod egress;
pub mod error;
pub mod lease;
pub mod metrics;
pub mod policy;
pub mod provider;
pub mod run;
pub mod shutdown;
pub mod telemetry;
pub mod wakes;
pub mod watch;

#[cfg(test)]
mod testing;
