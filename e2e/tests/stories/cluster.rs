//! Gates that the operator runs as real pods, in front of an MCP server that knows nothing of tokens.

mod annotated;
mod bypass;
mod denied;
mod external;
mod keeping;
mod policy;
mod selling;
mod setup;
mod shared;

use mcp_auth_e2e::runner::Story;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::on_node(
            "cluster::an_annotated_service_is_protected_and_found_to_be",
            annotated::protected,
        ),
        Story::on_node(
            "cluster::a_policy_is_in_force_at_every_gate_before_the_status_says_so",
            policy::in_force,
        ),
        Story::on_node("cluster::a_way_past_the_gate_is_found_and_named", bypass::found),
        Story::on_node("cluster::a_gate_is_kept_and_leaves_nothing", keeping::kept),
        Story::on_node(
            "cluster::a_server_buys_tokens_from_every_gate_and_nobody_else_does",
            selling::sold,
        ),
        Story::on_node(
            "cluster::a_server_that_answers_without_a_token_is_found",
            external::found,
        ),
        Story::on_node(
            "cluster::a_gate_serves_where_all_traffic_is_denied_by_default",
            denied::serves,
        ),
        Story::on_node(
            "cluster::two_servers_in_the_same_pods_are_kept_apart",
            shared::kept_apart,
        ),
    ]
}
