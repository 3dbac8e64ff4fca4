//! The official conformance suite of MCP as the judge.
//!
//! In server mode it cannot send a token, so that one is added on the way to the gate; its verdicts on a server are then
//! the same through the gate as without one, or better where the gate refuses what the server should have. In
//! authorization mode it judges Keycloak as the operator set it up. Its scenarios for clients bring an authorization
//! server and an MCP server of their own, so that nothing of ours takes part in them.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    mcp::{Check, Conformance, Verdicts},
    ports,
    runner::Story,
    story::StoryEnv,
    world::World,
};
use serde_json::json;

use crate::{
    clients::setup::{Protected, READ, Which, scripts},
    fixtures::{SOON, apply_all, native, ready, server},
    inventory::credential,
    users::{alice, browser, login_page, resource},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "conformance::the_reference_server_is_judged_the_same_through_a_gate",
            reference_server,
        ),
        Story::new(
            "conformance::a_server_of_both_wires_is_judged_the_same_through_a_gate",
            both_wires,
        ),
        Story::new(
            "conformance::an_authorization_server_is_as_mcp_wants_it",
            authorization_server,
        ),
    ]
}

/// What a gate changes: a scenario, a check, and its verdict without and with the gate.
type Change = (&'static str, &'static str, &'static str, &'static str);

/// The suite asks for a page of another origin to be refused, as no server does that does not look at Origin.
const ORIGIN: Change = (
    "dns-rebinding-protection",
    "localhost-host-rebinding-rejected",
    "FAILURE",
    "SUCCESS",
);

async fn reference_server(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(&world, "conformance-reference", Which::Everything, json!([])).await?;
    let runs = [("all", &["--suite", "all"][..], &[ORIGIN][..])];
    same_through_the_gate(&lab, &runs).await?;
    lab.finish().await
}

async fn both_wires(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(&world, "conformance-both-wires", Which::BothWires, json!([])).await?;
    let runs = [
        ("2025-11-25", &["--requirements", "2025-11-25"][..], &[ORIGIN][..]),
        ("2026-07-28", &["--requirements", "2026-07-28"][..], &[ORIGIN][..]),
    ];
    same_through_the_gate(&lab, &runs).await?;
    lab.finish().await
}

/// Judges the server twice for each run, and fails unless exactly the named changes are found.
async fn same_through_the_gate(lab: &Protected, runs: &[(&str, &[&str], &[Change])]) -> anyhow::Result<()> {
    let robot = credential(&lab.env, "robot").await?;
    let issuer = lab.env.issuer().await?;
    let tokens = issuer.client_credentials(&robot, Some(READ)).await?.granted()?;
    lab.front.add_token(&tokens.access_token);
    let suite = Conformance::new(&lab.scripts);
    for (name, which, expected) in runs {
        let direct = suite
            .judge_server(&format!("{name}-direct"), &lab.server.url(), which)
            .await?;
        let through = suite
            .judge_server(&format!("{name}-gate"), &lab.front.resource(), which)
            .await?;
        let found = direct.differences(&through);
        println!("{}", table(&found));
        println!("{} {}", direct.count("SUCCESS"), through.count("SUCCESS"));
        let found: Vec<(&str, &str, &str, &str)> = found
            .iter()
            .map(|(check, one, other)| (check.scenario.as_str(), check.id.as_str(), *one, *other))
            .collect();
        ensure!(found == *expected, "{found:#?}");
    }
    Ok(())
}

/// The differences, one a line.
fn table(differences: &[(&Check, &str, &str)]) -> String {
    let lines = differences.iter().map(|(check, direct, through)| {
        let Check { scenario, id, number } = check;
        format!("{scenario:<45} {id:<55} {number} {direct:>8} -> {through}")
    });
    lines.collect::<Vec<_>>().join("\n")
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
    all_of_it_was_judged(&verdicts)?;
    ensure!(ended.code == Some(0), "{}", ended.printed);
    let login = ended.logins.first().context("nobody was asked to sign in")?;
    ensure!(
        login.asked("client_id") == client.id() && login.password && login.scopes().is_empty(),
        "{login:?}"
    );
    operator.stop().await
}

/// Each check there is, and that it succeeded. (The one of metadata documents is only a warning where they are not
/// accepted.)
fn all_of_it_was_judged(verdicts: &Verdicts) -> anyhow::Result<()> {
    let found: BTreeMap<&str, &str> = verdicts
        .all()
        .map(|(check, verdict)| (check.id.as_str(), verdict))
        .collect();
    let wanted = [
        "authorization-code-grant",
        "authorization-server-metadata",
        "authorization-server-metadata-cimd",
    ];
    ensure!(
        found == BTreeMap::from(wanted.map(|id| (id, "SUCCESS"))),
        "{found:?}"
    );
    Ok(())
}
