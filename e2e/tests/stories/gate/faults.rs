//! What a gate does when something around it fails, or it fails itself.

mod issuer;
mod policy;
mod replicas;
mod stopping;
mod suspension;
mod upstream;

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    runner::Story,
    wait::{Seen, wait_for},
};

use super::{request::status, scene::Scene};

/// Longer than anything takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::alone(
            "gate::faults::an_issuer_goes_and_comes_back",
            issuer::an_issuer_goes_and_comes_back,
        ),
        Story::alone(
            "gate::faults::a_bad_server_is_answered_for",
            upstream::a_bad_server_is_answered_for,
        ),
        Story::alone(
            "gate::faults::half_an_answer_is_seen_as_half",
            upstream::half_an_answer_is_seen_as_half,
        ),
        Story::alone(
            "gate::faults::a_server_goes_and_comes_back",
            upstream::a_server_goes_and_comes_back,
        ),
        Story::alone(
            "gate::faults::the_last_good_policy_stays",
            policy::the_last_good_policy_stays,
        ),
        Story::alone(
            "gate::faults::a_stricter_policy_lets_nothing_slip",
            policy::a_stricter_policy_lets_nothing_slip,
        ),
        Story::alone(
            "gate::faults::what_is_open_ends_before_the_gate_does",
            stopping::what_is_open_ends_before_the_gate_does,
        ),
        Story::alone(
            "gate::faults::asked_twice_it_ends_at_once",
            stopping::asked_twice_it_ends_at_once,
        ),
        Story::alone(
            "gate::faults::a_killed_replica_opens_nothing",
            replicas::a_killed_replica_opens_nothing,
        ),
        Story::alone(
            "gate::faults::a_suspended_client_is_out_at_once",
            suspension::a_suspended_client_is_out_at_once,
        ),
        Story::alone(
            "gate::faults::a_withdrawn_key_ends_its_streams",
            suspension::a_withdrawn_key_ends_its_streams,
        ),
    ]
}

/// Waits until this request is answered so.
pub(super) async fn until_answered(
    what: &str,
    address: SocketAddr,
    request: &[u8],
    wanted: u16,
) -> anyhow::Result<()> {
    wait_for(what, PATIENCE, async || {
        let status = status(address, request).await?;
        Ok(if status == wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await
}

/// A request must be answered so, now.
pub(super) async fn answered(
    what: &str,
    address: SocketAddr,
    request: &[u8],
    wanted: u16,
) -> anyhow::Result<()> {
    let status = status(address, request).await?;
    ensure!(status == wanted, "{what}: {status}, not {wanted}");
    Ok(())
}

/// Waits until the server has got so many requests.
pub(super) async fn until_served(scene: &Scene, count: usize) -> anyhow::Result<()> {
    wait_for("requests at the server", PATIENCE, async || {
        let seen = scene.upstream.requests().len();
        Ok(if seen >= count {
            Seen::Done(())
        } else {
            Seen::NotYet(seen.to_string())
        })
    })
    .await
}
