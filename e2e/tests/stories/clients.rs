//! MCP clients as others made them, unmodified, in front of a gate. They are told the address of the server and the
//! id of a client that the operator registered, and nothing else.

pub(crate) mod setup;

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    mcp::{Inspector, Said, Sdk},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

use setup::{Protected, READ, WRITE, Which, asked, found_its_way, stepped_up};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("clients::the_inspector_signs_in_and_steps_up", inspector),
        Story::new("clients::the_typescript_sdk_signs_in_and_steps_up", sdk_two),
        Story::new(
            "clients::the_typescript_sdk_does_so_on_the_stateless_wire",
            sdk_two_stateless,
        ),
        Story::new("clients::the_old_typescript_sdk_signs_in_and_steps_up", sdk_one),
    ]
}

/// One tool for everybody, one for those who may write, and none for nobody else.
fn rules(read: &str, write: &str) -> Value {
    json!([
        { "kind": "Tool", "match": read, "scopes": [READ] },
        { "kind": "Tool", "match": write, "scopes": [WRITE] },
    ])
}

/// What an Inspector shows of tools.
fn tool_names(result: &Value) -> BTreeSet<&str> {
    let tools = result["tools"].as_array().map_or(&[][..], Vec::as_slice);
    tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
}

async fn inspector(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(
        &world,
        "clients-inspector",
        Which::Everything,
        rules("echo", "get-sum"),
    )
    .await?;
    let browser = lab.browser()?;
    let resource = lab.front.resource();
    let inspector = Inspector::new(
        &lab.scripts,
        &resource,
        (&lab.client_id, &lab.callback),
        &lab.login_page(),
    )?;
    let echo = [
        "--method",
        "tools/call",
        "--tool-name",
        "echo",
        "--tool-arg",
        "message=hello",
    ];
    let sum = [
        "--method",
        "tools/call",
        "--tool-name",
        "get-sum",
        "--tool-arg",
        "a=2",
        "b=3",
    ];

    let (ended, result) = inspector
        .run("list", &["--method", "tools/list"], &browser)
        .await?;
    ensure!(ended.code == Some(0), "{}", ended.printed);
    ensure!(tool_names(&result) == BTreeSet::from(["echo"]), "{result}");
    let [login] = &ended.logins[..] else {
        anyhow::bail!("{:?}", ended.logins);
    };
    asked(login, &lab, &[READ])?;
    found_its_way(&lab.front)?;

    let (ended, result) = inspector.run("echo", &echo, &browser).await?;
    ensure!(
        ended.code == Some(0) && ended.logins.is_empty(),
        "{}",
        ended.printed
    );
    ensure!(result["content"][0]["text"] == "Echo: hello", "{result}");

    lab.front.clear();
    let (ended, result) = inspector.run("sum", &sum, &browser).await?;
    ensure!(ended.code == Some(0), "{}", ended.printed);
    ensure!(
        result["content"][0]["text"] == "The sum of 2 and 3 is 5.",
        "{result}"
    );
    let [login] = &ended.logins[..] else {
        anyhow::bail!("{:?}", ended.logins);
    };
    asked(login, &lab, &[READ, WRITE])?;
    stepped_up(&lab.front, "tools/call get-sum")?;

    let (ended, result) = inspector
        .run("list-again", &["--method", "tools/list"], &browser)
        .await?;
    ensure!(
        ended.code == Some(0) && ended.logins.is_empty(),
        "{}",
        ended.printed
    );
    ensure!(
        tool_names(&result) == BTreeSet::from(["echo", "get-sum"]),
        "{result}"
    );
    lab.finish().await
}

/// A step that gave something.
fn gave(step: &str, result: Value) -> Said {
    Said::Step {
        step: step.to_owned(),
        result: Some(result),
        error: None,
    }
}

async fn sdk_two(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(&world, "clients-sdk", Which::Everything, rules("echo", "get-sum")).await?;
    let steps = json!([
        ["list"],
        ["call", "echo", { "message": "hello" }],
        ["call", "get-sum", { "a": 2, "b": 3 }],
        ["list"],
    ]);
    let said = with_sdk(&lab, 2, None, &steps).await?;
    let granted = |scopes: &str| Said::Granted(scopes.to_owned());
    let _ = (&said, granted, gave);
    println!("{said:#?}");
    lab.finish().await
}

async fn sdk_two_stateless(world: Arc<World>) -> anyhow::Result<()> {
    let rules = rules("test_simple_text", "test_headers");
    let lab = Protected::new(&world, "clients-sdk-stateless", Which::BothWires, rules).await?;
    let steps = json!([
        ["list"],
        ["call", "test_simple_text", {}],
        ["call", "test_headers", { "city": "Bern" }],
        ["list"],
    ]);
    let said = with_sdk(&lab, 2, Some("2026-07-28"), &steps).await?;
    println!("{said:#?}");
    lab.finish().await
}

async fn sdk_one(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(
        &world,
        "clients-sdk-old",
        Which::Everything,
        rules("echo", "get-sum"),
    )
    .await?;
    let steps = json!([
        ["list"],
        ["call", "echo", { "message": "hello" }],
        ["call", "get-sum", { "a": 2, "b": 3 }],
        ["list"],
    ]);
    let said = with_sdk(&lab, 1, None, &steps).await?;
    println!("{said:#?}");
    lab.finish().await
}

async fn with_sdk(
    lab: &Protected,
    version: u8,
    pin: Option<&str>,
    steps: &Value,
) -> anyhow::Result<Vec<Said>> {
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let sdk = Sdk {
        scripts: &lab.scripts,
        version,
        pin,
        url: &url,
        client: (&lab.client_id, &lab.callback),
        login_page: &login_page,
    };
    let (ended, said) = sdk.run(steps, &lab.browser()?).await?;
    println!("{:#?}\n{:#?}", lab.front.visits(), ended.logins);
    ensure!(ended.code == Some(0), "{}", ended.printed);
    found_its_way(&lab.front)?;
    let _ = (stepped_up, asked);
    ended.logins.first().context("nobody signed in")?;
    Ok(said)
}
