//! A gate by itself, through each of its faces.

mod case;
mod cases;
mod check;
mod differences;
mod exchange;
mod faults;
mod handles;
mod issuers;
mod load;
mod outage;
mod request;
mod scene;
mod sessions;
mod streams;
mod table;

use std::sync::Arc;

use mcp_auth_e2e::{progress, run_folder::RunFolder, runner::Story};

use scene::{Face, Scene};

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = vec![
        Story::alone("gate::the_table_through_the_proxy", |run| {
            table_through(run, Face::Proxy)
        }),
        Story::alone("gate::the_table_as_traefik_asks", |run| {
            table_through(run, Face::ForwardAuth)
        }),
        Story::alone("gate::the_table_through_envoy", |run| {
            table_through(run, Face::Envoy)
        }),
        Story::alone("gate::the_table_through_traefik", |run| {
            table_through(run, Face::Traefik)
        }),
        Story::alone(
            "gate::differences_are_documented",
            differences::differences_are_documented,
        ),
        Story::alone(
            "gate::events_come_as_they_are_sent",
            streams::events_come_as_they_are_sent,
        ),
        Story::alone(
            "gate::a_stream_ends_with_its_token",
            streams::a_stream_ends_with_its_token,
        ),
        Story::alone(
            "gate::the_server_gets_its_own_token",
            exchange::the_server_gets_its_own_token,
        ),
        Story::alone(
            "gate::without_a_gate_nothing_passes",
            outage::without_a_gate_nothing_passes,
        ),
        Story::alone(
            "gate::sessions_belong_to_their_caller",
            sessions::sessions_belong_to_their_caller,
        ),
        Story::alone(
            "gate::keys_are_fetched_when_they_are_needed",
            issuers::keys_are_fetched_when_they_are_needed,
        ),
        Story::alone(
            "gate::an_issuer_that_is_down_opens_nothing",
            issuers::an_issuer_that_is_down_opens_nothing,
        ),
        Story::alone(
            "gate::without_a_policy_nothing_passes",
            issuers::without_a_policy_nothing_passes,
        ),
    ];
    stories.extend(faults::stories());
    stories.extend(handles::stories());
    stories.extend(load::stories());
    stories
}

async fn table_through(run: Arc<RunFolder>, face: Face) -> anyhow::Result<()> {
    let name = format!("table-{face:?}").to_lowercase();
    let scene = Scene::start(&run, &name).await?;
    let front = scene.front(face).await?;
    let rows = table::run(&scene, &front).await?;
    progress::say(&format!("{rows} rows went through {face:?} as they should"));
    Ok(())
}
