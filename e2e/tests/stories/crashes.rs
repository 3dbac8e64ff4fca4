//! The operator is killed, or left without an answer, at each of its writes.

mod documented;
mod frozen;
mod matrix;
mod method;
mod registered;
mod rig;
mod scene;
mod shut_out;
mod steps;
mod tenant;
mod trials;

use std::sync::Arc;

use anyhow::Context;
use mcp_auth_e2e::{runner::Story, world::World};

use documented::{ByDocument, Documented};
use method::AuthMethod;
use registered::Registered;
use scene::Scene;
use tenant::{By, Tenant};

/// The sample that is tried unless another is asked for.
const SEED: u64 = 1;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("crashes::at_any_write_in_the_life_of_a_client", at_any_write),
        Story::new("crashes::at_any_call_in_the_life_of_a_registration", at_any_call),
        Story::new("crashes::at_any_write_at_the_stand_in_for_auth0", at_auth0),
        Story::new("crashes::at_any_write_for_a_document", by_document),
        Story::new(
            "crashes::frozen_in_a_rotation_that_another_finishes",
            frozen::in_a_rotation,
        ),
        Story::new(
            "crashes::frozen_in_a_creation_that_another_finishes_and_undoes",
            frozen::in_a_creation,
        ),
        Story::new(
            "crashes::whoever_led_before_is_shut_out_however_the_operator_signs_in",
            shut_out::however_it_signs_in,
        ),
        Story::new(
            "crashes::where_nobody_can_be_shut_out_a_warning_says_so",
            shut_out::where_it_is_refused,
        ),
    ]
}

/// Which sample: the same in every run, unless SEED=N asks for another.
fn seed() -> anyhow::Result<u64> {
    match std::env::var("SEED") {
        Ok(chosen) => chosen
            .parse()
            .with_context(|| format!("SEED={chosen} is no number")),
        Err(_) => Ok(SEED),
    }
}

async fn at_any_write(world: Arc<World>) -> anyhow::Result<()> {
    matrix::with_each::<Scene>(&world, &AuthMethod::ALL).await
}

async fn at_any_call(world: Arc<World>) -> anyhow::Result<()> {
    matrix::with_each::<Registered>(&world, &registered::Kind::ALL).await
}

async fn at_auth0(world: Arc<World>) -> anyhow::Result<()> {
    let kinds = [By(AuthMethod::ClientSecret), By(AuthMethod::PrivateKeyJwt)];
    matrix::with_each::<Tenant>(&world, &kinds).await
}

async fn by_document(world: Arc<World>) -> anyhow::Result<()> {
    matrix::with_each::<Documented>(&world, &[ByDocument]).await
}
