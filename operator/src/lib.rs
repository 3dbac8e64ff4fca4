//! The operator.

pub mod admin;
pub mod clock;
pub mod config;
pub mod egress;
pub mod lease;
pub mod metrics;
pub mod telemetry;
pub mod watch;
