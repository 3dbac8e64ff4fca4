//! Gates as an operator runs them on the node of a run.

use std::path::PathBuf;

use anyhow::Context;
use tokio::sync::OnceCell;

use crate::{
    image::{Image, static_program},
    operator::OperatorOptions,
    story::StoryEnv,
    world::World,
};

const PROGRAM: &str = "mcp-auth-gate";

/// Builds the gate, unless that was done before, and makes its image known to the node. Gives the reference of the image.
pub async fn load(world: &World) -> anyhow::Result<String> {
    // Stories that run side by side would all start cargo.
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let node = world.node().context("there is no node")?;
    let program = BUILT
        .get_or_try_init(|| static_program(PROGRAM, PROGRAM, world.folder().path()))
        .await?;
    node.load(&Image::of_static_program(program)?).await
}

/// Lets an operator run gates of this image, and find servers at addresses of this machine that have a certificate of
/// the run's authority.
pub fn allow(options: &mut OperatorOptions, env: &StoryEnv, image: &str) -> anyhow::Result<()> {
    options.trust = Some(env.authority_file()?);
    options.extra.extend([
        format!("--gate-image={image}"),
        "--gate-image-pull-policy=Never".to_owned(),
        "--allow-private-addresses".to_owned(),
    ]);
    Ok(())
}
