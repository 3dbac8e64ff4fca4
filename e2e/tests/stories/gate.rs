//! A gate by itself, through each of its faces.

mod case;
mod cases;
mod check;
mod scene;
mod table;

use std::sync::Arc;

use mcp_auth_e2e::{progress, run_folder::RunFolder, runner::Story};

use scene::{Face, Scene};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::alone("gate::the_table_through_the_proxy", |run| {
            table_through(run, Face::Proxy)
        }),
        Story::alone("gate::the_table_through_envoy", |run| {
            table_through(run, Face::Envoy)
        }),
        Story::alone("gate::the_table_through_traefik", |run| {
            table_through(run, Face::Traefik)
        }),
    ]
}

async fn table_through(run: Arc<RunFolder>, face: Face) -> anyhow::Result<()> {
    let name = format!("table-{face:?}").to_lowercase();
    let scene = Scene::start(&run, &name).await?;
    let front = scene.front(face).await?;
    let rows = table::run(&scene, &front).await?;
    progress::say(&format!("{rows} rows went through {face:?} as they should"));
    Ok(())
}
