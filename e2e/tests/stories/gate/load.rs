//! Many clients at a time, and bad ones.

mod clients;
mod streams;

use mcp_auth_e2e::runner::Story;

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::alone("gate::load::a_thousand_streams", streams::a_thousand_streams),
        Story::alone(
            "gate::load::slow_clients_hold_nobody_up",
            clients::slow_clients_hold_nobody_up,
        ),
        Story::alone(
            "gate::load::who_leaves_takes_the_request_along",
            clients::who_leaves_takes_the_request_along,
        ),
        Story::alone(
            "gate::load::limits_hold_and_let_go",
            clients::limits_hold_and_let_go,
        ),
    ]
}
