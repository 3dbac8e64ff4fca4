//! The official conformance suite of MCP as the judge.

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    mcp::{Conformance, Scripts},
    ports,
    runner::Story,
    story::StoryEnv,
    tools::NpmTools,
    world::World,
};

use crate::{
    fixtures::{SOON, apply_all, native, ready, server},
    inventory::credential,
    users::{alice, browser, login_page, resource},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "conformance::an_authorization_server_is_as_mcp_wants_it",
        authorization_server,
    )]
}

/// The suite's own scripts and results, in the story's folder.
pub(crate) async fn scripts(env: &StoryEnv) -> anyhow::Result<Scripts> {
    let folder = env.world().folder();
    let npm = NpmTools::prepare(folder.path()).await?;
    let folder = folder.subfolder(&format!("{}-mcp", env.namespace()))?;
    Scripts::install(npm, folder, env.world().authority())
}

/// Keycloak as the operator set it up, for a client that the operator registered. The suite asks for no scope.
async fn authorization_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "conformance-as").await?;
    alice(&env).await?;
    let operator = env.start_operator().await?;
    let objects = [
        env.authorization_server("main"),
        server(&env, "notes"),
        native(&env, "suite", &["notes"]),
    ];
    apply_all(&env, &objects).await?;
    ready(&env, ("McpClient", env.namespace(), "suite"), SOON).await?;
    let client = credential(&env, "suite").await?;

    let scripts = scripts(&env).await?;
    let (ended, verdicts) = Conformance::new(&scripts)
        .judge_authorization_server(
            env.realm().issuer(),
            (client.id(), &resource("notes"), ports::free()?),
            (&login_page(&env), &browser(&env)?),
        )
        .await?;
    println!("{}", ended.printed);
    for (check, verdict) in verdicts.all() {
        println!("{check:?} {verdict}");
    }
    let login = ended.logins.first().context("nobody was asked to sign in")?;
    ensure!(ended.code == Some(0), "{}", ended.printed);
    ensure!(login.scopes().is_empty(), "{login:?}");
    operator.stop().await
}
