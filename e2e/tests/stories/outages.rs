//! Keycloak, the API server or the lease is away for a while, under many clients.

mod api_server;
mod crowd;
mod keycloak;
mod kubelet;
mod lease;
mod traffic;

use std::time::Duration;

use mcp_auth_e2e::{lengths, runner::Story};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("outages::keycloak_is_away", keycloak::is_away),
        Story::new("outages::the_api_server_is_away", api_server::is_away),
        Story::new("outages::another_holds_the_lease", lease::is_held),
    ]
}

/// How long a side is away.
fn outage() -> Duration {
    Duration::from_secs(lengths::of(30, 300))
}

/// When all must be Ready again after it came back.
const RECOVERY: Duration = Duration::from_secs(30);

/// The lease of an operator that loses it: as shipped, or shorter, because the next one waits for all of it.
fn lease() -> Duration {
    Duration::from_secs(lengths::of(9, 15))
}

/// How long a leader trusts it without a renewal.
fn trust() -> Duration {
    lease() * 2 / 3
}
