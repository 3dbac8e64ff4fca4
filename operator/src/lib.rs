//! The operator.
#![cfg_attr(
    test,
    allow(
        clippy::needless_pass_by_value,
        clippy::too_many_lines,
        clippy::duration_suboptimal_units,
        clippy::cast_possible_wrap,
        clippy::cloned_ref_to_slice_refs,
        clippy::unnecessary_wraps,
        clippy::option_option,
        reason = "tables of cases are long, and their helpers take values that are made on the spot"
    )
)]

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
pub mod events;
pub mod kinds;
pub mod lease;
pub mod metrics;
pub mod policy;
pub mod provider;
pub mod recall;
pub mod run;
pub mod telemetry;
pub mod wakes;
pub mod watch;

#[cfg(test)]
mod testing;
