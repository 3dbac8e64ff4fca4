//! One table for all kinds of authorization servers: what each was put through, by which stories, or why the protocol has
//! no such thing. It is in `docs/conformance.md` too.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use anyhow::ensure;
use mcp_auth_e2e::{runner::Story, world::checkout};

/// What may happen between an operator and an authorization server.
#[derive(Clone, Copy)]
enum Row {
    Create,
    Adopt,
    Drift,
    Rotate,
    Revoke,
    Delete,
    Conflict,
    Permissions,
    RateLimited,
    Paged,
    UnknownFields,
    Slow,
    HalfFailed,
}

/// The rows in their order, with what the table calls them.
const ROWS: [(Row, &str); 13] = [
    (Row::Create, "create"),
    (Row::Adopt, "adopt by consent"),
    (Row::Drift, "drift"),
    (Row::Rotate, "rotate"),
    (Row::Revoke, "revoke"),
    (Row::Delete, "delete"),
    (Row::Conflict, "conflict"),
    (Row::Permissions, "permissions missing"),
    (Row::RateLimited, "rate limited"),
    (Row::Paged, "lists of more than 250, in pages"),
    (Row::UnknownFields, "unknown fields returned"),
    (Row::Slow, "slow"),
    (Row::HalfFailed, "half-failed"),
];

/// A kind of authorization server: what the table calls it, and its cells. Each has one for every row, or does not
/// compile.
type Column = (&'static str, fn(Row) -> Cell);

/// To add another kind, add it here.
const COLUMNS: [Column; 4] = [
    ("Keycloak", keycloak),
    ("Auth0 (a stand-in)", auth0),
    ("oidc-provider, registration", oidc_provider),
    ("Keycloak, registration", keycloak_registration),
];

/// What is in a cell.
enum Cell {
    /// These stories show it.
    Shown(&'static [&'static str]),
    /// There is no such thing there, for this reason.
    Nothing(&'static str),
}
use Cell::{Nothing, Shown};

/// Why nothing that one can only register at has these.
const NO_CONSENT: &str =
    "none: a registration belongs to whoever holds its token, and nobody can look for one";
const NO_LIST: &str = "none: there is no list, each registration is read by itself";

fn keycloak(row: Row) -> Cell {
    match row {
        Row::Create => Shown(&[
            "provider::what_is_wanted_comes_about_in_the_fewest_calls",
            "provider::every_kind_of_client_is_kept_as_it_was_written",
        ]),
        Row::Adopt => Shown(&[
            "provider::only_what_consents_is_adopted",
            "provider::some_clients_are_never_adopted",
            "tenants::what_others_made_is_taken_over_only_with_consent",
        ]),
        Row::Drift => Shown(&[
            "provider::whatever_others_write_into_a_client_is_undone",
            "provider::whatever_others_attach_to_a_client_is_undone",
            "provider::whatever_others_do_to_a_scope_is_undone",
        ]),
        Row::Rotate => Shown(&["rotation::nobody_is_refused_through_ten_rotations"]),
        Row::Revoke => Shown(&["rotation::revoked_is_refused_at_once"]),
        Row::Delete => Shown(&[
            "provider::what_is_ours_is_removed_even_twice",
            "deletion::each_kind_takes_along_what_it_made_and_no_more",
        ]),
        Row::Conflict => Shown(&["provider::what_is_not_ours_is_neither_changed_nor_removed"]),
        Row::Permissions => Shown(&["provider::the_one_role_is_enough_and_its_loss_is_noticed"]),
        Row::RateLimited => {
            Shown(&["provider::a_server_that_has_enough_is_left_alone_for_as_long_as_it_says"])
        }
        Row::Paged => Shown(&["provider::hundreds_of_clients_are_read_in_pages_and_once_for_all"]),
        Row::UnknownFields => Shown(&["provider::what_nobody_knows_yet_is_no_drift"]),
        Row::Slow => Shown(&["provider::a_slow_server_is_waited_for_but_not_for_long"]),
        Row::HalfFailed => Shown(&["crashes::at_any_write_in_the_life_of_a_client"]),
    }
}

/// At the stand-in, because no tenant can be reached from tests.
fn auth0(row: Row) -> Cell {
    match row {
        Row::Create => Shown(&[
            "auth0::provider_create",
            "auth0::provider_kinds",
            "auth0::operator_samples",
        ]),
        Row::Adopt => Shown(&[
            "auth0::provider_adopt",
            "auth0::operator_adopts_by_the_id_of_auth0",
        ]),
        Row::Drift => Shown(&["auth0::provider_drift", "auth0::operator_sets_the_tenant"]),
        Row::Rotate => Shown(&[
            "auth0::provider_rotate",
            "auth0::provider_rotate_keys",
            "auth0::operator_samples",
        ]),
        Row::Revoke => Shown(&["auth0::provider_revoke"]),
        Row::Delete => Shown(&["auth0::provider_delete", "auth0::operator_samples"]),
        Row::Conflict => Shown(&["auth0::provider_conflict", "auth0::provider_self_registered"]),
        Row::Permissions => Shown(&["auth0::provider_permissions", "auth0::operator_lacks_scopes"]),
        Row::RateLimited => Shown(&["auth0::provider_rate_limited"]),
        Row::Paged => Shown(&["auth0::provider_pages"]),
        Row::UnknownFields => Shown(&["auth0::provider_unknown_fields"]),
        Row::Slow => Shown(&["auth0::provider_slow"]),
        Row::HalfFailed => Shown(&[
            "auth0::provider_half_failed",
            "auth0::operator_is_killed_at_every_write",
            "crashes::at_any_write_at_the_stand_in_for_auth0",
            "crashes::at_any_write_for_a_document",
        ]),
    }
}

fn oidc_provider(row: Row) -> Cell {
    match row {
        Row::Create | Row::Delete => Shown(&[
            "dynamic::a_client_is_registered_with_an_initial_access_token_and_removed",
            "dynamic::the_samples_work_as_far_as_registration_goes",
        ]),
        Row::Adopt => Nothing(NO_CONSENT),
        Row::Drift => Shown(&["dynamic::what_others_change_is_set_right_and_what_they_remove_comes_back"]),
        Row::Rotate | Row::Revoke => {
            Shown(&["dynamic::a_rotation_is_a_second_registration_until_the_overlap_is_over"])
        }
        Row::Conflict => Shown(&["dynamic::a_client_id_that_another_client_has_is_refused"]),
        Row::Permissions => Shown(&[
            "dynamic::a_client_is_registered_with_an_initial_access_token_and_removed",
            "dynamic::what_cannot_be_managed_is_replaced_and_counted",
        ]),
        Row::RateLimited => Shown(&["dynamic::rate_limit_at_oidc_provider"]),
        Row::Paged => Nothing(NO_LIST),
        Row::UnknownFields => Shown(&["dynamic::unknown_fields_at_oidc_provider"]),
        Row::Slow => Shown(&["dynamic::slow_answers_at_oidc_provider"]),
        Row::HalfFailed => Shown(&[
            "crashes::at_any_call_in_the_life_of_a_registration",
            "dynamic::a_lost_answer_to_a_registration_leaves_one_that_is_counted_and_named",
            "dynamic::a_lost_answer_to_a_change_is_tried_again_and_then_registered_anew",
        ]),
    }
}

fn keycloak_registration(row: Row) -> Cell {
    match row {
        Row::Create | Row::Rotate | Row::Delete => {
            Shown(&["dynamic::keycloaks_own_registration_endpoint_does_as_well"])
        }
        Row::Adopt => Nothing(NO_CONSENT),
        Row::Drift => Shown(&["dynamic::drift_at_keycloak"]),
        Row::Revoke => Shown(&["dynamic::revocation_at_keycloak"]),
        Row::Conflict => Shown(&["dynamic::conflict_at_keycloak"]),
        Row::Permissions => Shown(&["dynamic::permissions_at_keycloak"]),
        Row::RateLimited => Shown(&["dynamic::rate_limit_at_keycloak"]),
        Row::Paged => Nothing(NO_LIST),
        Row::UnknownFields => Shown(&["dynamic::unknown_fields_at_keycloak"]),
        Row::Slow => Shown(&["dynamic::slow_answers_at_keycloak"]),
        Row::HalfFailed => Shown(&["crashes::at_any_call_in_the_life_of_a_registration"]),
    }
}

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::alone(
        "providers::every_cell_of_the_table_is_shown_or_explained",
        |_| std::future::ready(whole()),
    )]
}

/// Every story that the table names is there, and the page has the table.
fn whole() -> anyhow::Result<()> {
    let all = crate::all();
    let names: BTreeSet<&str> = all.iter().map(Story::name).collect();
    for (column, cell) in COLUMNS {
        for (row, called) in ROWS {
            match cell(row) {
                Shown(stories) => {
                    ensure!(!stories.is_empty(), "{called} at {column} is shown by nothing");
                    let missing = stories.iter().find(|story| !names.contains(*story));
                    ensure!(missing.is_none(), "{called} at {column}: there is no {missing:?}");
                }
                Nothing(why) => ensure!(why.starts_with("none: "), "{called} at {column}: {why}"),
            }
        }
    }
    let page = fs::read_to_string(checkout().join("docs/conformance.md"))?;
    let table = table();
    ensure!(
        page.contains(&table),
        "docs/conformance.md has another table than\n{table}"
    );
    Ok(())
}

/// The table in Markdown.
fn table() -> String {
    let mut table = "|".to_owned();
    for (name, _) in COLUMNS {
        let _ = write!(table, " | {name}");
    }
    table.push_str(" |\n|---");
    table.push_str(&"|---".repeat(COLUMNS.len()));
    table.push_str("|\n");
    for (row, called) in ROWS {
        table.push_str("| ");
        table.push_str(called);
        for (_, cell) in COLUMNS {
            let text = match cell(row) {
                Shown(stories) => {
                    let stories: Vec<_> = stories.iter().map(|story| format!("`{story}`")).collect();
                    stories.join("<br>")
                }
                Nothing(why) => why.to_owned(),
            };
            let _ = write!(table, " | {text}");
        }
        table.push_str(" |\n");
    }
    table
}
