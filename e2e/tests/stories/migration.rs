//! Clients that move from one authorization server to another while workloads use them.

mod accounts;
mod killed;
mod moves;
mod scene;
mod standing;
mod workload;

use mcp_auth_e2e::runner::Story;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "migration::nobody_is_refused_from_realm_to_realm",
            moves::from_realm_to_realm,
        ),
        Story::new(
            "migration::to_one_that_offers_registration_only_and_back",
            moves::to_registration_and_back,
        ),
        Story::new(
            "migration::to_a_server_that_is_no_keycloak_and_back",
            moves::to_oidc_provider_and_back,
        ),
        Story::new(
            "migration::a_service_account_moves_with_its_pods",
            accounts::moves,
        ),
        Story::new(
            "migration::a_service_account_is_nobody_elses_while_it_is_kept",
            accounts::is_nobody_elses,
        ),
        Story::new(
            "migration::a_service_account_stays_where_it_is_trusted",
            accounts::stays,
        ),
        Story::new("migration::changed_back_in_the_middle", standing::changed_back),
        Story::new("migration::the_new_one_is_away_or_refuses", standing::away),
        Story::new(
            "migration::deleted_in_the_middle_it_leaves_nothing",
            standing::deleted,
        ),
        Story::new("migration::killed_at_each_write", killed::at_each_write),
    ]
}
