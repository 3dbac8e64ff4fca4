//! Stories against a real API server and a real Keycloak.
//!
//! Each story has a namespace, a realm and an operator of its own, so that they run side by side and may break
//! things. `cargo test -p mcp-auth-e2e --test stories -- NAME` runs those whose name contains NAME.

mod admission;
mod auth0;
mod clients;
mod cluster;
mod command_line;
mod conformance;
mod crashes;
mod deletion;
mod demo;
mod drift;
mod dynamic;
mod egress;
mod exchange;
mod existing;
mod fixtures;
mod gate;
mod harness;
mod idle;
mod inventory;
mod isolation;
mod keys;
mod leaks;
mod main_job;
mod manifests;
mod mending;
mod migration;
mod node;
mod numbers;
mod outages;
mod provider;
mod providers;
mod replicas;
mod rotation;
mod self_registration;
mod services;
mod shared_realm;
mod sign_in;
mod subjects;
mod tenants;
mod users;

use std::process::ExitCode;

use mcp_auth_e2e::{
    progress,
    runner::{self, Story},
};

fn all() -> Vec<Story> {
    let mut stories = Vec::new();
    stories.extend(admission::stories());
    stories.extend(auth0::stories());
    stories.extend(clients::stories());
    stories.extend(cluster::stories());
    stories.extend(command_line::stories());
    stories.extend(conformance::stories());
    stories.extend(crashes::stories());
    stories.extend(deletion::stories());
    stories.extend(demo::stories());
    stories.extend(drift::stories());
    stories.extend(dynamic::stories());
    stories.extend(egress::stories());
    stories.extend(exchange::stories());
    stories.extend(existing::stories());
    stories.extend(gate::stories());
    stories.extend(harness::stories());
    stories.extend(idle::stories());
    stories.extend(isolation::stories());
    stories.extend(leaks::stories());
    stories.extend(main_job::stories());
    stories.extend(manifests::stories());
    stories.extend(mending::stories());
    stories.extend(migration::stories());
    stories.extend(node::stories());
    stories.extend(numbers::stories());
    stories.extend(outages::stories());
    stories.extend(provider::stories());
    stories.extend(providers::stories());
    stories.extend(replicas::stories());
    stories.extend(keys::stories());
    stories.extend(rotation::stories());
    stories.extend(self_registration::stories());
    stories.extend(services::stories());
    stories.extend(shared_realm::stories());
    stories.extend(sign_in::stories());
    stories.extend(subjects::stories());
    stories.extend(tenants::stories());
    stories
}

fn main() -> ExitCode {
    if harness::is_short_lived_parent() {
        return harness::short_lived_parent();
    }
    if egress::is_hostile_server() {
        return egress::hostile_server();
    }
    match auth0::live::asked_for() {
        None => runner::main(all()),
        Some(Ok(stories)) => runner::main(stories),
        Some(Err(error)) => {
            progress::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
