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
type Change<'a> = (&'a str, &'a str, &'a str, &'a str);

/// The suite asks for a page of another origin to be refused, as no server does that does not look at Origin.
const ORIGIN: Change<'static> = better("dns-rebinding-protection", "localhost-host-rebinding-rejected");

/// What a server fails and a gate does.
const fn better<'a>(scenario: &'a str, id: &'a str) -> Change<'a> {
    (scenario, id, "FAILURE", "SUCCESS")
}

/// The server does not know the stateless wire; of requests on it the gate refuses by itself what cannot be right.
async fn reference_server(world: Arc<World>) -> anyhow::Result<()> {
    let changes = [
        ORIGIN,
        better(
            "server-stateless",
            "sep-2575-http-server-method-not-found-404-resources-subscribe",
        ),
        better(
            "server-stateless",
            "sep-2575-http-server-method-not-found-404-resources-unsubscribe",
        ),
        better("tasks-request-headers", "tasks-headers-reject-mismatched-method"),
    ];
    let lab = Protected::new(&world, "conformance-reference", Which::Everything, &json!([])).await?;
    same_through_the_gate(&lab, &["--suite", "all"], &changes).await?;
    lab.finish().await
}

async fn both_wires(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(&world, "conformance-both-wires", Which::BothWires, &json!([])).await?;
    for revision in ["2025-11-25", "2026-07-28"] {
        same_through_the_gate(&lab, &["--requirements", revision], &[ORIGIN]).await?;
    }
    lab.finish().await
}

/// Judges the server without and with the gate, and fails unless these changes are found and no others.
async fn same_through_the_gate(
    lab: &Protected,
    which: &[&str],
    expected: &[Change<'_>],
) -> anyhow::Result<()> {
    let robot = credential(&lab.env, "robot").await?;
    let issuer = lab.env.issuer().await?;
    let tokens = issuer.client_credentials(&robot, Some(READ)).await?.granted()?;
    lab.front.add_token(&tokens.access_token);
    let suite = Conformance::new(&lab.scripts);
    let name = which.join("").replace("--", "");
    let direct = suite
        .judge_server(&format!("{name}-direct"), &lab.server.url(), which)
        .await?;
    let through = suite
        .judge_server(&format!("{name}-gate"), &lab.front.resource(), which)
        .await?;
    let differences = direct.differences(&through);
    let changes: Vec<Change<'_>> = differences
        .iter()
        .map(|(check, one, other)| (check.scenario.as_str(), check.id.as_str(), *one, *other))
        .collect();
    ensure!(changes == expected, "not as expected:\n{}", table(&differences));
    lab.env.world().note(format!(
        "conformance of {:?} ({}): {} checks succeed without the gate, {} with it, where they differ:\n{}",
        lab.which,
        which.join(" "),
        direct.count("SUCCESS"),
        through.count("SUCCESS"),
        table(&differences)
    ));
    Ok(())
}

/// The differences, one a line.
fn table(differences: &[(&Check, &str, &str)]) -> String {
    let lines = differences.iter().map(|(check, direct, through)| {
        let Check { scenario, id, number } = check;
        format!("    {scenario:<30} {id:<45} {number} {direct:>8} -> {through}")
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
