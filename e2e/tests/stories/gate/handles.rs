//! Handles, and what they buy.

mod given;
mod scene;
mod shared;
mod taken;

use mcp_auth_e2e::runner::Story;

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::alone(
            "gate::handles::they_buy_while_their_call_is_open",
            given::they_buy_while_their_call_is_open,
        ),
        Story::alone(
            "gate::handles::they_end_with_their_token_client_and_replica",
            given::they_end_with_their_token_client_and_replica,
        ),
        Story::alone(
            "gate::handles::what_was_not_given_buys_nothing",
            taken::what_was_not_given_buys_nothing,
        ),
        Story::alone(
            "gate::handles::exchanged_tokens_are_nobody_elses",
            shared::exchanged_tokens_are_nobody_elses,
        ),
    ]
}
